"""The data that travels between the stages: frozen, every field's shape told.

``N`` nodes, ``E`` directed message-passing edges (two for each undirected one), ``b`` positives of a batch,
``K`` candidates an anchor, ``T`` teacher negatives an anchor, ``F`` features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


MANY_FEATURES = 64
"""From so many features on cosines of them say something: words, embeddings."""


class GraphSpec(NamedTuple):
    """All that a model must know of a graph to build its layers.

    Args:
        num_nodes: number of nodes.
        num_features: number of node features; 0 when there are none (models then learn a node embedding).
        sparse: whether the features are a sparse matrix (bag of words).

    Example:
        >>> GraphSpec(num_nodes=3)
        GraphSpec(num_nodes=3, num_features=0, sparse=False)
    """

    num_nodes: int
    num_features: int = 0
    sparse: bool = False


class Share(NamedTuple):
    """Which contiguous part of some rows is one rank's; parts differ by one row at most, and may be empty.

    Args:
        rank: this process's number, 0 ... size - 1.
        size: number of processes.

    Example:
        >>> [Share(rank, 3).of(5) for rank in range(3)]
        [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """

    rank: int = 0
    size: int = 1

    def of(self, num_rows: int) -> slice:
        """This rank's rows."""
        return slice(num_rows * self.rank // self.size, num_rows * (self.rank + 1) // self.size)


def to_device(value: T, device: torch.device | str) -> T:
    """Copies a frozen dataclass with every tensor in it, at any depth, on ``device``."""

    def move(item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.to(device, non_blocking=True)
        if isinstance(item, dict):
            return {name: move(part) for name, part in item.items()}
        return to_device(item, device) if is_dataclass(item) and not isinstance(item, type) else item

    return replace(value, **{f.name: move(getattr(value, f.name)) for f in fields(value) if f.init})  # type: ignore[arg-type,type-var]


@dataclass(frozen=True)
class EdgeSplit:
    """Undirected edges of a graph, each once with ``source < target``, parted for training and evaluation.

    Args:
        train: ``(2, n)`` int64, positives of the losses.
        meta: ``(2, n)`` int64, training edges set apart for the meta set: message passing may use them,
            the student's and the teacher's losses never do.
        val: ``(2, n)`` int64, for model selection.
        test: ``(2, n)`` int64, for the last word.

    Example:
        >>> edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> split = EdgeSplit(*edges.split([1, 1, 1, 1], dim=1))
        >>> split.observed.tolist(), split.all.shape[1]
        ([[0, 1], [1, 2]], 4)
    """

    train: Tensor
    meta: Tensor
    val: Tensor
    test: Tensor

    @property
    def observed(self) -> Tensor:
        """``(2, n)``: what a predictor may know, training and meta edges together."""
        return torch.cat([self.train, self.meta], dim=1)

    @property
    def all(self) -> Tensor:
        """``(2, n)``: every edge."""
        return torch.cat([self.train, self.meta, self.val, self.test], dim=1)


@dataclass(frozen=True)
class EvalBatch:
    """Held-out edges with the non-edges they are ranked against.

    Args:
        positives: ``(2, p)`` int64.
        negatives: ``(2, p, n)`` int64, the pairs each positive is ranked against (MRR, Hits); None where all positives
            of the stage are ranked against the same pairs, ``random_negatives`` of all batches.
        random_negatives: ``(2, q)`` int64, non-edges that all positives are compared with (AUC, AP); one uniform
            non-edge a positive unless a protocol says otherwise.
        repeated: ``(p, n)`` bool, those of ``negatives`` that stand in their row before, and do not count; None where
            there is none.
    """

    positives: Tensor
    negatives: Tensor | None
    random_negatives: Tensor
    repeated: Tensor | None = None

    @property
    def num_negatives(self) -> int | None:
        """How many each positive has, those that do not count included; None where they share theirs."""
        return None if self.negatives is None else self.negatives.shape[2]

    @property
    def nodes(self) -> Tensor | None:
        """``(n,)`` int64, the ends of all pairs, repeated as they may be; None where these may be any."""
        given = [self.positives, self.random_negatives, *([] if self.negatives is None else [self.negatives])]
        return torch.cat([pairs.flatten() for pairs in given])

    def part(self, rows: slice) -> EvalBatch:
        """Some of the positives with their negatives; of shared non-edges their proportion of the stage's."""
        num, shared = self.positives.shape[1], self.random_negatives.shape[1]
        own = slice(shared * rows.start // num, shared * rows.stop // num)
        negatives = None if self.negatives is None else self.negatives[:, rows]
        repeated = None if self.repeated is None else self.repeated[rows]
        return EvalBatch(self.positives[:, rows], negatives, self.random_negatives[:, own], repeated)

    def parts(self, num_pairs: int) -> Iterator[EvalBatch]:
        """All of it in parts of about so many pairs, one positive at least."""
        num, size = self.positives.shape[1], max(1, num_pairs // ((self.num_negatives or 0) + 2))
        for start in range(0, num, size):
            yield self.part(slice(start, min(start + size, num)))
