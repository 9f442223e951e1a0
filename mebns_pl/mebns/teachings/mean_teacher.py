"""A teacher that is the student's past, averaged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mebns_pl.checks import within
from mebns_pl.mebns.lengths import Length
from mebns_pl.mebns.teachings.abstract import AbstractTeaching


@dataclass(frozen=True)
class MeanTeacher(AbstractTeaching):
    """The exponential moving average of the student's weights (Tarvainen and Valpola, 1703.01780, eq. 3).

    It starts as the student and learns nothing of its own: no structure-enhanced negatives are drawn.

    Args:
        decay: α, in [0, 1): ``teacher = α teacher + (1 - α) student`` after each step.

    Example:
        >>> teacher, student = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(teacher.weight), nn.init.ones_(student.weight)
        >>> MeanTeacher(decay=0.75).follow(teacher, student)
        >>> teacher.weight.item()
        0.25
    """

    decay: float = 0.99

    def __post_init__(self) -> None:
        within("[0, 1)", decay=self.decay)

    @property
    def learns_for(self) -> Length | None:
        """Never."""
        return 0

    @property
    def still(self) -> bool:
        """No."""
        return False

    def begin(self, teacher: nn.Module, student: nn.Module, epoch: int, num_epochs: int) -> bool:
        """The first epoch starts with the student."""
        if epoch == 0:
            teacher.load_state_dict(student.state_dict())
        return epoch == 0

    @torch.no_grad()
    def follow(self, teacher: nn.Module, student: nn.Module) -> None:
        """Moves towards the student."""
        for mine, others in zip(teacher.parameters(), student.parameters(), strict=True):
            mine.lerp_(others, 1 - self.decay)
