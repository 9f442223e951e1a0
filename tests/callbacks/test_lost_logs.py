"""Logs that cannot be written end a run, but not before the state of its training is kept."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from tensorboard.compat.tensorflow_stub.io import gfile

from mebns_pl import LastCheckpoint
from mebns_pl.cli.messages import user_message
from mebns_pl.cli.notes import quieten
from references.runs import equal, fit, make_data, make_plain, weights

STEPS = 3
LOGGERS: dict[str, Callable[..., Logger]] = {"TensorBoard": TensorBoardLogger, "CSV": CSVLogger}


class Strike(Callback):
    """Does something in the middle of an epoch.

    Args:
        action: what.
        epoch: when.
    """

    def __init__(self, action: Callable[[], Any], epoch: int) -> None:
        self.action, self.epoch = action, epoch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, 1):
            self.action()


def whole() -> dict[str, torch.Tensor]:
    data = make_data()
    system = make_plain(data.spec)
    fit(system, data)
    return weights(system)


def struck(folder: Path, logger: Logger, action: Callable[[], Any], epoch: int) -> OSError:
    data = make_data()
    callbacks = [Strike(action, epoch), LastCheckpoint(folder / "checkpoints")]
    with pytest.raises(OSError) as caught:  # noqa: PT011  (what it says is looked at by who calls this)
        fit(make_plain(data.spec), data, callbacks=callbacks, logger=logger, enable_checkpointing=True)
    return caught.value


def resumed(folder: Path) -> dict[str, torch.Tensor]:
    data = make_data()
    system = make_plain(data.spec)
    fit(system, data, ckpt_path=str(folder / "checkpoints" / "last.ckpt"))
    return weights(system)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_folder_that_is_deleted(tmp_path: Path, epoch: int, capfd: pytest.CaptureFixture[str]) -> None:
    quieten()
    folder = tmp_path / "runs" / "version_0"
    logger = TensorBoardLogger(tmp_path, "runs", version=0)
    told = user_message(struck(folder, logger, lambda: shutil.rmtree(folder), epoch))
    assert told is not None
    assert told.startswith(f"{folder}/events.out")
    assert told.endswith(": No such file or directory")
    assert "Traceback" not in capfd.readouterr().err  # of the thread that writes
    found = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert found["global_step"] == STEPS * (epoch + 1)  # to the end of the epoch
    assert equal(whole(), resumed(folder))


@pytest.mark.parametrize("name", LOGGERS)
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of which the writer says only that it is full."""
    quieten()
    folder = tmp_path / "runs" / "version_0"
    logger = LOGGERS[name](tmp_path, "runs", version=0)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill() -> None:
        monkeypatch.setattr(gfile.LocalFileSystem, "append", full)
        monkeypatch.setattr("lightning.fabric.loggers.csv_logs._ExperimentWriter.save", full)

    assert user_message(struck(folder, logger, fill, 1)) == f"{folder}: No space left on device"
    monkeypatch.undo()
    assert equal(whole(), resumed(folder))


def test_other_faults_of_a_logger_end_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a fault of the program")

    logger = CSVLogger(tmp_path, "runs")
    monkeypatch.setattr(logger, "save", broken)
    data = make_data()
    with pytest.raises(RuntimeError, match="a fault of the program"):
        fit(make_plain(data.spec), data, callbacks=[LastCheckpoint(tmp_path)], logger=logger, enable_checkpointing=True)
