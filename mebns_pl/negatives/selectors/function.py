"""Negatives picked by a function of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mebns_pl.keys import Key, uniform
from mebns_pl.negatives.own_function import numbers_of
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.ordering import highest


@dataclass(frozen=True)
class FunctionSelector(AbstractSelector):
    """The M legal candidates to which a function gives most: function(score, uniform), named by its import path.

    Of ``score`` it can ask ``score()``, ``score.positives()``, ``score.degrees()`` and ``score.common_neighbors()``
    (:class:`~mebns_pl.negatives.selectors.abstract.CandidateScores`); ``uniform`` are numbers ``(b, K)`` in [0, 1) for
    what it draws, the same on any number of ranks. It gives a floating point number for each candidate, ``(b, K)``,
    which must depend on nothing but its own row.

    Args:
        function: the function.
        num_negatives: M, at least 1.

    Raises:
        ValueError: ``num_negatives`` is below 1.
        DataError: (in ``select``) the function gives something else.

    Example:
        >>> import torch
        >>> def close_to_half(score, uniform):
        ...     return -(score().sigmoid() - 0.5).abs()
        >>> score = CandidateScores.given(torch.tensor([[-3.0, 0.1, 4.0]]))
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> FunctionSelector(close_to_half).select(mask, score, torch.arange(1), Key(0, "docs")).columns.tolist()
        [[1]]
    """

    function: Callable[..., Any]
    num_negatives: int = 1

    def select(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Picks:
        """See :meth:`AbstractSelector.select`."""
        values = numbers_of("selector", self.function, mask.shape, score, uniform(key, rows, mask.shape[1]))
        return highest(values, mask, self.num_negatives)
