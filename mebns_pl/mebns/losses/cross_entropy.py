"""Binary cross-entropy, edges and non-edges counting the same."""

from __future__ import annotations

from torch import Tensor

from mebns_pl.mebns.losses.abstract import AbstractLoss, Counts, negative_losses, positive_losses


class BinaryCrossEntropy(AbstractLoss):
    r"""Half the mean over edges plus half the weighted mean over negatives.

    .. math:: \frac{1}{2 n_+} \sum_i -\log \sigma(p_i) + \frac{1}{2 n_-} \sum_{ij} w_{ij} \, {-\log \sigma(-q_{ij})}

    Example:
        >>> import torch
        >>> BinaryCrossEntropy().negative(torch.zeros(1), torch.zeros(1, 1))
        tensor([[0.6931]])
    """

    def negative(self, positive: Tensor, negative: Tensor) -> Tensor:
        """See :meth:`AbstractLoss.negative`."""
        return negative_losses(negative)

    def share(self, positive: Tensor, negative: Tensor, weights: Tensor, counts: Counts) -> Tensor:
        """See :meth:`AbstractLoss.share`."""
        edges, others = positive_losses(positive), negative_losses(negative)
        return 0.5 * edges.sum() / counts.positives + 0.5 * (weights * others).sum() / counts.negatives
