"""Learning-rate schedulers under manual optimisation, where Lightning saves but never steps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.cli import ReduceLROnPlateau as MonitoredPlateau
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

Configured = tuple[list[Optimizer], list[LRScheduler | ReduceLROnPlateau]]


def configured(optimizers: Sequence[Optimizer], makers: Mapping[str, LRSchedulerCallable | None]) -> Configured:
    """Optimizers with their schedulers, as ``configure_optimizers`` hands them to Lightning.

    Args:
        optimizers: in order.
        makers: by the argument's name, in the same order: makes an optimizer's scheduler, or None.

    Raises:
        ValueError: a scheduler that watches a metric, without the metric's name.
    """
    pairs = zip(optimizers, makers.items(), strict=True)
    made = {name: make(optimizer) for optimizer, (name, make) in pairs if make is not None}
    for name, scheduler in made.items():
        if isinstance(scheduler, ReduceLROnPlateau) and not isinstance(scheduler, MonitoredPlateau):
            raise ValueError(
                f"{name}: torch's ReduceLROnPlateau does not say which metric it watches; "
                "take lightning.pytorch.cli.ReduceLROnPlateau with monitor, such as val/mrr"
            )
    return list(optimizers), list(made.values())


def step_after_epoch(schedulers: Iterable[Any], learned: Sequence[Optimizer]) -> None:
    """Steps the schedulers that count epochs, of optimizers that have made steps in this one.

    Args:
        schedulers: all of a system's.
        learned: the optimizers that were used: a learner's schedule stands still in epochs in which it is not to
            learn; of an engine that moves the weight net at some steps only it goes on.
    """
    for scheduler in schedulers:
        if not isinstance(scheduler, ReduceLROnPlateau) and any(scheduler.optimizer is one for one in learned):
            scheduler.step()


def step_after_validation(schedulers: Iterable[Any], values: Mapping[str, Tensor]) -> None:
    """Steps the schedulers that watch a metric.

    Args:
        schedulers: all of a system's.
        values: the validation's metrics, by their names in the logs.

    Raises:
        ValueError: a scheduler watches a metric that validation does not give.
    """
    for scheduler in schedulers:
        if isinstance(scheduler, MonitoredPlateau):
            if scheduler.monitor not in values:
                raise ValueError(
                    f"monitor: a scheduler watches {scheduler.monitor!r}; allowed are {', '.join(sorted(values))}"
                )
            scheduler.step(float(values[scheduler.monitor]))
