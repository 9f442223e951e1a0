"""The contract of weightings: the picked negatives' logits -> their weights in the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from mebns_pl.families import Family


class AbstractNegativeWeighting(ABC):
    """A rule that weights the negatives of each row; a row is whole on one rank, so no rank needs another's.

    Example:
        >>> import torch
        >>> class FirstAlone(AbstractNegativeWeighting):
        ...     def weights(self, logits, mask):
        ...         first = (mask.cumsum(dim=1) == 1) & mask
        ...         return first * mask.sum(dim=1, keepdim=True).to(logits.dtype)
        >>> FirstAlone().weights(torch.zeros(1, 3), torch.tensor([[False, True, True]]))
        tensor([[0., 2., 0.]])
    """

    @abstractmethod
    def weights(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Weights with mean 1 over the negatives of each row, through which no gradient flows.

        Args:
            logits: ``(b, M)`` the student's logits of the picked negatives, detached.
            mask: ``(b, M)`` bool, False where there is none.

        Returns:
            ``(b, M)``, 0 or more, 0 where masked; a row without negatives is all 0.
        """


WEIGHTINGS = Family(AbstractNegativeWeighting, "--model.sampler.weighting")
"""Every weighting there is."""
