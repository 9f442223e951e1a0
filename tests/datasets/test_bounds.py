"""What one file may ask for: more is refused before it takes the memory, and every bound can be raised."""

from __future__ import annotations

import gzip
import os
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mebns_pl.datasets.files import read_graph
from mebns_pl.datasets.limits import SIZES, check_size, limit
from mebns_pl.errors import DataError
from references.processes import output_of

Write = Callable[[Path, int], Path]
INDEX = torch.tensor([[0, 1, 2], [1, 2, 0]])


def zipped_text(folder: Path, size: int) -> Path:
    """About ``size`` bytes, which are a thousandth of that packed."""
    block = b"source,target\n" + b"1,2\n" * 250_000
    with gzip.open(folder / "g.csv.gz", "wb", compresslevel=6) as file:
        for _ in range(max(1, size // len(block))):
            file.write(block)
    return folder / "g.csv.gz"


def many_rows(folder: Path, rows: int) -> Path:
    ones = pa.array(np.ones(1_000_000, np.int64))
    table = pa.table({"source": ones, "target": ones})
    with pq.ParquetWriter(folder / "g.parquet", table.schema) as writer:
        for _ in range(max(1, rows // 1_000_000)):
            writer.write_table(table)
    return folder / "g.parquet"


def long_texts(folder: Path, size: int) -> Path:
    """One text, which every row repeats."""
    text = pa.array(["x" * (size // 1000)])
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), text)
    pq.write_table(pa.table({"source": column, "target": column}), folder / "g.parquet", store_schema=False)
    return folder / "g.parquet"


def many_nodes(folder: Path, size: int) -> Path:
    np.savez(folder / "g.npz", edges=np.array([[0, 1], [1, 2]]), num_nodes=size)
    return folder / "g.npz"


def many_saved_nodes(folder: Path, size: int) -> Path:
    torch.save({"edge_index": INDEX, "num_nodes": size}, folder / "g.pt")
    return folder / "g.pt"


def large_array(folder: Path, size: int) -> Path:
    """A header that announces more than there is."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size // 4}, 1), }}".ljust(117) + "\n"
    with zipfile.ZipFile(folder / "g.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        with archive.open("edges.npy", "w") as file:
            np.save(file, np.array([[0, 1], [1, 2]]))
    return folder / "g.npz"


def expanded(folder: Path, size: int) -> Path:
    torch.save({"edge_index": INDEX, "x": torch.ones(1).expand(3, size // 12 + 1)}, folder / "g.pt")
    return folder / "g.pt"


def zipped_tensors(folder: Path, size: int) -> Path:
    """A file of torch's whose numbers are packed."""
    torch.save({"edge_index": INDEX}, folder / "good.pt")
    with zipfile.ZipFile(folder / "good.pt") as good:
        parts = {item.filename: good.read(item) for item in good.infolist()}
    with zipfile.ZipFile(folder / "g.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
        with archive.open("good/data/9", "w", force_zip64=True) as file:
            for _ in range(max(1, size // 2**20)):
                file.write(bytes(2**20))
    return folder / "g.pt"


def long_pickle(folder: Path, size: int) -> Path:
    torch.save({"edge_index": INDEX, "node_names": ["x" * size]}, folder / "g.pt")
    return folder / "g.pt"


def old_pickle(folder: Path, size: int) -> Path:
    (folder / "g.pt").write_bytes(b"\x80\x02" + b"]" * size)
    return folder / "g.pt"


GRAPHML = '<graphml><graph edgedefault="undirected">{}</graph></graphml>'


def many_tags(folder: Path, size: int) -> Path:
    (folder / "g.graphml").write_text(GRAPHML.format('<node id="a"/>' * size))
    return folder / "g.graphml"


def deep_tags(folder: Path, depth: int) -> Path:
    (folder / "g.graphml").write_text(GRAPHML.format("<a>" * depth + "</a>" * depth))
    return folder / "g.graphml"


def long_value(folder: Path, size: int) -> Path:
    (folder / "g.graphml").write_text(GRAPHML.format(f'<node id="a"><data key="k">{"x" * size}</data></node>'))
    return folder / "g.graphml"


def long_tag(folder: Path, size: int) -> Path:
    (folder / "g.graphml").write_text(GRAPHML.format(f'<node id="{"x" * size}"/>'))
    return folder / "g.graphml"


def many_defaults(folder: Path, size: int) -> Path:
    keys = "".join(f'<key id="k{i}" for="node"><default>x</default></key>' for i in range(size // 100))
    nodes = "".join(f'<node id="{i}"/>' for i in range(200))
    (folder / "g.graphml").write_text(f'<graphml>{keys}<graph edgedefault="directed">{nodes}</graph></graphml>')
    return folder / "g.graphml"


def long_line(folder: Path, size: int) -> Path:
    (folder / "g.csv").write_text("source,target\n" + '"' + "x" * size)
    return folder / "g.csv"


def wide_line(folder: Path, size: int) -> Path:
    (folder / "g.csv").write_text("," * size + "\n1,2\n")
    return folder / "g.csv"


def many_lines(folder: Path, size: int) -> Path:
    (folder / "g.csv").write_text("source,target\n" + "1,2\n" * size)
    return folder / "g.csv"


def quoted_values(folder: Path, size: int) -> Path:
    (folder / "g.csv").write_text('source,target\n1,a "b"\n' + "1,2\n" * (size // 2))
    return folder / "g.csv"


def many_names(folder: Path, size: int) -> Path:
    (folder / "g.csv").write_text("source,target\n" + "".join(f"{i},x\n" for i in range(size)))
    return folder / "g.csv"


def packed_matrix(folder: Path, size: int) -> Path:
    import zlib

    packed = zlib.compress(bytes(size + 1))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (folder / "g.mat").write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
    return folder / "g.mat"


# What is bounded, and what makes a file that is beyond the bound, of a size that is a little above it
FILES: dict[str, tuple[str, Write]] = {
    "zipped text": ("bytes of text", lambda folder, size: zipped_text(folder, 2 * size)),
    "long texts": ("bytes of text", lambda folder, size: long_texts(folder, 2 * size)),
    "nodes of an archive": ("nodes", many_nodes),
    "nodes of a tensor": ("nodes", many_saved_nodes),
    "names": ("nodes", many_names),
    "header of an array": ("bytes of arrays", lambda folder, size: large_array(folder, 2 * size)),
    "expanded tensor": ("bytes of arrays", expanded),
    "zipped tensors": ("bytes of arrays", lambda folder, size: zipped_tensors(folder, 2 * size)),
    "matrix": ("bytes of arrays", packed_matrix),
    "pickle": ("bytes of pickled objects", long_pickle),
    "old pickle": ("bytes of pickled objects", old_pickle),
    "tags": ("tags", many_tags),
    "nesting": ("nested levels", deep_tags),
    "value": ("characters of a value", long_value),
    "tag": ("characters of a value", lambda folder, size: long_tag(folder, size + 2**17)),
    "defaults": ("values", many_defaults),
    "line": ("characters of a line", long_line),
    "fields": ("columns", wide_line),
    "rows of text": ("rows", many_lines),
    "values": ("values", quoted_values),
}


def outcome(path: Path) -> str:
    """Why a file is refused, or ""."""
    try:
        read_graph(path)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", FILES)
def test_more_than_a_bound_is_refused_and_the_bound_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what, write = FILES[name]
    factors = {"bytes of text": 2**-9, "bytes of arrays": 2**-12, "nodes": 1e-4, "rows": 1e-4, "tags": 1e-3}
    factors |= {"values": 1e-3, "characters of a value": 0.05, "bytes of pickled objects": 1e-3}
    factor = 0.05 if name == "defaults" else factors.get(what, 1e-2)
    monkeypatch.setenv("MEBNS_LIMITS", str(factor))
    path = write(tmp_path, limit(what) + 2)
    with pytest.raises(DataError) as caught:
        read_graph(path)
    told = str(caught.value)
    assert f"{what}; allowed are {limit(what):,} (MEBNS_LIMITS=" in told, told
    assert path.name in told
    # The same file is no fault of its size where the bound is raised
    monkeypatch.setenv("MEBNS_LIMITS", "1")
    assert name == "defaults" or "MEBNS_LIMITS" not in outcome(path)  # reading those takes long


def test_rows_of_parquet_are_counted_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = many_rows(tmp_path, 1_000_000)
    assert path.stat().st_size < 20_000
    monkeypatch.setenv("MEBNS_LIMITS", "0.01")
    with pytest.raises(DataError, match=r"g\.parquet: 1,000,000 rows; allowed are 500,000 \(MEBNS_LIMITS=1 raises"):
        read_graph(path)


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "many", ""])
def test_a_factor_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBNS_LIMITS", given)
    with pytest.raises(DataError, match="MEBNS_LIMITS: got .*; allowed is a number above 0"):
        check_size("g.csv", 1, "rows")


def test_the_factor_that_a_message_names_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for what, size in SIZES.items():
        for count, least in ((size + 1, False), (5 * size, False), (size + 1, True)):
            monkeypatch.delenv("MEBNS_LIMITS", raising=False)
            with pytest.raises(DataError) as caught:
                check_size("g", count, what, least)
            monkeypatch.setenv("MEBNS_LIMITS", str(caught.value).rpartition("MEBNS_LIMITS=")[2].split()[0])
            check_size("g", count, what, least)


@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_many_names_are_compared_in_seconds(tmp_path: Path, count: int) -> None:
    """What is asked of each name must not look at all of the others."""
    keys = "".join(f'<key id="k{i}" for="edge" attr.name="a{i}"/>' for i in range(count))
    edges = '<node id="a"/><node id="b"/><edge source="a" target="b"/>'
    (tmp_path / "g.graphml").write_text(f'<graphml>{keys}<graph edgedefault="directed">{edges}</graph></graphml>')
    (tmp_path / "g.csv").write_text(
        f"source,target,{','.join(f'a{i}' for i in range(min(count, 40_000)))}\n1,2{',' * min(count, 40_000)}\n"
    )
    names = np.array([f"name {i}" for i in range(count)])
    np.savez(tmp_path / "g.npz", edges=np.array([[0, 1]]), node_names=names)
    for suffix in ("graphml", "csv", "npz"):
        start = time.process_time()
        assert read_graph(tmp_path / f"g.{suffix}").num_edges == 1
        assert time.process_time() - start < 10


HEAVY: dict[str, Callable[[Path], Path]] = {
    "1e8 nodes": lambda folder: many_nodes(folder, 10**8),
    "6 MB of text": lambda folder: zipped_text(folder, 6 * 2**30),
    "2e8 rows": lambda folder: many_rows(folder, 2 * 10**8),
    "packed tensors": lambda folder: zipped_tensors(folder, 5 * 2**30),
    "long texts": lambda folder: long_texts(folder, 2 * 10**9),
    "pickle": lambda folder: old_pickle(folder, 10**8),
    "tags": lambda folder: many_tags(folder, 2 * 10**7),
    "nesting": lambda folder: deep_tags(folder, 10**7),
    "a tag": lambda folder: long_tag(folder, 5 * 10**8),
    "a line": lambda folder: wide_line(folder, 9 * 10**8),
    "empty lines": lambda folder: many_lines(folder, 2 * 10**8),
}


def read_within(path: str, seconds: float) -> None:
    """Under the memory of a small machine."""
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    start = time.process_time()
    try:
        read_graph(path)
    except DataError as error:
        print(f"refused after {time.process_time() - start < seconds}: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_bombs_are_refused_in_ten_seconds_and_eight_gibibytes(name: str, tmp_path: Path) -> None:
    path = HEAVY[name](tmp_path)
    said = output_of(read_within, str(path), 10.0, into=tmp_path / "said.txt")
    os.unlink(path)
    assert said.startswith("refused after True: "), said
    assert "MEBNS_LIMITS=" in said


def test_what_does_not_fit_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("mebns_pl.datasets.files.read_archive", no_memory)
    with pytest.raises(DataError, match=r"g\.npz: it does not fit into the memory"):
        read_graph(many_nodes(tmp_path, 5))
