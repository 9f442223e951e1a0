"""Stops a run in good order when the cluster wants its machines back."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mebns_pl.checks import expect
from mebns_pl.distributed.group import DistributedGroup, SingleProcess

log = logging.getLogger(__name__)

EXIT_CODE = 75
"""What the command line exits with after a preemption: "temporary failure, try again" of sysexits.h."""


class Preemption(Callback):
    """On SIGTERM or SIGUSR1 training stops at the end of the step, on all ranks at the same one.

    The run's last checkpoint is then written as at any other end of training, and in a SLURM job rank 0 asks for the
    job to be queued again (``scontrol requeue``). Started with the same command and its checkpoint, the run goes on.

    Lightning's own handlers, which are replaced, save in the middle of a step, where ranks may be at different places
    and learners half updated; its SIGTERM handler makes a collective call that other ranks do not know of.

    Args:
        signals: names of the signals; those that the main thread cannot take are left alone.

    Raises:
        ValueError: a name that is no signal.

    Example:
        >>> Preemption().preempted
        False
    """

    def __init__(self, signals: tuple[str, ...] = ("SIGTERM", "SIGUSR1")) -> None:
        unknown = [name for name in signals if name not in signal.Signals.__members__]
        expect(not unknown, "names such as SIGTERM", signals=", ".join(unknown))
        self.signals = tuple(signal.Signals[name] for name in signals)
        self.preempted = False
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over from Lightning, which has set its handlers just before."""
        self.preempted, self._received = False, None
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in self.signals}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """All ranks agree whether one of them was told to stop: one number is exchanged."""
        told = torch.tensor(int(self._received is not None), device=pl_module.device)
        group = DistributedGroup() if trainer.world_size > 1 else SingleProcess()
        if not self.preempted and bool(group.max(told)):
            self.preempted = trainer.should_stop = True
            # Lightning would go on to these first
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
            name = "another rank's signal" if self._received is None else self._received.name
            log.warning("%s: training stops after step %d; it can be taken up from its last checkpoint", name,
                        trainer.global_step)  # fmt: skip

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the signals back; after a preemption the last checkpoint is there, and the job can be queued again.

        SLURM then ends its tasks by SIGTERM, and Lightning's handler would wait for ranks that have gone: the signals
        stay here until Lightning puts those of before the run into place.
        """
        if not self.preempted:
            self._give_back()
        elif trainer.is_global_zero:
            requeue()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self._give_back()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = signal.Signals(number)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._before = {}


def requeue() -> bool:
    """Asks SLURM to queue this job again, where there is one; gives back whether it is queued.

    It may be already: ``scontrol requeue`` queues a job, and has SLURM tell its tasks to end.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    task = os.environ.get("SLURM_ARRAY_TASK_ID", "0")
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    try:
        subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else ""
        if "pending" in said:
            log.warning("SLURM job %s is queued again already", job)
            return True
        log.error("SLURM job %s is not queued again: scontrol: %s", job, said or error)
        return False
    log.warning("SLURM job %s is queued again", job)
    return True
