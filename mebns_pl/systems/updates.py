"""From the gradients of steps to the updates of optimizers: accumulation and clipping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mebns_pl.mebns.bilevel import clipped


@dataclass(frozen=True)
class Updates:
    """How gradients become updates.

    Args:
        accumulate: n, loader batches of one update, 1 or more. The learners' gradients are the means over the n steps;
            the last group of an epoch may be shorter and then has a mean of its own. Every step looks ahead for its
            own batch, as if it were an update by itself.
        gradient_clip_norm: joint 2-norm, above 0, to which the student's (mean) gradient is clipped, or None. In a
            lookahead the gradient of its batch is clipped likewise.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> Updates(accumulate=4, gradient_clip_norm=1.0)
        Updates(accumulate=4, gradient_clip_norm=1.0)
    """

    accumulate: int = 1
    gradient_clip_norm: float | None = None

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"updates.accumulate: expected 1 or more batches, got {self.accumulate}")
        if self.gradient_clip_norm is not None and not self.gradient_clip_norm > 0:
            raise ValueError(
                f"updates.gradient_clip_norm: expected a number above 0 or null, got {self.gradient_clip_norm}"
            )


class GradientAccumulator:
    """Adds up the gradients of a group of steps.

    Args:
        updates: how many steps make a group, and how the student's mean is clipped.

    Example:
        >>> accumulator = GradientAccumulator(Updates(accumulate=2))
        >>> accumulator.add({"student": [torch.tensor([1.0])]}, last=False)
        {}
        >>> accumulator.add({"student": [torch.tensor([2.0])]}, last=False)
        {'student': [tensor([1.5000])]}
    """

    def __init__(self, updates: Updates) -> None:
        self.updates = updates
        self._count = 0
        self._sums: dict[str, list[Tensor]] = {}

    def add(self, grads: Mapping[str, Sequence[Tensor] | None], last: bool) -> dict[str, list[Tensor]]:
        """Takes one step's gradients.

        Args:
            grads: by learner, before clipping; None for one that does not learn in this epoch.
            last: whether this is the last step of the epoch, which ends a group early.

        Returns:
            The mean gradients where the group is full, the student's clipped; otherwise nothing.
        """
        for name, values in grads.items():
            if values is None:
                continue
            before = self._sums.get(name)
            # A checkpoint brings sums back on the CPU
            self._sums[name] = (
                list(values)
                if before is None
                else [total.to(value.device) + value for total, value in zip(before, values, strict=True)]
            )
        self._count += 1
        if self._count < self.updates.accumulate and not last:
            return {}
        means = {
            name: [total / self._count for total in totals] if self._count > 1 else totals
            for name, totals in self._sums.items()
        }
        self._count, self._sums = 0, {}
        if "student" in means:
            means["student"] = clipped(means["student"], self.updates.gradient_clip_norm)
        return means

    def state_dict(self) -> dict[str, Any]:
        """The group that is being added up; empty between groups."""
        return {"count": self._count, "sums": dict(self._sums)} if self._count else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        self._count, self._sums = state.get("count", 0), dict(state.get("sums", {}))
