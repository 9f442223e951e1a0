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
        accumulate: n, loader batches of one update, 1 or more. The learners' gradients are the means over the n steps
            (over those in which they learned); the last group of an epoch may be shorter and then has a mean of its
            own. Every step looks ahead for its own batch, as if it were an update by itself.
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
        >>> import torch
        >>> accumulator = GradientAccumulator(Updates(accumulate=2))
        >>> accumulator.add({"student": [torch.tensor([1.0])]}, last=False)
        {}
        >>> accumulator.add({"student": [torch.tensor([2.0])]}, last=False)
        {'student': [tensor([1.5000])]}
    """

    def __init__(self, updates: Updates) -> None:
        self.updates = updates
        self._steps = 0
        self._counts: dict[str, int] = {}
        self._sums: dict[str, list[Tensor]] = {}

    def add(self, grads: Mapping[str, Sequence[Tensor] | None], last: bool) -> dict[str, list[Tensor]]:
        """Takes one step's gradients.

        Args:
            grads: by learner, before clipping; None for one that does not learn in this step.
            last: whether this is the last step of the epoch, which ends a group early.

        Returns:
            Where the group is full, each learner's mean over the steps in which it learned, the student's clipped;
            otherwise nothing.
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
            self._counts[name] = self._counts.get(name, 0) + 1
        self._steps += 1
        if self._steps < self.updates.accumulate and not last:
            return {}
        counts = self._counts
        means = {
            name: [total / counts[name] for total in totals] if counts[name] > 1 else totals
            for name, totals in self._sums.items()
        }
        self._steps, self._counts, self._sums = 0, {}, {}
        if "student" in means:
            means["student"] = clipped(means["student"], self.updates.gradient_clip_norm)
        return means

    def state_dict(self) -> dict[str, Any]:
        """The group that is being added up; empty between groups."""
        return {"steps": self._steps, "counts": dict(self._counts), "sums": dict(self._sums)} if self._steps else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        self._steps = state.get("steps", 0)
        self._counts, self._sums = dict(state.get("counts", {})), dict(state.get("sums", {}))
