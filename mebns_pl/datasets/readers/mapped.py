"""Node features that stay on disk: an ``.npy`` file, memory-mapped, of which only the rows in use are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.readers.contents import refusing
from mebns_pl.errors import DataError

SUFFIX = ".npy"
_BLOCK = 2**22


def map_features(path: str | Path) -> Tensor:
    """The matrix in an ``.npy`` file as a tensor that reads the file where it is looked at.

    Nothing that is written to the tensor reaches the file.

    Args:
        path: a two-dimensional array of float32 in C order.

    Raises:
        DataError: a file that is missing or broken, or holds something else, a number that is not finite included.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "x.npy")
        >>> np.save(path, np.eye(3, dtype=np.float32))
        >>> map_features(path)[1].tolist()
        [0.0, 1.0, 0.0]
    """
    array = _mapped(path)
    if array.ndim != 2 or array.dtype != np.float32 or not array.flags.c_contiguous:
        order = "C" if array.flags.c_contiguous else "Fortran"
        raise DataError(
            f"{path}: got {array.dtype} of shape {array.shape} in {order} order; features are float32 (N, F) in C order"
        )
    _check_finite(array, path)
    return torch.from_numpy(_mapped(path))  # anew, without the pages that the check has looked at


def _mapped(path: str | Path) -> np.ndarray:
    with refusing(path, (OSError, ValueError), "cannot be read as an .npy array"):
        # "c": writable to torch, and never written to disk
        array: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def _check_finite(array: np.ndarray, path: str | Path) -> None:
    """Looks at the whole file once, some rows at a time."""
    rows = max(1, _BLOCK // max(1, array.shape[1]))
    for first in range(0, len(array), rows):
        block = array[first : first + rows]
        if not np.isfinite(block.sum(dtype=np.float64)):  # the sum of finite float32 numbers is finite
            row, column = np.argwhere(~np.isfinite(block))[0].tolist()
            found = f"row {first + row}, column {column}: got {block[row, column]}"
            raise DataError(f"{path}, {found}; allowed are finite numbers")


def with_mapped_features(graph: LoadedGraph, path: str | Path) -> LoadedGraph:
    """A graph with the features of an ``.npy`` file, whose rows are in the order of ``graph.node_names``.

    Raises:
        DataError: the graph has features already, or not as many nodes as the file has rows; or as
            :func:`map_features`.
    """
    if graph.x is not None:
        raise DataError(f"nodes: {path} holds features, and {graph.name} brings its own; leave one of them out")
    x = map_features(path)
    if len(x) != graph.num_nodes:
        raise DataError(f"nodes: {path} has {len(x):,} rows; {graph.name} has {graph.num_nodes:,} nodes")
    return replace(graph, x=x, notes=[*graph.notes, f"features memory-mapped from {path}"])
