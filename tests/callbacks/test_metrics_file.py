"""``metrics.json``: its keys, that it is strict JSON, and that a run which was stopped goes on with it."""

from __future__ import annotations

import json
import logging
import math
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.optim import Adam

from mebns_pl import (
    EvaluationCard,
    Every,
    HardestSelector,
    LastCheckpoint,
    MetricsFile,
    MigrationMonitor,
    Preemption,
    Schedule,
    StartingWeights,
)
from mebns_pl.metrics_json import read_metrics, write_metrics
from references.runs import ALL_WARM_UP, make_data, make_mebns, make_plain, make_trainer


def strictly(path: Path) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


class Noted(Callback):
    """What the validations and the file said, epoch by epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.val: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.epochs: list[int] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.val.append({name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")})
        self.epochs.append(strictly(self.path)["fit"]["epochs"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.losses.append(float(trainer.callback_metrics["train/student_loss"]))


def test_a_fit_and_its_test(tmp_path: Path) -> None:
    data, logger = make_data(), CSVLogger(tmp_path, name="run", version=0)
    path = Path(logger.log_dir) / "metrics.json"
    noted, monitor = Noted(path), MigrationMonitor(probe_size=20)
    saver = ModelCheckpoint(monitor="val/mrr", mode="max", filename="best")
    trainer = make_trainer(4, [MetricsFile(), monitor, noted, saver], logger=logger, enable_checkpointing=True)
    system = make_mebns(data.spec)
    trainer.fit(system, data)
    fit = strictly(path)["fit"]
    best = max(range(4), key=lambda epoch: noted.val[epoch]["val/mrr"])
    assert noted.epochs == [1, 2, 3, 4]
    assert (fit["epochs"], fit["best_epoch"], fit["warmup_epochs"]) == (4, best, 1)
    assert fit["val"] == {name.removeprefix("val/"): value for name, value in noted.val[best].items()}
    assert fit["curves"]["epoch"] == [0, 1, 2, 3]
    assert fit["curves"]["val/mrr"] == [values["val/mrr"] for values in noted.val]
    assert fit["curves"]["train/loss"] == pytest.approx(noted.losses)
    assert fit["curves"]["weights/unevenness"][0] is fit["curves"]["weights/learned"][0] is None
    assert fit["curves"]["weights/learned"][-1] == fit["diagnosis"]["weights/learned"] > 0
    assert fit["unevenness"] == fit["curves"]["weights/unevenness"][-1] > 0
    assert fit["churn"] == pytest.approx(sum(monitor.tracker.churns) / 3)
    assert 0 < fit["seconds"] < 100
    assert 50 < fit["peak_memory_mib"] < 100_000

    (metrics,) = trainer.test(system, data, ckpt_path=saver.best_model_path, verbose=False)
    found = strictly(path)
    assert found["fit"] == fit
    assert found["format"] == 1
    assert found["test"]["metrics"] == {name.removeprefix("test/"): value for name, value in metrics.items()}
    assert found["test"]["checkpoint"] == saver.best_model_path
    assert found["test"]["epoch"] == best
    assert found["test"]["seconds"] > 0


@pytest.mark.parametrize(
    ("monitor", "mode", "every", "late"),
    [
        ("train/student_loss", "min", 1, None),
        ("train/student_loss", "max", 1, None),
        ("train/student_loss", "min", 2, None),  # at a validation the checkpoint knows the loss of the epoch before
        ("train/student_loss", "min", 3, True),
        ("migration/hard_score", "min", 1, None),
        ("epoch", "max", 1, None),
    ],
)
def test_the_best_epoch_is_that_of_the_checkpoint(
    tmp_path: Path, monitor: str, mode: str, every: int, late: bool | None
) -> None:
    saver = ModelCheckpoint(tmp_path, "best", monitor, mode=mode, save_on_train_epoch_end=late)
    noted = Noted(tmp_path / "metrics.json")
    callbacks = [MigrationMonitor(probe_size=20), MetricsFile(tmp_path), noted, saver]
    trainer = make_trainer(5, callbacks, enable_checkpointing=True, check_val_every_n_epoch=every)
    data = make_data()
    trainer.fit(make_plain(data.spec), data)
    fit = strictly(tmp_path / "metrics.json")["fit"]
    assert fit["best_epoch"] == torch.load(saver.best_model_path, weights_only=True)["epoch"]
    vals = dict(zip(fit["curves"]["epoch"], noted.val, strict=True))
    assert fit["val"] == {name.removeprefix("val/"): value for name, value in vals.get(fit["best_epoch"], {}).items()}


def test_a_best_epoch_without_a_number_gives_way(tmp_path: Path) -> None:
    file, data = MetricsFile(tmp_path), make_data()
    file.load_state_dict({"curves": {}, "best": {"epoch": 7, "value": math.nan, "val": {}}, "seconds": 0.0})
    make_trainer(1, [file]).fit(make_plain(data.spec), data)
    fit = strictly(tmp_path / "metrics.json")["fit"]
    assert (fit["best_epoch"], fit["val"]["mrr"]) == (0, fit["curves"]["val/mrr"][0])


def test_a_stopped_run_goes_on_with_its_curves(tmp_path: Path) -> None:
    found = {}
    for name, parts in (("whole", (4,)), ("parts", (2, 4))):
        last = None
        for epochs in parts:
            data, logger = make_data(), CSVLogger(tmp_path, name=name, version=len(str(last)))
            keeper, file = LastCheckpoint(tmp_path / name), MetricsFile(tmp_path / name)
            callbacks = [file, keeper, MigrationMonitor(probe_size=20)]
            trainer = make_trainer(epochs, callbacks, logger=logger, enable_checkpointing=True)
            trainer.fit(make_plain(data.spec), data, ckpt_path=last, weights_only=True)
            last = str(tmp_path / name / "last.ckpt")
        found[name] = strictly(tmp_path / name / "metrics.json")["fit"]
        del found[name]["seconds"], found[name]["peak_memory_mib"]
    assert found["whole"] == found["parts"]
    assert found["whole"]["unevenness"] is None


@ALL_WARM_UP
@pytest.mark.parametrize("told", [True, False])
def test_a_preempted_run_is_not_told_what_more_epochs_may_take_back(tmp_path: Path, told: bool) -> None:
    preemption, data = Preemption(), make_data()

    class Told(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if told:
                preemption._receive(signal.SIGTERM, None)

    trainer = make_trainer(2, [Told(), preemption, MetricsFile(tmp_path)])
    trainer.fit(make_mebns(data.spec, schedule=Schedule(warmup=2)), data)
    assert preemption.preempted == told
    codes = [note["code"] for note in strictly(tmp_path / "metrics.json").get("notes", [])]
    assert ("never-left-warm-up" in codes) != told


def test_runs_without_a_folder_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = make_data()
    system, trainer = make_plain(data.spec), make_trainer(1, [MetricsFile()])
    trainer.fit(system, data)
    trainer.test(system, data, verbose=False)
    assert not list(tmp_path.rglob("metrics.json"))


def test_numbers_that_are_none_are_null_and_what_is_unreadable_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(path, {"test": {"metrics": {"mrr": math.nan, "auc": 0.5}, "list": [math.inf, 1]}})
    assert strictly(path) == {"format": 1, "test": {"metrics": {"mrr": None, "auc": 0.5}, "list": [None, 1]}}
    assert read_metrics(path) == strictly(path)
    for text in ("{", "[]", '{"format": 99}'):
        path.write_text(text)
        assert read_metrics(path) == {}


def test_a_run_that_comes_to_nothing_is_told_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A decoder whose hidden units are all dead: its scores are equal, and its loss stays at ln 2."""
    data = make_data()
    system = make_plain(data.spec)
    with torch.no_grad():
        system.student.decoder.hidden[0].bias.fill_(-100.0)
        system.student.decoder.last.bias.zero_()
    card = EvaluationCard()
    card.folder = tmp_path
    trainer = make_trainer(4, [MetricsFile(tmp_path), card])
    with caplog.at_level(logging.WARNING, logger="mebns_pl"):
        trainer.fit(system, data)
    codes = ["constant-scores", "dead-units", "loss-at-ln2"]
    assert [note["code"] for note in strictly(tmp_path / "metrics.json")["notes"]] == codes
    assert [caplog.text.count(f"{code}: ") for code in codes] == [1, 1, 1]
    assert "16 of 16 units of a hidden layer are 0 for every pair" in caplog.text
    trainer.test(system, data, verbose=False)
    found = strictly(tmp_path / "metrics.json")
    assert [note["code"] for note in found["notes"]] == [*codes, "at-chance"]
    assert found["card"]["recommendation"].startswith("No better than chance")

    # One that is well is told nothing
    well = make_trainer(2, [MetricsFile(tmp_path / "well")])
    well.fit(make_plain(data.spec), data)
    assert strictly(tmp_path / "well" / "metrics.json")["notes"] == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weight_net_optimizer": partial(Adam, lr=1e-6)}, "it adds nothing"),
        ({"engine": Every(10**6)}, "the weight net has never moved"),
    ],
)
def test_a_weight_net_that_adds_nothing_is_told_whatever_it_starts_from(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    """Weights start from the hardest candidate's, and so are uneven."""
    data = make_data()
    system = make_mebns(data.spec, selector=HardestSelector(1), starting_weights=StartingWeights(floor=0.1), **changes)
    make_trainer(2, [MetricsFile(tmp_path)]).fit(system, data)
    found = strictly(tmp_path / "metrics.json")
    assert found["fit"]["unevenness"] > 0.1
    assert [told in note["text"] for note in found["notes"] if note["code"] == "equal-weights"] == [True]


@ALL_WARM_UP
@pytest.mark.parametrize(("steps", "never"), [(3, True), (4, False)])
def test_a_run_that_ends_in_its_warm_up_is_told(tmp_path: Path, steps: int, never: bool) -> None:
    data = make_data()
    make_trainer(4, [MetricsFile(tmp_path)], max_steps=steps).fit(make_mebns(data.spec), data)
    codes = [note["code"] for note in strictly(tmp_path / "metrics.json")["notes"]]
    assert ("never-left-warm-up" in codes) == never


def test_the_card_where_all_edges_share_their_negatives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data()
    data._eval_sets["test"] = replace(data.eval_set("test"), negatives=None)
    card = EvaluationCard()
    make_trainer(1, [card]).test(make_plain(data.spec), data, verbose=False)
    assert card.card is not None
    assert card.card.intervals.keys() == {"mrr"}
    low, high = card.card.intervals["mrr"]
    assert low < card.card.metrics["mrr"] < high
    assert "All edges are ranked against" in capsys.readouterr().out


def test_the_card_of_a_part_of_the_test_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heuristics would be of all edges, so they are left out, and that is told."""
    monkeypatch.setattr("mebns_pl.data.batches.EVAL_PAIRS", 7)
    data, card = make_data(), EvaluationCard()
    card.folder = tmp_path
    trainer = make_trainer(1, [card, MetricsFile(tmp_path)], limit_test_batches=1)
    trainer.test(make_plain(data.spec), data, verbose=False)
    edges = data.eval_set("test").positives.shape[1]
    assert card.card is not None
    assert card.card.heuristics == {}
    assert any(f"of {edges} test edges were scored" in sentence for sentence in card.card.sentences)
