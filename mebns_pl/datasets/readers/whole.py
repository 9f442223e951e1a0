"""Whole graphs in one file: arrays in an ``.npz`` archive, and saved PyG ``Data``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mebns_pl.datasets.loaded import LoadedGraph, first_times, undirected_edges, unique_edges
from mebns_pl.datasets.readers.arrays import Archive
from mebns_pl.datasets.readers.checks import check_csr, check_features, check_num_nodes, check_pairs, sparse_features
from mebns_pl.datasets.readers.matrices import adjacency_pairs, read_csr_parts
from mebns_pl.datasets.readers.saved import load_saved
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features

ADJACENCIES = {"adj_indptr": "adj_", "indptr": ""}
"""Keys that tell a CSR adjacency matrix, and what its parts' names begin with."""


def read_archive(path: Path, time_column: str | None = None, undirected: bool = True) -> LoadedGraph:
    """Reads a graph from an ``.npz`` archive of plain arrays.

    Exactly one of these gives the edges:

    - ``edge_index`` ``(2, m)`` integers, directed, as PyG has it;
    - ``edges`` ``(m, 2)`` integers, each an undirected edge;
    - ``adj_data``, ``adj_indices``, ``adj_indptr``, ``adj_shape``: a CSR adjacency matrix; ``scipy.sparse.save_npz``'s
      ``data``, ``indices``, ``indptr``, ``shape``, likewise (``format`` must be ``csr``).

    Further keys may be there: ``num_nodes`` (otherwise told by ``x``, ``node_names``, or the greatest number), ``x``
    ``(N, F)`` or ``attr_data``, ``attr_indices``, ``attr_indptr``, ``attr_shape`` (CSR), taken as they are, and
    ``node_names`` ``(N,)``, texts or integers. Others are not read.

    Args:
        path: the file.
        time_column: key of the times ``(m,)`` of ``edge_index`` or ``edges``, or None.
        undirected: whether directed edges are made undirected; False refuses them.

    Raises:
        DataError: an archive that is missing or damaged, or that holds pickled objects; a key missing, of another
            shape or type, or with a number that is out of range or not finite; no edge.
    """
    with Archive(path) as archive:
        given = [key for key in ("edge_index", "edges", *ADJACENCIES) if key in archive]
        if len(given) != 1:
            raise DataError(
                f"{path}: got {', '.join(given) or 'no key of edges'}; allowed is exactly one of edge_index, edges, "
                f"adj_... (CSR) and scipy.sparse.save_npz's keys; it has {', '.join(archive.keys) or 'none'}"
            )
        key = given[0]
        if key in ADJACENCIES:
            if "format" in archive and archive["format"].tolist() not in (b"csr", "csr"):
                raise DataError(f"{archive.at('format')}: got {archive['format'].tolist()!r}; allowed is csr")
            pairs, size = adjacency_pairs(archive, ADJACENCIES[key])
        else:
            array = archive[key]
            if key == "edge_index" and (array.ndim != 2 or array.shape[0] != 2):
                raise DataError(f"{archive.at(key)}: got shape {array.shape}; allowed is (2, m)")
            pairs, size = check_pairs(array.T if key == "edge_index" else array, None, archive.at(key), "pair"), None
        names = _names(archive["node_names"], archive.at("node_names")) if "node_names" in archive else None
        if "num_nodes" in archive:
            size = _agree(size, check_num_nodes(archive["num_nodes"], archive.at("num_nodes")), archive.at("num_nodes"))
        if names is not None:
            size = _agree(size, len(names), archive.at("node_names"))
        if "x" in archive and archive["x"].ndim:
            size = _agree(size, len(archive["x"]), archive.at("x"))
        if "attr_shape" in archive and size is None and archive["attr_shape"].size:
            size = check_num_nodes(archive["attr_shape"].reshape(-1)[0], archive.at("attr_shape"))
        num_nodes = _check_range(pairs, size, archive.at(key))
        x = _archive_features(archive, num_nodes)
        times = None if time_column is None else _times(archive[time_column], pairs, archive.at(time_column))
    return _graph(path, pairs, num_nodes, names, x, times, undirected, key == "edges")


