"""The citation graphs' raw files (``ind.<name>.*``): pickles of Python 2, read without running what they might name."""

from __future__ import annotations

import _codecs
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from mebns_pl.datasets.loaded import LoadedGraph, unique_edges
from mebns_pl.datasets.readers.checks import check_csr, check_pairs, sparse_features
from mebns_pl.datasets.readers.pairs import read_numbers
from mebns_pl.datasets.sources import PLANETOID_PARTS as PARTS
from mebns_pl.errors import DataError

_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("scipy.sparse.csr", "csr_matrix"): scipy.sparse.csr_matrix,
    ("scipy.sparse._csr", "csr_matrix"): scipy.sparse.csr_matrix,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "defaultdict"): defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
    ("_codecs", "encode"): _codecs.encode,
}


def read_planetoid(name: str, raw: Path) -> LoadedGraph:
    """Puts a citation graph together from its raw files, as PyG's ``read_planetoid_data`` does.

    The rows of ``allx`` are followed by the test rows in the order of their numbers; CiteSeer's test numbers leave
    out isolated papers, which get rows of zeros.

    Args:
        name: ``cora``, ``citeseer`` or ``pubmed``.
        raw: the folder of its eight files, of which ``tx``, ``allx``, ``graph`` and ``test.index`` are read.

    Raises:
        DataError: a file that is missing or broken, or that names anything but arrays and lists.
    """
    paths = {part: raw / f"ind.{name}.{part}" for part in PARTS}
    missing = [part for part in PARTS if not paths[part].is_file()]
    if missing:
        raise DataError(f"{raw}: no file ind.{name}.{missing[0]}; all of {', '.join(PARTS)} are needed")
    known, test = _read_matrix(paths["allx"]), _read_matrix(paths["tx"])
    numbers = read_numbers(paths["test.index"]).numpy()
    num_known, num_features = known.shape
    if test.shape != (len(numbers), num_features) or len(np.unique(numbers)) < len(numbers):
        raise DataError(
            f"{paths['test.index']}: {len(numbers):,} numbers for {test.shape[0]:,} x {test.shape[1]:,} features in tx "
            f"and {num_features:,} columns in allx; allowed is one number, and no other has it, for each row of tx"
        )
    if int(numbers.min()) != num_known:
        raise DataError(f"{paths['test.index']}: the least number is {int(numbers.min())}; allowed is {num_known:,}")
    num_nodes = int(numbers.max()) + 1
    if num_nodes > 2 * (num_known + len(numbers)):
        raise DataError(
            f"{paths['test.index']}: the greatest number is {num_nodes - 1:,}, far beyond the rows there are"
        )
    order = scipy.sparse.csr_matrix(
        (np.ones(len(numbers), np.float32), (numbers - num_known, np.arange(len(numbers)))),
        shape=(num_nodes - num_known, len(numbers)),
    )
    x = sparse_features(scipy.sparse.vstack([known, order @ test], format="csr"))
    edges, _ = unique_edges(_read_neighbours(paths["graph"], num_nodes), num_nodes)
    return LoadedGraph(name, edges, [str(i) for i in range(num_nodes)], x)


class _PlainUnpickler(pickle.Unpickler):
    """Loads arrays, sparse matrices and containers of numbers only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise DataError(
            f"{path}: cannot be read ({type(error).__name__}: {str(error)[:200]}); "
            "allowed are pickled arrays and lists of numbers"
        ) from error


def _read_matrix(path: Path) -> scipy.sparse.csr_matrix:
    matrix = _unpickle(path)
    parts = vars(matrix) if isinstance(matrix, scipy.sparse.csr_matrix) else {}
    data, indices, indptr = (parts.get(key) for key in ("data", "indices", "indptr"))
    if not (isinstance(data, np.ndarray) and isinstance(indices, np.ndarray) and isinstance(indptr, np.ndarray)):
        raise DataError(f"{path}: got {type(matrix).__name__}; allowed is a pickled scipy.sparse.csr_matrix")
    shape = parts.get("_shape")
    plain = isinstance(shape, tuple) and all(type(size) is int for size in shape)
    return check_csr((data, indices, indptr, np.array(shape if plain else [0])), str(path))


def _read_neighbours(path: Path, num_nodes: int) -> torch.Tensor:
    """``(2, m)``: the pairs of a dictionary from nodes to lists of neighbours."""
    graph = _unpickle(path)
    if not isinstance(graph, dict) or not all(isinstance(nodes, list) for nodes in graph.values()):
        raise DataError(f"{path}: got {type(graph).__name__}; allowed is a dictionary from nodes to lists of nodes")
    pairs = [(node, other) for node, others in graph.items() for other in others]
    if not pairs or not all(type(end) is int for pair in pairs for end in pair):
        raise DataError(f"{path}: allowed are whole numbers of nodes, and at least one edge")
    try:
        array = np.array(pairs, dtype=np.int64)
    except OverflowError as error:
        raise DataError(f"{path}: a number beyond int64; allowed are 0 ... {num_nodes - 1:,}") from error
    return check_pairs(array, num_nodes, str(path), row="pair")
