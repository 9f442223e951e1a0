"""From the gradients of steps to the updates of optimizers: accumulation and clipping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mebns_pl.checks import above, at_least
from mebns_pl.mebns.bilevel import clipped
from mebns_pl.mebns.learner import Gradients


@dataclass(frozen=True)
class Updates:
    """How gradients become updates.

    Args:
        accumulate: n, loader batches of one update, 1 or more. The learners' gradients are the means over the n steps
            (over those in which they learned); the last group of an epoch may be shorter and then has a mean of its
            own. Every step looks ahead for its own batch, as if it were an update by itself.
        accumulate_weight_net: so many updates of the student make one of the weight net, whose gradient is the mean
            over them, 1 or more: the more, the less noise in its direction.
        gradient_clip_norm: joint 2-norm, above 0, to which the student's (mean) gradient is clipped, or None. In a
            lookahead the gradient of its batch is clipped likewise.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> Updates(accumulate=4, gradient_clip_norm=1.0)
        Updates(accumulate=4, accumulate_weight_net=1, gradient_clip_norm=1.0)
    """

    accumulate: int = 1
    accumulate_weight_net: int = 1
    gradient_clip_norm: float | None = None

    def __post_init__(self) -> None:
        at_least(1, "batches", or_null=False, **{"updates.accumulate": self.accumulate})
        at_least(1, "updates", or_null=False, **{"updates.accumulate_weight_net": self.accumulate_weight_net})
        above(0, or_null=True, **{"updates.gradient_clip_norm": self.gradient_clip_norm})

    @property
    def longest(self) -> int:
        """Batches after which all groups are at their end."""
        return self.accumulate * self.accumulate_weight_net

    def group(self, name: str) -> int:
        """Batches of a learner's update."""
        return self.longest if name == "weight_net" else self.accumulate


class GradientAccumulator:
    """Adds up the gradients of groups of steps.

    Args:
        updates: how many steps make a learner's group, and how the student's mean is clipped.

    Attributes:
        totals: the sums of the groups so far, by learner.

    Example:
        >>> import torch
        >>> accumulator, loss = GradientAccumulator(Updates(accumulate=2)), torch.zeros(())
        >>> accumulator.add({"student": Gradients(loss, [torch.tensor([1.0])])}, last=False)
        {}
        >>> accumulator.add({"student": Gradients(loss, [torch.tensor([2.0])])}, last=False)["student"].dense
        [tensor([1.5000])]
    """

    def __init__(self, updates: Updates) -> None:
        self.updates = updates
        self.totals: dict[str, Gradients] = {}
        self._steps = 0
        self._counts: dict[str, int] = {}

    def add(self, learned: Mapping[str, Gradients], last: bool) -> dict[str, Gradients]:
        """Takes one step's gradients.

        Args:
            learned: by learner, before clipping, of those that learn in this step.
            last: whether this is the last step of the epoch, which ends groups early.

        Returns:
            Of the learners whose group is full, the mean over the steps in which they learned, the student's clipped.
        """
        for name, value in learned.items():
            before = self.totals.get(name)
            self.totals[name] = value if before is None else before + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._steps += 1
        full = [name for name in self.totals if last or self._steps % self.updates.group(name) == 0]
        means = {name: self.totals.pop(name) / self._counts.pop(name) for name in full}
        if last or self._steps == self.updates.longest:
            self._steps = 0
        if "student" in means:
            dense = clipped(means["student"].dense, self.updates.gradient_clip_norm)
            means["student"] = replace(means["student"], dense=dense)
        return means

    def state_dict(self) -> dict[str, Any]:
        """The groups that are being added up; empty where all are at their end."""
        totals = {name: dict(vars(total)) for name, total in self.totals.items()}
        return {"steps": self._steps, "counts": dict(self._counts), "totals": totals} if self._steps else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        self._steps = state.get("steps", 0)
        self._counts = dict(state.get("counts", {}))
        self.totals = {name: Gradients(**total) for name, total in state.get("totals", {}).items()}
