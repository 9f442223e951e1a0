"""Weights by a function of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mebns_pl.negatives.own_function import numbers_of
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting


@dataclass(frozen=True)
class FunctionWeighting(AbstractNegativeWeighting):
    """w_ij in proportion to what a function gives, with mean 1 a row: function(logits, mask), named by its import path.

    It is given the picked negatives' logits ``(b, M)``, without gradient, and which of them there are, and gives a
    number above 0 for each, ``(b, M)``, which must depend on nothing but its own row.

    Args:
        function: the function.

    Raises:
        DataError: (in ``weights``) the function gives something else.

    Example:
        >>> import torch
        >>> def by_probability(logits, mask):
        ...     return logits.sigmoid()
        >>> logits, mask = torch.tensor([[0.0, 0.0, 9.0]]), torch.tensor([[True, True, False]])
        >>> FunctionWeighting(by_probability).weights(logits, mask)
        tensor([[1., 1., 0.]])
    """

    function: Callable[..., Any]

    def weights(self, logits: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`AbstractNegativeWeighting.weights`."""
        given = numbers_of("weighting", self.function, mask.shape, logits, mask)
        given = given.to(logits.dtype).detach().masked_fill(~mask, 0).clamp(min=0)
        size = mask.sum(dim=1, keepdim=True).to(logits.dtype)
        # In a row to which the function gives nothing at all its negatives weigh the same
        total = given.sum(dim=1, keepdim=True)
        return (given * (size / total)).where(total > 0, mask.to(logits.dtype))
