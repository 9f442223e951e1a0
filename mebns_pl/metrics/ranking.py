"""The metrics of :mod:`mebns_pl.metrics.functional` accumulated over batches and ranks, on torchmetrics' base."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities.data import dim_zero_cat

from mebns_pl.metrics import functional


class AbstractScoreMetric(Metric):
    """A metric of link scores that keeps numbers in float64 lists and reduces them once, in ``compute``.

    Args:
        states: names of the lists.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, states: Sequence[str]) -> None:
        super().__init__()
        # The dtype that a process which saw no batch brings to the gathering: it must be that of all the others.
        self.set_dtype(torch.float64)
        for name in states:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def _kept(self, state: str) -> Tensor:
        """All numbers of a state, ``(m,)`` float64."""
        values = getattr(self, state)
        if isinstance(values, list) and not values:
            return torch.empty(0, dtype=torch.float64, device=self.device)
        return dim_zero_cat(values)


class AbstractRankMetric(AbstractScoreMetric):
    """A metric of the ranks of positives among negatives of their own.

    All rank metrics keep the same list of ranks, so that in a collection one of them counts for all.
    """

    ranks: list[Tensor]

    def __init__(self) -> None:
        super().__init__(["ranks"])

    def update(self, positive: Tensor, negative: Tensor) -> None:
        """Ranks a batch.

        Args:
            positive: ``(p,)`` scores.
            negative: ``(p, n)`` scores; n may differ from batch to batch.

        Raises:
            ValueError: as :func:`mebns_pl.metrics.functional.ranks`.
        """
        self.ranks.append(functional.ranks(positive, negative))

    @abstractmethod
    def compute(self) -> Tensor:
        """The metric over all batches and processes: a float64 scalar."""


class AbstractClassMetric(AbstractScoreMetric):
    """A metric of all positives against all negatives."""

    positive: list[Tensor]
    negative: list[Tensor]

    def __init__(self) -> None:
        super().__init__(["positive", "negative"])

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

    @abstractmethod
    def compute(self) -> Tensor:
        """The metric over all batches and processes: a float64 scalar."""


class MRR(AbstractRankMetric):
    """Mean reciprocal rank; ties have the mean of the optimistic and the pessimistic rank.

    Example:
        >>> metric = MRR()
        >>> metric.update(torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
        >>> metric.compute().item()
        0.75
    """

    def compute(self) -> Tensor:
        """Raises ``ValueError`` where there was no positive."""
        return functional.mean_reciprocal_rank(self._kept("ranks"))


class HitsAt(AbstractRankMetric):
    """Share of positives with a rank of at most ``k``.

    Args:
        k: at least 1.

    Raises:
        ValueError: ``k`` is below 1.

    Example:
        >>> metric = HitsAt(1)
        >>> metric.update(torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
        >>> metric.compute().item()
        0.5
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = _at_least_one(k)

    def compute(self) -> Tensor:
        """Raises ``ValueError`` where there was no positive."""
        return functional.hits_at(self._kept("ranks"), self.k)


class AUC(AbstractClassMetric):
    """Area under the ROC curve, exact, ties counted half.

    Example:
        >>> metric = AUC()
        >>> metric.update(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
        >>> metric.compute().item()
        0.625
    """

    def compute(self) -> Tensor:
        """Raises ``ValueError`` where a class is empty or a score is NaN."""
        return functional.auc(self._kept("positive"), self._kept("negative"))


class AveragePrecision(AbstractClassMetric):
    """Average precision, tied scores taken as one threshold.

    Example:
        >>> metric = AveragePrecision()
        >>> metric.update(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
        >>> metric.compute().item()
        0.75
    """

    def compute(self) -> Tensor:
        """Raises ``ValueError`` where a class is empty or a score is NaN."""
        return functional.average_precision(self._kept("positive"), self._kept("negative"))


class SharedMRR(AbstractClassMetric):
    """Mean reciprocal rank of positives among negatives that all share; ties have the mean rank.

    Example:
        >>> metric = SharedMRR()
        >>> metric.update(torch.tensor([2.0, 0.5]), torch.tensor([1.0, 0.0]))
        >>> metric.compute().item()
        0.75
    """

    def compute(self) -> Tensor:
        """Raises ``ValueError`` where a class is empty or a score is NaN."""
        ranks = functional.ranks_shared(self._kept("positive"), self._kept("negative"))
        return functional.mean_reciprocal_rank(ranks)


class SharedHitsAt(AbstractClassMetric):
    """Share of positives above the k-th highest of the negatives that all share; a tie with it is no hit (OGB).

    Args:
        k: at least 1.

    Raises:
        ValueError: ``k`` is below 1.

    Example:
        >>> metric = SharedHitsAt(1)
        >>> metric.update(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0]))
        >>> metric.compute().item()
        0.5
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = _at_least_one(k)

    def compute(self) -> Tensor:
        """Raises ``ValueError`` where a class is empty or a score is NaN."""
        return functional.hits_above(self._kept("positive"), self._kept("negative"), self.k)


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
    return _sharing({"mrr": MRR()} | {f"hits@{k}": HitsAt(k) for k in _distinct(hits)})


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
    metrics: dict[str, Metric] = {"mrr": SharedMRR(), "auc": AUC(), "ap": AveragePrecision()}
    return _sharing(metrics | {f"hits@{k}": SharedHitsAt(k) for k in _distinct(hits)})


def classification_metrics() -> MetricCollection:
    """``auc`` and ``ap``, fed by ``update(positive (p,), negative (n,))``; scores are kept once for both.

    Example:
        >>> metrics = classification_metrics()
        >>> metrics.update(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
        >>> {name: value.item() for name, value in sorted(metrics.compute().items())}
        {'ap': 0.75, 'auc': 0.625}
    """
    return _sharing({"auc": AUC(), "ap": AveragePrecision()})


def _at_least_one(k: int) -> int:
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    return k


def _distinct(hits: Sequence[int]) -> Sequence[int]:
    if len(set(hits)) != len(hits):
        raise ValueError(f"hits: each k must be given once, got {list(hits)}")
    return hits


def _sharing(metrics: dict[str, Metric]) -> MetricCollection:
    """A collection in which the first metric's state is everyone's.

    The group is named rather than left to be found: torchmetrics would look for it only after each metric has done the
    work of the first batch, by comparing states.
    """
    return MetricCollection(dict(metrics), compute_groups=[list(metrics)])
