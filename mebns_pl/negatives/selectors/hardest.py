"""Dynamic negative sampling: the candidates the student scores highest."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mebns_pl.keys import Key
from mebns_pl.negatives.selectors.abstract import AbstractSelector, Picks


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

    def __init__(self, num_negatives: int = 1) -> None:
        if num_negatives < 1:
            raise ValueError(f"num_negatives: must be at least 1, got {num_negatives}")
        self.num_negatives = num_negatives

    def select(self, mask: Tensor, score: Callable[[], Tensor], rows: Tensor, key: Key) -> Picks:
        """See :meth:`AbstractSelector.select`; ``rows`` and ``key`` are not used."""
        scores = score()
        if scores.shape != mask.shape:
            raise ValueError(f"score: must give the mask's shape {tuple(mask.shape)}, got {tuple(scores.shape)}")
        # Two stable sorts, the second by legality, rather than one with -inf put on the illegal: a legal candidate
        # scored -inf still goes before every illegal one.
        by_score = scores.sort(dim=1, descending=True, stable=True).indices
        legal_first = mask.gather(1, by_score).byte().sort(dim=1, descending=True, stable=True).indices
        columns = by_score.gather(1, legal_first[:, : self.num_negatives])
        return Picks(columns, mask.gather(1, columns))
