"""Uniform pairs: negatives that have nothing to do with the positives."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractProposal
from mebns_pl.negatives.proposals.uniform import UniformProposal


class UniformPairProposal(AbstractProposal):
    """Both nodes of a negative are uniform, as in OGB's and HeaRT's baselines; where anchors are asked for, one is.

    With :class:`UniformProposal` one end of a negative is an end of a positive, so that nodes of many edges are in many
    negatives. Here every node is in equally many, and degree alone tells positives from negatives to some extent.

    Cost: O(K log E) an anchor.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=40)
        >>> proposal = UniformPairProposal()
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> len(proposal.anchors(torch.ones(300, dtype=torch.long), Key(0, "docs")).unique())
        40
    """

    def __init__(self) -> None:
        self._uniform = UniformProposal()
        self._num_nodes = 0

    def setup(self, graph: Graph, known: KnownEdges) -> None:
        """See :meth:`AbstractProposal.setup`."""
        self._uniform.setup(graph, known)
        self._num_nodes = graph.num_nodes

    def anchors(self, anchors: Tensor, key: Key) -> Tensor:
        """Uniform nodes in place of the positives' ends.

        Raises:
            RuntimeError: ``setup`` was not called.
        """
        if not self._num_nodes:
            raise RuntimeError("UniformPairProposal: call setup(graph, known) before anchors(...)")
        return torch.randint(self._num_nodes, anchors.shape, generator=key.generator())

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractProposal.propose`.

        Raises:
            RuntimeError: ``setup`` was not called.
        """
        return self._uniform.propose(anchors, num_candidates, key)
