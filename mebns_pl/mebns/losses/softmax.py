"""Softmax cross-entropy of an edge against its negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.mebns.losses.abstract import AbstractLoss, Counts, gaps


class SoftmaxCrossEntropy(AbstractLoss):
    r"""The edge among its negatives, as one class among others (InfoNCE, 1807.03748, eq. 4), the negatives weighted.

    .. math:: \frac{1}{n} \sum_i -\log \frac{e^{p_i}}{e^{p_i} + \sum_j w_{ij} e^{q_{ij}}}

    over the n rows that have a negative.

    Example:
        >>> SoftmaxCrossEntropy().negative(torch.zeros(1), torch.zeros(1, 1))
        tensor([[0.6931]])
    """

    def negative(self, positive: Tensor, negative: Tensor) -> Tensor:
        """The loss with this negative alone."""
        return torch.nn.functional.softplus(gaps(positive, negative))

    def share(self, positive: Tensor, negative: Tensor, weights: Tensor, counts: Counts) -> Tensor:
        """See :meth:`AbstractLoss.share`."""
        above = gaps(positive, negative)
        there = weights > 0
        # A finite floor: the slope of log 0 is infinite, and a row without negatives has none to look at
        terms = torch.where(there, above + torch.where(there, weights, 1).log(), torch.finfo(above.dtype).min)
        return torch.cat([above.new_zeros(len(above), 1), terms], dim=1).logsumexp(dim=1).sum() / counts.rows
