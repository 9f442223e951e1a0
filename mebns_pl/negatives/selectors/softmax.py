"""Candidates drawn by a softmax of their scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.checks import above
from mebns_pl.keys import Key
from mebns_pl.negatives.row_draws import gumbel
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.ordering import highest


@dataclass(frozen=True)
class SoftmaxSelector(AbstractSelector):
    """Draws legal candidates with ``p(v) = exp(f(u, v) / temperature) / Z``, one after the other, without replacement.

    A low temperature is DNS, a high one random negatives.

    Softmax(ρ, N) of Shi et al., *On the Theories Behind Hard Negative Sampling for Recommendation*, WWW 2023, arXiv
    2302.03472; drawn by the Gumbel-top-k trick (Kool et al., ICML 2019, arXiv 1903.06059).

    Args:
        temperature: above 0.
        num_negatives: M, at least 1.

    Raises:
        ValueError: ``temperature`` is not above 0, or ``num_negatives`` below 1.

    Example:
        >>> import torch
        >>> mask, scores = torch.tensor([[True, True, False]]), torch.tensor([[0.0, 50.0, 90.0]])
        >>> SoftmaxSelector().select(mask, lambda: scores, torch.arange(1), Key(0, "docs")).columns.tolist()
        [[1]]
    """

    temperature: float = 1.0
    num_negatives: int = 1

    def __post_init__(self) -> None:
        """Checks the options."""
        super().__post_init__()
        above(0, temperature=self.temperature)

    def select(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Picks:
        """See :meth:`AbstractSelector.select`."""
        logits = score().double() / self.temperature
        return highest(logits + gumbel(key, rows, mask.shape[1]), mask, self.num_negatives)

    def shares(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """The softmax that it draws from."""
        logits = score().double() / self.temperature
        # A finite floor, so that a row without any candidate has no NaN
        return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=1) * mask
