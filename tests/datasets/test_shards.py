"""Edge lists in many files are the graph of the one file that they would be, and are read once."""

from __future__ import annotations

import os
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

from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.datasets import files
from mebns_pl.datasets import prepared as kept
from mebns_pl.datasets.files import read_graph
from mebns_pl.datasets.loaded import LoadedGraph, NumberNames
from mebns_pl.datasets.readers import shards
from mebns_pl.datasets.readers.options import GraphColumns
from mebns_pl.errors import DataError
from mebns_pl.graph.csr import Graph


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
    whole = read_graph(write(table, tmp_path / f"whole.{suffix}", 1))
    parted = read_graph(write(table, tmp_path / f"parts.{suffix}", 3))
    assert_same(parted, whole)
    assert [len(parted.notes), parted.origin] == [2, ""]


def test_a_large_parquet_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(pairs("numbers"), tmp_path / "edges.parquet", 1)
    whole = read_graph(path)
    monkeypatch.setattr(shards, "STREAMED", 400)
    assert shards.shards_of(path, GraphColumns()) == [path]
    monkeypatch.setattr(files, "_read_tables", None)
    assert_same(read_graph(path), whole)


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
    assert len([item for item in cache.iterdir() if item.is_dir()]) == 3  # edges, split and graph
    monkeypatch.setattr(shards, "_read", None)
    monkeypatch.setattr(Graph, "from_edges", None)
    again = LinkDataModule(str(path), seed=1)
    assert torch.equal(again.train_graph.indices, data.train_graph.indices)
    assert list(again.loaded.node_names) == list(plain.loaded.node_names)
    with pytest.raises(TypeError, match="not callable"):  # another seed parts anew
        _ = LinkDataModule(str(path), seed=2).train_graph


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


def test_names_that_are_numbers_equal_texts_alone() -> None:
    assert NumberNames(2) == ["0", "1"]
    assert NumberNames(2) != [0, 1]
    assert NumberNames(2) != ["0", "1", "2"]


def test_a_folder_without_shards(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").mkdir()
    with pytest.raises(DataError, match=r"no file in this folder ends in \.csv"):
        read_graph(tmp_path / "edges.csv")
