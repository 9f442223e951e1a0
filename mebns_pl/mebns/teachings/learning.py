"""A teacher that learns by itself, and may be frozen."""

from __future__ import annotations

from dataclasses import dataclass

from mebns_pl.mebns.lengths import Length, check_length
from mebns_pl.mebns.teachings.abstract import AbstractTeaching


@dataclass(frozen=True)
class OwnLearning(AbstractTeaching):
    """The teacher learns from structure-enhanced negatives beside the student, and is frozen then: cheaper.

    Args:
        epochs: for so long it learns: epochs, or a share of the run; None never freezes it.

    Example:
        >>> OwnLearning(epochs=0.2).learns_for
        0.2
    """

    epochs: Length | None = 0.2

    def __post_init__(self) -> None:
        check_length(1, **{"teaching.epochs": self.epochs})

    @property
    def learns_for(self) -> Length | None:
        """See :class:`AbstractTeaching`."""
        return self.epochs

    @property
    def still(self) -> bool:
        """Yes."""
        return True
