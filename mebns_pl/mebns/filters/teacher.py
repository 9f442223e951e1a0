"""The teacher's filter: of each anchor's candidates, keep the hard ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mebns_pl.checks import at_least, within
from mebns_pl.keys import Key
from mebns_pl.mebns.filters.abstract import AbstractFilter, keep_hardest, missing_share, most_kept
from mebns_pl.negatives.selectors.abstract import CandidateScores


@dataclass(frozen=True)
class AbstractBand(AbstractFilter):
    """What keeps a band of each row's ranking by some score.

    Args:
        drop_easy: q, the share of each anchor's candidates to drop as easy, in [0, 1).
        drop_top: share to drop at the very top, in [0, 1).
        missing: how many edges may be missing for each known one, 0 or more: no more go at the top than so many missing
            edges make likely among an anchor's candidates; None for no such bound. By default those of a split that
            holds 15 % out, 15 / 85.

    Raises:
        ValueError: a share out of its range, or nothing left.
    """

    drop_easy: float = 0.25
    drop_top: float = 0.05
    missing: float | None = 0.18

    def __post_init__(self) -> None:
        """Checks the shares."""
        within("[0, 1)", drop_easy=self.drop_easy, drop_top=self.drop_top)
        at_least(0, or_null=True, missing=self.missing)
        if self.drop_easy + self.drop_top >= 1:
            raise ValueError(f"drop_easy + drop_top: must be below 1, got {self.drop_easy} + {self.drop_top}")

    def most(self, num_candidates: int) -> int:
        """See :meth:`AbstractFilter.most`."""
        return most_kept(num_candidates, self.drop_easy, self.drop_top if self.missing is None else 0.0)

    def band(
        self, values: Tensor, mask: Tensor, score: CandidateScores, others: CandidateScores | None = None
    ) -> Tensor:
        """See :func:`~mebns_pl.mebns.filters.abstract.keep_hardest`."""
        likely = None
        if self.missing is not None:
            likely = (missing_share(self.missing, score) * mask.sum(dim=1, keepdim=True)).round().long()
        return keep_hardest(values, mask, self.drop_easy, self.drop_top, likely, others)


@dataclass(frozen=True)
class TeacherFilter(AbstractBand):
    """Keeps a band of each anchor's candidates, by how hard the teacher finds them.

    The paper drops the easy ones. A candidate that the teacher finds easy and the student hard is the student's error,
    from which it has most to learn. So candidates stand at the better of their ranks by either, and those that then
    come last go. At the very top held-out edges and other false negatives gather, which a guard drops where there are
    many (docs/migration.md): on dense graphs, where the anchor has many neighbours. Elsewhere the hardest are what a
    student learns most from.

    Cost: O(K log K) an anchor, and the student's logits of all K candidates, which selectors like DNS ask for, too.

    Args:
        drop_easy: q, the share of each anchor's candidates to drop as easy, in [0, 1).
        drop_top: share to drop at the very top, in [0, 1).
        missing: how many edges may be missing for each known one, 0 or more: no more go at the top than so many missing
            edges make likely among an anchor's candidates, were they drawn at random; None for no such bound.
        alone: whether the teacher alone says what is easy.

    Raises:
        ValueError: a share out of its range, or nothing left.

    Example:
        >>> import torch
        >>> hardness, mask = torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.ones(1, 4, dtype=torch.bool)
        >>> rest = CandidateScores.given(torch.zeros(1, 4)), torch.arange(1), Key(0, "docs")
        >>> TeacherFilter(drop_easy=0.5, alone=True).keep(hardness, mask, *rest).tolist()
        [[True, False, True, False]]
        >>> score = CandidateScores.given(torch.tensor([[0.0, 0.0, 0.0, 1.0]]))  # the student finds the last one hard
        >>> TeacherFilter(drop_easy=0.5).keep(hardness, mask, score, *rest[1:]).tolist()
        [[True, False, False, True]]
        >>> TeacherFilter(drop_easy=0.0, drop_top=0.25, missing=None).keep(hardness, mask, *rest).tolist()
        [[False, True, True, True]]
    """

    alone: bool = False

    def keep(self, hardness: Tensor, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """The band by the teacher's logits, in which what the student finds hard is not easy."""
        return self.band(hardness, mask, score, None if self.alone else score)


@dataclass(frozen=True)
class StudentFilter(AbstractBand):
    """A band by the student's own logits: a control that tells what a teacher adds.

    Args:
        drop_easy: as in :class:`TeacherFilter`.
        drop_top: as in :class:`TeacherFilter`.
        missing: as in :class:`TeacherFilter`.

    Raises:
        ValueError: a share out of its range, or nothing left.

    Example:
        >>> StudentFilter(drop_easy=0.5, drop_top=0.0).most(8)
        4
    """

    def keep(self, hardness: Tensor, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """The band by the student's logits."""
        return self.band(score(), mask, score)
