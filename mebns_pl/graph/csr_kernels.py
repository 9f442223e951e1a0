"""Compiled loops over CSR rows: rows made of pairs in any order, in time linear in them and without a sort of all.

Node numbers are not looked at again here: who calls has made sure that they are in range.
"""

from __future__ import annotations

import numpy as np

from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


@kernel
def count_entries(rows, columns, counts):  # pragma: no cover (compiled)
    """Adds to ``counts[r + 1]`` how many pairs ``(r, c)`` there are with two different ends."""
    for i in range(rows.shape[0]):
        if rows[i] != columns[i]:
            counts[rows[i] + 1] += 1


@kernel
def place_entries(rows, columns, cursor, out):  # pragma: no cover (compiled)
    """Writes the column of each pair with two different ends where its row's ``cursor`` stands, and moves that on."""
    for i in range(rows.shape[0]):
        if rows[i] != columns[i]:
            out[cursor[rows[i]]] = columns[i]
            cursor[rows[i]] += 1


_SHORT = 64


@kernel
def merge_runs(values, spare):  # pragma: no cover (compiled)
    """Sorts ``values`` in place: what ascends already is merged, two runs at a time, by way of ``spare`` as long.

    numba's own sort takes quadratic time where little is out of place, and rows are often a few that ascend.
    """
    merged = 2
    while merged > 1:
        start, merged = 0, 0
        while start < values.shape[0]:
            middle = start + 1
            while middle < values.shape[0] and values[middle - 1] <= values[middle]:
                middle += 1
            stop = min(middle + 1, values.shape[0])
            while stop < values.shape[0] and values[stop - 1] <= values[stop]:
                stop += 1
            one, other = start, middle
            for place in range(start, stop):
                if other == stop or (one < middle and values[one] <= values[other]):
                    spare[place] = values[one]
                    one += 1
                else:
                    spare[place] = values[other]
                    other += 1
            start = stop
            merged += 1
        values[:] = spare[: values.shape[0]]


@kernel
def ascending_once(indptr, columns):  # pragma: no cover (compiled)
    """Has each row ascend and hold a column once, in place; rows move together, and their entries are counted."""
    written, start, spare = 0, indptr[0], columns[:0].copy()
    for row in range(indptr.shape[0] - 1):
        stop = indptr[row + 1]
        for place in range(start + 1, stop):
            if columns[place - 1] > columns[place]:
                if stop - start <= _SHORT:
                    columns[start:stop].sort()
                    break
                if stop - start > spare.shape[0]:
                    spare = np.empty_like(columns[start:stop])
                merge_runs(columns[start:stop], spare)
                break
        indptr[row] = written
        for place in range(start, stop):
            # What was written last may stand in another row, and is never read before this row's first
            if place == start or columns[place] != columns[written - 1]:
                columns[written] = columns[place]
                written += 1
        start = stop
    indptr[indptr.shape[0] - 1] = written
    return written


@kernel
def write_pairs(indptr, columns, out):  # pragma: no cover (compiled)
    """``out`` ``(2, n)``: row and column of each entry."""
    for row in range(indptr.shape[0] - 1):
        for place in range(indptr[row], indptr[row + 1]):
            out[0, place] = row
            out[1, place] = columns[place]


@kernel
def write_edges(indptr, columns, out):  # pragma: no cover (compiled)
    """``out`` ``(2, n)``: row and column of each entry with row < column, in order."""
    number = 0
    for row in range(indptr.shape[0] - 1):
        for place in range(indptr[row], indptr[row + 1]):
            if row < columns[place]:
                out[0, number] = row
                out[1, number] = columns[place]
                number += 1


@kernel
def kept_degrees(indptr, keep, out):  # pragma: no cover (compiled)
    """``out[v]``: how many entries of row v are kept."""
    for row in range(indptr.shape[0] - 1):
        count = 0
        for place in range(indptr[row], indptr[row + 1]):
            count += keep[place]
        out[row] = count


@kernel
def drop_edges(indptr, indices, keep_edge, cursor, keep):  # pragma: no cover (compiled)
    """Writes False into ``keep`` at both entries of each edge that ``keep_edge`` drops.

    Edges are those with source < target in the order of a symmetric CSR matrix; ``cursor`` begins as the rows' starts.
    The sources that a row holds below itself come by in ascending order, so that its cursor stands at the mirrored
    entry: nothing is searched for.
    """
    number = 0
    for row in range(indptr.shape[0] - 1):
        for place in range(indptr[row], indptr[row + 1]):
            other = indices[place]
            if other > row:
                if not keep_edge[number]:
                    keep[place] = False
                    keep[cursor[other]] = False
                cursor[other] += 1
                number += 1


@kernel
def place_in_row(row, entry, indptr, indices):  # pragma: no cover (compiled)
    """Where ``entry`` stands in ``indices``, whose row ascends, or -1 where it does not."""
    start, stop = indptr[row], indptr[row + 1]
    place = start + np.searchsorted(indices[start:stop], entry)
    return place if place < stop and indices[place] == entry else -1


@kernel
def edge_places(source, target, indptr, indices, out):  # pragma: no cover (compiled)
    """``out[i]``: where (source[i], target[i]) stands in ``indices``, or -1 where it is no edge."""
    for i in range(source.shape[0]):
        out[i] = place_in_row(source[i], target[i], indptr, indices)
