"""Compiled loops of products of sparse matrices, or of pairs of rows, with dense ones; sums run in ascending order."""

from __future__ import annotations

from functools import partial

from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


@kernel
def gather_rows(indptr, indices, values, h, start, stop, out):  # pragma: no cover (compiled)
    """Rows ``start ... stop`` of ``out`` are those of M h, for a CSR matrix M."""
    for i in range(start, stop):
        row = out[i]
        row[:] = 0
        place, end = indptr[i], indptr[i + 1]
        # Four entries at a time, added one after the other: the same sums, and ``row`` is written a quarter as often
        while place + 3 < end:
            v0, v1, v2, v3 = values[place], values[place + 1], values[place + 2], values[place + 3]
            h0, h1 = h[indices[place]], h[indices[place + 1]]
            h2, h3 = h[indices[place + 2]], h[indices[place + 3]]
            for c in range(row.shape[0]):
                row[c] = (((row[c] + v0 * h0[c]) + v1 * h1[c]) + v2 * h2[c]) + v3 * h3[c]
            place += 4
        while place < end:
            value, other = values[place], h[indices[place]]
            for c in range(row.shape[0]):
                row[c] += value * other[c]
            place += 1


@kernel
def scatter_rows(indptr, indices, values, h, out):  # pragma: no cover (compiled)
    """``out`` is M^T h for a CSR matrix M: h is read once and in order, and ``out`` is what stays in the cache."""
    out[:] = 0
    for i in range(indptr.shape[0] - 1):
        row = h[i]
        for place in range(indptr[i], indptr[i + 1]):
            value, other = values[place], out[indices[place]]
            for c in range(row.shape[0]):
                other[c] += value * row[c]


@partial(kernel, fastmath={"reassoc", "contract"})
def dot_rows(source, target, a, b, start, stop, out):  # pragma: no cover (compiled)
    """``out[m]`` is the inner product of a's row ``source[m]`` and b's row ``target[m]``."""
    for m in range(start, stop):
        left, right = a[source[m]], b[target[m]]
        total = left[0] * right[0]
        for c in range(1, left.shape[0]):
            total += left[c] * right[c]
        out[m] = total


@partial(kernel, fastmath={"reassoc", "contract"})
def cross_rows(source, target, a, b, start, stop, out):  # pragma: no cover (compiled)
    """``out[m]`` is what :func:`dot_rows` gives for ``(a, b)`` and for ``(b, a)`` together."""
    for m in range(start, stop):
        s, t = source[m], target[m]
        left, right, other_left, other_right = a[s], b[t], b[s], a[t]
        total = left[0] * right[0] + other_left[0] * other_right[0]
        for c in range(1, left.shape[0]):
            total += left[c] * right[c] + other_left[c] * other_right[c]
        out[m] = total


@kernel
def both_ends(source, target, factors, indptr, indices, values):  # pragma: no cover (compiled)
    """The CSR matrix in which each pair has its factor in either end's row, at the other's column; in pairs' order."""
    indptr[:] = 0
    for m in range(source.shape[0]):
        indptr[source[m] + 1] += 1
        indptr[target[m] + 1] += 1
    for i in range(indptr.shape[0] - 1):
        indptr[i + 1] += indptr[i]
    free = indptr[:-1].copy()
    for m in range(source.shape[0]):
        s, t, factor = source[m], target[m], factors[m]
        indices[free[s]], values[free[s]] = t, factor
        free[s] += 1
        indices[free[t]], values[free[t]] = s, factor
        free[t] += 1


@kernel
def sort_pairs(source, target, starts, order, sources, targets):  # pragma: no cover (compiled)
    """The pairs by ascending target, ``order`` of them, of nodes 0 ... N - 1; ``starts`` ``(N + 1,)`` is used."""
    starts[:] = 0
    for t in target:
        starts[t + 1] += 1
    for i in range(starts.shape[0] - 1):
        starts[i + 1] += starts[i]
    for m in range(target.shape[0]):
        place = starts[target[m]]
        starts[target[m]] += 1
        order[place], sources[place], targets[place] = m, source[m], target[m]
