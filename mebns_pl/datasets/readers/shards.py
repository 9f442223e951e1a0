"""Edge lists in many files, or in one that is too large for a table in memory: read block by block.

The graph is that of :func:`mebns_pl.datasets.files.read_edge_list` of all files together.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import torch
from torch import Tensor

from mebns_pl.datasets.limits import check_size
from mebns_pl.datasets.loaded import LoadedGraph, NumberNames, dropped_of, name_order, smallest_type
from mebns_pl.datasets.prepared import LEAST, prepared, prepared_folder, source_of
from mebns_pl.datasets.readers.columns import PARQUET, read_columns, read_parquet_blocks, standard_suffix
from mebns_pl.datasets.readers.columns import SUFFIXES as TABLES
from mebns_pl.datasets.readers.comments import below_comments
from mebns_pl.datasets.readers.options import GraphColumns
from mebns_pl.datasets.tables import twice_told, two_spellings
from mebns_pl.errors import DataError
from mebns_pl.graph.row_lists import BLOCK, Pairs, lower_first, pairs_of_rows, sorted_rows
from mebns_pl.progress import with_progress

STREAMED = 10_000_000
"""Rows from which on one Parquet file is read in blocks, too."""
SPAN = 2**27
"""Numbers below it are told by a table of all of them."""

Place = Callable[[np.ndarray], np.ndarray]
"""Names that are numbers -> the nodes' numbers."""

Names = tuple[pa.ChunkedArray | pa.Array, pa.ChunkedArray | pa.Array]


def shards_of(path: Path, columns: GraphColumns) -> list[Path] | None:
    """The files of an edge list that is read in blocks, in the order of their names; None of one that is not.

    Args:
        path: a folder named as its files are, ``edges.parquet/`` say, as Spark, Dask and Polars write them; or a
            Parquet file of many rows. Files whose names begin with ``_`` or ``.`` are not read.
        columns: what its columns are.

    Raises:
        DataError: a folder without such files.
    """
    suffix = standard_suffix(path)
    if path.is_dir() and suffix in TABLES:
        items = sorted(item for item in path.iterdir() if item.name[0] not in "._")
        folders = [item for item in items if item.is_dir()]
        if folders:
            raise DataError(f"{folders[0]}: a folder among shards; allowed are files, side by side")
        files = [item for item in items if item.is_file()]
        found = [item for item in files if standard_suffix(item) == suffix]
        if not found:
            raise DataError(f"{path}: no file in this folder ends in {suffix}; allowed are edge lists of that kind")
        return found
    plain = columns.weight is columns.relation is None and not columns.bipartite
    if suffix not in PARQUET or not path.is_file() or not plain:
        return None
    try:
        rows = pa.parquet.read_metadata(path).num_rows
    except (pa.ArrowException, OSError):
        return None  # the reader of tables tells what is wrong
    return [path] if rows >= STREAMED else None


def read_shards(path: Path, files: Sequence[Path], columns: GraphColumns, time_column: int | str | None) -> LoadedGraph:
    """Reads an edge list in blocks, in memory that grows with the graph and not with the files.

    Nodes that are numbers keep no texts. Pairs go through a file of their own; of edges that come twice, in either
    direction, one stays. What was read of many edges is kept (:mod:`mebns_pl.datasets.prepared`), and found again until
    one of the files changes.

    Args:
        path: what the graph is called by.
        files: the files, as :func:`shards_of` finds them.
        columns: which of their columns are names.
        time_column: None; a table in memory is needed for times.

    Raises:
        DataError: as :func:`mebns_pl.datasets.files.read_edge_list`; an option that needs a table in memory.
    """
    refused = {"time_column": time_column, "columns.weight": columns.weight, "columns.relation": columns.relation}
    refused |= {"columns.bipartite": columns.bipartite or None, "columns.label": columns.label}
    for name, value in refused.items():
        if value is not None:
            raise DataError(f"{name}: got {value!r}; edge lists that are read in blocks ({path}) have names alone")
    sources = source_of(files)
    if sum(size for _, size, _ in sources) < LEAST:
        found, origin = _read(path, files, columns), ""
    else:
        found, origin = prepared(["edges", sources, columns], lambda: _read(path, files, columns), str(path))
    rows, loops, num_nodes = found["counts"].tolist()
    edges = found["edges"]
    notes = dropped_of(loops, rows - loops - edges.shape[1], "repeated edge")
    return LoadedGraph(path.name.split(".")[0], edges, _names(found, num_nodes), notes=notes, origin=origin)


