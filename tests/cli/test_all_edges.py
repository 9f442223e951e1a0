"""Training on all edges, where nothing is evaluated; and a run that is stopped by hand."""

from __future__ import annotations

import signal
from pathlib import Path

import pandas as pd
import pytest
from lightning.pytorch import Callback, Trainer

from mebns_pl.cli import main as cli
from mebns_pl.errors import DataError
from references.runs import make_loaded

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_epochs=2"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = make_loaded()
    lines = [f"{loaded.node_names[u]},{loaded.node_names[v]}" for u, v in loaded.edges.t().tolist()]
    Path("edges.csv").write_text("\n".join(["source,target", *lines]) + "\n")


def test_all_edges_train_and_predict() -> None:
    none_held_out = ["--data.split.val=0", "--data.split.test=0"]
    fit = cli.main(
        [
            "fit",
            "--model=Plain",
            "--data.graph=edges.csv",
            *none_held_out,
            *QUIET,
            "--trainer.check_val_every_n_epoch=1",
        ]
    )
    split = fit.datamodule.split
    assert split.observed.shape[1] == split.all.shape[1] == make_loaded().num_edges
    assert fit.trainer.current_epoch == 2
    folder = Path(fit.trainer.log_dir or "")
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    cli.main(["predict", str(folder), "--predictions.explain=true", "--predictions.max_per_node=2"])
    links = pd.read_csv(folder / "predictions.csv")
    assert len(links) > 10
    assert "why" in links
    assert "probability" not in links
    for command in ("test", "validate"):
        with pytest.raises(DataError, match="0 edges are held out, so there is nothing to rank"):
            cli.main([command, str(folder)])


def test_validation_alone_may_be_left_out() -> None:
    fit = cli.main(["fit", "--model=Plain", "--data.graph=edges.csv", "--data.split.val=0", *QUIET])
    assert fit.datamodule.split.test.shape[1]
    assert Path(fit.trainer.log_dir or "", "checkpoints", "best.ckpt").is_file()  # the last epoch's
    cli.main(["test", str(fit.trainer.log_dir)])


class Interrupts(Callback):
    """Ctrl-C in the middle of the second epoch."""

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Presses it."""
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_a_run_that_is_stopped_by_hand_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "--model=Plain", "--data.graph=edges.csv", *QUIET]
    before = signal.getsignal(signal.SIGINT)  # Lightning takes no second Ctrl-C, and never gives it back
    made = cli.MeBNSCLI.instantiate_trainer
    with monkeypatch.context() as patch:
        patch.setattr(
            cli.MeBNSCLI, "instantiate_trainer", lambda self: with_callback(made(self), Interrupts()), raising=True
        )
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            cli.main(arguments)
    signal.signal(signal.SIGINT, before)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Go on with" in line]
    command = line.partition("Go on with: mebns ")[2].split()
    assert Path(command[1].partition("=")[2]).is_file()
    assert cli.main(command).trainer.current_epoch == 2


def with_callback(trainer: Trainer, callback: Callback) -> Trainer:
    trainer.callbacks.append(callback)
    return trainer
