"""The STD-Generator: structure-enhanced negatives that the teacher learns from."""

from __future__ import annotations

from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractProposal
from mebns_pl.negatives.proposals.mixture import MixtureProposal


class StdGenerator:
    """Teacher negatives: each is structural with probability ``structure_ratio``, else a draw of the base proposal.

    After Wang et al., *Not All Negatives Are Worth Attending to: Meta-Bootstrapping Negative Sampling Framework for
    Link Prediction*, WSDM 2024; how structural negatives are made is this project's reconstruction.

    Args:
        structure: the distribution of structural negatives, a :class:`ProximityProposal` for one.
        structure_ratio: in [0, 1]; 0 is the base proposal alone, 1 structure alone.
        num_negatives: T, negatives an anchor, at least 1.

    Raises:
        ValueError: ``structure_ratio`` or ``num_negatives`` is out of range.

    Example:
        >>> import torch
        >>> from mebns_pl.negatives.proposals.degree import DegreeProposal
        >>> from mebns_pl.negatives.proposals.uniform import UniformProposal
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=6)
        >>> known, base = KnownEdges(graph), UniformProposal()
        >>> base.setup(graph, known)
        >>> generator = StdGenerator(DegreeProposal(), structure_ratio=0.5, num_negatives=2)
        >>> generator.setup(graph, known, base)
        >>> generator.generate(torch.tensor([0, 1, 2]), Key(0, "docs")).shape
        torch.Size([3, 2])
    """

    def __init__(self, structure: AbstractProposal, structure_ratio: float = 0.5, num_negatives: int = 1) -> None:
        if not 0 <= structure_ratio <= 1:
            raise ValueError(f"structure_ratio: must be in [0, 1], got {structure_ratio}")
        if num_negatives < 1:
            raise ValueError(f"num_negatives: must be at least 1, got {num_negatives}")
        self.structure = structure
        self.structure_ratio = structure_ratio
        self.num_negatives = num_negatives
        self._mixture: MixtureProposal | None = None

    def setup(self, graph: Graph, known: KnownEdges, base: AbstractProposal) -> None:
        """Sets the structural proposal up, from the training graph alone.

        Args:
            graph: the training graph on the CPU.
            known: its edges.
            base: the student's proposal, already set up by whoever draws the student's candidates: its tables are
                shared, not built twice.
        """
        if self.structure is not base:
            self.structure.setup(graph, known)
        self._mixture = MixtureProposal([self.structure, base], [self.structure_ratio, 1 - self.structure_ratio])

    def generate(self, anchors: Tensor, key: Key) -> Tensor:
        """Draws the teacher's negatives.

        Args:
            anchors: ``(b,)`` int64 on the CPU.
            key: the draw's key.

        Returns:
            ``(b, num_negatives)`` int64 node numbers; the caller masks known edges, as with any proposal.

        Raises:
            RuntimeError: ``setup`` was not called.
        """
        if self._mixture is None:
            raise RuntimeError("StdGenerator: call setup(graph, known, base) before generate(...)")
        return self._mixture.propose(anchors, self.num_negatives, key)
