"""``mebns fit --resume``: finds the newest checkpoint, goes on in its folder, and says why when it does not."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from mebns_pl.cli import main as cli
from mebns_pl.cli.resume import Resume, newest, take_resume
from mebns_pl.errors import DataError
from mebns_pl.files import locked
from mebns_pl.systems.checkpoint_io import CheckpointError
from references.runs import make_loaded

RUN = Path("logs/mebns/version_0")
LAST = RUN / "checkpoints" / "last.ckpt"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write into the working folder."""
    monkeypatch.chdir(tmp_path)


def options() -> None:
    """A small edge list, and options in ``small.yaml``: three epochs, TensorBoard logs where they are by default."""
    loaded = make_loaded()
    lines = [f"{loaded.node_names[u]},{loaded.node_names[v]}" for u, v in loaded.edges.t().tolist()]
    Path("edges.csv").write_text("\n".join(["source,target", *lines]) + "\n")
    random = {"class_path": "mebns_pl.RandomNegatives", "init_args": {"num_negatives": 10}}
    settings = {
        "trainer": {
            "max_epochs": 3,
            "accelerator": "cpu",
            "check_val_every_n_epoch": 1,
            "enable_progress_bar": False,
        },
        "model": {"class_path": "mebns_pl.Plain"},
        "data": {"graph": str(Path("edges.csv").resolve()), "batch_size": 40, "eval_negatives": random},
        "migration": {"probe_size": 20},
        "figures": {"max_snapshots": 0},
    }
    Path("small.yaml").write_text(yaml.safe_dump(settings))


class KilledError(Exception):
    """Stands for a kill."""


