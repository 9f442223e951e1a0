"""Rows of a sparse matrix made of pairs that come in blocks, in any order, repeated as they may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph import csr_kernels as kernels
from mebns_pl.progress import doing, with_progress

BLOCK = 2**22
"""Pairs of a block; how pairs are cut into blocks shows in no result."""

Pairs = tuple[np.ndarray, np.ndarray]
"""Rows and columns ``(m,)``, integers."""


def sorted_rows(
    blocks: Callable[[], Iterable[Pairs]], num_nodes: int, dtype: type[np.integer] = np.int64, bar: str = ""
) -> Pairs:
    """The CSR rows of pairs; self-pairs are left out, and of repeated pairs one stays.

    Two passes over the blocks, one that counts and one that places, and a sort within each row that does not ascend
    already: time linear in the pairs, memory that of the result with repetitions.

    Args:
        blocks: gives the pairs, the same at each of two calls; numbers are in ``0 ... num_nodes - 1``.
        num_nodes: N.
        dtype: of the columns.
        bar: what is being done, for a progress bar; "" shows none.

    Returns:
        Row starts ``(N + 1,)`` int64, and columns ``(n,)``, ascending within a row.

    Example:
        >>> indptr, columns = sorted_rows(lambda: [(np.array([1, 0, 1, 2]), np.array([2, 1, 2, 2]))], num_nodes=3)
        >>> indptr.tolist(), columns.tolist()
        ([0, 1, 2, 2], [1, 2])
    """
    indptr, total = np.zeros(num_nodes + 1, dtype=np.int64), 0
    with doing(bar and f"{bar}, counted"):
        for rows, columns in blocks():
            kernels.count_entries(rows, columns, indptr)
            total += 1
    np.cumsum(indptr, out=indptr)
    cursor, entries = indptr[:-1].copy(), np.empty(indptr[-1], dtype=dtype)
    again = blocks()
    for rows, columns in with_progress(again, total, bar) if bar else again:
        kernels.place_entries(rows, columns, cursor, entries)
    del cursor
    with doing(bar and f"{bar}, sorted"):
        size = kernels.ascending_once(indptr, entries)
    return indptr, entries if size == len(entries) else entries[:size].copy()


def in_blocks(pairs: Tensor) -> Iterator[Pairs]:
    """``(2, m)`` int64 pairs, cut into blocks."""
    source, target = pairs.contiguous().numpy()
    for start in range(0, len(source), BLOCK):
        yield source[start : start + BLOCK], target[start : start + BLOCK]


def both_ways(pairs: Tensor) -> Iterator[Pairs]:
    """The pairs in both directions; in this order the rows of pairs with source < target that ascend do so, too."""
    for source, target in in_blocks(pairs):
        yield target, source
    yield from in_blocks(pairs)


def lower_first(blocks: Iterable[Pairs]) -> Iterator[Pairs]:
    """Each pair with its lower number as the row."""
    for source, target in blocks:
        yield np.minimum(source, target), np.maximum(source, target)


def pairs_of_rows(indptr: np.ndarray, columns: np.ndarray) -> Tensor:
    """``(2, n)`` int64: row and column of each entry."""
    pairs = np.empty((2, len(columns)), dtype=np.int64)
    kernels.write_pairs(indptr, columns, pairs)
    return torch.from_numpy(pairs)