def _names(found: dict[str, Tensor], num_nodes: int) -> Sequence[str]:
    if len(found["texts"]):
        return found["texts"].numpy().tobytes().decode().split("\0")
    return NumberNames(num_nodes, found["numbers"].numpy() if len(found["numbers"]) else None)


def _read(path: Path, files: Sequence[Path], columns: GraphColumns) -> dict[str, Tensor]:
    """The sorted edges, names as numbers or texts, and how many rows, self-loops and nodes there are."""
    folder = prepared_folder()
    writable = folder is not None and os.access(folder, os.W_OK)
    with tempfile.TemporaryFile(dir=folder if writable else None) as file:
        blocks = _Blocks(files, columns)
        try:
            seen = _write_numbers(path, blocks, file)
            numbers, texts = seen.numbers(), b""
            check_size(path, len(numbers), "nodes")
            place = seen.places(numbers)
        except _TextError:
            file.seek(0)
            file.truncate()
            names = _distinct(path, blocks)
            numbers, texts, place = np.empty(0, np.int64), "\0".join(names).encode(), None
            _write_places(blocks, names, file)
        if not file.tell():
            raise DataError(f"{path}: the file is empty; at least 1 row is needed")
        num_nodes = len(numbers) or texts.count(b"\0") + 1
        pairs = np.memmap(file, np.int64, "r").reshape(-1, 2)
        found, loops = _edges(pairs, place, num_nodes, f"edges of {path.name}")
        if not found.shape[1]:
            raise DataError(
                f"{path}: no edge between two different nodes in {len(pairs):,} lines; at least 1 is needed"
            )
        if len(numbers) and numbers[0] == 0 and numbers[-1] == len(numbers) - 1:
            numbers = numbers[:0]  # numbers of nodes are their names
        counts = torch.tensor([len(pairs), loops, num_nodes])
    pa.default_memory_pool().release_unused()
    blob = np.frombuffer(texts, np.uint8).copy()
    return {"edges": found, "counts": counts, "numbers": torch.from_numpy(numbers), "texts": torch.from_numpy(blob)}


def _edges(pairs: np.ndarray, place: Place | None, num_nodes: int, bar: str) -> tuple[Tensor, int]:
    """The sorted edges ``(2, n)`` of pairs ``(m, 2)``, and how many of these are self-loops."""

    def placed() -> Iterator[Pairs]:
        for start in range(0, len(pairs), BLOCK):
            source, target = np.ascontiguousarray(pairs[start : start + BLOCK].T)
            yield (source, target) if place is None else (place(source), place(target))

    loops = sum(int((source == target).sum()) for source, target in placed())
    rows = sorted_rows(lambda: lower_first(placed()), num_nodes, smallest_type(num_nodes), bar)
    return pairs_of_rows(*rows), loops


class _TextError(Exception):
    """A name that is no number as numbers are written."""


@dataclass(frozen=True)
class _Blocks:
    """The two columns of names, block by block, from the beginning at each call."""

    files: Sequence[Path]
    columns: GraphColumns

    def __call__(self, bar: str) -> Iterator[Names]:
        rows = 0
        for file in with_progress(self.files, len(self.files), bar):
            for ends in _file_blocks(file, self.columns):
                rows += len(ends[0])
                check_size(file.parent, rows, "rows of shards")
                yield ends


