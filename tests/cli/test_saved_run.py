"""From checkpoints of the command line back to systems, and ``mebns landscape`` on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from mebns_pl import CheckpointError, MeBNS, Plain, compare_checkpoints, load_run
from mebns_pl.cli.main import main
from mebns_pl.errors import DataError
from references.runs import write_edges

OPTIONS = {"num_pairs": "20", "num_probes": "3", "grid": "3"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain and a MeBNS run of three epochs of the same seed, and a plain one of another."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_edges(Path("edges.csv"))
        mebns = "MeBNS, init_args: {schedule: {warmup: 1}}"
        for name, system, seed in (("mebns", mebns, 1), ("plain", "Plain", 1), ("other", "Plain", 2)):
            Path("run.yaml").write_text(
                f"""
seed_everything: {seed}
trainer:
  max_epochs: 3
  accelerator: cpu
  check_val_every_n_epoch: 1
  enable_progress_bar: false
  logger: {{class_path: TensorBoardLogger, init_args: {{save_dir: logs, name: {name}}}}}
model: {{class_path: {system}}}
data: {{graph: edges.csv, batch_size: 60, eval_negatives: {{class_path: mebns_pl.RandomNegatives}}}}
migration: {{probe_size: 40}}
figures: {{max_snapshots: 0}}
"""
            )
            main(["fit", "-c", "run.yaml"])
    return folder


def checkpoint(name: str) -> str:
    return f"logs/{name}/version_0/checkpoints/last.ckpt"


@pytest.fixture(autouse=True)
def _in_their_folder(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.mark.parametrize(("name", "kind"), [("mebns", MeBNS), ("plain", Plain)])
def test_a_run_comes_back_with_its_weights_and_data(name: str, kind: type) -> None:
    state = torch.get_rng_state()
    system, data = load_run(checkpoint(name))
    assert torch.equal(torch.get_rng_state(), state)
    assert type(system) is kind
    saved = torch.load(checkpoint(name), weights_only=True)
    assert all(torch.equal(saved["state_dict"][key], value) for key, value in system.state_dict().items())
    assert data.digests == saved["mebns_pl"]["digests"]
    assert (data.key.seed, data.batch_size) == (1, 60)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ckpt: no such file: 'nowhere\.ckpt'"):
        load_run("nowhere.ckpt")
    alone = shutil.copy(checkpoint("plain"), tmp_path / "alone.ckpt")
    with pytest.raises(DataError, match="without the configuration of its run at"):
        load_run(alone)
    mixed = tmp_path / "mixed"
    shutil.copytree("logs/mebns/version_0", mixed)
    shutil.copy(checkpoint("plain"), mixed / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"does not belong to .*config\.yaml.*system: "):
        load_run(mixed / "checkpoints" / "last.ckpt")
    with pytest.raises(DataError, match="belongs to another graph or split than"):
        compare_checkpoints([checkpoint("plain"), checkpoint("other")], tmp_path)
    with pytest.raises(DataError, match="another of the same name 'plain_version_0_last'"):
        compare_checkpoints([checkpoint("plain")] * 2, tmp_path)
    assert not list(tmp_path.glob("*version_0*"))


def test_the_command_measures_several_students_on_one_loss(capsys: pytest.CaptureFixture[str]) -> None:
    options = [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]
    with pytest.raises(SystemExit) as end:
        main(["landscape", "--ckpt", checkpoint("mebns"), "--ckpt", checkpoint("plain"), "--out", "seen", *options])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    rows = pd.read_csv("seen/landscape.csv").set_index("name")
    assert list(rows.index) == ["mebns_version_0_last", "plain_version_0_last"]
    for name, row in rows.iterrows():
        assert Path("seen", str(name), "surface.png").is_file()
        assert str(name) in shown
        assert f"{row['loss']:.4f}" in shown
    # On the same pairs: the loss of a student is the same, whoever stands beside it
    with pytest.raises(SystemExit):
        main(["landscape", "--ckpt", checkpoint("plain"), "--out", "alone", *options])
    alone = pd.read_csv("alone/landscape.csv").set_index("name")
    pd.testing.assert_frame_equal(alone, rows.loc[["plain_version_0_last"]])


def test_runs_of_the_command_line_tell_tensorboard_their_options_and_metrics() -> None:
    told = {}
    for name in ("mebns", "plain"):
        events = EventAccumulator(f"logs/{name}/version_0").Reload()
        scalars = events.Tags()["scalars"]
        assert "hp_metric" not in scalars
        best = max(event.value for event in events.Scalars("val/mrr"))
        assert [event.value for event in events.Scalars("final/best_val_mrr")] == [pytest.approx(best)]
        churns = [event.value for event in events.Scalars("migration/churn@1")]
        late = sum(churns[len(churns) // 2 :]) / len(churns[len(churns) // 2 :])
        assert events.Scalars("final/late_churn")[0].value == pytest.approx(late, rel=1e-5)
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
        told[name] = {key: value.string_value or value.number_value for key, value in start.items()}
    same = {"Encoder": "GCN", "Graph": "edges", "Proposal": "UniformProposal", "Selector": "FirstSelector",
            "candidates (K)": 8, "decoder": "MLPDecoder", "seed": 1, "lr": 0.001}  # fmt: skip
    assert told["mebns"] == {**same, "System": "MeBNS", "engine": "HigherEngine"}
    assert told["plain"] == {**same, "System": "Plain", "engine": "none"}
