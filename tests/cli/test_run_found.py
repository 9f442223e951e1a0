"""``test``, ``predict`` and ``score`` take the options of the run they are given, and write into its folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from mebns_pl.cli.main import main
from mebns_pl.cli.saved_run import SavedRun, find_run, options_of
from mebns_pl.errors import DataError
from references.runs import write_edges

QUIET = "--trainer.enable_progress_bar=false"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MeBNS run and its plain control."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_edges(Path("edges.csv"))
        Path("run.yaml").write_text(
            """
trainer: {max_epochs: 2, accelerator: cpu, check_val_every_n_epoch: 1, enable_progress_bar: false}
model: {class_path: MeBNS, init_args: {schedule: {warmup: 1}, sampler: {num_candidates: 4}}}
data: {graph: edges.csv, batch_size: 60, eval_negatives: {class_path: RandomNegatives, init_args: {num_negatives: 10}}}
migration: {probe_size: 40}
figures: {max_snapshots: 0}
"""
        )
        main(["fit", "-c", "run.yaml"])
        main(["fit", "-c", "run.yaml", "--model=Plain"])
    return folder


@pytest.fixture(autouse=True)
def _in_a_copy(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def metrics_of(run: str) -> Any:
    return json.loads(Path(run, "metrics.json").read_text())


MEBNS, PLAIN, CSV = "logs/mebns/version_0", "logs/mebns/version_1", "csv/run/version_0"


def test_a_test_writes_into_the_runs_folder(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(MEBNS, "config.yaml").read_bytes()
    main(["test", PLAIN, QUIET])
    assert "Whether MeBNS helps" not in capsys.readouterr().out
    run = main(["test", "--ckpt_path", f"{MEBNS}/checkpoints/best.ckpt", QUIET])
    told = {name: float(value) for name, value in run.trainer.callback_metrics.items()}
    assert run.datamodule.batch_size == 60
    assert sorted(path.name for path in Path("logs/mebns").iterdir()) == ["version_0", "version_1"]
    assert Path(MEBNS, "config.yaml").read_bytes() == before

    found = metrics_of(MEBNS)
    assert found["fit"]["epochs"] == 2
    assert found["test"]["metrics"]["mrr"] == told["test/mrr"]
    low, high = found["test"]["intervals"]["mrr"]
    assert low < told["test/mrr"] < high
    assert found["card"]["plain_run"] == PLAIN
    assert found["card"]["plain"] == metrics_of(PLAIN)["test"]["metrics"]
    assert set(found["card"]["heuristics"]) >= {"CommonNeighbors", "PathsOfLengthThree"}
    assert 0 < found["card"]["chance"]["mrr"] < 0.5
    assert found["card"]["num_distinct_negatives"] <= found["card"]["num_negatives"] == 10
    assert found["fit"]["val_negatives"]["total"] > found["fit"]["val_negatives"]["test_edges"] > 0

    shown = capsys.readouterr().out
    assert shown.index("Test of MeBNS on edges") < shown.index("Beside chance and heuristics")
    for row in ("this model (MeBNS)", "Plain, the control", "AdamicAdar", "chance"):
        assert f"│ {row} " in shown
    assert " ".join(f"Recommendation: {found['card']['recommendation']}".split()) in " ".join(shown.split())
    assert max(len(line) for line in shown.splitlines() if "logdir" not in line) <= 80

    options = yaml.safe_load(Path(MEBNS, "hparams.yaml").read_text())
    assert options["System"] == "MeBNS"
    assert options["test/mrr"] == told["test/mrr"]
    assert options["final/best_val_mrr"] > 0
    events = EventAccumulator(MEBNS).Reload()
    assert events.Scalars("test/mrr")[0].value == pytest.approx(told["test/mrr"])
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    infos = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    assert {info.name.tag for info in infos} >= {"test/mrr", "test/hits@10", "test/auc", "final/best_val_mrr"}

    # Tested once more, of other weights: nothing of the test before is left
    main(["test", "--ckpt_path", f"{MEBNS}/checkpoints/last.ckpt", QUIET, "--card.max_pairs=0", "--card.show=false"])
    again = metrics_of(MEBNS)
    assert again["test"]["checkpoint"].endswith("last.ckpt")
    assert again["card"]["heuristics"] == {}
    assert any("card.max_pairs is 0" in sentence for sentence in again["card"]["sentences"])
    assert "Beside chance" not in capsys.readouterr().out


def test_checkpoints_elsewhere_find_their_run(tmp_path: Path) -> None:
    csv = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=csv", "--trainer.logger.name=run"]
    main(["fit", "-c", "run.yaml", "--model=Plain", *csv, "--checkpoint.dirpath=ck", "--seed_everything=3"])
    main(["predict", "--ckpt_path", "ck/best.ckpt", QUIET])
    assert find_run("ck/best.ckpt").folder == tmp_path / CSV
    assert len(pd.read_csv(f"{CSV}/predictions.csv")) > 5
    main(["predict", "ck/best.ckpt", QUIET, "--predictions.path=p.csv"])
    assert pd.read_csv("p.csv").equals(pd.read_csv(f"{CSV}/predictions.csv"))
    logged = Path(CSV, "metrics.csv").read_bytes()
    for _ in range(2):
        run = main(["test", CSV, QUIET])
        assert run.datamodule.key.seed == 3
        assert metrics_of(CSV)["test"]["checkpoint"] == "ck/best.ckpt"
        assert "test/mrr" in pd.read_csv(f"{CSV}/test/metrics.csv").columns
    assert Path(CSV, "metrics.csv").read_bytes() == logged
    assert [path.name for path in Path("csv/run").iterdir()] == ["version_0"]
    Path("pairs.csv").write_text("source,target\nnode 0,node 39\n")
    main(["score", "pairs.csv", "--ckpt_path", CSV, QUIET])
    assert len(pd.read_csv("scores.csv")) == 1


def test_a_checkpoint_alone_knows_its_model_and_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["test", PLAIN, QUIET])
    wanted = metrics_of(PLAIN)["test"]["metrics"]
    shutil.copy(f"{PLAIN}/checkpoints/best.ckpt", "alone.ckpt")
    shutil.rmtree("logs")
    checkpoint = torch.load("alone.ckpt", weights_only=True)
    assert not Path(checkpoint["mebns_pl"]["run_folder"]).is_relative_to(tmp_path)
    # The fixture's own run is still where it was; one that is nowhere is what is meant
    checkpoint["mebns_pl"]["run_folder"] = str(tmp_path / "gone")
    torch.save(checkpoint, "alone.ckpt")
    run = main(["test", "alone.ckpt", QUIET, "--trainer.accelerator=cpu"])
    assert {name.removeprefix("test/"): float(v) for name, v in run.trainer.callback_metrics.items()} == wanted

    checkpoint["mebns_pl"]["config"]["data"]["eval_negatives"]["class_path"] = "os.system"
    torch.save(checkpoint, "alone.ckpt")
    with pytest.raises(SystemExit):
        main(["test", "alone.ckpt", QUIET])
    assert re.search(r"alone\.ckpt names 'os\.system', which is neither this package's nor", capsys.readouterr().err)
    checkpoint["mebns_pl"]["config"] = {"from": "python"}
    torch.save(checkpoint, "alone.ckpt")
    assert options_of(find_run("alone.ckpt")) is None


def test_another_place_for_the_logs_is_kept() -> None:
    main(["test", PLAIN, QUIET, "--trainer.logger.save_dir=elsewhere"])
    assert list(Path("elsewhere").rglob("events.*"))
    assert "test" in metrics_of(PLAIN)
    main(["test", PLAIN, QUIET, "--trainer.logger=false"])
    assert not Path("logs/mebns/version_2").exists()


def test_what_is_found() -> None:
    best = Path(PLAIN, "checkpoints/best.ckpt")
    for place in (PLAIN, best, best.parent):
        assert find_run(place) == SavedRun(best, Path(PLAIN))
    assert find_run("best") == SavedRun(Path("best"), None)
    assert find_run("nowhere.ckpt").config is None
    best.unlink()
    assert find_run(PLAIN).checkpoint == best.with_name("last.ckpt")
    Path("empty").mkdir()
    with pytest.raises(
        DataError, match=r"ckpt_path: no checkpoint in 'empty'; looked for empty/checkpoints/best\.ckpt"
    ):
        find_run("empty")
