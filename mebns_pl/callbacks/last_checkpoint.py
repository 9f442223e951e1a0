"""The checkpoint that a stopped run goes on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

from mebns_pl.checks import above
from mebns_pl.files import naming
from mebns_pl.systems.run_state import run_folder
from mebns_pl.systems.trainer_options import callbacks_of


class LastCheckpoint(Checkpoint):
    """Keeps one file, ``last.ckpt``, from which a run that was stopped at any moment goes on exactly.

    It is written at the start of every epoch, when the epoch before has been logged to its end; within an epoch, at
    the end of a step, or of the validation that follows it, when the last writing is ``minutes`` ago or training is
    told to stop there; and at the end of training. Before it is written the logs are, so that they hold all that will
    not be done again. Where they cannot be written (a full disk, a folder that is gone), training goes on to the next
    checkpoint, and ends when it is there.

    Lightning's ``ModelCheckpoint`` writes before the epoch's means are logged, and its ``train_time_interval`` never
    writes under manual optimisation.

    Args:
        dirpath: folder; ``checkpoints`` in the folder of the run's logs by default.
        minutes: time between two writings within an epoch, above 0; None writes at epochs alone.

    Example:
        >>> LastCheckpoint(minutes=30).minutes
        30
    """

    def __init__(self, dirpath: str | Path | None = None, minutes: float | None = 10.0) -> None:
        above(0, or_null=True, minutes=minutes)
        self.dirpath = dirpath
        self.minutes = minutes
        self._written = 0.0
        self._stopping = False
        self._fault: OSError | None = None

    def path(self, trainer: Trainer) -> Path:
        """Where the file is."""
        if self.dirpath is not None:
            return Path(self.dirpath) / "last.ckpt"
        return Path(run_folder(trainer) or trainer.default_root_dir) / "checkpoints" / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, what goes wrong with logs waits for the next checkpoint, and averaged weights for the last."""
        self._fault = None
        for average in callbacks_of(trainer, WeightAveraging):
            vars(average)["on_train_end"] = _nothing
        for owner, name, folder in _log_writers(trainer):
            vars(owner)[name] = self._put_off(getattr(owner, name), folder)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes: all of the epoch before is done and logged, nothing of this one is."""
        self._write(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes when it is time. Not at an epoch's last step: its end comes at once."""
        if not (trainer.is_last_batch or _validates(trainer, batch_idx)):
            self._write_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes likewise behind a validation within an epoch, which may have ended the training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and not trainer.is_last_batch:
            self._write_if_due(trainer)

    def _write_if_due(self, trainer: Trainer) -> None:
        due = self.minutes is not None and time.monotonic() - self._written >= 60 * self.minutes
        if trainer.world_size > 1:
            due = trainer.strategy.broadcast(due)  # clocks differ, and all ranks must come along
        stops = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        if due or (stops and not self._stopping):
            self._write(trainer)
        self._stopping = stops

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes, unless the last epoch was cut short: then the checkpoint within it is the one to go on from.

        Averaged weights take the place of the present ones after that, so that the run can be made longer.
        """
        if trainer.is_last_batch:
            self._write(trainer)
        for owner, name, _ in _log_writers(trainer):
            vars(owner).pop(name, None)
        for average in callbacks_of(trainer, WeightAveraging):
            vars(average).pop("on_train_end", None)
            average.on_train_end(trainer, pl_module)
        self._tell_fault()

    def _write(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path(trainer), weights_only=False)
        self._written = time.monotonic()
        self._tell_fault()

    def _put_off(self, write: Callable[..., None], folder: str) -> Callable[..., None]:
        def put_off(*args: Any, **options: Any) -> None:
            try:
                with naming(folder):
                    write(*args, **options)
            except OSError as error:
                self._fault = self._fault or error

        return put_off

    def _tell_fault(self) -> None:
        if self._fault is not None:
            raise self._fault


def _nothing(*_: Any) -> None:
    """In place of a hook that comes later."""


def _log_writers(trainer: Trainer) -> Iterator[tuple[object, str, str]]:
    """The methods by which loggers write their files, as owner and name, and the folder of these."""
    for logger in trainer.loggers if trainer.is_global_zero else []:
        folder = str(logger.log_dir or logger.save_dir or logger.name)
        yield logger, "save", folder
        if isinstance(logger, TensorBoardLogger):
            for name in ("add_event", "flush"):
                yield logger.experiment._get_file_writer(), name, folder


def _validates(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a validation may follow this step: Lightning would leave it out when the run goes on from here."""
    every = trainer.val_check_batch
    if not isinstance(every, int) or not trainer.enable_validation:
        return False
    return (batch_idx + 1) % every == 0 or (trainer.fit_loop.total_batch_idx + 1) % every == 0
