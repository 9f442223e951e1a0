"""Uniform among the hardest: DNS(M, N)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.keys import Key, uniform
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks, equal_parts
from mebns_pl.negatives.selectors.ordering import highest


@dataclass(frozen=True)
class TopSelector(AbstractSelector):
    """Uniform among the ``top`` candidates of highest score, without replacement: ``p(v) = 1 / M for v in top_M``.

    The paper's M is ``top`` and its N the number of candidates. ``top = num_negatives`` is DNS.

    Shi et al., *On the Theories Behind Hard Negative Sampling for Recommendation*, WWW 2023, arXiv 2302.03472.

    Args:
        top: how many of the highest scored legal candidates there are to choose from, at least ``num_negatives``.
        num_negatives: picks of each row, at least 1.

    Raises:
        ValueError: ``num_negatives`` is below 1, or ``top`` below it.

    Example:
        >>> import torch
        >>> mask, scores = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[0.0, 3.0, 2.0, 1.0]])
        >>> picks = TopSelector(top=2, num_negatives=2).select(mask, lambda: scores, torch.arange(1), Key(0, "docs"))
        >>> sorted(picks.columns[0].tolist())
        [1, 2]
    """

    top: int = 5
    num_negatives: int = 1

    def __post_init__(self) -> None:
        """Checks the options."""
        super().__post_init__()
        at_least(self.num_negatives, "(num_negatives)", top=self.top)

    def select(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Picks:
        """See :meth:`AbstractSelector.select`."""
        hardest = highest(score(), mask, self.top)
        chosen = highest(uniform(key, rows, hardest.columns.shape[1]), hardest.mask, self.num_negatives)
        return Picks(hardest.columns.gather(1, chosen.columns), chosen.mask)

    def shares(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """Equal ones of the highest scored ``top``."""
        return equal_parts(highest(score(), mask, self.top), mask.shape[1])
