"""The data that travels between the stages: frozen, every field's shape told.

``N`` nodes, ``E`` directed message-passing edges (two for each undirected one), ``b`` positives of a batch,
``K`` candidates an anchor, ``T`` teacher negatives an anchor, ``F`` features.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from mebns_pl.keys import Key

T = TypeVar("T")


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


class Inputs(Protocol):
    """What a predictor's ``forward`` takes: M prepared pairs, without parameters: a frozen dataclass of tensors."""

    @property
    def key(self) -> Key | None:
        """The key of this stochastic pass (dropout), or None for a deterministic one."""

    def select(self, index: Tensor | slice) -> Self:
        """The pairs at ``index`` (int64 positions, bool mask, or slice), in that order."""

    def with_key(self, key: Key | None) -> Self:
        """The same pairs in another pass; nothing is prepared anew."""


@dataclass(frozen=True)
class TrainBatch:
    """The positives of one step with everything that static samplers drew for them.

    On several ranks the *union* batch of B positives is cut into contiguous slices; a rank holds rows
    ``first_row ... first_row + b`` of it and the whole of ``union_positives``.

    Args:
        positives: ``(2, b)`` int64; row 0 holds the anchors (each edge was turned round at random).
        candidates: ``(b, K)`` int64, candidate nodes of each anchor.
        candidate_mask: ``(b, K)`` bool, True where the pair (anchor, candidate) is a legal negative.
        teacher_negatives: ``(b, T)`` int64, the STD-Generator's nodes; ``T`` is 0 where no teacher is trained.
        teacher_mask: ``(b, T)`` bool, True where legal.
        union_positives: ``(2, B)`` int64, the positives of all ranks: left out of message passing.
        first_row: the place of this slice in the union batch.
        epoch: 0-based epoch the batch was drawn for.
        step: 0-based step within the epoch.
        number: 0-based step of the run, epochs before this one included.
        free_anchors: ``(b,)`` int64, nodes that the candidates stand opposite to in place of the positives' own
            anchors, where the proposal draws whole pairs; None keeps the positives' anchors.
        inputs: the predictors' inputs of all these pairs, in the order of
            :class:`~mebns_pl.data.step_pairs.StepPairs`, where loader workers have made them; or None.
    """

    positives: Tensor
    candidates: Tensor
    candidate_mask: Tensor
    teacher_negatives: Tensor
    teacher_mask: Tensor
    union_positives: Tensor
    first_row: int
    epoch: int
    step: int
    number: int = 0
    free_anchors: Tensor | None = None
    inputs: Inputs | None = None

    @property
    def candidate_anchors(self) -> Tensor:
        """``(b,)`` int64, the node that each row of candidates stands opposite to."""
        return self.positives[0] if self.free_anchors is None else self.free_anchors


@dataclass(frozen=True)
class MetaSet:
    """Pairs of low uncertainty with their labels, as many positives as negatives (UMD-Collector).

    Args:
        pairs: ``(2, m)`` int64.
        labels: ``(m,)`` float32, 1 for a training edge set apart and 0 for a sampled non-edge.
        mean: ``(m,)`` float32, mean logit over the stochastic passes.
        std: ``(m,)`` float32, its standard deviation: the uncertainty.
        counts: what happened on the way, for the logs: ``scored``, ``contradicted``, ``kept``.
    """

    pairs: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    counts: dict[str, int]

    def draw(self, size: int, generator: torch.Generator) -> MetaSet:
        """A balanced part of at most ``size`` pairs, half of each label, drawn without replacement."""
        half = max(1, size // 2)
        chosen = []
        for label in (1.0, 0.0):
            index = (self.labels == label).nonzero().flatten().cpu()
            chosen.append(index[torch.randperm(len(index), generator=generator)[:half]])
        index = torch.cat(chosen).to(self.pairs.device)
        return replace(
            self, pairs=self.pairs[:, index], labels=self.labels[index], mean=self.mean[index], std=self.std[index]
        )


@dataclass(frozen=True)
class EvalBatch:
    """Held-out edges with the non-edges they are ranked against.

    Args:
        positives: ``(2, p)`` int64.
        negatives: ``(2, p, n)`` int64, the pairs each positive is ranked against (MRR, Hits); None where all positives
            of the stage are ranked against the same pairs, ``random_negatives`` of all batches.
        random_negatives: ``(2, q)`` int64, non-edges that all positives are compared with (AUC, AP); one uniform
            non-edge a positive unless a protocol says otherwise.
    """

    positives: Tensor
    negatives: Tensor | None
    random_negatives: Tensor