def read_saved(path: Path, time_column: str | None = None, undirected: bool = True) -> LoadedGraph:
    """Reads a PyG ``Data`` that was saved by ``torch.save``, or the dictionary of one.

    Read are ``edge_index`` ``(2, m)``, directed, ``x`` ``(N, F)``, dense or sparse, taken as it is, ``num_nodes`` and
    ``node_names``, a list of N texts. The file is loaded by torch's weights-only unpickler, so that it cannot run code.

    Args:
        path: the file.
        time_column: name of the attribute with the times ``(m,)`` of edges, or None.
        undirected: whether directed edges are made undirected; False refuses them.

    Raises:
        DataError: a file that is missing or damaged, or that names any other class; an attribute missing, of another
            shape or type, or with a number that is out of range or not finite; no edge.
    """
    fields = _fields(load_saved(path), path)
    edge_index = _array(fields, "edge_index", path)
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise DataError(f"{path}, edge_index: got shape {edge_index.shape}; allowed is (2, m)")
    pairs = check_pairs(edge_index.T, None, f"{path}, edge_index", "pair")
    size = None
    if fields.get("num_nodes") is not None:
        size = check_num_nodes(_array(fields, "num_nodes", path), f"{path}, num_nodes")
    names = None
    if fields.get("node_names") is not None:
        names = _names(_array(fields, "node_names", path), f"{path}, node_names")
        size = _agree(size, len(names), f"{path}, node_names")
    value = fields.get("x")
    if value is not None:
        if not isinstance(value, Tensor | np.ndarray) or value.ndim != 2:
            raise DataError(f"{path}, x: got {type(value).__name__}; allowed is a tensor of shape (N, F)")
        size = _agree(size, value.shape[0], f"{path}, x")
    num_nodes = _check_range(pairs, size, f"{path}, edge_index")
    x: Tensor | Features | None = None
    if isinstance(value, Tensor) and value.layout in (torch.sparse_coo, torch.sparse_csr):
        entries = value.detach().to_sparse_coo().coalesce()
        values = _dense(entries.values(), f"{path}, x")[:, None]
        numbers = check_features(values, len(values), f"{path}, x")[:, 0]
        rows, columns = entries.indices()
        x = sparse_features(rows, columns, numbers, (num_nodes, value.shape[1]))
    elif value is not None:
        x = check_features(_array(fields, "x", path), num_nodes, f"{path}, x")
    times = None
    if time_column is not None:
        times = _times(_array(fields, time_column, path), pairs, f"{path}, {time_column}")
    return _graph(path, pairs, num_nodes, names, x, times, undirected, False)


def _graph(
    path: Path,
    pairs: Tensor,
    num_nodes: int,
    names: list[str] | None,
    x: Tensor | Features | None,
    times: Tensor | None,
    undirected: bool,
    both: bool,
) -> LoadedGraph:
    """``both`` says that each pair stands for both directions."""
    if not bool((pairs[0] != pairs[1]).any()):
        raise DataError(f"{path}: no edge between two different nodes; at least 1 is needed")
    if both:
        edges, notes = unique_edges(pairs, num_nodes)
    else:
        edges, notes = undirected_edges(pairs, num_nodes, "" if undirected else str(path))
    notes += [] if x is None else ["features taken as they are"]
    first = None if times is None else first_times(edges, pairs, times, num_nodes)
    return LoadedGraph(path.name.split(".")[0], edges, names or [str(i) for i in range(num_nodes)], x, notes, first)


