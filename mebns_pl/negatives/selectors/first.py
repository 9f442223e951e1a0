"""Random negatives: the first legal candidates."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mebns_pl.keys import Key
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks


@dataclass(frozen=True)
class FirstSelector(AbstractSelector):
    """The first M legal columns of each row, without a look at the scores.

    Candidates are independent draws of one distribution, so the first ones are a random choice: with a uniform proposal
    this is random negative sampling (RNS).

    Args:
        num_negatives: M, at least 1.

    Raises:
        ValueError: ``num_negatives`` is below 1.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[False, True, True], [False, False, True]])
        >>> picks = FirstSelector(num_negatives=2).select(mask, lambda: mask.float(), torch.arange(2), Key(0, "docs"))
        >>> picks.columns.tolist(), picks.mask.tolist()
        ([[1, 2], [2, 0]], [[True, True], [True, False]])
    """

    num_negatives: int = 1

    def select(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Picks:
        """See :meth:`AbstractSelector.select`; ``score``, ``rows`` and ``key`` are not used."""
        legal_first = mask.byte().sort(dim=1, descending=True, stable=True).indices
        columns = legal_first[:, : self.num_negatives]
        return Picks(columns, mask.gather(1, columns))

    def shares(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """Equal ones: any candidate may be the first."""
        return mask.double() / mask.sum(dim=1, keepdim=True).clamp(min=1)
