"""The contract of selectors: candidates and the student's scores -> the negatives to learn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from mebns_pl.keys import Key


class Picks(NamedTuple):
    """Which candidates were picked.

    Args:
        columns: ``(b, M)`` int64, places among the K candidates of each anchor.
        mask: ``(b, M)`` bool, False where the anchor had fewer than M candidates to pick from.
    """

    columns: Tensor
    mask: Tensor


class AbstractSelector(ABC):
    """A rule that picks ``num_negatives`` of K candidates, given the current student's scores."""

    num_negatives: int

    @abstractmethod
    def select(self, mask: Tensor, score: Callable[[], Tensor], rows: Tensor, key: Key) -> Picks:
        """Picks among the candidates where ``mask`` is True.

        Args:
            mask: ``(b, K)`` bool, the candidates there are to pick from (legal, and kept by the filter).
            score: gives the student's logits ``(b, K)``, without gradient; called by the rules that need them only.
            rows: ``(b,)`` int64, the anchors' places in the union batch of all ranks: a rule that draws does so by row
                (:func:`mebns_pl.keys.uniform`), so that a row's picks do not depend on how the batch is cut.
            key: key of this draw.

        Returns:
            Picks with ``min(num_negatives, K)`` columns; no column twice in a row.
        """
