"""Graphs by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import scipy.sparse
import torch

from mebns_pl.datasets.files import read_edge_list
from mebns_pl.datasets.loaded import LoadedGraph, graph_of_pairs
from mebns_pl.datasets.places import cache_folder, download_file, fetch, looked_in
from mebns_pl.datasets.readers import ogb
from mebns_pl.datasets.readers.matrices import read_gnn_benchmark, read_mat
from mebns_pl.datasets.readers.pairs import read_pairs
from mebns_pl.datasets.readers.planetoid import read_planetoid
from mebns_pl.datasets.sources import CATALOG as CATALOG
from mebns_pl.datasets.sources import NAMES as NAMES
from mebns_pl.datasets.sources import AbstractSource, EmbeddedSource, FileSource
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features


def load_graph(name: str, root: str | Path | None = None, normalize_features: bool = False) -> LoadedGraph:
    """Loads a graph by its name.

    ``air_routes``, 352 US airports and 3,017 routes flown in July 2026, is embedded in the package. Its features are
    latitude, longitude and altitude (standardised) and the size class (one-hot). The files of all others are looked
    for in ``root``, where nothing is written, then in :func:`cache_folder`, into which those that are public in a
    lasting place are downloaded once. ``CATALOG`` tells of each where it comes from, and what its sizes are.

    Args:
        name: one of ``NAMES``.
        root: folder with data files; None takes the environment variable ``MEBNS_DATA``, or else the cache.
            ``air_routes`` needs none.
        normalize_features: whether each bag of words is divided by its sum. False gives the raw values, with which
            encoders learn several times faster. Graphs without bags of words are not changed.

    Raises:
        DataError: an unknown name; files that are broken or incomplete, or absent and not to be downloaded.

    Example:
        >>> graph = load_graph("air_routes")
        >>> graph.num_nodes, graph.num_edges, tuple(graph.x.shape)
        (352, 3017, (352, 6))
        >>> graph.node_names[0]
        'ABE - Lehigh Valley International Airport'
    """
    if name not in CATALOG:
        raise DataError(f"name: no graph {name!r}; allowed are {', '.join(NAMES)}")
    source = CATALOG[name]
    graph = load_source(source, root)
    notes = list(graph.notes)
    if source.words and isinstance(graph.x, Features):
        notes.append("bags of words divided by their sums" if normalize_features else "raw bags of words")
        if normalize_features:
            graph = replace(graph, x=normalize_rows(graph.x))
    isolated = graph.num_nodes - len(torch.unique(graph.edges))
    return replace(graph, notes=notes + [f"{isolated:,} nodes without an edge"] * bool(isolated))


def normalize_rows(x: Features) -> Features:
    """Each row of a non-negative ``(N, F)`` matrix divided by its sum; rows of zeros stay."""
    values, columns, starts = x.matrix.values(), x.matrix.col_indices(), x.matrix.crow_indices()
    rows = scipy.sparse.csr_matrix((values.numpy(), columns.numpy(), starts.numpy()), shape=tuple(x.matrix.shape))
    # Added up as the rows of a dense matrix are, to the last bit; some at a time, for they are long
    blocks = [torch.from_numpy(rows[first : first + 1024].toarray()) for first in range(0, rows.shape[0], 1024)]
    total = torch.cat([block.sum(dim=1) for block in blocks])
    values = values / total.masked_fill(total == 0, 1.0).repeat_interleave(starts.diff())
    return Features.of(torch.sparse_csr_tensor(starts, columns, values, x.matrix.shape, check_invariants=False))


def load_source(source: AbstractSource, root: str | Path | None = None) -> LoadedGraph:
    """Reads a graph of the catalogue, after a download if need be.

    Args:
        source: what it is.
        root: folder with data files.

    Raises:
        DataError: files that are broken, or absent and not to be downloaded.
    """
    if isinstance(source, EmbeddedSource):
        folder = Path(__file__).parent
        return read_edge_list(folder / source.edges, folder / source.nodes, node_column=source.node_column)
    if isinstance(source, FileSource):
        place = source.find(root) or _download(source, root)
        graph = READERS[source.reader](source.name, place)
        return replace(graph, notes=[f"read from {place}", *graph.notes])
    return ogb.read_graph(source.name, root)


def _download(source: FileSource, root: str | Path | None) -> Path:
    folder = cache_folder() / source.folders[0]
    try:
        fetch(folder, partial(_fill, source), source.name)
    except DataError as error:
        looked = looked_in(source.places(root))
        raise DataError(f"root: got {root!r}; {source.name} {looked}; {error}") from error
    return source.within(folder)


def _fill(source: FileSource, folder: Path) -> None:
    for file in source.files:
        download_file(f"{source.url}/{file}", folder / file)
    READERS[source.reader](source.name, source.within(folder))  # files that were cut off end here, not in the cache


def read_snap(name: str, path: Path) -> LoadedGraph:
    """An edge list of SNAP's: two node numbers a line, comments behind ``#``; nodes are numbered 0 ... N - 1.

    Raises:
        DataError: a file that is missing or broken, or without an edge.
    """
    pairs = read_pairs(path)
    numbers, places = torch.unique(pairs, return_inverse=True)
    return graph_of_pairs(path, places, [str(i) for i in numbers.tolist()], name=name)


READERS: Mapping[str, Callable[[str, Path], LoadedGraph]] = {
    "planetoid": read_planetoid,
    "matlab": read_mat,
    "gnn-benchmark": read_gnn_benchmark,
    "snap": read_snap,
}
"""What reads the files of a source: (name, file or folder) -> the graph."""
