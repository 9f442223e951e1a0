"""The best links so far: overall, or of each node."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mebns_pl.pools.abstract import AllowedPairs


class AbstractBest(ABC):
    """Takes pairs with their logits block by block, and keeps the best. Ties are broken by node order.

    Args:
        top_k: how many, 1 or more.
    """

    def __init__(self, top_k: int) -> None:
        self.top_k = top_k
        self.pairs = torch.empty(2, 0, dtype=torch.int64)
        self.logits = torch.empty(0)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._waiting_pairs = 0

    def add(self, pairs: Tensor, logits: Tensor) -> None:
        """Takes ``pairs`` ``(2, m)`` with ``logits`` ``(m,)``, on any device; those of -inf are rejected ones."""
        passed = logits > -torch.inf
        found = self.chosen(pairs[:, passed], logits[passed].float())
        self._waiting.append((found[0].cpu(), found[1].cpu()))
        self._waiting_pairs += found[0].shape[1]
        if self._waiting_pairs > max(2**18, self.pairs.shape[1]):
            self.settle()

    def settle(self) -> tuple[Tensor, Tensor]:
        """The best so far, in the order of the table: pairs ``(2, n)`` and logits ``(n,)`` on the CPU."""
        pairs = torch.cat([self.pairs, *(found for found, _ in self._waiting)], dim=1)
        logits = torch.cat([self.logits, *(found for _, found in self._waiting)])
        self._waiting, self._waiting_pairs = [], 0
        self.pairs, self.logits = self.best(pairs, logits)
        return self.pairs, self.logits

    @abstractmethod
    def chosen(self, pairs: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What of a block can be among the best, on the block's device."""

    @abstractmethod
    def best(self, pairs: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The best, in order."""

    @abstractmethod
    def ranks(self) -> Tensor:
        """``(n,)`` int64, from 1: the ranks of what :meth:`settle` gave."""


class BestOverall(AbstractBest):
    """The ``top_k`` best pairs of all.

    Example:
        >>> best = BestOverall(2)
        >>> best.add(torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([0.0, 2.0, 1.0]))
        >>> best.settle()[0].tolist(), best.ranks().tolist()
        ([[1, 2], [4, 5]], [1, 2])
    """

    def chosen(self, pairs: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`AbstractBest.chosen`."""
        # Every tie with the last of them may be among the best: node order decides
        if len(logits) > self.top_k:
            kept = logits >= logits.topk(self.top_k).values[-1]
            return pairs[:, kept], logits[kept]
        return pairs, logits

    def best(self, pairs: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`AbstractBest.best`."""
        order = by_logit(pairs, logits)[: self.top_k]
        return pairs[:, order], logits[order]

    def ranks(self) -> Tensor:
        """See :meth:`AbstractBest.ranks`."""
        return torch.arange(1, len(self.logits) + 1)


class BestPerNode(AbstractBest):
    """The ``top_k`` best links of each source node; a pair of two source nodes stands in both lists.

    Args:
        top_k: how many of each node, 1 or more.
        allowed: which nodes are sources, and of what.

    Example:
        >>> best = BestPerNode(1, AllowedPairs.all(3))
        >>> best.add(torch.tensor([[0, 0, 1], [1, 2, 2]]), torch.tensor([0.0, 2.0, 1.0]))
        >>> best.settle()[0].tolist(), best.ranks().tolist()
        ([[0, 1, 2], [2, 2, 0]], [1, 1, 1])
    """

    def __init__(self, top_k: int, allowed: AllowedPairs) -> None:
        super().__init__(top_k)
        self.allowed = allowed

    def chosen(self, pairs: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`AbstractBest.chosen`."""
        pairs, logits = pairs.cpu(), logits.cpu()
        both = self.allowed.forward(pairs.flip(0))
        return torch.cat([pairs, pairs[:, both].flip(0)], dim=1), torch.cat([logits, logits[both]])

    def best(self, pairs: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`AbstractBest.best`."""
        order = by_logit(pairs, logits)
        order = order[pairs[0, order].argsort(stable=True)]
        order = order[_ranks_within(pairs[0, order]) <= self.top_k]
        return pairs[:, order], logits[order]

    def ranks(self) -> Tensor:
        """See :meth:`AbstractBest.ranks`."""
        return _ranks_within(self.pairs[0])


def by_logit(pairs: Tensor, logits: Tensor) -> Tensor:
    """The order ``(n,)`` of descending logits, ties by node order."""
    # Stable sorts, the last one counts most: ranks hold interleaved blocks
    order = pairs[1].argsort(stable=True)
    order = order[pairs[0, order].argsort(stable=True)]
    return order[logits[order].argsort(descending=True, stable=True)]


def _ranks_within(nodes: Tensor) -> Tensor:
    """``(n,)``: places from 1 among equal neighbours, ``nodes`` ``(n,)`` sorted."""
    if not len(nodes):
        return torch.empty(0, dtype=torch.int64)
    counts = torch.unique_consecutive(nodes, return_counts=True)[1]
    first: Tensor = (counts.cumsum(0) - counts).repeat_interleave(counts)
    return torch.arange(1, len(nodes) + 1) - first
