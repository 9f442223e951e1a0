"""What predicted links are scored by: the student alone, or the cascade of teacher and student.

Where easy negatives are filtered, the student has hardly seen one: what it says of pairs that the teacher finds easy
was trained little. The cascade keeps such pairs from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.checks import at_least, within
from mebns_pl.mebns.filters.abstract import AbstractFilter
from mebns_pl.models.batching import PairScore
from mebns_pl.shares import floor_share


@dataclass(frozen=True)
class Gate:
    """What a system with a teacher offers to a scoring.

    Args:
        filter: which candidates stayed in training.
        hardness: encodes the present graph; gives the teacher's logits of pairs.
        candidates: n -> about n pairs ``(2, m)`` as the student's candidates are drawn in training.
    """

    filter: AbstractFilter
    hardness: Callable[[], PairScore]
    candidates: Callable[[int], Tensor]


class AbstractScoring(ABC):
    """Scores pairs by what a system has learned."""

    def check(self, gate: Gate | None) -> None:  # noqa: B027 (most need the student alone)
        """Makes sure that a system has what the scoring needs.

        Raises:
            ValueError: it has not.
        """

    @abstractmethod
    def scorer(self, student: PairScore, gate: Gate | None) -> PairScore:
        """A function from pairs ``(2, m)`` to logits ``(m,)``, -inf where a pair is rejected.

        Args:
            student: the student's logits, on the graph of every known edge.
            gate: the system's teacher, where it has one.
        """


class StudentScoring(AbstractScoring):
    """The student's logits, of every pair.

    Example:
        >>> StudentScoring().scorer(lambda pairs: pairs.sum(dim=0), None)(torch.tensor([[1], [2]]))
        tensor([3])
    """

    def scorer(self, student: PairScore, gate: Gate | None) -> PairScore:
        """See :meth:`AbstractScoring.scorer`."""
        return student


@dataclass(frozen=True)
class CascadeScoring(AbstractScoring):
    """The teacher gates, the student ranks: pairs that the teacher finds easy get -inf, the others the student's logit.

    In training, the filter drops the share ``drop_easy`` of each anchor's candidates as easy. In prediction one
    threshold serves all pairs: the quantile ``drop_easy`` of the teacher's logits over ``sample`` candidates that are
    drawn just as in training, by the sampler's proposal. So the student meets what it was trained on, less what the
    teacher finds easy and the student hard. A pair's fate depends on that pair alone and not on what else is scored
    with it, and scores can be compared between nodes. A quantile of the pool itself would depend on the pool, which
    holds hard pairs only.
    The filter's ``drop_top`` is not applied: what stands highest is what is looked for.

    Args:
        drop_easy: share of the training's candidates below the threshold, in [0, 1); None takes that of the filter,
            which must then be above 0.
        sample: candidates that the threshold is made from, 1 or more.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> CascadeScoring(drop_easy=0.5).drop_easy
        0.5
    """

    drop_easy: float | None = None
    sample: int = 50_000

    def __post_init__(self) -> None:
        within("[0, 1)", or_null=True, drop_easy=self.drop_easy)
        at_least(1, sample=self.sample)

    def check(self, gate: Gate | None) -> None:
        """See :meth:`AbstractScoring.check`.

        Raises:
            ValueError: the system has no teacher, or a filter that drops no easy candidate and so sets no threshold.
        """
        if gate is None:
            raise ValueError(
                "scoring: CascadeScoring needs the teacher of a MeBNS system, and this system has none; "
                "use StudentScoring"
            )
        if self.drop_easy is None and gate.filter.drop_easy == 0:
            raise ValueError(
                "scoring: CascadeScoring takes its threshold from the filter, whose drop_easy is 0, so every pair "
                "would pass; give it a drop_easy of its own above 0, or use StudentScoring"
            )

    def scorer(self, student: PairScore, gate: Gate | None) -> PairScore:
        """See :meth:`AbstractScoring.scorer`."""
        self.check(gate)
        assert gate is not None
        hardness = gate.hardness()
        drop_easy = gate.filter.drop_easy if self.drop_easy is None else self.drop_easy
        threshold = lowest_kept(hardness(gate.candidates(self.sample)), drop_easy)

        def score(pairs: Tensor) -> Tensor:
            logits = torch.full((pairs.shape[1],), -torch.inf, device=pairs.device)
            passed = hardness(pairs) >= threshold
            logits[passed] = student(pairs[:, passed]).to(logits.dtype)
            return logits

        return score


def lowest_kept(hardness: Tensor, drop_easy: float) -> Tensor:
    """The lowest value that stays when the share ``drop_easy`` of the lowest goes, ``(n,) -> ()``; -inf of none."""
    if not len(hardness):
        return hardness.new_tensor(-torch.inf)
    return hardness.sort().values[floor_share(drop_easy, len(hardness))]
