"""Options of Lightning: those refused before anything starts, those that leave MeBNS idle; and a float64 that works."""

from __future__ import annotations

import math
from collections.abc import Collection
from types import UnionType
from typing import Any, TypeVar

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.plugins.precision import DoublePrecision

Kind = TypeVar("Kind")

PRECISIONS = ("32-true", "64-true", "bf16-mixed")

_WHY_NOT = {
    "16-mixed": "float16 needs a loss scaler, which the bilevel step's gradients of gradients have no room for",
    "16-true": "float16 parameters lose the updates",
    "bf16-true": "bfloat16 parameters have 8 bits and lose the updates",
}


def check_trainer(trainer: Trainer, num_learners: int = 1) -> None:
    """Refuses options that Lightning would refuse without naming ours, or would take without effect.

    Args:
        trainer: what was given to it.
        num_learners: how many optimizers the system has.

    Raises:
        ValueError: ``gradient_clip_val``, ``accumulate_grad_batches``, a precision other than ``PRECISIONS``, or a
            callback that works with automatic optimisation only.
    """
    if trainer.gradient_clip_val is not None:
        raise ValueError(
            f"trainer.gradient_clip_val: expected null, got {trainer.gradient_clip_val}; the model clips, in its"
            " lookahead too: set model.updates.gradient_clip_norm"
        )
    if trainer.accumulate_grad_batches != 1:
        raise ValueError(
            f"trainer.accumulate_grad_batches: expected 1, got {trainer.accumulate_grad_batches}; the model accumulates"
            " for its three learners: set model.updates.accumulate"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = type(callback).__name__
        if isinstance(callback, LearningRateFinder | BatchSizeFinder):
            raise ValueError(
                f"trainer.callbacks: {name} works with automatic optimisation only; `mebns sweep` searches rates and"
                " sizes, see docs/sweeps.md"
            )
        if isinstance(callback, GradientAccumulationScheduler):
            raise ValueError(
                f"trainer.callbacks: {name} works with automatic optimisation only; set model.updates.accumulate"
            )
        if isinstance(callback, BackboneFinetuning):
            raise ValueError(f"trainer.callbacks: {name} freezes a module `backbone`, and no system here has one")
        if isinstance(callback, StochasticWeightAveraging) and num_learners > 1:
            raise ValueError(
                f"trainer.callbacks: {name} works with one optimizer, and this system has {num_learners};"
                " WeightAveraging and EMAWeightAveraging average all learners"
            )
        if isinstance(callback, WeightAveraging):
            callback._use_buffers = False  # those of proposals hold nodes, which have no mean
    precision = str(trainer.precision)
    if precision not in PRECISIONS:
        why = f" ({_WHY_NOT[precision]})" if precision in _WHY_NOT else ""
        raise ValueError(f"trainer.precision: expected one of {', '.join(PRECISIONS)}, got {precision}{why}")
    if type(trainer.strategy.precision_plugin) is DoublePrecision:
        trainer.strategy.precision_plugin = FrozenBatchDouble()


def check_monitors(
    trainer: Trainer,
    metrics: Collection[str],
    kinds: type[EarlyStopping | ModelCheckpoint] | UnionType = EarlyStopping | ModelCheckpoint,
) -> None:
    """Refuses callbacks that watch a metric of validation which there is not: they would end a run after its first.

    Args:
        trainer: what was given to it.
        metrics: what validation logs, ``val/...``.
        kinds: of callbacks that are looked at.

    Raises:
        ValueError: one does.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if not isinstance(callback, kinds) or callback.monitor is None:
            continue
        name = str(callback.monitor)
        if name in ("step", "epoch") and isinstance(callback, ModelCheckpoint):
            continue  # Lightning's own
        # What else is logged, losses and migration, is called by a group, too
        if name not in metrics and (name.startswith("val") or "/" not in name):
            raise ValueError(
                f"trainer.callbacks: {type(callback).__name__} watches {name!r}; allowed are "
                f"{', '.join(sorted(metrics)) or 'losses, for nothing is validated'}"
            )


def callbacks_of(trainer: Trainer, kind: type[Kind]) -> list[Kind]:
    """The trainer's callbacks of one kind."""
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]


def all_warm_up(trainer: Trainer, warmup: int, accumulate: int) -> str | None:
    """Says why a run that begins, or goes on, is or may be all warm-up; None where it is not.

    Args:
        trainer: whose training starts.
        warmup: epochs.
        accumulate: batches an update of the student, which ``trainer.max_steps`` counts.
    """
    if trainer.current_epoch >= warmup:
        return None
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if epochs is not None and 0 <= epochs <= warmup:
        return f"the run has {epochs} epochs: all of it is warm-up"
    updates = math.ceil(trainer.num_training_batches / accumulate)
    if 0 <= steps <= warmup * updates:
        return f"the run has {steps} steps, which are {steps / updates:.3g} epochs: all of it is warm-up"
    first = min((_first_stop(trainer, stopper) for stopper in callbacks_of(trainer, EarlyStopping)), default=warmup + 1)
    return f"EarlyStopping may end the run after {first} epochs: all of it may be warm-up" if first <= warmup else None


def _first_stop(trainer: Trainer, stopper: EarlyStopping) -> int:
    """After how many epochs a run is over that never gets better than at its first check."""
    every, checks = 1, 1
    if not stopper._check_on_train_epoch_end:
        every = trainer.check_val_every_n_epoch or 1
        checks = max(1, int(trainer.num_training_batches // (trainer.val_check_batch or math.inf)))
    return max(every * math.ceil((stopper.patience + 1) / checks), trainer.min_epochs or 0)


class FrozenBatchDouble(DoublePrecision):
    """Lightning's ``64-true`` for batches that are frozen dataclasses of node numbers and masks.

    Lightning's own converts every floating point tensor in a batch, and fails where it may not write.

    Example:
        >>> FrozenBatchDouble().precision
        '64-true'
    """

    def convert_input(self, data: Any) -> Any:
        """``data``: it holds no floating point numbers."""
        return data
