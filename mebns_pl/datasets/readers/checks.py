"""Arrays from files, checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from mebns_pl.datasets.limits import check_size
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
        DataError: it is no integer in ``1 ... MAX_NODES``, or more than allowed.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iu" or not 1 <= int(array.reshape(())) <= MAX_NODES:
        raise DataError(f"{where}: got {_shown(array)}; allowed is one integer in 1 ... {MAX_NODES:,}")
    check_size(where, int(array.reshape(())), "nodes")
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
    return torch.from_numpy(np.array(array.T, dtype=np.int64, order="C"))


def check_features(array: np.ndarray, num_nodes: int | None, where: str) -> Tensor:
    """Dense node features.

    Args:
        array: ``(N, F)`` numbers.
        num_nodes: N; None allows any number of rows.
        where: file and key, for messages.

    Returns:
        ``(N, F)`` float32.

    Raises:
        DataError: another shape or type, or a value that is not finite as float32.
    """
    rows = "N" if num_nodes is None else f"{num_nodes:,}"
    good = array.ndim == 2 and num_nodes in (None, array.shape[0]) and array.shape[1]
    if not good or array.dtype.kind not in "fiub":
        raise DataError(
            f"{where}: got {array.dtype} of shape {array.shape}; allowed are real numbers of shape ({rows}, F)"
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


def check_csr(parts: Iterable[np.ndarray], where: str) -> scipy.sparse.csr_matrix:
    """A CSR matrix of its parts.

    Args:
        parts: data ``(nnz,)``, numbers; indices ``(nnz,)``, the columns; indptr ``(rows + 1,)``, where rows start; and
            the shape, two integers.
        where: file and key, for messages.

    Returns:
        The matrix, float32, with all of the entries, those that are 0 or given twice included.

    Raises:
        DataError: parts that do not fit together, a column out of range, or a value that is not finite.
    """
    data, indices, indptr, shape = parts
    for name, part in {"data": data, "indices": indices, "indptr": indptr, "shape": shape}.items():
        what, kinds = ("numbers", "fiub") if name == "data" else ("integers", "iu")
        if part.ndim != 1 or part.dtype.kind not in kinds:
            raise DataError(f"{where}, {name}: got {part.dtype} of shape {part.shape}; allowed is one row of {what}")
    _check_shape(shape, where)
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
    _check_range(indices, num_columns, f"{where}, indices")
    return scipy.sparse.csr_matrix(
        (_numbers(data, where), indices.astype(np.int64), indptr), shape=(num_rows, num_columns)
    )


def check_coo(
    data: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: np.ndarray, where: str
) -> scipy.sparse.csr_matrix:
    """A matrix of its entries.

    Args:
        data: ``(nnz,)`` numbers.
        rows: ``(nnz,)`` integers, the row of each.
        columns: ``(nnz,)`` integers, the column of each.
        shape: two integers.
        where: file and key, for messages.

    Returns:
        The matrix as CSR, float32; entries that are given twice are added up.

    Raises:
        DataError: as :func:`check_csr`.
    """
    order = np.argsort(rows, kind="stable") if rows.ndim == 1 else rows
    if not data.shape == rows.shape == columns.shape == order.shape:
        raise DataError(
            f"{where}: got {data.shape} values, {rows.shape} rows and {columns.shape} columns; "
            "allowed are as many of each"
        )
    # Without entries there is nothing to sort, and no number that is out of range
    _check_shape(shape, where)
    _check_range(rows, int(shape[0]), f"{where}, rows")
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=int(shape[0])))])
    return check_csr((data[order], columns[order], starts, shape), where)


def _numbers(data: np.ndarray, where: str) -> np.ndarray:
    """Entries ``(nnz,)`` as finite float32; what is too small for one, but not 0, is the smallest that there is."""
    found = check_features(data[:, None], len(data), f"{where}, data").numpy()[:, 0]
    lost = (found == 0) & (data != 0)
    if lost.any():
        found[lost] = np.copysign(np.finfo(np.float32).tiny, data[lost])
    return found


def _check_shape(shape: np.ndarray, where: str) -> None:
    if shape.ndim != 1 or shape.dtype.kind not in "iu" or len(shape) != 2 or (shape < 1).any():
        raise DataError(f"{where}, shape: got {_shown(shape)}; allowed are two integers of 1 or more")
    check_size(where, int(shape[0]), "nodes")
    if shape[1] > max(MAX_FEATURES, shape[0]):
        raise DataError(f"{where}, shape: got {_shown(shape)}; allowed are at most {MAX_FEATURES:,} columns")


def _check_range(numbers: np.ndarray, end: int, where: str) -> None:
    if numbers.dtype.kind not in "iu":
        raise DataError(f"{where}: got {numbers.dtype}; allowed are integers")
    bad = (numbers < 0) | (numbers >= end)
    if bad.any():
        place = int(bad.argmax())
        raise DataError(f"{where}, entry {place}: got {numbers[place]}; allowed are 0 ... {end - 1:,}")


def sparse_features(matrix: scipy.sparse.csr_matrix, binary: bool = False) -> Features:
    """A sparse matrix without entries that are 0, those given twice added up.

    Args:
        matrix: ``(N, F)`` float32; changed in place.
        binary: whether values above 0 become 1.
    """
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if binary:
        matrix.data[matrix.data > 0] = 1
    indptr, indices, data = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    return Features.of(torch.sparse_csr_tensor(indptr, indices, data, matrix.shape, check_invariants=False))


def _shown(array: np.ndarray) -> str:
    """Its values if they are few, for messages."""
    return str(array.tolist())[:80] if array.size <= 4 else f"{array.dtype} of shape {array.shape}"
