"""The command line: fit, test and predict on a small edge list, and misspelt keys of files refused."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mebns_pl import MeBNS, Plain
from mebns_pl.cli import main as cli
from mebns_pl.models.batching import NeighborSampling
from references.runs import ALL_WARM_UP, command_line_parser, make_loaded

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write into the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def write_edges() -> Path:
    loaded = make_loaded()
    path = Path("edges.csv").resolve()
    lines = [f"{loaded.node_names[u]},{loaded.node_names[v]}" for u, v in loaded.edges.t().tolist()]
    path.write_text("\n".join(["source,target", *lines]) + "\n")
    return path


def arguments(command: str, *more: str) -> list[str]:
    """Small: two epochs, one of them warm-up, few negatives."""
    settings = {
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "check_val_every_n_epoch": 1,
            "enable_progress_bar": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": "logs", "name": "run"},
            },
        },
        "model": {
            "class_path": "MeBNS",
            "init_args": {
                "schedule": {"warmup": 1},
                "sampler": {"num_candidates": 4},
                "collector": {"num_passes": 2, "batch_size": 8},
            },
        },
        "data": {
            "graph": str(write_edges()),
            "batch_size": 40,
            "split": {"val": 0.1, "test": 0.1, "meta": 0.1},
            "eval_negatives": {"class_path": "mebns_pl.RandomNegatives", "init_args": {"num_negatives": 10}},
        },
        "migration": {"probe_size": 20},
        "predictions": {"path": "out/links.csv", "top_k": 15},
    }
    Path("small.yaml").write_text(yaml.safe_dump(settings))
    return [command, "-c", "small.yaml", *more]


def test_fit_test_and_predict(capsys: pytest.CaptureFixture[str]) -> None:
    run = cli.main(arguments("fit"))
    assert isinstance(run.model, MeBNS)
    assert run.trainer.current_epoch == 2
    folder = Path("logs/run/version_0")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    logged = pd.read_csv(folder / "metrics.csv")
    assert {"train/student_loss", "val/mrr", "val/auc", "migration/churn@1", "weights/unevenness", "meta/kept"} <= set(
        logged.columns
    )
    assert not [name for name in logged.columns if name.startswith("test/")]
    # What ran is written down, so that it can run again
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["model"]["init_args"]["schedule"]["warmup"] == 1
    fitted = {name: value.clone() for name, value in run.model.state_dict().items()}
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(last[name], value) for name, value in fitted.items())
    capsys.readouterr()

    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    run = cli.main(arguments("test", checkpoint))
    shown = capsys.readouterr().out
    assert "Test of MeBNS on edges, in %" in shown
    for row in ("MRR", "Hits@10", "AUC"):
        assert row in shown
    assert f"{100 * float(run.trainer.callback_metrics['test/mrr']):.2f}" in shown

    run = cli.main(arguments("predict", checkpoint))
    assert all(torch.equal(run.model.state_dict()[name], value) for name, value in fitted.items())
    shown = capsys.readouterr().out
    table = pd.read_csv("out/links.csv")
    assert list(table.columns) == ["rank", "source", "target", "score", "logit"]
    assert table["rank"].tolist() == list(range(1, 16))
    assert table["logit"].is_monotonic_decreasing
    assert table["score"].between(0, 1).all()
    loaded = make_loaded()
    names = set(loaded.node_names)
    known = {frozenset((loaded.node_names[u], loaded.node_names[v])) for u, v in loaded.edges.t().tolist()}
    links = [frozenset(pair) for pair in zip(table["source"], table["target"], strict=True)]
    assert all(link <= names and len(link) == 2 for link in links)
    assert len(set(links)) == 15
    assert not set(links) & known
    assert "Top predicted links" in shown
    assert "15 links: out/links.csv" in shown
    for name in table["source"][:10]:
        assert name in shown
    run.datamodule.setup("predict")
    pairs = torch.tensor([[run.datamodule.loaded.node_names.index(table[end][0])] for end in ("source", "target")])
    graph, student = run.datamodule.full_graph, run.model.student
    with torch.no_grad():
        assert float(student(student.prepare(graph, pairs))) == pytest.approx(table["logit"][0], abs=1e-5)


@pytest.mark.parametrize("features", [False, True])
def test_neighbor_batches(features: bool) -> None:
    """Learned embeddings, or features that stay on disk."""
    more = ["-c", str(CONFIGS / "batching" / "neighbor.yaml"), "--data.batch_size=40", "--data.num_workers=0"]
    if features:
        np.save("x.npy", np.random.default_rng(0).standard_normal((40, 4), dtype=np.float32))
        more += ["--data.nodes=x.npy"]
    run = cli.main(arguments("fit", *more, "--model.batching.fan_out=3"))
    assert isinstance(run.model.batching, NeighborSampling)
    assert run.model.batching.fan_out == 3
    assert len(run.trainer.optimizers) == (3 if features else 5)
    checkpoint = "--ckpt_path=logs/run/version_0/checkpoints/last.ckpt"
    run = cli.main(arguments("test", checkpoint, *more))
    assert 0 < float(run.trainer.callback_metrics["test/mrr"]) <= 1
    run = cli.main(arguments("predict", checkpoint, *more))
    table = pd.read_csv("out/links.csv")
    names = run.datamodule.loaded.node_names
    pairs = torch.tensor([[names.index(name) for name in table[end]] for end in ("source", "target")])
    student = run.model.student
    with torch.no_grad():
        logits = student(student.prepare(run.datamodule.full_graph, pairs))
    assert logits.tolist() == pytest.approx(table["logit"].tolist(), abs=1e-5)


def test_the_class_alone_names_neighbor_batches() -> None:
    config = command_line_parser().parse_args(
        ["fit", "--model.batching=NeighborSampling", "--model.batching.fan_out=4"]
    )
    assert config.fit.model.init_args.batching.init_args.fan_out == 4


@ALL_WARM_UP
def test_the_seed_decides_all_and_resume_goes_on() -> None:
    def state(*more: str) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in cli.main(arguments("fit", *more)).model.state_dict().items()}

    one, same, other = state("--seed_everything=3"), state("--seed_everything=3"), state("--seed_everything=4")
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)

    first = cli.main(arguments("fit", "--seed_everything=3", "--trainer.max_epochs=1", "--checkpoint.dirpath=here"))
    assert sorted(path.name for path in Path("here").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert first.trainer.current_epoch == 1
    resumed = state("--seed_everything=3", "--ckpt_path=here/last.ckpt")
    assert all(torch.equal(one[name], resumed[name]) for name in one)


def test_plain_is_one_option_away() -> None:
    run = cli.main(
        arguments("fit", "--model=Plain", "--model.sampler.selector=HardestSelector", "--trainer.max_epochs=1")
    )
    assert isinstance(run.model, Plain)
    assert type(run.model.sampler.selector).__name__ == "HardestSelector"
    assert run.datamodule.key.seed == 0


def test_weights_untrained_is_said(caplog: pytest.LogCaptureFixture) -> None:
    cli.main(arguments("test"))
    assert "no --ckpt_path was given" in caplog.text


NESTED = "model: {class_path: MeBNS, init_args: {predictor: {class_path: mebns_pl.EncoderDecoder, init_args: {%s}}}}"
OPTIMIZER = "model: {class_path: MeBNS, init_args: {optimizer: {class_path: torch.optim.Adam, init_args: {%s: 1}}}}"
PROPOSAL = "model: {class_path: MeBNS, init_args: {sampler: {proposal: {%s}}}}"
IN_FILES = [
    ("sed_everything: 3", "sed_everything"),
    ("data: {grph: cora}", "grph"),
    ("data: {split: {train: 0.5}}", "train"),
    (PROPOSAL % "class_path: mebns_pl.DegreeProposal, init_args: {pwer: 0.5}", "pwer"),
    (PROPOSAL % "class_path: mebns_pl.DegreProposal", "DegreProposal"),
    ("trainer: {epochs: 3}", "epochs"),
    ("model: {class_path: MeBNS, init_args: {techer_filter: null}}", "techer_filter"),
    (OPTIMIZER % "learning_rate", "learning_rate"),
    (NESTED % "encoder: {class_path: mebns_pl.GCN, init_args: {hidden: 3}}", "hidden"),
    (NESTED % "encoder: {class_path: mebns_pl.GNC}", "GNC"),
    (NESTED % "decodr: {class_path: mebns_pl.DotDecoder}", "decodr"),
]


@pytest.mark.parametrize(("text", "key"), IN_FILES)
def test_misspelt_keys_in_files_are_refused(capsys: pytest.CaptureFixture[str], text: str, key: str) -> None:
    Path("wrong.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        command_line_parser().parse_args(["fit", "-c", "wrong.yaml"])
    assert stop.value.code == 2
    error = capsys.readouterr().err.split("error:")[-1]
    assert key in error


def test_nothing_starts_with_a_misspelt_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["fit", "--data.grph=cora"])
    assert stop.value.code == 2
    assert "grph" in capsys.readouterr().err.split("error:")[-1]
    assert not list(tmp_path.iterdir())


def test_the_same_texts_spelt_right_are_taken() -> None:
    """Else the refusals above could have another reason."""
    files = []
    for text in (
        NESTED % "encoder: {class_path: mebns_pl.GCN, init_args: {hidden_channels: 3}}, decoder: mebns_pl.DotDecoder",
        "data: {graph: cora, split: {val: 0.5}}",
        PROPOSAL % "class_path: mebns_pl.DegreeProposal, init_args: {power: 0.5}",
        "{seed_everything: 3, trainer: {max_epochs: 3}, model: {class_path: MeBNS, init_args: {filter: null}}}",
        OPTIMIZER % "lr",
    ):
        files.append(Path(f"right{len(files)}.yaml"))
        files[-1].write_text(text)
    model = command_line_parser().parse_args(["fit", *(f"--config={file}" for file in files)]).fit.model.init_args
    assert model.predictor.init_args.encoder.init_args.hidden_channels == 3
    assert model.filter is None


def test_the_console_script_says_nothing_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A script hands what its function returns to ``sys.exit``: anything but None would be an error status."""
    (script,) = (entry for entry in entry_points(group="console_scripts") if entry.name == "mebns")
    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    monkeypatch.setattr("sys.argv", ["mebns", "validate", "--model=Plain", *quiet])
    assert script.load()() is None
