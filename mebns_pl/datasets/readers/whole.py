"""Whole graphs as arrays: ``.npz`` archives, and what such arrays tell wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from mebns_pl.datasets.limits import check_size
from mebns_pl.datasets.loaded import LoadedGraph, NumberNames, graph_of_pairs
from mebns_pl.datasets.prepared import LEAST, prepared, source_of
from mebns_pl.datasets.readers.arrays import Archive
from mebns_pl.datasets.readers.checks import check_features, check_num_nodes, check_pairs, sparse_features
from mebns_pl.datasets.readers.matrices import VALUES_LEFT_OUT, adjacency_pairs, read_csr, read_sparse
from mebns_pl.datasets.readers.options import WEIGHED
from mebns_pl.datasets.readers.saved import SavedData
from mebns_pl.datasets.tables import first_repeat
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features

ADJACENCIES = {"adj_indptr": "adj_", "indptr": "", "row": "", "coords": ""}
"""Keys that tell an adjacency matrix, and what its parts' names begin with."""


def read_archive(
    path: Path, time_column: str | None = None, undirected: bool = True, weight: int | str | None = None
) -> LoadedGraph:
    """Reads a graph from an ``.npz`` archive of plain arrays.

    Exactly one of these gives the edges:

    - ``edge_index`` ``(2, m)`` integers, directed, as PyG has it;
    - ``edges`` ``(m, 2)`` integers, each an undirected edge;
    - ``adj_data``, ``adj_indices``, ``adj_indptr``, ``adj_shape``: a CSR adjacency matrix; or what
      ``scipy.sparse.save_npz`` writes of one in the formats ``csr``, ``csc`` and ``coo``.

    Further keys may be there: ``num_nodes`` (otherwise told by ``x``, ``node_names``, or the greatest number), ``x``
    ``(N, F)`` or ``attr_data``, ``attr_indices``, ``attr_indptr``, ``attr_shape`` (CSR), taken as they are, and
    ``node_names`` ``(N,)``, texts or integers. Others are not read.

    Args:
        path: the file.
        time_column: key of the times ``(m,)`` of ``edge_index`` or ``edges``, or None.
        undirected: whether directed edges are made undirected; False refuses them.
        weight: key of the weights ``(m,)``, or None.

    The edges of a large archive that holds edges alone are kept (:mod:`mebns_pl.datasets.prepared`), and found again
    until the file changes.

    Raises:
        DataError: an archive that is missing or damaged, or that holds pickled objects; a key missing, of another
            shape or type, or with a number that is out of range or not finite; no edge.
    """
    with Archive(path) as archive:
        given = [key for key in ("edge_index", "edges", *ADJACENCIES) if key in archive]
        if len(given) != 1:
            raise DataError(
                f"{path}: got {', '.join(given) or 'no key of edges'}; allowed is exactly one of edge_index, edges, "
                f"adj_... (CSR) and scipy.sparse.save_npz's keys; it has {', '.join(archive.keys[:20]) or 'none'}"
            )
        read = partial(graph_of_arrays, archive, given[0], time_column, undirected, weight)
        more = time_column is not None or weight is not None or any(key in archive for key in _OF_NODES)
        return read() if more or path.stat().st_size < LEAST else _kept(path, undirected, read)


_OF_NODES = ("x", "attr_indptr", "node_names")


def _kept(path: Path, undirected: bool, read: Callable[[], LoadedGraph]) -> LoadedGraph:
    """A graph of edges alone, read once."""

    def make() -> dict[str, Tensor]:
        graph = read()
        notes = torch.tensor(list("\n".join(graph.notes).encode()), dtype=torch.uint8)
        return {"edges": graph.edges, "num_nodes": torch.tensor([graph.num_nodes]), "notes": notes}

    found, origin = prepared(["archive", source_of([path]), undirected], make, str(path))
    notes = found["notes"].numpy().tobytes().decode().splitlines()
    names = NumberNames(int(found["num_nodes"]))
    return LoadedGraph(path.name.split(".")[0], found["edges"], names, notes=notes, origin=origin)


