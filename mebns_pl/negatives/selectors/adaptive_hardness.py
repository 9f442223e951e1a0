"""Adaptive hardness: the better a positive is scored, the easier its negatives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mebns_pl.checks import above, expect
from mebns_pl.keys import Key
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.ordering import highest


@dataclass(frozen=True)
class AdaptiveHardnessSelector(AbstractSelector):
    """The candidates with ``|s(u, v) - beta (s(u, v+) + alpha)^(power + 1)|`` smallest (AHNS).

    s is the student's probability (a power needs a base above 0), v+ the positive of the row. A ``power`` below -1
    picks harder negatives for positives with low scores and easier ones for those with high scores.

    Lai et al., *Adaptive Hardness Negative Sampling for Collaborative Filtering*, AAAI 2024, arXiv 2401.05191.

    Args:
        alpha: above 0.
        beta: above 0.
        power: the paper's p, below 0.
        num_negatives: M, at least 1.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> import torch
        >>> mask, score = torch.ones(1, 3, dtype=torch.bool), CandidateScores.given(
        ...     torch.tensor([[-9.0, -2.5, 3.0]]), positives=torch.tensor([4.0]))
        >>> AdaptiveHardnessSelector().select(mask, score, torch.arange(1), Key(0, "docs")).columns.tolist()
        [[1]]
    """

    alpha: float = 1.0
    beta: float = 0.1
    power: float = -2.0
    num_negatives: int = 1

    def __post_init__(self) -> None:
        """Checks the options."""
        super().__post_init__()
        above(0, alpha=self.alpha, beta=self.beta)
        expect(self.power < 0, "a number below 0", power=self.power)

    def select(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Picks:
        """See :meth:`AbstractSelector.select`; ``rows`` and ``key`` are not used."""
        wanted = self.beta * (score.positives().sigmoid() + self.alpha) ** (self.power + 1)
        return highest(-(score().sigmoid() - wanted[:, None]).abs(), mask, self.num_negatives)