def _fields(saved: Any, path: Path) -> Mapping[str, Any]:
    from torch_geometric.data.data import Data
    from torch_geometric.data.storage import GlobalStorage

    if type(saved) is Data:
        store = vars(saved).get("_store")
        saved = vars(store).get("_mapping") if type(store) is GlobalStorage else None
    if not isinstance(saved, dict) or "edge_index" not in saved:
        what = f"a dictionary of {list(saved)[:8]}" if isinstance(saved, dict) else type(saved).__name__
        raise DataError(f"{path}: got {what}; allowed is PyG's Data, or a dictionary, with `edge_index`")
    return saved


def _array(fields: Mapping[str, Any], key: str, path: Path) -> np.ndarray:
    value = fields.get(key)
    if value is None:
        raise DataError(f"{path}: no {key!r}; it has {', '.join(map(str, fields))}")
    if isinstance(value, Tensor):
        return _dense(value, f"{path}, {key}")
    if not isinstance(value, np.ndarray | int | list) or isinstance(value, bool):
        raise DataError(f"{path}, {key}: got {type(value).__name__}; allowed is a tensor, an array or a list")
    try:
        return np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}, {key}: no array ({error})") from error


def _dense(value: Tensor, where: str) -> np.ndarray:
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex() or value.is_quantized:
        got = f"{value.dtype}, {value.layout}, on {value.device}"
        raise DataError(f"{where}: got {got}; allowed are real dense tensors")
    return (value.detach().float() if value.dtype in (torch.bfloat16, torch.float16) else value.detach()).numpy()


def _archive_features(archive: Archive, num_nodes: int) -> Tensor | Features | None:
    if "x" in archive:
        return check_features(archive["x"], num_nodes, archive.at("x"))
    if "attr_indptr" not in archive:
        return None
    rows, columns, values, shape = check_csr(*read_csr_parts(archive, "attr_"), where=f"{archive.path}, attr")
    _agree(num_nodes, shape[0], archive.at("attr_shape"))
    return sparse_features(rows, columns, values, shape)


def _names(array: np.ndarray, where: str) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "Uiu":
        raise DataError(f"{where}: got {array.dtype} of shape {array.shape}; allowed are N texts or integers")
    names = [str(name) for name in array.tolist()]
    if len(set(names)) < len(names) or "" in names:
        twice = next(name for name in names if not name or names.count(name) > 1)
        raise DataError(f"{where}: {twice!r} is empty or stands twice; each node must have a name of its own")
    return names


def _times(array: np.ndarray, pairs: Tensor, where: str) -> Tensor:
    if array.shape not in ((pairs.shape[1],), (pairs.shape[1], 1)) or array.dtype.kind not in "fiu":
        raise DataError(f"{where}: got {array.dtype} of shape {array.shape}; allowed are {pairs.shape[1]:,} numbers")
    if not np.isfinite(array).all():
        raise DataError(f"{where}, entry {int((~np.isfinite(array.reshape(-1))).argmax())}: allowed are finite numbers")
    return torch.from_numpy(array.reshape(-1).astype(np.float64))


def _agree(size: int | None, found: int, where: str) -> int:
    if size is not None and found != size:
        raise DataError(f"{where}: says {found:,} nodes; allowed are {size:,}, as the file says elsewhere")
    return found


def _check_range(pairs: Tensor, size: int | None, where: str) -> int:
    """N; every number of a node must be below it, and without it the greatest one tells."""
    top = int(pairs.max()) if pairs.numel() else -1
    if size is None:
        size = max(top + 1, 1)
        if size > 1_000_000 + 100 * pairs.numel():  # a slip, and not a graph of nodes without edges
            place = int(pairs.max(dim=0).values.argmax())
            raise DataError(
                f"{where}, pair {place}: got {pairs[:, place].tolist()} in a graph of {pairs.shape[1]:,} pairs; "
                "allowed are such numbers where `num_nodes` is given"
            )
    if top >= size:
        place = int((pairs >= size).any(dim=0).nonzero()[0, 0])
        raise DataError(f"{where}, pair {place}: got {pairs[:, place].tolist()}; allowed are 0 ... {size - 1:,}")
    return size