def graph_of_arrays(
    arrays: Archive | SavedData,
    key: str,
    time_column: str | None = None,
    undirected: bool = True,
    weight: int | str | None = None,
) -> LoadedGraph:
    """The graph that arrays hold, see :func:`read_archive`.

    Args:
        arrays: the arrays.
        key: the one of the edges.
        time_column: as of :func:`read_archive`, as the others.
        undirected: whether directed edges are made undirected.
        weight: key of the weights.

    Raises:
        DataError: as :func:`read_archive`.
    """
    path, where, entries = arrays.path, arrays.at(key), None
    told: dict[str, int] = {}  # how many nodes there are, by the keys that say so
    if key in ADJACENCIES:
        prefix = ADJACENCIES[key]
        matrix = read_sparse(arrays, prefix)
        pairs, told[where] = adjacency_pairs(matrix, f"{path}, adjacency matrix")
        entries = _entries_asked_for(arrays, matrix, f"{prefix}data", time_column, weight)
    else:
        pairs = pairs_of(arrays, key)
    names, x = nodes_of(arrays, told)
    num_nodes = num_nodes_of(told, pairs, where)
    times = None if time_column is None else numbers_of_edges(arrays, time_column, pairs)
    weights, notes = weights_of(arrays, weight, pairs, entries)
    if x is not None:
        notes.insert(0, "features taken as they are")
    if key in ADJACENCIES and entries is None and bool((matrix.data != matrix.data[:1]).any()):
        notes.append(VALUES_LEFT_OUT)
    return graph_of_pairs(
        path,
        pairs,
        names or num_nodes,
        x,
        times,
        notes,
        directed=key != "edges",
        undirected=undirected,
        weights=weights,
    )


