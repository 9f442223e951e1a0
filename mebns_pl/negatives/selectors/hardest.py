"""Dynamic negative sampling: the candidates the student scores highest."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mebns_pl.keys import Key
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.ordering import highest


@dataclass(frozen=True)
class HardestSelector(AbstractSelector):
    """The M highest scored legal candidates of each row (DNS).

    Of equal scores the smaller column goes first.

    Zhang et al., *Optimizing Top-N Collaborative Filtering via Dynamic Negative Item Sampling*, SIGIR 2013.

    Args:
        num_negatives: M, at least 1.

    Raises:
        ValueError: ``num_negatives`` is below 1.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[True, True, False]])
        >>> scores = torch.tensor([[-3.0, -1.0, 5.0]])
        >>> picks = HardestSelector().select(mask, lambda: scores, torch.arange(1), Key(0, "docs"))
        >>> picks.columns.tolist(), picks.mask.tolist()
        ([[1]], [[True]])
    """

    num_negatives: int = 1

    def select(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Picks:
        """See :meth:`AbstractSelector.select`; ``rows`` and ``key`` are not used."""
        return highest(score(), mask, self.num_negatives)