def kill(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Runs die in an epoch's second step until the patch is undone."""

    def step(self: Any, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (epoch, 1):
            raise KilledError

    monkeypatch.setattr(Callback, "on_train_batch_start", step)


def scalars(run: Path) -> dict[tuple[str, int], set[float]]:
    found: dict[tuple[str, int], set[float]] = {}
    for path in sorted(run.glob("events.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                # Figures are drawn when there is time, and times differ
                if value.HasField("simple_value") and "_cost/" not in value.tag:
                    found.setdefault((value.tag, event.step), set()).add(value.simple_value)
    return found


def test_a_killed_run_goes_on_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options()
    whole = cli.main(["fit", "-c", "small.yaml", "--trainer.logger.save_dir=whole"]).model.state_dict()
    with monkeypatch.context() as patch:
        kill(patch, 2)
        with pytest.raises(KilledError):
            cli.main(["fit", "-c", "small.yaml"])

    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):  # another test may have silenced them
        caplog.set_level(logging.INFO, logger=name)
    with locked(RUN), pytest.raises(DataError, match=r"mebns/version_0: in use by process"):
        cli.main(["fit", "-c", "small.yaml", "--resume"])
    run = cli.main(["fit", "-c", "small.yaml", "--resume"])
    assert f"Going on from {tmp_path / LAST}: 2 epochs and" in caplog.text
    assert all(torch.equal(value, run.model.state_dict()[name]) for name, value in whole.items())
    assert [path.name for path in Path("logs/mebns").iterdir()] == ["version_0"]
    assert sorted(path.name for path in LAST.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
    expected, found = scalars(Path("whole/mebns/version_0")), scalars(RUN)
    assert expected == found
    assert len(expected) > 30
    folders = (Path("whole/mebns/version_0"), RUN)
    best = [torch.load(path / "checkpoints/best.ckpt", weights_only=True)["state_dict"] for path in folders]
    assert all(torch.equal(value, best[1][name]) for name, value in best[0].items())
    # The options can begin another run: they do not hold what was resumed
    saved = yaml.safe_load((RUN / "config.yaml").read_text())
    assert saved["ckpt_path"] is None
    assert saved["trainer"]["logger"]["init_args"]["version"] is None

    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("logs").rglob("*") if path.is_file()}
    cli.main(["fit", "-c", "small.yaml", "--resume"])
    assert "is finished, nothing is changed: 3 of 3 epochs are done; go on with a higher" in caplog.text
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path("logs").rglob("*") if path.is_file()}
    assert before == after

    # By the run's folder, from elsewhere, under another name, and further than was said at first
    shutil.move("logs/mebns", "moved")
    os.remove("small.yaml")
    run = cli.main(["fit", "--resume", str(tmp_path / "moved" / "version_0"), "--trainer.max_epochs=4"])
    assert run.trainer.current_epoch == 4
    assert not Path("logs").exists() or not list(Path("logs").rglob("*.ckpt"))
    assert [path.name for path in Path("moved").iterdir()] == ["version_0"]
    assert run.trainer.checkpoint_callback.best_model_score is not None
    assert yaml.safe_load(Path("moved/version_0/config.yaml").read_text())["trainer"]["max_epochs"] == 4
    checkpoint = torch.load("moved/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 4
    assert checkpoint["mebns_pl"]["config"]["from"] == "command line"
    assert checkpoint["mebns_pl"]["config"]["model"]["class_path"].endswith("Plain")

    config = Path("moved/version_0/config.yaml")
    whole = config.read_text()
    config.write_text(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"moved/version_0/config\.yaml: its end is missing"):
        cli.main(["fit", "--resume", "moved"])
    config.write_text(whole)
    with pytest.raises(CheckpointError, match=r"split: train: \d+ there, \d+ here"):
        cli.main(["fit", "--resume", "moved", "--data.split.val=0.2", "--trainer.max_epochs=9"])


def test_no_checkpoint_is_one_clear_error() -> None:
    options()
    with pytest.raises(CheckpointError, match=r"--resume: no checkpoint in logs/mebns; looked for last\.ckpt.*without"):
        cli.main(["fit", "-c", "small.yaml", "--resume"])
    with pytest.raises(CheckpointError, match=r"no checkpoint in elsewhere"):
        cli.main(["fit", "--resume", "elsewhere"])
    assert not Path("logs").exists()


def test_help_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    options()
    with pytest.raises(SystemExit) as ended:
        cli.run(["fit", "--help"])
    assert ended.value.code == 0
    assert "--resume=RUN" in capsys.readouterr().out
    Path("cut.ckpt").write_bytes(b"PK\x03\x04")
    torch.save({"state_dict": {}}, "other.ckpt")
    for args, told in (
        (["--resume=cut.ckpt"], "cut.ckpt: not a whole checkpoint"),
        (["-c", "small.yaml", "--ckpt_path=cut.ckpt"], "cut.ckpt: not a whole checkpoint"),
        (["-c", "small.yaml", "--ckpt_path=other.ckpt"], "checkpoint other.ckpt: not written by a trainer"),
        (
            ["-c", "small.yaml", "--model.optimizer=SGD", "--model.optimizer.lr=1e38", "--trainer.logger=false"],
            "training stopped in epoch 0, step 1: student: ",
        ),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.run(["fit", *args])
        assert ended.value.code == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mebns: ")]
        assert line.startswith("mebns: error: ")
        assert told in line


@pytest.mark.skipif(
    not hasattr(EarlyStopping("x"), "stopping_reason_message"), reason="this Lightning does not say why"
)
def test_a_run_that_early_stopping_has_ended_goes_on_without_it(caplog: pytest.LogCaptureFixture) -> None:
    """Also one that was ended in its first epoch, whose number tells nothing."""
    options()
    settings = yaml.safe_load(Path("small.yaml").read_text())
    threshold = {"monitor": "val/mrr", "mode": "max", "stopping_threshold": 0.0}  # reached at once
    stopper = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": threshold}
    settings["trainer"]["callbacks"] = [stopper]
    Path("small.yaml").write_text(yaml.safe_dump(settings))
    assert cli.main(["fit", "-c", "small.yaml"]).trainer.current_epoch == 1
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")
    run = cli.main(["fit", "--resume", str(RUN)])
    assert (
        "is finished, nothing is changed: early stopping ended it after 1 epochs; to go on, take it out" in caplog.text
    )
    assert run.trainer.current_epoch == 0
    assert cli.main(["fit", "--resume", str(RUN), "--trainer.callbacks=null"]).trainer.current_epoch == 3


def test_newest(tmp_path: Path) -> None:
    paths = [tmp_path / f"version_{number}" / "checkpoints" / "last.ckpt" for number in (2, 10, 9)]
    for age, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        path.write_text("")
        os.utime(path, ns=(age, age))
    (paths[0].parent / "best.ckpt").write_text("")
    assert newest(tmp_path) == paths[2]
    assert newest(tmp_path / "version_10") == paths[1]
    assert newest(paths[0].parent) == newest(paths[0]) == paths[0]


def test_taking_resume_out_of_the_arguments(tmp_path: Path) -> None:
    path = tmp_path / "version_3" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert take_resume(["test", "--resume"]) == (None, ["test", "--resume"])
    assert take_resume(["fit", "-c", "a"]) == (None, ["fit", "-c", "a"])
    assert take_resume(["fit", "-c", "a", "--resume"]) == (Resume(), ["fit", "-c", "a"])
    assert take_resume(["fit", f"--resume={tmp_path}"]) == (Resume(path), ["fit"])
    config = path.parent.parent / "config.yaml"
    config.write_text("")
    assert take_resume(["fit", "--resume", str(tmp_path), "-c", "a"]) == (
        Resume(path),
        ["fit", f"--config={config}", "-c", "a"],
    )


def test_all_loggers_of_a_place_go_on_there(monkeypatch: pytest.MonkeyPatch) -> None:
    options()
    both = [{"class_path": f"lightning.pytorch.loggers.{name}Logger", "init_args": {"save_dir": "logs", "name": "run"}}
            for name in ("TensorBoard", "CSV")]  # fmt: skip
    Path("both.yaml").write_text(yaml.safe_dump({"trainer": {"logger": both}}))
    command = ["fit", "-c", "small.yaml", "-c", "both.yaml"]
    with monkeypatch.context() as patch:
        kill(patch, 1)
        with pytest.raises(KilledError):
            cli.main(command)
    cli.main([*command, "--resume"])
    assert [path.name for path in Path("logs/run").iterdir()] == ["version_0"]
    assert len(Path("logs/run/version_0/metrics.csv").read_text().splitlines()) > 3
    saved = yaml.safe_load(Path("logs/run/version_0/config.yaml").read_text())["trainer"]["logger"]
    assert [logger["init_args"]["version"] for logger in saved] == [None, None]
