"""Options and callbacks of Lightning's, as people give them on the command line: they work, or one line helps.

| what people give | outcome |
|---|---|
| overfit_batches, fast_dev_run, max_steps, max_time, limit_*_batches, val_check_interval, precision 64 | work |
| reload_dataloaders_every_n_epochs, inference_mode, num_sanity_val_steps, detect_anomaly, deterministic | work |
| EMA, early stopping, summaries, learning rates; loggers of tables and servers; folders and names with spaces | work |
| learning rate finder, accumulation, finetuning, SWA of MeBNS; barebones, 0 devices, 16-true | one line |
| a metric that nobody logs; a logger or strategy whose package is absent; a folder without rights | one line |
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import Logger

from mebns_pl.cli import main as cli
from references.runs import write_edges

CALLBACKS = "lightning.pytorch.callbacks."
LOGGERS = "lightning.pytorch.loggers."


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write into the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEBNS_DEBUG", raising=False)
    write_edges(Path("edges.csv"))


def fit(*options: str, model: str = "Plain") -> cli.MeBNSCLI:
    """A run of two epochs, each validated; later options win."""
    return cli.main(
        [
            *("fit", "--data.graph=edges.csv", "--data.batch_size=60", f"--model={model}", "--trainer.accelerator=cpu"),
            *("--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false"),
            *("--trainer.logger=false", *options),
        ]
    )


def refused(capsys: pytest.CaptureFixture[str], *options: str, model: str = "Plain") -> str:
    """The one line by which a run is refused, before anything is written."""
    before = set(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        cli.run([], lambda _: fit(*options, model=model))
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mebns: error:")]
    assert stop.value.code
    assert set(Path().rglob("*")) == before
    return told


class Shared(Logger):
    """A logger like those of servers: all its runs share a folder, and a run goes by a text."""

    def __init__(self, save_dir: str = "shared", run: str = "a1b2") -> None:
        super().__init__()
        self.folder, self.run = save_dir, run
        self.metrics: dict[str, float] = {}

    @property
    def name(self) -> str:
        return "project"

    @property
    def version(self) -> str:
        return self.run

    @property
    def save_dir(self) -> str:
        return self.folder

    def log_hyperparams(self, *args: Any, **options: Any) -> None:
        """Nothing."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics |= metrics


@pytest.mark.parametrize("model", ["Plain", "MeBNS"])
def test_overfitting_repeats_the_same_positives(model: str) -> None:
    run = fit(
        "--trainer.overfit_batches=1", "--trainer.max_epochs=8", "--trainer.enable_checkpointing=false", model=model
    )
    steps = run.trainer.train_dataloader.dataset
    first, later = steps[0, 0], steps[7, 0]
    assert torch.equal(first.union_positives.sort(0).values, later.union_positives.sort(0).values)
    assert not torch.equal(first.candidates, later.candidates)
    assert run.trainer.global_step == 8


def test_systems_of_the_command_line_can_be_copied() -> None:
    run = fit("--trainer.fast_dev_run=true")
    for system in (copy.deepcopy(run.model), pickle.loads(pickle.dumps(run.model))):
        assert system.state_dict().keys() == run.model.state_dict().keys()


@pytest.mark.parametrize("model", ["Plain", "MeBNS"])
def test_averaged_weights_by_the_configuration_file(model: str) -> None:
    run = fit("-c", "callbacks/ema", "--checkpoint.dirpath=ck", model=model)
    best = torch.load("ck/best.ckpt", weights_only=True)
    assert {"current_model_state", "averaging_state"} <= best.keys()
    tested = cli.main(["test", "ck/best.ckpt", "--trainer.logger=false", "--card.show=false"]).trainer
    assert "test/mrr" in tested.callback_metrics
    for name, value in best["state_dict"].items():
        assert torch.equal(value, tested.lightning_module.state_dict()[name])
    assert run.trainer.global_step


def test_a_run_shorter_than_the_time_between_validations_has_a_best_checkpoint() -> None:
    run = fit("--trainer.check_val_every_n_epoch=5", "--checkpoint.dirpath=ck")
    assert "val/mrr" in run.trainer.callback_metrics
    links = cli.main(["predict", "--ckpt_path=ck/best.ckpt", "--predictions.path=p.csv", "--trainer.logger=false"])
    assert links.model.loaded_epoch == 1
    assert len(pd.read_csv("p.csv"))


def test_without_checkpoints_none_are_written() -> None:
    run = fit("--trainer.enable_checkpointing=false")
    assert run.trainer.current_epoch == 2
    assert not list(Path().rglob("*.ckpt"))


def test_a_callback_that_cannot_work_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, f"--trainer.callbacks+={CALLBACKS}LearningRateFinder")
    assert "LearningRateFinder works with automatic optimisation only; `mebns sweep`" in told
    averaging = f"--trainer.callbacks+={CALLBACKS}StochasticWeightAveraging"
    told = refused(capsys, averaging, "--trainer.callbacks.swa_lrs=0.01", model="MeBNS")
    assert "WeightAveraging and EMAWeightAveraging average all learners" in told


