"""The metrics of one stage of an evaluation: ranks and classes of held-out edges, whatever they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from mebns_pl.metrics.functional import ranks_shared
from mebns_pl.metrics.ranking import AbstractScoreMetric, classification_metrics, link_metrics, shared_link_metrics
from mebns_pl.types import EvalBatch


class StageScores(NamedTuple):
    """What the metrics of a stage were made from, edge by edge, in the order of the held-out edges.

    Args:
        ranks: ``(p,)`` float64, each held-out edge's rank, 1 is best.
        positive: ``(p,)`` float64, their scores.
        negative: ``(q,)`` float64, the scores of the random non-edges.

    Example:
        >>> import torch
        >>> StageScores(*torch.ones(3, 2)).ranks.tolist()
        [1.0, 1.0]
    """

    ranks: Tensor
    positive: Tensor
    negative: Tensor


class StageMetrics(nn.Module):
    """MRR and Hits against each edge's own negatives, AUC and AP against random ones; or all four against shared ones.

    Example:
        >>> import torch
        >>> metrics, pairs = StageMetrics(), torch.tensor([[0, 1], [1, 2]])
        >>> metrics.update(lambda pairs: pairs.sum(dim=0).float(), EvalBatch(pairs, None, pairs))
        >>> metrics.compute()["auc"].item()
        0.5
    """

    def __init__(self) -> None:
        super().__init__()
        self.ranking, self.classes, self.shared = link_metrics(), classification_metrics(), shared_link_metrics()
        self._shares = False

    def update(self, score: Callable[[Tensor], Tensor], batch: EvalBatch) -> None:
        """Scores a batch.

        Args:
            score: pairs ``(2, m)`` -> logits ``(m,)``.
            batch: held-out edges with their non-edges.
        """
        positive, random = score(batch.positives), score(batch.random_negatives)
        self._shares = batch.negatives is None
        if batch.negatives is None:
            self.shared.update(positive, random)
            return
        negative = score(batch.negatives.flatten(1)).view(batch.negatives.shape[1:])
        if batch.repeated is not None:
            negative = negative.masked_fill(batch.repeated, -torch.inf)
        self.ranking.update(positive, negative)
        self.classes.update(positive, random)

    def compute(self) -> dict[str, Tensor]:
        """``mrr``, ``hits@k``, ``auc``, ``ap`` of all ranks' batches since the last reset."""
        return self.shared.compute() if self._shares else {**self.ranking.compute(), **self.classes.compute()}

    @property
    def names(self) -> list[str]:
        """What :meth:`compute` gives."""
        return [str(name) for name in self.shared]

    def scores(self) -> StageScores:
        """Ranks and scores of all ranks' batches since the last reset; every rank must ask."""
        positive, negative = _any_of(self.shared if self._shares else self.classes).of_all()
        if self._shares:
            return StageScores(ranks_shared(positive, negative), positive, negative)
        (ranks,) = _any_of(self.ranking).of_all()
        return StageScores(ranks, positive, negative)

    def reset(self) -> None:
        """Begins anew."""
        for metrics in (self.ranking, self.classes, self.shared):
            metrics.reset()


def _any_of(metrics: MetricCollection) -> AbstractScoreMetric:
    """One of a collection's metrics, which all keep the same lists."""
    return cast(AbstractScoreMetric, next(iter(metrics.values(copy_state=False))))
