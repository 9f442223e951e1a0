"""The contract of static proposals: anchors -> candidates, by the training graph alone."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key


class AbstractProposal(ABC):
    """A distribution over candidate nodes for each anchor node, without a model.

    ``setup`` is called once with the training graph; ``propose`` any number of times after it, in the main process or
    in loader workers. Draws are independent, so an anchor can be given the same candidate twice.

    Example:
        >>> import torch
        >>> class AnyNode(AbstractProposal):
        ...     def setup(self, graph, known):
        ...         self.num_nodes = graph.num_nodes
        ...     def propose(self, anchors, num_candidates, key):
        ...         return torch.randint(self.num_nodes, (len(anchors), num_candidates), generator=key.generator())
        >>> proposal = AnyNode()
        >>> proposal.setup(Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4), None)
        >>> proposal.propose(torch.tensor([0, 1]), 3, Key(0, "docs")).shape
        torch.Size([2, 3])
    """

    @abstractmethod
    def setup(self, graph: Graph, known: KnownEdges) -> None:
        """Computes what the draws need, from the training graph alone.

        Args:
            graph: the training graph on the CPU.
            known: its edges, which no draw should return where that can be helped.
        """

    def anchors(self, anchors: Tensor, key: Key) -> Tensor:
        """The nodes that the student's candidates stand opposite to: by default the positives' own anchors.

        Args:
            anchors: ``(B,)`` int64 on the CPU, one end of each positive.
            key: the draw's key, for proposals that draw whole pairs.

        Returns:
            ``(B,)`` int64; ``anchors`` itself where they are kept.
        """
        return anchors

    @abstractmethod
    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """Draws candidates.

        Args:
            anchors: ``(B,)`` int64 on the CPU.
            num_candidates: K, at least 1.
            key: the draw's key; the same key gives the same candidates.

        Returns:
            ``(B, K)`` int64 node numbers. What a proposal cannot avoid (an anchor linked to every node has no legal
            candidate) it returns all the same: the caller masks known edges with :class:`KnownEdges`.
        """
