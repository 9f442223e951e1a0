"""`mebns run` and `find_links`: from any kind of graph to links, in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import networkx
import pandas as pd
import pytest
import torch
from torch_geometric.data import Data

from mebns_pl import LinkDataModule, find_links
from mebns_pl.cli import start
from mebns_pl.cli.own_graph import _as_path
from mebns_pl.config_files import FOLDER, find_config_file
from mebns_pl.data import datamodule
from mebns_pl.errors import DataError
from references.runs import ALL_WARM_UP, make_loaded

SHORT = {
    "trainer.max_epochs": 2,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": False,
}
COLUMNS = ["rank", "source", "target", "score", "probability", "logit", "why"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def edge_table() -> pd.DataFrame:
    loaded = make_loaded()
    ends = [[loaded.node_names[node] for node in nodes] for nodes in loaded.edges.tolist()]
    return pd.DataFrame({"source": ends[0], "target": ends[1]})


def node_table() -> pd.DataFrame:
    loaded = make_loaded()
    assert isinstance(loaded.x, torch.Tensor)
    return pd.DataFrame(loaded.x.numpy(), columns=list("abcde")).assign(node=loaded.node_names)


def test_the_configurations_of_a_run_exist() -> None:
    names = ["base", "run/own", "model/auto", "sampler/dns", "configs/model/gcn_dot.yaml"]
    assert all(find_config_file(name) for name in names)
    assert find_config_file("sampler/nothing") is None
    assert [find_config_file(name) for name in ("", ".")] == [None, None]
    assert (FOLDER / "base.yaml").is_file()


def test_from_tables_to_links(capsys: pytest.CaptureFixture[str]) -> None:
    links = find_links(edge_table(), node_table(), 7, max_per_node=2, out="runs", options=SHORT)
    assert list(links.columns) == COLUMNS
    assert len(links) == 7
    assert links[["source", "target"]].stack().value_counts().max() <= 2
    known = {frozenset(pair) for pair in edge_table().to_numpy().tolist()}
    assert not known & {frozenset(pair) for pair in links[["source", "target"]].to_numpy().tolist()}
    folder = Path(links.attrs["folder"])
    assert folder == Path("runs/graph/version_0")
    written = pd.read_csv(folder / "links.csv")
    pd.testing.assert_frame_equal(written, links, check_dtype=False, rtol=1e-5)
    told = json.loads((folder / "metrics.json").read_text())
    assert {"fit", "test", "card", "reliability"} <= set(told)
    assert "StructureMLP" in (folder / "config.yaml").read_text()
    out = capsys.readouterr().out
    assert "Recommendation" in out
    assert "were edges" in out


@ALL_WARM_UP
def test_the_command_takes_a_path_and_options_of_fit(capsys: pytest.CaptureFixture[str]) -> None:
    edge_table().rename(columns={"source": "from"}).to_csv("friends.csv", index=False)
    short = [f"--{name}={value}" for name, value in SHORT.items()]
    more = ["--data.columns.source", "from", "--per_node", "--top_k=2", "--system=MeBNS", "-c", "sampler/dns"]
    with patch.object(datamodule, "read_graph", wraps=datamodule.read_graph) as reading:
        start.run(["run", "friends.csv", *more, *short, "--model.schedule.warmup=1"])
    assert reading.call_count == 1
    links = pd.read_csv("logs/friends/version_0/links.csv")
    assert links.groupby("source").size().max() == 2
    config = Path("logs/friends/version_0/config.yaml").read_text()
    assert "class_path: mebns_pl.MeBNS" in config
    assert "StructureMLP" in config
    assert "HardestSelector" in config
    assert "links.csv" in capsys.readouterr().out


def test_a_run_that_never_gains_ends_early() -> None:
    still = {"trainer.max_epochs": 15, "model.optimizer.lr": 1e-30}
    links = find_links(
        edge_table(), options={"trainer.enable_progress_bar": False, "trainer.accelerator": "cpu", **still}
    )
    fit = json.loads(Path(links.attrs["folder"], "metrics.json").read_text())["fit"]
    assert fit["epochs"] == 11  # the first validation and ten more


NOTHING_HELD_OUT = {"data.split.val": 0, "data.split.test": 0}


@pytest.mark.parametrize("more", [{}, {"trainer.check_val_every_n_epoch": 3, "trainer.callbacks": None}])
def test_all_edges_train_a_run_to_its_end(more: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    options = {**SHORT, "trainer.max_epochs": 4, **NOTHING_HELD_OUT, **more}
    links = find_links(edge_table(), None, 7, options=options)
    assert list(links.columns) == [name for name in COLUMNS if name != "probability"]
    folder = Path(links.attrs["folder"])
    told = json.loads((folder / "metrics.json").read_text())
    assert told["fit"]["epochs"] == 4
    assert not told.keys() & {"test", "card", "reliability"}
    best, last = (torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    torch.testing.assert_close(best["state_dict"], last["state_dict"], rtol=0, atol=0)
    words = " ".join(capsys.readouterr().out.split())
    assert "split.val: no validation edges; no probabilities are told" in words
    assert "split.test: no test edges; there is no test" in words


def test_a_graph_of_nine_edges_trains_on_all_of_them() -> None:
    lines = [f"a{u},a{v}" for u in range(5) for v in range(u) if (u, v) != (4, 1)]
    Path("tiny.csv").write_text("\n".join(["source,target", *lines]) + "\n")
    with pytest.raises(DataError, match="edges: got 9; .* at least 20 are needed"):
        find_links("tiny.csv", options=SHORT)
    links = find_links("tiny.csv", options={**SHORT, **NOTHING_HELD_OUT})
    assert links[["source", "target"]].to_numpy().tolist() == [["a1", "a4"]]


@pytest.mark.parametrize(
    ("unkept", "checkpoint"),
    [
        ({"trainer.limit_val_batches": 0}, "best.ckpt"),
        ({"trainer.enable_checkpointing": False}, None),
        ({"trainer.max_epochs": None, "trainer.max_steps": 1, "trainer.check_val_every_n_epoch": 9}, None),
    ],
)
def test_where_no_epoch_is_best_the_last_weights_are_tested(unkept: dict[str, Any], checkpoint: str | None) -> None:
    links = find_links(edge_table(), options={**SHORT, **unkept})
    told = json.loads(Path(links.attrs["folder"], "metrics.json").read_text())
    assert (told["test"]["checkpoint"] and Path(told["test"]["checkpoint"]).name) == checkpoint
    assert "probability" in links


def test_other_ends_stay_where_nothing_is_validated() -> None:
    stopper = {"class_path": "lightning.pytorch.callbacks.EarlyStopping"}
    watching = {**stopper, "init_args": {"monitor": "train/student_loss", "patience": 0, "mode": "max"}}
    options = {**SHORT, **NOTHING_HELD_OUT, "trainer.max_epochs": 9, "trainer.callbacks": [watching]}
    links = find_links(edge_table(), options=options)
    assert json.loads(Path(links.attrs["folder"], "metrics.json").read_text())["fit"]["epochs"] < 9


@pytest.mark.parametrize("system", ["Heuristic", "AutoEncoder", "plain", ""])
def test_other_systems_are_refused_in_one_line(system: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=f"system: got '{system}'; allowed are Plain and MeBNS"):
        find_links(edge_table(), system=system, options=SHORT)
    with pytest.raises(SystemExit):
        start.run(["run", "air_routes", f"--system={system}"])
    assert capsys.readouterr().err == f"mebns: error: system: got '{system}'; allowed are Plain and MeBNS\n"


def of_networkx(edges: pd.DataFrame) -> Any:
    return networkx.from_pandas_edgelist(edges)


def of_pyg(edges: pd.DataFrame) -> Any:
    ends = make_loaded().edges
    return Data(edge_index=torch.cat([ends, ends.flip(0)], dim=1), num_nodes=41)


def of_polars(edges: pd.DataFrame) -> Any:
    return pytest.importorskip("polars").from_pandas(edges)


@pytest.mark.parametrize("make", [lambda edges: edges, of_networkx, of_pyg, of_polars])
def test_objects_become_files_that_are_read_as_they_are(make: Any) -> None:
    path = _as_path(make(edge_table()), "edges", Path("place"))
    assert path == _as_path(make(edge_table()), "edges", Path("place"))  # so that a run can be made once more
    assert LinkDataModule(graph=path).loaded.num_edges == len(edge_table())


@pytest.mark.parametrize(
    ("edges", "nodes", "told"),
    [
        (42, None, "edges: got int; allowed are a path, a table, a networkx graph or PyG Data"),
        ("a.csv", 42, "nodes: got int; allowed are a path or a table"),
        (pd.DataFrame({"source": [[1], "b"]}), None, "edges: this DataFrame cannot be written as .parquet"),
        (pd.DataFrame({"source": ["a"], "goal": ["b"]}), None, "target"),
        ("nowhere.csv", None, "nowhere.csv: no such file"),
    ],
)
def test_what_is_no_graph_is_refused_in_one_line(edges: Any, nodes: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        find_links(edges, nodes, options=SHORT)
    assert not list(Path().glob("logs/*/version_*"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data.pairs.nodes": ["node 1", "nobody"]}, "nobody"),
        ({"data.pairs.forbidden": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"data.pairs.source_type": "user"}, "types stand in a node table"),
        ({"data.pairs.pool": "NearestPool", "model.predictor": "StructureMLP"}, "NearestPool needs a student that"),
    ],
)
def test_pairs_that_cannot_be_predicted_are_refused_before_training(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        find_links(edge_table(), options={**SHORT, **options})
    assert not list(Path().glob("logs/*/version_*/checkpoints"))


def test_a_run_whose_training_is_finished_is_tested_with_what_it_has_learned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    edge_table().to_csv("edges.csv", index=False)
    short = [f"--{name}={value}" for name, value in SHORT.items()]
    start.run(["run", "edges.csv", "--top_k=5", *short])
    folder = Path("logs/edges/version_0")
    files = ("config.yaml", "links.csv")
    before, metrics = [(folder / name).read_bytes() for name in files], (folder / "metrics.json").read_text()
    (folder / "links.csv").unlink()  # it was killed before
    start.run(["run", "edges.csv", "--top_k=5", *short, "--resume"])
    assert "The training is finished" in capsys.readouterr().out
    assert [(folder / name).read_bytes() for name in files] == before
    tested = json.loads((folder / "metrics.json").read_text())["test"]
    assert tested["metrics"] == json.loads(metrics)["test"]["metrics"]
    assert [path.name for path in Path("logs/edges").glob("version_*")] == ["version_0"]


@pytest.mark.parametrize("arguments", [[], ["--top_k=3", "edges.csv"], ["air_routes", "--top_k=many"]])
def test_wrong_arguments_are_told_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        start.run(["run", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
