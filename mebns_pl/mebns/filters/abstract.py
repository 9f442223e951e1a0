"""The contract of filters: candidates with their hardness -> those that stay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from mebns_pl.families import Family
from mebns_pl.keys import Key
from mebns_pl.negatives.selectors.abstract import CandidateScores
from mebns_pl.shares import floor_share, floor_shares


class AbstractFilter(ABC):
    """A rule by row that keeps some of an anchor's candidates, one at least.

    Example:
        >>> class KeepAll(AbstractFilter):
        ...     def keep(self, hardness, mask, score, rows, key):
        ...         return mask
        >>> KeepAll().most(8)
        8
    """

    learns = False
    """Whether it is fitted to edges that are hidden from the teacher whenever the meta set is collected."""

    drop_easy: float = 0.0
    """The share of easy candidates that it drops, from which :class:`CascadeScoring` takes its threshold."""

    @abstractmethod
    def keep(self, hardness: Tensor, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """``(b, K)`` bool, a part of ``mask`` with one True at least in each row of it that has any.

        Args:
            hardness: ``(b, K)`` the teacher's logits of the candidates.
            mask: ``(b, K)`` bool, legal candidates.
            score: what else may be asked of the candidates.
            rows: ``(b,)`` int64, the rows' places in the union batch: a rule that draws does so by row.
            key: of this draw.
        """

    def most(self, num_candidates: int) -> int:
        """The most that can stay of a row with up to ``num_candidates`` legal ones."""
        return num_candidates

    def learn(self, hidden: Tensor, drawn: Tensor) -> None:  # noqa: B027 (most filters learn nothing)
        """Fits the rule to what is known: edges that the teacher has not seen.

        Args:
            hidden: ``(n, 2)`` the teacher's logit and the common neighbours of edges hidden from it.
            drawn: ``(m, 2)`` the same of candidates, as they are drawn in training.
        """


def keep_hardest(
    hardness: Tensor,
    mask: Tensor,
    drop_easy: float,
    drop_top: float,
    most_top: Tensor | None = None,
    others: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Keeps a band of each row's ranking by hardness; a rule by row, so rows can be anywhere.

    Of a row's L legal candidates the ``floor(drop_top * L)`` hardest go, and of the rest the ``floor(drop_easy * L)``
    easiest, but one always stays. With a second opinion the easiest are those whose better rank of the two is lowest,
    so that what either finds hard stays. Ties are broken by the first opinion, then by the place in the row.

    Args:
        hardness: ``(b, K)`` float, the teacher's logits.
        mask: ``(b, K)`` bool, legal candidates.
        drop_easy: share of the easiest to drop, in [0, 1).
        drop_top: share of the hardest to drop (likely false negatives), in [0, 1).
        most_top: ``(b, 1)`` int64, no more than so many of the hardest go; None for no bound.
        others: gives ``(b, K)`` float, a second opinion on what is easy, the student's logits; asked only where any of
            K candidates would go as easy. None for no second opinion.

    Returns:
        ``(b, K)`` bool, True = keep; a part of ``mask``.
    """
    rank = _ranks(hardness, mask)
    legal = mask.sum(dim=1, keepdim=True)
    first = floor_shares(drop_top, legal)
    if most_top is not None:
        first = torch.minimum(first, most_top)
    rest = mask & (rank >= first)
    place, width = rank - first, mask.shape[1]
    if others is not None and floor_share(drop_easy, width) > 0:
        better = torch.minimum(rank, _ranks(others(), mask))
        place = _ranks(-(better * width + rank).double(), rest)
    last = (legal - first - floor_shares(drop_easy, legal)).clamp(min=1)
    return rest & (place < last)


def _ranks(values: Tensor, mask: Tensor) -> Tensor:
    """``(b, K)`` int64: each place's rank in its row, 0 for the highest; those out of ``mask`` come last."""
    order = values.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def missing_share(missing: float, score: CandidateScores) -> Tensor:
    """``(b, 1)`` float64 in [0, 1]: the share of missing edges among an anchor's non-edges.

    Of an anchor with d neighbours among N nodes ``missing * d`` edges are missing, spread over N - 1 - d non-edges.

    Args:
        missing: how many edges are missing for each known one, 0 or more.
        score: tells anchors and graph.
    """
    degree = score.graph.degree_of(score.pairs[0, :, :1]).double()
    return (missing * (degree / (score.graph.num_nodes - 1 - degree).clamp(min=1))).clamp(max=1)


def most_kept(num_candidates: int, drop_easy: float, drop_top: float) -> int:
    """The most that :func:`keep_hardest` keeps of a row of up to ``num_candidates``; fewer may leave more."""
    return max(max(n - floor_share(drop_easy, n) - floor_share(drop_top, n), 1) for n in range(1, num_candidates + 1))


FILTERS = Family(AbstractFilter, "--model.filter")
"""Every filter there is."""
