"""Losses of the difference between an edge and each of its negatives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus

from mebns_pl.checks import above
from mebns_pl.mebns.losses.abstract import AbstractLoss, Counts, gaps


class BayesianPersonalizedRanking(AbstractLoss):
    r"""The weighted mean over negatives of :math:`-\log \sigma(p_i - q_{ij})` (BPR, 1205.2618, section 4.1).

    Example:
        >>> import torch
        >>> BayesianPersonalizedRanking().negative(torch.zeros(1), torch.zeros(1, 1))
        tensor([[0.6931]])
    """

    def negative(self, positive: Tensor, negative: Tensor) -> Tensor:
        """See :meth:`AbstractLoss.negative`."""
        return softplus(gaps(positive, negative))

    def share(self, positive: Tensor, negative: Tensor, weights: Tensor, counts: Counts) -> Tensor:
        """See :meth:`AbstractLoss.share`."""
        return (weights * self.negative(positive, negative)).sum() / counts.negatives


@dataclass(frozen=True)
class MarginLoss(AbstractLoss):
    r"""The weighted mean over negatives of :math:`\max(0, m - p_i + q_{ij})` (TransE, NIPS 2013, eq. 1).

    Args:
        margin: m, above 0.

    Raises:
        ValueError: ``margin`` is not above 0.

    Example:
        >>> import torch
        >>> MarginLoss(margin=1.0).negative(torch.tensor([3.0]), torch.tensor([[0.0, 2.5]]))
        tensor([[0.0000, 0.5000]])
    """

    margin: float = 1.0

    def __post_init__(self) -> None:
        above(0, margin=self.margin)

    def negative(self, positive: Tensor, negative: Tensor) -> Tensor:
        """See :meth:`AbstractLoss.negative`."""
        return (gaps(positive, negative) + self.margin).relu()

    def share(self, positive: Tensor, negative: Tensor, weights: Tensor, counts: Counts) -> Tensor:
        """See :meth:`AbstractLoss.share`."""
        return (weights * self.negative(positive, negative)).sum() / counts.negatives
