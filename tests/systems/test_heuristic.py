"""Heuristics in the systems: the metrics of own and shared negatives, what is refused, and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mebns_pl import Heuristic
from mebns_pl.cli import main as cli
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.evaluation.protocols import Protocol, RandomParting, UniformComparison
from mebns_pl.graph.measures.katz import Katz
from mebns_pl.graph.measures.neighbors import AdamicAdar
from mebns_pl.metrics.functional import (
    auc,
    average_precision,
    hits_above,
    hits_at,
    mean_reciprocal_rank,
    ranks,
    ranks_shared,
)
from mebns_pl.types import EvalBatch
from references.runs import make_data, make_plain, make_trainer

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"


def shared_data(**changes: object) -> LinkDataModule:
    return make_data(protocol=Protocol(RandomParting(0.1, 0.1), UniformComparison(), **changes))


def test_own_negatives() -> None:
    data = make_data()
    measure = AdamicAdar()
    (found,) = make_trainer().test(Heuristic(data.spec, measure), data, verbose=False)
    (batch,) = list(data.test_dataloader())
    positive = measure.pairs(data.train_graph, *batch.positives)
    negative = measure.pairs(data.train_graph, *batch.negatives.flatten(1)).view(batch.negatives.shape[1:])
    places = ranks(positive, negative)
    assert found["test/mrr"] == pytest.approx(float(mean_reciprocal_rank(places)))
    assert found["test/hits@3"] == pytest.approx(float(hits_at(places, 3)))


@pytest.mark.parametrize("val_in_test", [False, True])
def test_shared_negatives(val_in_test: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mebns_pl.data.batches.EVAL_PAIRS", 8)  # several chunks: the negatives of all count for each
    data = shared_data(val_in_test=val_in_test)
    measure = Katz(0.01)
    for stage, run, loader in (
        ("val", make_trainer().validate, data.val_dataloader()),
        ("test", make_trainer().test, data.test_dataloader()),
    ):
        (found,) = run(Heuristic(data.spec, measure), data, verbose=False)
        batches: list[EvalBatch] = list(loader)
        assert len(batches) > 1
        graph = data.test_graph if stage == "test" else data.train_graph
        positive, negative = (
            measure.pairs(graph, *torch.cat([getattr(batch, part) for batch in batches], dim=1))
            for part in ("positives", "random_negatives")
        )
        expected = {
            "mrr": mean_reciprocal_rank(ranks_shared(positive, negative)),
            **{f"hits@{k}": hits_above(positive, negative, k) for k in (1, 3, 10, 20, 50, 100)},
            "auc": auc(positive, negative),
            "ap": average_precision(positive, negative),
        }
        assert found == pytest.approx({f"{stage}/{name}": float(value) for name, value in expected.items()}, abs=1e-6)


def test_validation_edges_help_in_test_only_where_the_protocol_says_so() -> None:
    found = []
    for val_in_test in (False, True):
        data = shared_data(val_in_test=val_in_test)
        system = Heuristic(data.spec, Katz(0.01))
        found.append(make_trainer().test(system, data, verbose=False)[0]["test/auc"])
    assert found[0] != found[1]


def test_a_learned_system_takes_a_protocol_and_goes_back_to_the_training_graph() -> None:
    data = shared_data(val_in_test=True)
    system = make_plain(data.spec)
    trainer = make_trainer(epochs=2)
    trainer.fit(system, data)
    assert {"val/mrr", "val/auc"} <= set(trainer.callback_metrics)
    trainer.test(system, data, verbose=False)
    system.trainer = trainer
    assert torch.equal(system.graph.indices, data.train_graph.indices)


def test_fit_is_refused() -> None:
    data = make_data()
    with pytest.raises(TypeError, match="a Heuristic learns nothing and cannot fit"):
        make_trainer().fit(Heuristic(data.spec), data)


@pytest.mark.parametrize("how", ["heuristic", "plain"])
def test_from_the_command_line_without_a_checkpoint(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, caplog
) -> None:
    monkeypatch.chdir(tmp_path)
    model = {
        "heuristic": ["--model=Heuristic", "--model.measure=AdamicAdar"],
        "plain": ["--model=Plain", "--model.predictor=MeasurePredictor", "--model.predictor.measure=AdamicAdar"],
    }[how]
    quiet = ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    run = cli.main(["test", "-c", str(CONFIGS / "protocol/seal.yaml"), *model, *quiet])
    assert "no --ckpt_path" not in caplog.text
    assert type(run.model.student.measure) is AdamicAdar
    shown = capsys.readouterr().out
    assert "shared negatives" in shown
    assert f"{100 * float(run.trainer.callback_metrics['test/auc']):.2f}" in shown
    assert float(run.trainer.callback_metrics["test/auc"]) > 0.85
    if how == "heuristic":
        cli.main(["predict", *model, *quiet, "--predictions.top_k=3"])
        assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 4


def test_paths_of_length_three_on_the_air_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the default split of seed 0; a product of dense matrices gives the same."""
    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    run = cli.main(["test", "--model=Heuristic", "--model.measure=PathsOfLengthThree", *quiet])
    assert float(run.trainer.callback_metrics["test/mrr"]) == pytest.approx(0.2628, abs=5e-5)
