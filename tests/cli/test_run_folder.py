"""Folders of runs: a number for each, and one run at a time in each."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from mebns_pl.callbacks.last_checkpoint import LastCheckpoint
from mebns_pl.cli.run_folder import claim_versions, numbers_itself, run_folders
from mebns_pl.errors import DataError
from mebns_pl.files import locked


def trainer(logger: Any, **options: Any) -> Trainer:
    callbacks = options.pop("callbacks", [])
    return Trainer(accelerator="cpu", logger=logger, callbacks=callbacks, barebones=False, **options)


def test_as_many_folders_as_starts(tmp_path: Path) -> None:
    """Lightning's own way gives most of them the same."""
    loggers = [TensorBoardLogger(str(tmp_path), name="runs") for _ in range(20)]
    gate = threading.Barrier(len(loggers))

    def start(logger: TensorBoardLogger) -> None:
        gate.wait()
        claim_versions([logger])

    threads = [threading.Thread(target=start, args=(logger,)) for logger in loggers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(logger.version for logger in loggers) == list(range(20))
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {f"version_{n}" for n in range(20)}


def test_numbers_go_on_and_loggers_of_a_place_share_one(tmp_path: Path) -> None:
    (tmp_path / "runs" / "version_7").mkdir(parents=True)
    (tmp_path / "runs" / "version_8").write_text("no folder, but its name is taken")
    loggers = [TensorBoardLogger(tmp_path, "runs"), CSVLogger(tmp_path, "runs"), TensorBoardLogger(tmp_path, "others")]
    claim_versions(loggers)
    assert [logger.version for logger in loggers] == [9, 9, 0]
    claim_versions(loggers)  # have one
    assert [logger.version for logger in loggers] == [9, 9, 0]
    given = TensorBoardLogger(tmp_path, "runs", version="mine")
    assert not numbers_itself(given)
    claim_versions([given])
    assert given.version == "mine"
    assert not (tmp_path / "runs" / "mine").exists()


def test_a_run_keeps_its_folders_and_sweeps_them(tmp_path: Path) -> None:
    logger = TensorBoardLogger(str(tmp_path), name="runs")
    elsewhere = tmp_path / "elsewhere"
    callbacks = [ModelCheckpoint(elsewhere), LastCheckpoint(elsewhere)]
    place = tmp_path / "runs" / "version_0"
    with run_folders(trainer(logger, callbacks=callbacks), "fit"):
        for folder in (place, elsewhere):
            with pytest.raises(DataError, match="in use by process"), locked(folder):
                pass
        again = TensorBoardLogger(str(tmp_path), name="runs", version=0)
        for stage in ("fit", "test"):
            with pytest.raises(DataError, match=r"runs/version_0: in use"), run_folders(trainer(again), stage):
                pass
        with run_folders(trainer(TensorBoardLogger(str(tmp_path), name="runs")), "test"):
            assert (tmp_path / "runs" / "version_1").is_dir()
    litter = [place / ".config.yaml.12.tmp", place / "checkpoints" / ".last.ckpt.12.tmp"]
    for path in litter:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with run_folders(trainer(again), "fit"):
        assert not any(path.exists() for path in litter)
    assert not list(tmp_path.rglob(".*"))


def test_runs_without_logs(tmp_path: Path) -> None:
    callbacks = [LastCheckpoint()]
    one = trainer(False, callbacks=callbacks, default_root_dir=str(tmp_path))
    with run_folders(one, "test"):
        assert not list(tmp_path.iterdir())
    with run_folders(one, "fit"), pytest.raises(DataError, match="checkpoints: in use"), run_folders(one, "fit"):
        pass
    dry = trainer(None, fast_dev_run=True, default_root_dir=str(tmp_path / "dry"))
    with run_folders(dry, "fit"):
        assert not (tmp_path / "dry").exists()


def test_other_ranks_leave_it_to_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = TensorBoardLogger(str(tmp_path), name="runs")
    other = trainer(logger)
    monkeypatch.setattr(type(other.strategy), "is_global_zero", False)
    with run_folders(other, "fit"):
        assert numbers_itself(logger)
        assert not list(tmp_path.iterdir())
