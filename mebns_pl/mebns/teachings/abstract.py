"""The contract of teachings: how a teacher comes by its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from mebns_pl.families import Family
from mebns_pl.mebns.lengths import Length


class AbstractTeaching(ABC):
    """Where a teacher's weights come from: gradients of its own, the student, or both.

    Example:
        >>> class LikeTheStudent(AbstractTeaching):
        ...     learns_for, still = 0, False
        ...     def follow(self, teacher, student):
        ...         teacher.load_state_dict(student.state_dict())
        >>> teacher, student = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> LikeTheStudent().follow(teacher, student)
        >>> bool((teacher.weight == student.weight).all())
        True
    """

    @property
    @abstractmethod
    def learns_for(self) -> Length | None:
        """For so long the teacher learns from structure-enhanced negatives; None for ever."""

    @property
    @abstractmethod
    def still(self) -> bool:
        """Whether a teacher that no longer learns stays as it is during an epoch, so that one encoding serves."""

    def begin(self, teacher: nn.Module, student: nn.Module, epoch: int, num_epochs: int) -> bool:
        """Before an epoch; whether the teacher was changed.

        Args:
            teacher: has the student's shape.
            student: as it is.
            epoch: 0-based.
            num_epochs: of the run.
        """
        return False

    def follow(self, teacher: nn.Module, student: nn.Module) -> None:  # noqa: B027 (most teachers do not follow)
        """After a step of the student."""


TEACHINGS = Family(AbstractTeaching, "--model.teaching")
"""Every teaching there is."""
