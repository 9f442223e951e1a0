"""How near two nodes are by the graph's structure or the nodes' features: the k nearest of each node, and of pairs.

A measure is a small immutable object with the measure's own parameters; the graph is given to each call. Work is parted
by rows among threads, and the result does not depend on their number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from mebns_pl.families import Family
from mebns_pl.graph.csr import Graph


class AbstractMeasure(ABC):
    """A proximity of node pairs that is 0 for most of them."""

    @abstractmethod
    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        """The k other nodes with the highest positive scores for each of ``nodes``.

        Args:
            graph: the graph on the CPU; edges left out of its message passing do not count.
            nodes: ``(n,)`` int64.
            k: length of the lists, at least 1.
            exclude: neighbours in this graph of the same nodes are left out; None leaves only the node itself out.

        Returns:
            ``(n, k)`` int64 node numbers, best first, padded with -1, and ``(n, k)`` float32 scores, padded with 0.
            Equal scores are ordered by a fixed hash of the pair, which prefers no node number.
        """


class AbstractPairMeasure(ABC):
    """A proximity of given node pairs: symmetric, the higher the nearer; only its order matters."""

    @abstractmethod
    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The scores of given pairs, each independent of the others.

        Args:
            graph: the graph on the CPU; edges left out of its message passing do not count.
            source: ``(m,)`` int64.
            target: ``(m,)`` int64.

        Returns:
            ``(m,)`` float32 or float64, never NaN.
        """


MEASURES = Family(AbstractMeasure, "--data.structure.measure")
"""Every measure that lists the nearest nodes."""

PAIR_MEASURES = Family(AbstractPairMeasure, "--model.measure")
"""Every measure that scores pairs."""
