"""Adjacency matrices: MATLAB files (``.mat``), and the ``.npz`` archives of CSR parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mebns_pl.datasets.loaded import LoadedGraph, undirected_edges
from mebns_pl.datasets.readers.arrays import Archive
from mebns_pl.datasets.readers.checks import check_csr, sparse_features
from mebns_pl.datasets.readers.matlab import read_matlab_matrix
from mebns_pl.errors import DataError


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
    matrix = read_matlab_matrix(path, key)
    parts = (matrix.data, matrix.indices, matrix.indptr, np.array(matrix.shape))
    pairs, num_nodes = _pairs(*parts, where=f"{path}, key {key!r}")
    edges, notes = undirected_edges(pairs, num_nodes, "" if undirected else str(path))
    return LoadedGraph(name, edges, [str(i) for i in range(num_nodes)], notes=notes)


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
        pairs, num_nodes = _pairs(*read_csr_parts(archive, "adj_"), where=f"{path}, adj")
        rows, columns, values, shape = check_csr(*read_csr_parts(archive, "attr_"), where=f"{path}, attr")
    if shape[0] != num_nodes:
        raise DataError(f"{path}, attr_shape: got {shape[0]:,} rows; allowed are {num_nodes:,}, one for each node")
    edges, notes = undirected_edges(pairs, num_nodes)
    x = sparse_features(rows, columns, values, shape, binary=True)
    return LoadedGraph(name, edges, [str(i) for i in range(num_nodes)], x, notes)


def read_csr_parts(archive: Archive, prefix: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``data``, ``indices``, ``indptr`` and ``shape`` of an archive, under names that begin with ``prefix``."""
    return (
        archive[f"{prefix}data"],
        archive[f"{prefix}indices"],
        archive[f"{prefix}indptr"],
        archive[f"{prefix}shape"],
    )


def adjacency_pairs(archive: Archive, prefix: str) -> tuple[torch.Tensor, int]:
    """The pairs ``(2, m)`` of the entries that are not 0 of a square CSR matrix in an archive, and N."""
    return _pairs(*read_csr_parts(archive, prefix), where=f"{archive.path}, adjacency matrix")


def _pairs(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: np.ndarray, where: str
) -> tuple[torch.Tensor, int]:
    rows, columns, values, size = check_csr(data, indices, indptr, shape, where)
    if size[0] != size[1]:
        raise DataError(f"{where}: got {size[0]:,} x {size[1]:,}; allowed is a square matrix")
    kept = values != 0
    if not bool((kept & (rows != columns)).any()):
        raise DataError(f"{where}: no edge between two different nodes; at least 1 is needed")
    return torch.stack([rows[kept], columns[kept]]), size[0]