def pairs_of(arrays: Archive | SavedData, key: str) -> Tensor:
    """The pairs ``(2, m)`` under ``edge_index`` ``(2, m)`` or ``edges`` ``(m, 2)``.

    Raises:
        DataError: another shape or type, or a number below 0.
    """
    array, where = arrays[key], arrays.at(key)
    if key == "edge_index" and (array.ndim != 2 or array.shape[0] != 2):
        raise DataError(f"{where}: got shape {array.shape}; allowed is (2, m)")
    check_size(where, array.size // 2, "rows")
    return check_pairs(array.T if key == "edge_index" else array, None, where, "pair")


def nodes_of(arrays: Archive | SavedData, told: dict[str, int]) -> tuple[list[str] | None, Tensor | Features | None]:
    """Names and features of nodes, if there are any.

    Args:
        arrays: the arrays.
        told: is given how many nodes there are, by each key that says so.

    Raises:
        DataError: names, features or a number of nodes that are none.
    """
    if "num_nodes" in arrays:
        told[arrays.at("num_nodes")] = check_num_nodes(arrays["num_nodes"], arrays.at("num_nodes"))
    names: list[str] | None = None
    if "node_names" in arrays:
        names = _names(arrays["node_names"], arrays.at("node_names"))
        told[arrays.at("node_names")] = len(names)
    x: Tensor | Features | None = None
    if "x" in arrays:
        x = check_features(arrays["x"], None, arrays.at("x"))
        told[arrays.at("x")] = len(x)
    elif "attr_indptr" in arrays:
        matrix = read_csr(arrays, "attr_")
        told[arrays.at("attr_shape")] = matrix.shape[0]
        x = sparse_features(matrix)
    return names, x


def _entries_asked_for(
    arrays: Archive | SavedData, matrix: scipy.sparse.csr_matrix, data: str, time_column: object, weight: object
) -> Tensor | None:
    """The entries ``(m,)`` float64 of an adjacency matrix, in the order of its pairs, if they are the weights.

    Raises:
        DataError: times or weights are asked for that stand in an order of their own.
    """
    if not isinstance(arrays, Archive):
        return None
    for option, given in (("time_column", time_column), ("columns.weight", weight if weight != data else None)):
        if given is not None:
            allowed = "with edge_index or edges" + f", or {data!r}, the matrix's entries" * (option != "time_column")
            raise DataError(f"{option}: got {given!r}; allowed is it {allowed}; {arrays.path} has an adjacency matrix")
    if weight is None:
        return None
    entries = matrix.tocoo().data
    if not np.isfinite(entries).all():
        raise DataError(f"{arrays.at(data)}: allowed are finite numbers")
    return torch.from_numpy(entries[entries != 0].astype(np.float64))


def weights_of(
    arrays: Archive | SavedData, key: int | str | None, pairs: Tensor, entries: Tensor | None = None
) -> tuple[Tensor | None, list[str]]:
    """The weights ``(m,)`` of edges, and notes on them or on such as are left out; ``entries`` are those of a matrix.

    Raises:
        DataError: no such key, or a value that is no finite number of 0 or more.
    """
    if key is None:
        there = [name for name in ("edge_weight", "edge_attr") if name in arrays]
        return None, [f"{name!r} left out: edges count alike" for name in there]
    weights = numbers_of_edges(arrays, str(key), pairs) if entries is None else entries
    if bool((weights < 0).any()):
        place = int((weights < 0).nonzero()[0])
        raise DataError(f"{arrays.at(str(key))}, entry {place}: got {weights[place]}; allowed are weights of 0 or more")
    return weights, [f"{key!r} read as weights of edges: {WEIGHED}"]


def num_nodes_of(told: Mapping[str, int], pairs: Tensor, where: str) -> int:
    """N, on which all that tell it must agree; every number of a node must be below it, or else the greatest tells.

    Args:
        told: how many nodes there are, by where the file says so.
        pairs: ``(2, m)`` int64.
        where: where these stand.

    Raises:
        DataError: they do not agree.
    """
    top = int(pairs.max()) if pairs.numel() else -1
    size = next(iter(told.values()), max(top + 1, 1))
    for teller, found in told.items():
        if found != size:
            raise DataError(f"{teller}: says {found:,} nodes; allowed are {size:,}, as the file says elsewhere")
    if not told and size > 1_000_000 + 100 * pairs.numel():  # a slip, and not a graph of nodes without edges
        place = int(pairs.max(dim=0).values.argmax())
        raise DataError(
            f"{where}, pair {place}: got {pairs[:, place].tolist()} in a graph of {pairs.shape[1]:,} pairs; "
            "allowed are such numbers where `num_nodes` is given"
        )
    check_size(where, size, "nodes")
    if top >= size:
        place = int((pairs >= size).any(dim=0).nonzero()[0, 0])
        raise DataError(f"{where}, pair {place}: got {pairs[:, place].tolist()}; allowed are 0 ... {size - 1:,}")
    return size


def _names(array: np.ndarray, where: str) -> list[str]:
    check_size(where, array.size, "nodes")
    if array.ndim != 1 or array.dtype.kind not in "Uiu":
        raise DataError(f"{where}: got {array.dtype} of shape {array.shape}; allowed are N texts or integers")
    names = [str(name) for name in array.tolist()]
    repeat = first_repeat(["", *names])
    if repeat is not None:
        name = names[repeat[0] - 1]
        raise DataError(f"{where}: {name!r} is empty or stands twice; each node must have a name of its own")
    return names


def numbers_of_edges(arrays: Archive | SavedData, key: str, pairs: Tensor) -> Tensor:
    """``(m,)`` float64: times or weights of the edges.

    Raises:
        DataError: no such key, or others than one finite number an edge.
    """
    array, where = arrays[key], arrays.at(key)
    if array.shape not in ((pairs.shape[1],), (pairs.shape[1], 1)) or array.dtype.kind not in "fiu":
        raise DataError(f"{where}: got {array.dtype} of shape {array.shape}; allowed are {pairs.shape[1]:,} numbers")
    bad = ~np.isfinite(array.reshape(-1))
    if bad.any():
        raise DataError(f"{where}, entry {int(bad.argmax())}: allowed are finite numbers")
    return torch.from_numpy(array.reshape(-1).astype(np.float64))
