"""Equal weights."""

from __future__ import annotations

from torch import Tensor

from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting


class EqualWeighting(AbstractNegativeWeighting):
    """``w_ij = 1``: binary cross-entropy as usual.

    Example:
        >>> import torch
        >>> EqualWeighting().weights(torch.tensor([[3.0, 1.0]]), torch.tensor([[True, False]]))
        tensor([[1., 0.]])
    """

    def weights(self, logits: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`AbstractNegativeWeighting.weights`."""
        return mask.to(logits.dtype)
