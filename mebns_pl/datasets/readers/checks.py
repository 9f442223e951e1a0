"""Arrays from files, checked before anything is made of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features

MAX_NODES = 2**31
"""One int64 names a pair of nodes, so there may be no more."""
MAX_FEATURES = 2**24
"""More columns are taken for a slip."""


def check_num_nodes(value: object, where: str) -> int:
    """A number of nodes.

    Args:
        value: what the file has: an integer, or an array that holds one.
        where: file and key, for messages.

    Raises:
        DataError: it is no integer in ``1 ... MAX_NODES``.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iu" or not 1 <= int(array.reshape(())) <= MAX_NODES:
        raise DataError(f"{where}: got {_shown(array)}; allowed is one integer in 1 ... {MAX_NODES:,}")
    return int(array.reshape(()))


def check_pairs(array: np.ndarray, num_nodes: int | None, where: str, row: str = "row") -> Tensor:
    """Pairs of node numbers.

    Args:
        array: ``(m, 2)``, integers, one pair a row.
        num_nodes: N; None allows any number from 0.
        where: file and key, for messages.
        row: what a row is called in messages.

    Returns:
        ``(2, m)`` int64.

    Raises:
        DataError: another shape or type, or a number outside ``0 ... N - 1``.
    """
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise DataError(f"{where}: got {array.dtype} of shape {array.shape}; allowed are integers of shape (m, 2)")
    top = MAX_NODES if num_nodes is None else num_nodes
    bad = ((array < 0) | (array >= top)).any(axis=1)
    if bad.any():
        first = int(bad.argmax())
        raise DataError(f"{where}, {row} {first}: got {array[first].tolist()}; allowed are 0 ... {top - 1:,}")
    return torch.from_numpy(np.ascontiguousarray(array.T.astype(np.int64)))


def check_features(array: np.ndarray, num_nodes: int, where: str) -> Tensor:
    """Dense node features.

    Args:
        array: ``(N, F)`` numbers.
        num_nodes: N.
        where: file and key, for messages.

    Returns:
        ``(N, F)`` float32.

    Raises:
        DataError: another shape or type, or a value that is not finite as float32.
    """
    if array.ndim != 2 or array.shape[0] != num_nodes or not array.shape[1] or array.dtype.kind not in "fiub":
        raise DataError(
            f"{where}: got {array.dtype} of shape {array.shape}; allowed are real numbers of shape ({num_nodes:,}, F)"
        )
    with np.errstate(over="ignore"):
        x = array.astype(np.float32)
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{where}, row {row}, column {column}: got {array[row, column]}; allowed are finite float32 numbers"
        )
    return torch.from_numpy(np.ascontiguousarray(x))


def check_csr(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: np.ndarray, where: str
) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    """The parts of a CSR matrix.

    Args:
        data: ``(nnz,)`` numbers.
        indices: ``(nnz,)`` integers, columns.
        indptr: ``(rows + 1,)`` integers, where rows start.
        shape: two integers.
        where: file and key, for messages.

    Returns:
        Rows ``(nnz,)`` and columns ``(nnz,)`` int64, values ``(nnz,)`` float32, and the shape.

    Raises:
        DataError: parts that do not fit together, a column out of range, or a value that is not finite.
    """
    for name, part, kinds in (
        ("data", data, "fiub"), ("indices", indices, "iu"), ("indptr", indptr, "iu"), ("shape", shape, "iu"),
    ):  # fmt: skip
        if part.ndim != 1 or part.dtype.kind not in kinds:
            what = "numbers" if kinds == "fiub" else "integers"
            raise DataError(f"{where}, {name}: got {part.dtype} of shape {part.shape}; allowed is one row of {what}")
    if len(shape) != 2 or (shape < 1).any() or (shape > MAX_NODES).any():
        raise DataError(f"{where}, shape: got {_shown(shape)}; allowed are two integers in 1 ... {MAX_NODES:,}")
    if shape[1] > max(MAX_FEATURES, shape[0]):
        raise DataError(f"{where}, shape: got {_shown(shape)}; allowed are at most {MAX_FEATURES:,} columns")
    num_rows, num_columns = (int(n) for n in shape)
    indptr = indptr.astype(np.int64)
    if len(indptr) != num_rows + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise DataError(
            f"{where}, indptr: allowed are {num_rows + 1:,} ascending integers from 0, got {_shown(indptr)}"
        )
    if not len(data) == len(indices) == indptr[-1]:
        raise DataError(
            f"{where}: got {len(data):,} values and {len(indices):,} columns; `indptr` says {indptr[-1]:,} of each"
        )
    bad = (indices < 0) | (indices >= num_columns)
    if bad.any():
        place = int(bad.argmax())
        raise DataError(f"{where}, indices, entry {place}: got {indices[place]}; allowed are 0 ... {num_columns - 1:,}")
    values = check_features(data[:, None], len(data), f"{where}, data")[:, 0] if len(data) else torch.zeros(0)
    rows = np.repeat(np.arange(num_rows, dtype=np.int64), np.diff(indptr))
    return torch.from_numpy(rows), torch.from_numpy(indices.astype(np.int64)), values, (num_rows, num_columns)


def sparse_features(
    rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int], binary: bool = False
) -> Features:
    """A sparse matrix of the given entries, without those that are 0.

    Args:
        rows: ``(nnz,)`` int64, in range.
        columns: ``(nnz,)`` int64, in range.
        values: ``(nnz,)`` float32; those of entries given twice are added up.
        shape: rows and columns.
        binary: whether values above 0 become 1.
    """
    matrix = torch.sparse_coo_tensor(torch.stack([rows, columns]), values, shape, check_invariants=False).coalesce()
    kept, found = matrix.values() != 0, matrix.values()
    found = torch.where(found > 0, 1.0, found)[kept] if binary else found[kept]
    place = matrix.indices()[:, kept]
    return Features.of(torch.sparse_coo_tensor(place, found, shape, is_coalesced=True, check_invariants=False))


def _shown(array: np.ndarray) -> str:
    """Its values if they are few, for messages."""
    return str(array.tolist())[:80] if array.size <= 4 else f"{array.dtype} of shape {array.shape}"
