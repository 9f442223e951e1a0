"""The contract of adaptive proposals: anchors -> candidates, by the model that is being trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key

Score = Callable[[Tensor], Tensor]
"""``(b, C)`` int64 nodes -> ``(b, C)`` the student's logits of (anchor, node), without dropout or gradient."""

Gather = Callable[[Tensor], Tensor]
"""``(b, ...)`` of this rank's rows -> ``(B, ...)`` of the union batch's, the same on all ranks."""


class AbstractAdaptiveProposal(nn.Module, ABC):
    """A distribution over candidates that learns with the student; it lives in the system and in its checkpoints.

    A step calls ``propose`` for this rank's rows, computes the student's gradients, and calls ``update``, all with the
    same student. ``propose`` changes nothing. ``update`` changes parameters and buffers by what ``gather`` gives only,
    so that all ranks hold the same. Draws are by row name (:mod:`mebns_pl.negatives.row_draws`): r ranks draw what one
    process would. State is kept for every node, so an adaptive proposal works with whole graphs only.

    The constructor takes the graph's size, and all state is made there, that a checkpoint can be loaded into it.

    Example:
        >>> class EveryNode(AbstractAdaptiveProposal):
        ...     def start(self, graph, known, key):
        ...         self.num_nodes = graph.num_nodes
        ...     def propose(self, anchors, rows, num_candidates, score, key):
        ...         scores = score(torch.arange(self.num_nodes).expand(len(anchors), -1))
        ...         return scores.topk(num_candidates).indices
        ...     def update(self, anchors, rows, candidates, score, gather, key):
        ...         pass
        >>> proposal = EveryNode()
        >>> proposal.start(Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4), None, Key(0, "docs"))
        >>> anchors = torch.tensor([0])
        >>> proposal.propose(anchors, anchors, 2, lambda nodes: -nodes.float(), Key(0, "docs")).tolist()
        [[0, 1]]
    """

    @abstractmethod
    def start(self, graph: Graph, known: KnownEdges, key: Key) -> None:
        """Called when training starts or goes on: fills state that was never filled, and keeps what was.

        Args:
            graph: the training graph, on this module's device.
            known: its edges, on the same device.
            key: of the draws made here.
        """

    @abstractmethod
    def propose(self, anchors: Tensor, rows: Tensor, num_candidates: int, score: Score, key: Key) -> Tensor:
        """Draws candidates.

        Args:
            anchors: ``(b,)`` int64, this rank's.
            rows: ``(b,)`` int64, their places in the union batch.
            num_candidates: K, at least 1.
            score: the student's logits of these anchors with any nodes.
            key: the draw's key.

        Returns:
            ``(b, K)`` int64 node numbers; known edges that cannot be avoided are masked by the caller.
        """

    @abstractmethod
    def update(self, anchors: Tensor, rows: Tensor, candidates: Tensor, score: Score, gather: Gather, key: Key) -> None:
        """Learns from a step.

        Args:
            anchors: ``(b,)`` int64, as given to :meth:`propose`.
            rows: ``(b,)`` int64, as given to :meth:`propose`.
            candidates: ``(b, K)`` int64, what it returned.
            score: the same logits; the student has not moved yet.
            gather: this rank's rows -> the union's; every rank calls it equally often.
            key: as given to :meth:`propose`.
        """


def write_rows(table: Tensor, anchors: Tensor, values: Tensor) -> None:
    """``table[anchors] = values`` in place; of rows with the same anchor the first counts.

    Args:
        table: ``(N, C)``.
        anchors: ``(B,)`` int64.
        values: ``(B, C)``.
    """
    places = torch.arange(len(anchors), device=anchors.device)
    first = torch.full((len(table),), len(anchors), device=anchors.device)
    first.scatter_reduce_(0, anchors, places, "amin")
    chosen = first[anchors] == places
    table[anchors[chosen]] = values[chosen]