def _file_blocks(path: Path, columns: GraphColumns) -> Iterator[Names]:
    asked = [columns.source, columns.target]
    if standard_suffix(path) in PARQUET:
        yield from read_parquet_blocks(path, asked)
    else:
        columns, _, skip, _ = below_comments(path, columns, None)
        asked = [columns.source, columns.target]
        source, target = read_columns(path, asked, (), columns.delimiter, columns.comment, skip).names(*asked)
        yield source, target


class _Seen:
    """Which numbers there are: small ones by a table of all of them, others by a list."""

    def __init__(self) -> None:
        self.small = np.zeros(2**20, dtype=bool)
        self.others = np.empty(0, dtype=np.int64)

    def add(self, values: np.ndarray) -> None:
        inside = (values >= 0) & (values < SPAN)
        small = values if inside.all() else values[inside]
        top = int(small.max(initial=-1)) + 1
        if top > len(self.small):
            self.small = np.concatenate([self.small, np.zeros(max(top, 2 * len(self.small)) - len(self.small), bool)])
        self.small[small] = True
        if len(small) < len(values):
            self.others = np.union1d(self.others, values[~inside])

    def numbers(self) -> np.ndarray:
        """``(N,)`` int64, ascending."""
        return np.union1d(np.flatnonzero(self.small), self.others) if len(self.others) else np.flatnonzero(self.small)

    def places(self, numbers: np.ndarray) -> Place:
        """What tells where numbers stand among them all."""
        if len(self.others):
            return lambda values: np.searchsorted(numbers, values)
        table = np.cumsum(self.small, dtype=np.int32)
        table -= 1
        return lambda values: table[values]


def _write_numbers(path: Path, blocks: _Blocks, file: IO[bytes]) -> _Seen:
    """Writes the pairs of names as numbers.

    Raises:
        _TextError: a name is none.
    """
    seen = _Seen()
    for ends in blocks("names"):
        pairs = np.stack([_as_numbers(end) for end in ends], axis=1)
        seen.add(pairs.reshape(-1))
        check_size(path, len(seen.others), "nodes")
        file.write(pairs.data)
    file.flush()
    return seen


def _write_places(blocks: _Blocks, names: list[str], file: IO[bytes]) -> None:
    values = pa.array(names, pa.string())
    for ends in blocks("pairs"):
        places = (pc.index_in(end.cast(pa.string()), values).to_numpy() for end in ends)
        pairs = np.stack([found.astype(np.int64) for found in places], axis=1)
        file.write(pairs.data)
    file.flush()


def _distinct(path: Path, blocks: _Blocks) -> list[str]:
    """All names, in their order."""
    found = pa.array([], pa.string())
    for ends in blocks("names"):
        chunks = [chunk for end in ends for chunk in _chunks(end.cast(pa.string()).unique())]
        found = pa.chunked_array([found, *chunks]).unique()
        check_size(path, len(found), "nodes")
    marked = found.filter(pc.match_substring(found, "\0"))
    if len(marked):
        raise DataError(f"{path}: node {marked[0].as_py()!r} has a NUL character; allowed are names without one")
    twice = two_spellings([found])
    if twice is not None:
        raise DataError(f"{path}: {twice_told(*twice)}")
    return sorted(found.to_pylist(), key=name_order)


def _as_numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """``(m,)`` int64.

    Raises:
        _TextError: not each name is a number of at most 18 digits, written as numbers are.
    """
    try:
        numbers = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise _TextError from error
    values: np.ndarray = numbers.to_numpy()
    plain = pa.types.is_integer(column.type) or pc.all(pc.equal(numbers.cast(pa.string()), column)).as_py()
    if not plain or (len(values) and max(-int(values.min()), int(values.max())) >= 10**18):
        raise _TextError
    return values


def _chunks(column: pa.ChunkedArray | pa.Array) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]
