"""From the wrapped sampler's hard choice to weights that a meta learner can move."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.checks import at_least, within
from mebns_pl.keys import Key
from mebns_pl.negatives.row_draws import fractions
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.ordering import highest


@dataclass(frozen=True)
class StartingWeights:
    """Which candidates the student learns from behind the filter, and what they weigh before the weight net.

    A sampler that picks one candidate leaves a weight net nothing to weigh. So the student learns from several of those
    that stay, and the sampler's choice becomes their starting weights: with the selector's shares s of a row of L
    candidates (1 for DNS's hardest, the softmax for a softmax sampler, 1 / L for random negatives) a candidate weighs
    ``(1 - floor) L s + floor``. Where more than ``num_negatives`` stay, so many are drawn by priority sampling
    (Duffield, Lund and Thorup, *J. ACM* 2007): candidate i has the priority ``w_i / u_i`` with u_i uniform in (0, 1],
    the highest stay and weigh ``max(w_i, t)`` with t the highest priority that does not, which leaves sums of weights
    unbiased; each row is then divided by its mean.

    Args:
        num_negatives: M, the most negatives of a positive, 1 or more.
        floor: the part of a row that is spread equally over its candidates, in (0, 1]: room for the weight net to move
            what a selector like DNS would leave out.

    Example:
        >>> from mebns_pl.negatives.selectors.hardest import HardestSelector
        >>> mask, logits = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[0.0, 3.0, 2.0, 1.0]])
        >>> score = CandidateScores.given(logits)
        >>> StartingWeights(floor=0.5).of(HardestSelector(), mask, score, torch.arange(1), Key(0, "docs"))
        tensor([[0.5000, 2.5000, 0.5000, 0.5000]], dtype=torch.float64)
    """

    num_negatives: int = 8
    floor: float = 0.5

    def __post_init__(self) -> None:
        at_least(1, num_negatives=self.num_negatives)
        within("(0, 1]", floor=self.floor)

    def of(self, selector: AbstractSelector, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """``(b, K)`` weights with mean 1 over a row's candidates, 0 where ``mask`` ``(b, K)`` is False.

        Arguments as in :meth:`~mebns_pl.negatives.selectors.abstract.AbstractSelector.select`.
        """
        shares = selector.shares(mask, score, rows, key)
        return ((1 - self.floor) * mask.sum(dim=1, keepdim=True) * shares + self.floor) * mask

    def picks(self, weights: Tensor, mask: Tensor, most: int, rows: Tensor, key: Key) -> tuple[Picks, Tensor]:
        """The candidates to learn from.

        Args:
            weights: ``(b, K)`` of :meth:`of`.
            mask: ``(b, K)`` bool, candidates that stay.
            most: the most that stay in a row.
            rows: ``(b,)`` int64, the rows' places in the union batch.
            key: of the draw.

        Returns:
            Picks with ``min(num_negatives, most)`` columns, and their weights, mean 1 a row.
        """
        if most <= self.num_negatives:
            picks = highest(mask.to(weights.dtype), mask, most)
            return picks, weights.gather(1, picks.columns) * picks.mask
        priorities = weights.double() / (1 - fractions(key.child("drawn"), rows, mask.shape[1]))
        picks = highest(priorities, mask, self.num_negatives + 1)
        columns, chosen = picks.columns[:, :-1], picks.mask[:, :-1]
        threshold = (priorities * mask).gather(1, picks.columns[:, -1:]).to(weights.dtype)
        drawn = torch.maximum(weights.gather(1, columns), threshold) * chosen
        mean = drawn.sum(dim=1, keepdim=True) / chosen.sum(dim=1, keepdim=True).clamp(min=1)
        return Picks(columns, chosen), drawn / mean.clamp(min=1e-30)