@pytest.mark.parametrize(
    ("logger", "package"), [("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow"), ("CometLogger", "comet-ml")]
)
def test_a_logger_whose_package_is_absent_says_what_to_install(
    logger: str, package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"pip install -U '{package}" in refused(capsys, f"--trainer.logger={LOGGERS}{logger}")


def test_a_logger_of_tables() -> None:
    run = fit(f"--trainer.logger={LOGGERS}CSVLogger", "--trainer.logger.save_dir=logs")
    folder = Path(str(run.trainer.log_dir))
    assert "val/mrr" in pd.read_csv(folder / "metrics.csv")
    assert {"best.ckpt", "last.ckpt"} == {path.name for path in (folder / "checkpoints").iterdir()}


def test_a_logger_of_a_server_keeps_runs_apart() -> None:
    for run in ("one", "two"):
        logged = fit(f"--trainer.logger={__name__}.Shared", f"--trainer.logger.run={run}").trainer.logger
        assert isinstance(logged, Shared)
        assert "val/mrr" in logged.metrics
    files = {"config.yaml", "metrics.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    for run in ("one", "two"):
        assert files <= {
            str(path.relative_to(f"shared/project/{run}")) for path in Path("shared/project", run).rglob("*")
        }


@pytest.mark.slow
def test_spawned_ranks_equal_one_process(capfd: pytest.CaptureFixture[str]) -> None:
    one = fit("--checkpoint.dirpath=one").model.state_dict()
    capfd.readouterr()
    two = fit("--checkpoint.dirpath=two", "--trainer.devices=2", "--trainer.strategy=ddp_spawn").model.state_dict()
    assert "sync_dist" not in capfd.readouterr().err
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=1e-5)
    assert Path("two/best.ckpt").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            [f"--trainer.callbacks+={CALLBACKS}GradientAccumulationScheduler", "--trainer.callbacks.scheduling={0: 2}"],
            "set model.updates.accumulate",
        ),
        ([f"--trainer.callbacks+={CALLBACKS}BackboneFinetuning"], "no system here has one"),
        (
            [f"--trainer.callbacks+={CALLBACKS}EarlyStopping", "--trainer.callbacks.monitor=val_loss"],
            "EarlyStopping watches 'val_loss'; allowed are val/ap, val/auc, val/hits@1",
        ),
        (
            [f"--trainer.callbacks+={CALLBACKS}ModelCheckpoint", "--trainer.callbacks.monitor=val/loss"],
            "ModelCheckpoint watches 'val/loss'; allowed are val/ap",
        ),
        (["--checkpoint.monitor=mrr"], "watches 'mrr'; allowed are val/ap"),
        (
            [
                *(f"--trainer.callbacks+={CALLBACKS}EarlyStopping", "--trainer.callbacks.monitor=val/mrr"),
                *("--data.split.val=0", "--trainer.check_val_every_n_epoch=1"),
            ],
            "EarlyStopping watches 'val/mrr'; allowed are losses, for nothing is validated",
        ),
        (["--trainer.barebones=true"], "disabled in barebones mode"),
        (["--trainer.devices=0"], "devices '0'"),
        (["--trainer.strategy=deepspeed"], "pip install -U deepspeed"),
        (["--trainer.precision=16-true"], "float16 parameters lose the updates"),
        (
            [f"--trainer.logger={LOGGERS}CSVLogger", "--trainer.logger.save_dir=/proc/nope"],
            "trainer.logger: cannot write to '/proc/nope",
        ),
    ],
)
def test_options_that_cannot_work_are_refused_in_one_line(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, *options)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["--trainer.max_steps=3", "--trainer.max_epochs=-1"], 3),
        (["--trainer.limit_train_batches=0.5", "--trainer.limit_val_batches=1", "--trainer.val_check_interval=1"], 2),
        (
            [
                *("--trainer.inference_mode=false", "--trainer.reload_dataloaders_every_n_epochs=1"),
                *("--trainer.num_sanity_val_steps=-1", "--trainer.detect_anomaly=true", "--trainer.deterministic=true"),
                *("--trainer.precision=64", "--trainer.max_time=00:00:05:00"),
            ],
            4,
        ),
        ([f"--trainer.callbacks+={CALLBACKS}EarlyStopping", "--trainer.callbacks.monitor=train/student_loss"], 4),
        (
            [
                *(f"--trainer.callbacks+={CALLBACKS}ModelCheckpoint", "--trainer.callbacks.monitor=step"),
                *("--trainer.callbacks.mode=max", "--trainer.callbacks.save_top_k=1"),
            ],
            4,
        ),
        ([f"--trainer.callbacks+={CALLBACKS}ModelSummary", "--trainer.callbacks.max_depth=2"], 4),
        (
            [
                f"--trainer.logger={LOGGERS}CSVLogger",
                "--trainer.logger.save_dir=my logs",
                "--trainer.logger.name=a, b = 1",
                f"--trainer.callbacks+={CALLBACKS}LearningRateMonitor",
                "--checkpoint.dirpath=ck",
            ],
            4,
        ),
    ],
)
def test_options_that_work(options: list[str], steps: int) -> None:
    run = fit("--checkpoint.dirpath=my ck", *options)
    assert run.trainer.global_step == steps
    assert "val/mrr" in run.trainer.callback_metrics
    assert list(Path().glob("*ck/best.ckpt"))
