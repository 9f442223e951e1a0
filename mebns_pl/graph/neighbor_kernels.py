"""Compiled loops of neighbour sampling: what a node draws.

A graph comes as its CSR arrays, with ``gone``, the ascending places in ``indices`` of entries that are left out, and
``keep``, a mask over ``indices`` or an array of length 0 that keeps all. Without a mask a node costs its sample,
however many neighbours it has; with one its row is read.
"""

from __future__ import annotations

import numpy as np

from mebns_pl.graph.hashing import mix, pair_hash
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


@kernel
def count_neighbors(nodes, indptr, keep, gone, out):  # pragma: no cover (compiled)
    """``out[i]``: how many neighbours ``nodes[i]`` has that are neither masked nor gone."""
    for i in range(nodes.shape[0]):
        start, stop = indptr[nodes[i]], indptr[nodes[i] + 1]
        first, last = np.searchsorted(gone, start), np.searchsorted(gone, stop)
        out[i] = stop - start - (last - first)
        if keep.shape[0]:
            out[i] = 0
            for place in range(start, stop):
                if keep[place]:
                    out[i] += 1
            for j in range(first, last):
                if keep[gone[j]]:
                    out[i] -= 1


@kernel
def draw_neighbors(nodes, degree, starts, word, indptr, indices, keep, gone, out):  # pragma: no cover (compiled)
    """Fills ``out[starts[i] : starts[i + 1]]`` by that many of the ``degree[i]`` neighbours of ``nodes[i]``, ascending.

    Where these are fewer than all, they are drawn without replacement (Floyd's sampling), as ``word`` and the node say.
    """
    for i in range(nodes.shape[0]):
        wanted, hashed = starts[i + 1] - starts[i], pair_hash(word, nodes[i])
        ranks = out[starts[i] : starts[i + 1]]  # first of all which of the neighbours, counted from 0
        for draw in range(wanted):
            top = degree[i] - wanted + draw
            rank = top
            if wanted < degree[i]:
                rank = np.int64(mix(hashed ^ np.uint64(draw)) % np.uint64(top + 1))
                for other in range(draw):
                    if ranks[other] == rank:
                        rank = top
                        break
            ranks[draw] = rank
        ranks.sort()
        place, stop = indptr[nodes[i]], indptr[nodes[i] + 1]
        skip = np.searchsorted(gone, place)
        if keep.shape[0]:
            seen, draw = -1, 0
            while draw < wanted:
                left_out = skip < gone.shape[0] and gone[skip] == place
                skip += left_out
                seen += keep[place] and not left_out
                if seen == ranks[draw]:
                    ranks[draw] = indices[place]
                    draw += 1
                place += 1
        else:
            first = skip
            for draw in range(wanted):
                # Every entry that is gone below a place moves it on by one
                while skip < gone.shape[0] and gone[skip] < stop and gone[skip] <= place + ranks[draw] + skip - first:
                    skip += 1
                ranks[draw] = indices[place + ranks[draw] + skip - first]


@kernel
def mark_neighbors(nodes, indptr, indices, keep, found):  # pragma: no cover (compiled)
    """Sets ``found`` ``(N,)`` at the neighbours of the nodes where ``nodes`` ``(N,)`` is True."""
    for node in range(nodes.shape[0]):
        if nodes[node]:
            for place in range(indptr[node], indptr[node + 1]):
                if keep.shape[0] == 0 or keep[place]:
                    found[indices[place]] = True


@kernel
def whole_rows(nodes, indptr, indices, keep, numbers, starts, entries, reached):  # pragma: no cover (compiled)
    """All neighbours of distinct ``nodes``, numbered in the order in which nodes first come, ``nodes`` before all.

    ``starts`` and ``entries`` get the rows in these numbers, ``reached`` the nodes by number, how many is returned.
    ``numbers`` ``(N,)`` is -1 before and after.
    """
    size, place = nodes.shape[0], 0
    for i in range(size):
        reached[i] = nodes[i]
        numbers[nodes[i]] = i
    for i in range(nodes.shape[0]):
        for source in range(indptr[nodes[i]], indptr[nodes[i] + 1]):
            if keep.shape[0] == 0 or keep[source]:
                other = indices[source]
                if numbers[other] < 0:
                    numbers[other] = size
                    reached[size] = other
                    size += 1
                entries[place] = numbers[other]
                place += 1
        starts[i + 1] = place
    for i in range(size):
        numbers[reached[i]] = -1
    return size
