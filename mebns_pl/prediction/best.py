"""The best links so far: overall, or of each node."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from mebns_pl.pools.abstract import AllowedPairs

_BLOCK = 2**16
"""Pairs that are looked at as Python numbers at a time."""


class BestLinks:
    """Takes pairs with their logits block by block, and keeps the best, in the order of a table of them.

    These are the ``top_k`` best pairs of all or, with ``sources``, the ``top_k`` best links of each source node, node
    by node; a pair of two source nodes then stands in both lists. Ties are broken by node order.

    With ``max_per_node`` a pair is passed over where one of its ends stands in so many better ones that are kept.

    Args:
        top_k: how many, 1 or more.
        sources: which nodes have a list of their own, and links to which; None for one list of all pairs.
        max_per_node: how often a node may stand in the list of all pairs; None for as often as it does.
        num_nodes: N, where ``max_per_node`` is given.

    Attributes:
        pairs: ``(2, n)`` int64 on the CPU, the best as of the last :meth:`settle`.
        logits: ``(n,)`` float32, theirs.

    Example:
        >>> pairs, logits = torch.tensor([[0, 0, 1], [1, 2, 2]]), torch.tensor([0.0, 2.0, 1.0])
        >>> overall, of_each = BestLinks(2), BestLinks(1, AllowedPairs.all(3))
        >>> for best in (overall, of_each):
        ...     best.add(pairs, logits)
        ...     best.settle()[0].tolist(), best.ranks().tolist()
        ([[0, 1], [2, 2]], [1, 2])
        ([[0, 1, 2], [2, 2, 0]], [1, 1, 1])
    """

    def __init__(
        self,
        top_k: int,
        sources: AllowedPairs | None = None,
        max_per_node: int | None = None,
        num_nodes: int = 0,
    ) -> None:
        self.top_k = top_k
        self.sources = sources
        self.max_per_node = max_per_node
        if max_per_node is not None:
            # Before the last pair that is kept stand others that are, and pairs of nodes that are full: of these there
            # are 2 top_k / max_per_node at most, each in fewer than N pairs
            self.top_k += 2 * top_k // max_per_node * num_nodes
        self._wanted = top_k
        self.pairs = torch.empty(2, 0, dtype=torch.int64)
        self.logits = torch.empty(0)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._waiting_pairs = 0

    def add(self, pairs: Tensor, logits: Tensor) -> None:
        """Takes ``pairs`` ``(2, m)`` with ``logits`` ``(m,)``, on any device; those of -inf are rejected ones."""
        logits = logits.float()
        passed = logits > -torch.inf
        if self.sources is None and len(logits) > self.top_k:
            # Every tie with the last of them may be among the best: node order decides
            passed &= logits >= logits.topk(self.top_k).values[-1]
        pairs, logits = pairs[:, passed].cpu(), logits[passed].cpu()
        if self.sources is not None:
            both = self.sources.forward(pairs.flip(0))
            pairs, logits = torch.cat([pairs, pairs[:, both].flip(0)], dim=1), torch.cat([logits, logits[both]])
        self._waiting.append((pairs, logits))
        self._waiting_pairs += len(logits)
        if self._waiting_pairs > max(2**18, len(self.logits)):
            self.settle()

    def settle(self) -> tuple[Tensor, Tensor]:
        """The best so far: pairs ``(2, n)`` and logits ``(n,)`` on the CPU."""
        pairs, logits = zip((self.pairs, self.logits), *self._waiting, strict=True)
        self._waiting, self._waiting_pairs = [], 0
        return self.keep(torch.cat(pairs, dim=1), torch.cat(logits))

    def keep(self, pairs: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps the best of ``pairs`` ``(2, m)`` with ``logits`` ``(m,)`` alone, and gives them back in order."""
        keys = (pairs[1], pairs[0], -logits, self._list_of(pairs))  # the last one counts most
        order = torch.from_numpy(np.lexsort(keys))
        self.pairs, self.logits = pairs[:, order], logits[order]
        first = self.ranks() <= self.top_k
        self.pairs, self.logits = self.pairs[:, first], self.logits[first]
        return self.pairs, self.logits

    def cap(self) -> None:
        """Keeps, of the pairs as of the last :meth:`settle`, those that ``max_per_node`` and ``top_k`` let stay."""
        if self.max_per_node is None:
            return
        times: Counter[int] = Counter()
        kept: list[int] = []
        blocks = (block.tolist() for block in self.pairs.t().split(_BLOCK))
        for place, ends in enumerate(chain.from_iterable(blocks)):
            if len(kept) == self._wanted:
                break
            if all(times[node] < self.max_per_node for node in ends):
                times.update(ends)
                kept.append(place)
        self.pairs, self.logits = self.pairs[:, kept], self.logits[kept]

    def ranks(self) -> Tensor:
        """``(n,)`` int64, from 1: the ranks of ``pairs`` in their lists."""
        counts = torch.unique_consecutive(self._list_of(self.pairs), return_counts=True)[1]
        first: Tensor = (counts.cumsum(0) - counts).repeat_interleave(counts)
        return torch.arange(1, len(first) + 1) - first

    def _list_of(self, pairs: Tensor) -> Tensor:
        """``(n,)``, the node in whose list each of ``pairs`` ``(2, n)`` stands; 0 where there is one list only."""
        return torch.zeros_like(pairs[0]) if self.sources is None else pairs[0]
