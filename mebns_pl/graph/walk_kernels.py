"""Compiled loops that explore a graph from many nodes: random walks and neighbourhoods.

Rows are independent of each other: what row i gets depends on the seed and on its own name alone, so that rows can be
parted among threads or ranks in any way. Scratch is each call's own.
"""

from __future__ import annotations

import numpy as np

from mebns_pl.graph.hashing import mix, pair_hash
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


@kernel
def walk_ends(starts, names, seed, shortest, longest, indptr, indices, out):  # pragma: no cover (compiled)
    """``out[i]``: where a random walk from ``starts[i]`` is after a uniform number of steps in shortest ... longest.

    Every step goes to a uniform neighbour; a node without neighbours is not left. ``names`` ``(n,)`` name the draws.
    Cost: O(longest) a walk. (A remainder of 64 bits is uniform to 1 in 2^40 and better.)
    """
    for row in range(starts.shape[0]):
        word = pair_hash(seed, names[row])
        length = shortest + np.int64(mix(word) % np.uint64(longest - shortest + 1))
        node = starts[row]
        for step in range(length):
            degree = indptr[node + 1] - indptr[node]
            if degree == 0:
                break
            node = indices[indptr[node] + np.int64(mix(word ^ np.uint64(step + 1)) % np.uint64(degree))]
        out[row] = node


@kernel
def ball_draws(anchors, names, seed, hops, graph, blocked, out):  # pragma: no cover (compiled)
    """Fills ``out`` ``(n, k)`` by uniform draws, with replacement, among the nodes within ``hops`` of each anchor.

    ``graph`` and ``blocked`` are CSR pairs ``(indptr, indices)``; the nodes in an anchor's row of ``blocked`` (the
    anchor itself among them) are walked through and never drawn. A row with nothing to draw is -1. Cost: the edges
    within ``hops - 1`` of each anchor.
    """
    indptr, indices = graph
    blocked_indptr, blocked_indices = blocked
    num_nodes = indptr.shape[0] - 1
    seen, stamp = np.full(num_nodes, -1, np.int64), np.full(num_nodes, -1, np.int64)
    ball, legal = np.empty(num_nodes, np.int64), np.empty(num_nodes, np.int64)
    for row in range(anchors.shape[0]):
        anchor = anchors[row]
        for place in range(blocked_indptr[anchor], blocked_indptr[anchor + 1]):
            stamp[blocked_indices[place]] = row
        ball[0], seen[anchor], start, count = anchor, row, 0, 1
        num_legal = 0
        for _ in range(hops):
            reached = count
            for i in range(start, reached):
                for place in range(indptr[ball[i]], indptr[ball[i] + 1]):
                    other = indices[place]
                    if seen[other] != row:
                        seen[other] = row
                        ball[count] = other
                        count += 1
                        if stamp[other] != row:
                            legal[num_legal] = other
                            num_legal += 1
            start = reached
        word = pair_hash(seed, names[row])
        for column in range(out.shape[1]):
            if num_legal == 0:
                out[row, column] = -1
            else:
                out[row, column] = legal[np.int64(mix(word ^ np.uint64(column)) % np.uint64(num_legal))]
