"""Adjacency matrices: MATLAB files (``.mat``), Matrix Market (``.mtx``), and the ``.npz`` archives of CSR parts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse
import torch

from mebns_pl.datasets.limits import check_size
from mebns_pl.datasets.loaded import LoadedGraph, graph_of_pairs
from mebns_pl.datasets.readers.arrays import Archive
from mebns_pl.datasets.readers.checks import check_coo, check_csr, sparse_features
from mebns_pl.datasets.readers.contents import read_bytes, refusing
from mebns_pl.datasets.readers.matlab import read_matlab_matrix
from mebns_pl.datasets.readers.saved import SavedData
from mebns_pl.errors import DataError

VALUES_LEFT_OUT = "values of the matrix left out: edges count alike, but for those of 0, which are none"
"""A note, where a matrix's values differ."""


def read_mat(name: str, path: Path, key: str = "net", undirected: bool = True) -> LoadedGraph:
    """Reads a square adjacency matrix, sparse or dense, from a MATLAB file; entries that are not 0 are edges.

    Args:
        name: name of the graph.
        path: the file, of MATLAB 5 to 7.2.
        key: name of the matrix.
        undirected: whether a matrix that is not symmetric is made so; False refuses it.

    Raises:
        DataError: a file that is missing or broken; no such matrix; one that is not square or not of finite numbers.
    """
    pairs, num_nodes = adjacency_pairs(read_matlab_matrix(path, key), f"{path}, key {key!r}")
    return graph_of_pairs(path, pairs, num_nodes, name=name, undirected=undirected)


def read_matrix_market(path: Path, undirected: bool = True) -> LoadedGraph:
    """Reads a square adjacency matrix in the format of Matrix Market (``.mtx``); entries that are not 0 are edges.

    Nodes are named as the format numbers them, from 1. A matrix of the kind ``symmetric`` has both directions.

    Args:
        path: the file, also gzipped.
        undirected: whether a matrix that is not symmetric is made so; False refuses it.

    Raises:
        DataError: a file that is missing, broken or larger than allowed, or a matrix that is not square or not of
            finite real numbers.
    """
    content = read_bytes(path)
    with refusing(path, (ValueError, OverflowError, OSError, EOFError), "cannot be read as Matrix Market"):
        rows, columns, entries, kind, field, _ = scipy.io.mminfo(io.BytesIO(content))
        check_size(path, rows, "nodes")
        check_size(path, rows * columns if kind == "array" else entries, "rows")
        if field == "complex":
            raise DataError(f"{path}: got complex numbers; allowed are real ones")
        matrix = scipy.sparse.coo_matrix(scipy.io.mmread(io.BytesIO(content)))
    parts = (matrix.data, matrix.row, matrix.col, np.array(matrix.shape))
    found = check_coo(*parts, f"{path}, adjacency matrix")
    pairs, num_nodes = adjacency_pairs(found, f"{path}, adjacency matrix")
    names = [str(number) for number in range(1, num_nodes + 1)]
    notes = [VALUES_LEFT_OUT] * bool((found.data != found.data[:1]).any())
    return graph_of_pairs(path, pairs, names, notes=notes, undirected=undirected)


def read_gnn_benchmark(name: str, path: Path) -> LoadedGraph:
    """Reads a graph of Shchur et al. ("Pitfalls of graph neural network evaluation", 2018), as PyG does.

    The archive holds the CSR parts of the adjacency matrix (``adj_data``, ``adj_indices``, ``adj_indptr``,
    ``adj_shape``) and of the bags of words (``attr_...``). As in PyG, edges are made undirected, and features above 0
    are set to 1.

    Args:
        name: name of the graph.
        path: the ``.npz`` file.

    Raises:
        DataError: an archive that is missing or broken; parts that do not fit together.
    """
    with Archive(path) as archive:
        pairs, num_nodes = adjacency_pairs(read_csr(archive, "adj_"), f"{path}, adj")
        words = read_csr(archive, "attr_")
    rows = words.shape[0]
    if rows != num_nodes:
        raise DataError(f"{path}, attr_shape: got {rows:,} rows; allowed are {num_nodes:,}, one for each node")
    return graph_of_pairs(path, pairs, num_nodes, sparse_features(words, binary=True), name=name)


def read_csr(arrays: Archive | SavedData, prefix: str) -> scipy.sparse.csr_matrix:
    """The matrix whose ``data``, ``indices``, ``indptr`` and ``shape`` stand under names that begin with ``prefix``."""
    parts = (arrays[prefix + part] for part in ("data", "indices", "indptr", "shape"))
    return check_csr(parts, f"{arrays.path}, {prefix.rstrip('_') or 'adjacency matrix'}")


def read_sparse(arrays: Archive | SavedData, prefix: str) -> scipy.sparse.csr_matrix:
    """:func:`read_csr`, or what ``scipy.sparse.save_npz`` has written of a matrix of rows, columns or entries.

    Raises:
        DataError: another format, or parts that do not fit together.
    """
    kind = arrays["format"].tolist() if "format" in arrays else "csr"
    kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else kind
    if kind == "csr":
        return read_csr(arrays, prefix)
    where = f"{arrays.path}, adjacency matrix"
    if kind == "coo":
        if "coords" in arrays:
            coords = arrays["coords"]
            if coords.ndim != 2 or len(coords) != 2:
                raise DataError(f"{arrays.at('coords')}: got shape {coords.shape}; allowed is (2, nnz)")
            rows, columns = coords
        else:
            rows, columns = arrays["row"], arrays["col"]
        return check_coo(arrays["data"], rows, columns, arrays["shape"], where)
    if kind == "csc":
        *parts, shape = (arrays[part] for part in ("data", "indices", "indptr", "shape"))
        return check_csr((*parts, shape[::-1] if shape.ndim else shape), where).T.tocsr()
    raise DataError(f"{arrays.at('format')}: got {str(kind)[:40]!r}; allowed are csr, csc and coo")


def adjacency_pairs(matrix: scipy.sparse.csr_matrix, where: str) -> tuple[torch.Tensor, int]:
    """The pairs ``(2, m)`` of the entries that are not 0 of a square matrix, and N.

    Raises:
        DataError: the matrix is not square.
    """
    num_nodes, width = matrix.shape
    if num_nodes != width:
        raise DataError(f"{where}: got {num_nodes:,} x {width:,}; allowed is a square matrix")
    entries = matrix.tocoo()
    pairs = np.stack([entries.row, entries.col]).astype(np.int64)[:, entries.data != 0]
    return torch.from_numpy(pairs), num_nodes
