"""Edge lists in many files are the graph of the one file that they would be, and are read once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.multiprocessing import ProcessExitedException

from mebns_pl.data import datamodule
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.data.needs import Needs
from mebns_pl.datasets import files
from mebns_pl.datasets import prepared as kept
from mebns_pl.datasets.files import read_graph
from mebns_pl.datasets.loaded import LoadedGraph, NumberNames
from mebns_pl.datasets.named_pairs import node_numbers
from mebns_pl.datasets.readers import shards, whole
from mebns_pl.datasets.readers.options import GraphColumns
from mebns_pl.datasets.tables import places_in, text_column
from mebns_pl.errors import DataError
from mebns_pl.evaluation import negative_cache
from mebns_pl.evaluation.negative_cache import CachedNegatives
from mebns_pl.evaluation.negatives import AbstractEvalNegatives, HeartNegatives, RandomNegatives
from mebns_pl.evaluation.protocols import GeneratedComparison
from mebns_pl.graph.csr import Graph
from references.processes import in_processes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prepared"


def pairs(kind: str) -> pd.DataFrame:
    """Repetitions, both directions and self-loops; names that leave numbers out."""
    drawn = np.random.default_rng(3).integers(0, 40, (400, 2)) * (1 if kind == "small" else 3)
    names: Sequence[object] = drawn.reshape(-1).tolist()
    if kind == "large":
        names = (drawn.reshape(-1) * 10**12 - 10**13).tolist()
    if kind == "text":
        names = [f"0{number}" if number % 2 else f"n{number}" for number in drawn.reshape(-1)]
    return pd.DataFrame({"time": 1, "source": names[::2], "target": names[1::2]})


def write(table: pd.DataFrame, path: Path, parts: int) -> Path:
    """In so many files, or as one."""
    if parts > 1:
        path.mkdir()
        (path / "_SUCCESS").write_text("")
    for number, rows in enumerate(np.array_split(np.arange(len(table)), parts)):
        part = path if parts == 1 else path / f"part-{number}{path.suffix}"
        if path.suffix == ".parquet":
            table.iloc[rows].to_parquet(part, index=False)
        else:
            table.iloc[rows].to_csv(part, index=False)
    return path


def assert_same(one: LoadedGraph, other: LoadedGraph) -> None:
    assert torch.equal(one.edges, other.edges)
    assert list(one.node_names) == list(other.node_names)
    hint = "numbers stand in both columns"  # is given of tables in memory alone
    assert one.notes == [note for note in other.notes if hint not in note]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("kind", ["small", "numbers", "large", "text"])
def test_shards_are_one_edge_list(tmp_path: Path, suffix: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BLOCK", 50)
    table = pairs(kind)
    one = read_graph(write(table, tmp_path / f"whole.{suffix}", 1))
    parted = read_graph(write(table, tmp_path / f"parts.{suffix}", 3))
    assert_same(parted, one)
    assert [len(parted.notes), parted.origin] == [2, ""]


def test_a_large_parquet_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(pairs("numbers"), tmp_path / "edges.parquet", 1)
    one = read_graph(path)
    monkeypatch.setattr(shards, "STREAMED", 400)
    assert shards.shards_of(path, GraphColumns()) == [path]
    monkeypatch.setattr(files, "_read_tables", None)
    assert_same(read_graph(path), one)


def test_what_was_read_is_kept(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "LEAST", 0)
    path = write(pairs("numbers"), tmp_path / "edges.parquet", 3)
    data, plain = LinkDataModule(str(path), seed=1), LinkDataModule("air_routes", seed=1)
    plain.loaded = read_graph(write(pairs("numbers"), tmp_path / "whole.parquet", 1))
    for name in ("train", "meta", "val", "test"):
        assert torch.equal(getattr(data.split, name), getattr(plain.split, name))
    for name in ("indptr", "indices"):
        assert torch.equal(getattr(data.train_graph, name), getattr(plain.train_graph, name))
    supervision = (module.train_steps(Needs()).positives for module in (data, plain))  # of training and meta edges
    assert torch.equal(*supervision)
    assert len([item for item in cache.iterdir() if item.is_dir()]) == 3  # edges, split and graph
    monkeypatch.setattr(shards, "_read", None)
    monkeypatch.setattr(Graph, "from_edges", None)
    again = LinkDataModule(str(path), seed=1)
    assert torch.equal(again.train_graph.indices, data.train_graph.indices)
    assert list(again.loaded.node_names) == list(plain.loaded.node_names)
    with pytest.raises(TypeError, match="not callable"):  # another seed parts anew
        _ = LinkDataModule(str(path), seed=2).train_graph


@pytest.mark.parametrize("how", [RandomNegatives(4), RandomNegatives(60)], ids=["4", "60"])
def test_negatives_of_held_out_edges_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: AbstractEvalNegatives
) -> None:
    monkeypatch.setattr(shards, "LEAST", 0)
    path = write(pairs("small"), tmp_path / "edges.parquet", 3)
    x = tmp_path / "x.npy"
    np.save(x, np.random.default_rng(0).standard_normal((40, 3), dtype=np.float32))

    def module(**options: Any) -> LinkDataModule:
        return LinkDataModule(str(path), **{"nodes": str(x), "eval_negatives": how, **options})

    plain, first = module(), module()
    plain.loaded = replace(plain.loaded, origin="")
    want = vars(plain.eval_set("val"))
    assert (want["repeated"] is None) is (how != RandomNegatives(60))
    for data in (first, module()):
        for name, value in vars(data.eval_set("val")).items():
            assert value is want[name] is None or torch.equal(value, want[name])
        monkeypatch.setattr(GeneratedComparison, "compare", None)
    for other in ({"seed": 1}, {"eval_negatives": RandomNegatives(7)}):
        with pytest.raises(TypeError, match="not callable"):
            module(**other).eval_set("val")
    with pytest.raises(TypeError, match="not callable"):
        module().eval_set("test")
    with monkeypatch.context() as patch:
        patch.setattr(negative_cache, "_FORMAT", "negatives of another release")
        with pytest.raises(TypeError, match="not callable"):
            module().eval_set("val")
    np.save(x, np.ones((40, 3), dtype=np.float32))
    with pytest.raises(TypeError, match="not callable"):
        module().eval_set("val")


def test_negatives_that_are_larger_than_the_graph_are_not_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LEAST", 0)
    path = write(pairs("small"), tmp_path / "edges.parquet", 3)
    for how in (HeartNegatives(3), CachedNegatives(RandomNegatives(4), tmp_path / "negatives")):
        data = LinkDataModule(str(path), eval_negatives=how)
        data.train_graph  # noqa: B018 (kept, and so the folder is there)
        before = sorted(cache.iterdir())
        assert before
        data.eval_set("val")
        assert sorted(cache.iterdir()) == before


def test_a_changed_or_damaged_file_is_read_anew(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "LEAST", 0)
    path = write(pairs("numbers"), tmp_path / "edges.parquet", 2)
    read = read_graph(path)
    first = replace(read, edges=read.edges.clone())
    (stored,) = cache.glob("*/edges.npy")
    array = np.load(stored, mmap_mode="r+")
    array[0, 0] += 1
    array.flush()
    assert_same(read_graph(path), first)
    assert "checksum" in caplog.text
    (stored.parent / "arrays.json").unlink()  # as where it was being written
    assert_same(read_graph(path), first)
    pd.DataFrame({"source": [1], "target": [1000]}).to_parquet(path / "part-9.parquet")
    assert read_graph(path).num_edges == first.num_edges + 1


def test_a_draw_of_changes_does_not_reach_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    first, name = kept.prepared(["x"], lambda: {"a": torch.arange(3)}, "x")
    first["a"][0] = 7
    again, same = kept.prepared(["x"], dict, "x")
    assert [again["a"].tolist(), same] == [[0, 1, 2], name]


def test_one_makes_and_the_others_wait() -> None:
    made: list[int] = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        time.sleep(0.1)
        return {"a": torch.arange(5)}

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: kept.prepared(["x", 1], make, "x")[0]["a"].tolist(), range(4)))
    assert [found, made] == [[list(range(5))] * 4, [1]]


def test_a_cache_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shards, "LEAST", 0)
    path = write(pairs("numbers"), tmp_path / "edges.parquet", 2)
    first = read_graph(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(kept, "_write", full)
    assert_same(read_graph(path), first)
    assert "cannot be kept ([Errno 28] No space left on device)" in caplog.text
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "file"))
    assert_same(read_graph(path), first)
    assert "is not kept" in caplog.text


@pytest.mark.parametrize(
    ("table", "options", "told"),
    [
        ({"source": [1, None], "target": [2, 3]}, {}, "row 1: no name in column 1|column 'source' is of type double"),
        ({"source": ["7", "7.0"], "target": ["1", "2"]}, {}, "node '7.0', and '7' elsewhere"),
        ({"source": ["a", "1E+05"], "target": ["100000", "b"]}, {}, r"node '1E\+05', and '100000' elsewhere"),
        ({"source": ["a\0b", "c"], "target": ["c", "d"]}, {}, "has a NUL character"),
        ({"source": [1], "target": [1]}, {}, "no edge between two different nodes in 2 lines"),
        ({"source": [1], "goal": [1]}, {}, "no column 'target'"),
        (
            {"source": [1], "target": [2]},
            {"weight": "w"},
            "columns.weight: got 'w'; edge lists that are read in",
        ),
    ],
)
def test_refused(tmp_path: Path, table: dict[str, list[object]], options: dict[str, str], told: str) -> None:
    path = tmp_path / "edges.parquet"
    path.mkdir()
    for number in range(2):
        pd.DataFrame(table).to_parquet(path / f"{number}.parquet", index=False)
    with pytest.raises(DataError, match=told):
        read_graph(path, columns=GraphColumns(**options))  # type: ignore[arg-type]


def test_a_folder_among_shards_is_not_passed_over(tmp_path: Path) -> None:
    path = write(pairs("numbers"), tmp_path / "edges.parquet", 2)
    (path / "year=2020").mkdir()
    with pytest.raises(DataError, match=r"year=2020: a folder among shards"):
        read_graph(path)


def test_a_list_of_another_form_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path))
    for _ in range(2):
        assert kept.prepared(["x", 2], lambda: {"a": torch.arange(3)}, "x")[0]["a"].tolist() == [0, 1, 2]
        (found,) = (tmp_path / "prepared").glob("*/arrays.json")
        found.write_text("[1]")


def test_a_cache_of_somebody_else_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no lock can be made."""
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path))
    kept.prepared(["x", 3], lambda: {"a": torch.arange(3)}, "x")
    real = os.open

    def refuse(path: str, *rest: Any) -> int:
        if str(path).endswith(".lock"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    found = kept.prepared(["x", 3], lambda: pytest.fail("it is there"), "x")[0]
    assert found["a"].tolist() == [0, 1, 2]


def test_a_large_archive_of_edges_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, drawn = tmp_path / "edges.npz", pairs("small")[["source", "target"]].to_numpy()
    np.savez(path, edge_index=drawn.T, num_nodes=50)
    plain = read_graph(path)
    monkeypatch.setattr(whole, "LEAST", 0)
    first = read_graph(path)
    assert_same(first, plain)
    assert [len(first.notes), plain.origin, first.num_nodes] == [3, "", 50]
    with monkeypatch.context() as patch:
        patch.setattr(whole, "graph_of_pairs", None)
        again = read_graph(path)
        assert_same(again, plain)
        assert again.origin == first.origin
        with pytest.raises(TypeError, match="not callable"):  # another answer, which was not asked for before
            read_graph(path, undirected=False)
    np.savez(path, edges=drawn)
    assert_same(read_graph(path), read_graph(write(pairs("small"), tmp_path / "edges.csv", 1)))


@pytest.mark.parametrize(
    "more",
    [{"x": np.eye(40, dtype=np.float32)}, {"node_names": np.arange(40)}, {"time": np.arange(400.0)}],
    ids=["x", "names", "times"],
)
def test_an_archive_of_more_than_edges_is_not_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    monkeypatch.setattr(whole, "LEAST", 0)
    np.savez(tmp_path / "edges.npz", edges=pairs("small")[["source", "target"]].to_numpy(), **more)
    graph = read_graph(tmp_path / "edges.npz", time_column="time" if "time" in more else None)
    assert [graph.origin, cache.exists()] == ["", False]
    assert (graph.x is not None, graph.times is not None) == ("x" in more, "time" in more)


def start_until_killed(_: int, path: str, cache: str, during: str) -> None:
    """In a process of its own: reads and parts a graph, killed while it keeps a part."""
    os.environ["MEBNS_CACHE"] = cache
    setattr(shards, "LEAST", 0)  # noqa: B010 (a constant to others)
    data = LinkDataModule(path)
    for name, part in (("edges", "loaded"), ("split", "split"), ("training graph", "train_graph")):
        if name == during:  # when its arrays are there, and nothing yet tells that they are whole
            kept.write_atomically = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        getattr(data, part)


@pytest.mark.parametrize("during", ["edges", "split", "training graph"])
def test_a_start_after_a_kill_takes_what_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str) -> None:
    monkeypatch.setattr(shards, "LEAST", 0)
    path = write(pairs("numbers"), tmp_path / "edges.parquet", 3)
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        in_processes(start_until_killed, str(path), str(tmp_path / "cache"), during)
    if during != "edges":
        monkeypatch.setattr(shards, "_read", None)
    if during == "training graph":
        monkeypatch.setattr(datamodule, "split_edges", None)
    data = LinkDataModule(str(path))
    assert torch.equal(data.train_graph.indices, Graph.from_edges(data.split.observed, data.loaded.num_nodes).indices)


