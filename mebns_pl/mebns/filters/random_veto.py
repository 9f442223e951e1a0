"""A filter that knows nothing: what any other must beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mebns_pl.checks import within
from mebns_pl.keys import Key
from mebns_pl.mebns.filters.abstract import AbstractFilter, keep_hardest, most_kept
from mebns_pl.negatives.row_draws import fractions
from mebns_pl.negatives.selectors.abstract import CandidateScores


@dataclass(frozen=True)
class RandomVeto(AbstractFilter):
    """Drops a random share of each anchor's candidates: a control for filters that drop as many.

    Dropping at random helps by itself where the hardest candidates are false negatives: the fewer there are to choose
    from, the seldomer one is chosen.

    Args:
        drop: the share, in [0, 1); rounded down. By default that of :class:`TeacherFilter` at both ends of a dense
            graph; on a sparse one that drops nothing at the top.

    Example:
        >>> RandomVeto(0.25).most(8)
        6
    """

    drop: float = 0.3

    def __post_init__(self) -> None:
        within("[0, 1)", drop=self.drop)

    def most(self, num_candidates: int) -> int:
        """See :meth:`AbstractFilter.most`."""
        return most_kept(num_candidates, self.drop, 0.0)

    def keep(self, hardness: Tensor, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """See :meth:`AbstractFilter.keep`."""
        return keep_hardest(fractions(key, rows, mask.shape[1]), mask, self.drop, 0.0)
