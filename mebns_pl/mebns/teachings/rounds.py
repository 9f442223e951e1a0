"""Bootstrapping in rounds: the student of one is the teacher of the next."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mebns_pl.mebns.lengths import Length, check_length, epochs_of
from mebns_pl.mebns.teachings.abstract import AbstractTeaching


@dataclass(frozen=True)
class Rounds(AbstractTeaching):
    """In the first round the teacher learns by itself; at the start of each later one it takes the student's weights.

    Args:
        length: of a round: epochs, or a share of the run.

    Example:
        >>> Rounds(length=10).learns_for
        10
    """

    length: Length = 0.2

    def __post_init__(self) -> None:
        check_length(1, **{"teaching.length": self.length})

    @property
    def learns_for(self) -> Length | None:
        """The first round."""
        return self.length

    @property
    def still(self) -> bool:
        """Yes, within a round."""
        return True

    def begin(self, teacher: nn.Module, student: nn.Module, epoch: int, num_epochs: int) -> bool:
        """Takes the student's weights over."""
        due = epoch > 0 and epoch % max(epochs_of(self.length, num_epochs), 1) == 0
        if due:
            teacher.load_state_dict(student.state_dict())
        return due