@pytest.mark.parametrize("numbers", [None, [-40, -3, 0, 7, 10, 10**17]])
def test_numbers_are_found_as_their_texts_are(numbers: list[int] | None) -> None:
    names = NumberNames(6, None if numbers is None else np.array(numbers))
    asked = [*names, "00", "-0", "+7", "7.0", "07", "6", "-1", "100", "", "x", "9" * 18, "9" * 30]
    assert names.places(asked).tolist() == places_in(list(names), text_column(asked)).tolist()
    assert names.places([]).tolist() == []
    assert node_numbers([text_column(["0"])], names).tolist() == [[list(names).index("0")]]


def test_names_that_are_numbers_equal_texts_alone() -> None:
    assert NumberNames(2) == ["0", "1"]
    assert NumberNames(2) != [0, 1]
    assert NumberNames(2) != ["0", "1", "2"]


def test_a_folder_without_shards(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").mkdir()
    with pytest.raises(DataError, match=r"no file in this folder ends in \.csv"):
        read_graph(tmp_path / "edges.csv")


@pytest.mark.parametrize("header", ["# FromNodeId\tToNodeId\n", "# source\ttarget\n", "# a\n# b\tc\td\n"])
def test_shards_that_begin_with_comments(tmp_path: Path, header: str) -> None:
    folder = tmp_path / "edges.tsv"
    folder.mkdir()
    for name, rows in (("a.tsv", "1\t2\n2\t3\n"), ("b.tsv", "3\t4\n")):
        (folder / name).write_text(header + rows)
    graph = read_graph(folder)
    assert (list(graph.node_names), graph.num_edges) == (["1", "2", "3", "4"], 3)
    assert read_graph(folder, columns=GraphColumns(0, 1)).num_edges == 3
