"""The teacher's filter: of each anchor's candidates, keep the hard ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.checks import within


def keep_hardest(hardness: Tensor, mask: Tensor, drop_easy: float, drop_top: float) -> Tensor:
    """Keeps a band of each row's ranking by hardness; a rule by row, so rows can be anywhere.

    Of a row's L legal candidates the ``floor(drop_top * L)`` hardest and the ``floor(drop_easy * L)`` easiest go, but
    one always stays. Ties are broken by the place in the row.

    Args:
        hardness: ``(b, K)`` float, the teacher's logits.
        mask: ``(b, K)`` bool, legal candidates.
        drop_easy: share of the easiest to drop, in [0, 1).
        drop_top: share of the hardest to drop (likely false negatives), in [0, 1).

    Returns:
        ``(b, K)`` bool, True = keep; a part of ``mask``.
    """
    order = hardness.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    legal = mask.sum(dim=1, keepdim=True)
    first = _floor_share(drop_top, legal)
    last = torch.maximum(legal - _floor_share(drop_easy, legal), first + 1)
    return mask & (rank >= first) & (rank < last)


def _floor_share(share: float, count: Tensor) -> Tensor:
    """``floor(share * count)`` of the decimal share: 0.29 of 100 is 29, though the floats' product is below it."""
    return (share * count.double() + 1e-9).floor().long()


def _floor_of(share: float, count: int) -> int:
    return math.floor(share * count + 1e-9)


@dataclass(frozen=True)
class TeacherFilter:
    """Keeps a band of each anchor's candidates, by how hard the teacher finds them.

    Which band helps depends on the graph (docs/quality.md). The default drops only the top: a candidate that the
    student scores high and the teacher does not is worth more than one that both score high. The paper drops the easy
    ones: ``TeacherFilter(drop_easy=0.5, drop_top=0.0)``, which the dense air-routes graph prefers.

    Args:
        drop_easy: q, the share of each anchor's candidates to drop as easy, in [0, 1).
        drop_top: share to drop at the very top, where held-out edges and other false negatives gather, in [0, 1).

    Example:
        >>> hardness, mask = torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.ones(1, 4, dtype=torch.bool)
        >>> TeacherFilter(drop_easy=0.5, drop_top=0.0).keep(hardness, mask).tolist()
        [[True, False, True, False]]
    """

    drop_easy: float = 0.5
    drop_top: float = 0.05

    def __post_init__(self) -> None:
        within("[0, 1)", drop_easy=self.drop_easy, drop_top=self.drop_top)
        if self.drop_easy + self.drop_top >= 1:
            raise ValueError(f"drop_easy + drop_top: must be below 1, got {self.drop_easy} + {self.drop_top}")

    def most(self, num_candidates: int) -> int:
        """The most that can stay of a row with up to ``num_candidates`` legal ones."""
        sizes = range(1, num_candidates + 1)
        return max(max(n - _floor_of(self.drop_easy, n) - _floor_of(self.drop_top, n), 1) for n in sizes)

    def keep(self, hardness: Tensor, mask: Tensor) -> Tensor:
        """``(b, K)`` bool, see :func:`keep_hardest`."""
        return keep_hardest(hardness, mask, self.drop_easy, self.drop_top)
