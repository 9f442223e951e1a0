"""The metrics of :mod:`mebns_pl.metrics.functional` accumulated over batches and ranks, on torchmetrics' base.

Two classes accumulate, one for each way in which positives meet negatives; which function makes the number of what was
kept is their argument. The collections at the end name them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities.data import dim_zero_cat

from mebns_pl.checks import at_least, expect
from mebns_pl.metrics import functional


class AbstractScoreMetric(Metric):
    """A metric of link scores that keeps numbers in float64 lists and reduces them once, in ``compute``.

    Metrics of the same class keep the same lists, so that in a collection one of them counts for all.

    Args:
        reduce: makes the metric, a float64 scalar, of all numbers of each list.
    """

    kept: ClassVar[tuple[str, ...]]
    """Names of the lists."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, reduce: Callable[..., Tensor]) -> None:
        super().__init__()
        self.reduce = reduce
        # The dtype that a process which saw no batch brings to the gathering: it must be that of all the others.
        self.set_dtype(torch.float64)
        for name in self.kept:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @abstractmethod
    def update(self, positive: Tensor, negative: Tensor) -> None:
        """Keeps what is needed of a batch."""

    def compute(self) -> Tensor:
        """The metric over all batches and processes.

        Raises:
            ValueError: as the function that reduces: there was no positive or no negative, or a score is NaN.
        """
        return self.reduce(*(self._all(getattr(self, name)) for name in self.kept))

    def of_all(self) -> tuple[Tensor, ...]:
        """The whole of each list, ``(m,)`` float64 of all batches and processes; every process must ask."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            return tuple(self._all(getattr(self, name)) for name in self.kept)

    def _all(self, values: list[Tensor] | Tensor) -> Tensor:
        """``(m,)`` float64."""
        if isinstance(values, list) and not values:
            return torch.empty(0, dtype=torch.float64, device=self.device)
        return dim_zero_cat(values)


class RankMetric(AbstractScoreMetric):
    """A metric of the ranks of positives among negatives of their own.

    Args:
        reduce: a function of ranks ``(p,)``.

    Example:
        >>> metric = RankMetric(functional.mean_reciprocal_rank)
        >>> metric.update(torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
        >>> metric.compute().item()
        0.75
    """

    kept = ("ranks",)
    ranks: list[Tensor]

    def update(self, positive: Tensor, negative: Tensor) -> None:
        """Ranks a batch.

        Args:
            positive: ``(p,)`` scores.
            negative: ``(p, n)`` scores; n may differ from batch to batch.

        Raises:
            ValueError: as :func:`mebns_pl.metrics.functional.ranks`.
        """
        self.ranks.append(functional.ranks(positive, negative))


class SharedMetric(AbstractScoreMetric):
    """A metric of all positives against all negatives.

    Args:
        reduce: a function of the scores of positives ``(p,)`` and of negatives ``(n,)``.

    Example:
        >>> metric = SharedMetric(functional.auc)
        >>> metric.update(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
        >>> metric.compute().item()
        0.625
    """

    kept = ("positive", "negative")
    positive: list[Tensor]
    negative: list[Tensor]

    def update(self, positive: Tensor, negative: Tensor) -> None:
        """Keeps a batch's scores.

        Args:
            positive: ``(p,)`` scores.
            negative: ``(n,)`` scores.

        Raises:
            ValueError: a shape is not one-dimensional.
        """
        if positive.dim() != 1 or negative.dim() != 1:
            shapes = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
            raise ValueError(f"positive, negative: shapes must be (p,) and (n,), got {shapes}")
        self.positive.append(positive.detach().double())
        self.negative.append(negative.detach().double())


def link_metrics(hits: Sequence[int] = (1, 3, 10, 20, 50, 100)) -> MetricCollection:
    """Ranking metrics ``mrr`` and ``hits@k``, fed by ``update(positive (p,), negative (p, n))``.

    Ranks are counted once for all of them.

    Args:
        hits: the k of ``hits@k``, each at least 1 and none twice.

    Raises:
        ValueError: a ``k`` is below 1 or given twice.

    Example:
        >>> metrics = link_metrics(hits=[1, 3]).clone(prefix="val/")
        >>> metrics.update(torch.tensor([2.0]), torch.tensor([[3.0, 1.0, 0.0]]))
        >>> {name: value.item() for name, value in sorted(metrics.compute().items())}
        {'val/hits@1': 0.0, 'val/hits@3': 1.0, 'val/mrr': 0.5}
    """
    reductions = {"mrr": functional.mean_reciprocal_rank} | _hits(functional.hits_at, hits)
    return _collection(RankMetric, reductions)


def shared_link_metrics(hits: Sequence[int] = (1, 3, 10, 20, 50, 100)) -> MetricCollection:
    """``mrr``, ``hits@k``, ``auc`` and ``ap`` against negatives that all positives share.

    Fed by ``update(positive (p,), negative (n,))``; scores are kept once for all of them.

    Args:
        hits: the k of ``hits@k``, each at least 1 and none twice.

    Raises:
        ValueError: a ``k`` is below 1 or given twice.

    Example:
        >>> metrics = shared_link_metrics(hits=[1])
        >>> metrics.update(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0]))
        >>> {name: value.item() for name, value in sorted(metrics.compute().items())}
        {'ap': 0.8333333333333333, 'auc': 0.875, 'hits@1': 0.5, 'mrr': 0.8333333333333333}
    """
    reductions = {"mrr": functional.mean_reciprocal_rank_shared, **_CLASSES} | _hits(functional.hits_above, hits)
    return _collection(SharedMetric, reductions)


def classification_metrics() -> MetricCollection:
    """``auc`` and ``ap``, fed by ``update(positive (p,), negative (n,))``; scores are kept once for both.

    Example:
        >>> metrics = classification_metrics()
        >>> metrics.update(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
        >>> {name: value.item() for name, value in sorted(metrics.compute().items())}
        {'ap': 0.75, 'auc': 0.625}
    """
    return _collection(SharedMetric, _CLASSES)


_CLASSES: dict[str, Callable[..., Tensor]] = {"auc": functional.auc, "ap": functional.average_precision}


def _hits(reduce: Callable[..., Tensor], hits: Sequence[int]) -> dict[str, Callable[..., Tensor]]:
    expect(len(set(hits)) == len(hits), "each k once", hits=list(hits))
    for k in hits:
        at_least(1, k=k)
    return {f"hits@{k}": partial(reduce, k=k) for k in hits}


def _collection(kind: type[AbstractScoreMetric], reductions: dict[str, Callable[..., Tensor]]) -> MetricCollection:
    """A collection in which the first metric's state is everyone's.

    The group is named rather than left to be found: torchmetrics would look for it only after each metric has done the
    work of the first batch, by comparing states.
    """
    metrics: dict[str, Metric | MetricCollection] = {name: kind(reduce) for name, reduce in reductions.items()}
    return MetricCollection(metrics, compute_groups=[list(metrics)])
