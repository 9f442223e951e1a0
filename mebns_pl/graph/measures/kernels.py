"""Compiled loops over CSR rows: the k best nodes of each row by some score, without any N x N matrix.

Every ``*_top`` kernel fills ``out_index`` ``(n, k)`` (best first, -1 where there are fewer) and ``out_score``
``(n, k)`` for ``nodes`` ``(n,)``, row by row and with scratch of its own, so that rows can be parted among threads in
any way. Of two nodes with the same float32 score the one with the smaller :func:`pair_hash` comes first: no order of
the node numbers shows in the result. ``skip_indptr`` and ``skip_indices`` are the CSR of the pairs to leave out; a
node never gets itself.

All are in this one file because numba's cache notices a change of a kernel's own file only.
"""

from __future__ import annotations

import numba
import numpy as np

# mypy: disable-error-code="no-untyped-def"


@numba.njit(nogil=True, cache=True)
def mix(value):  # pragma: no cover (compiled)
    """SplitMix64's finaliser, a bijection of the 64-bit words (Steele et al., OOPSLA 2014)."""
    h = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def pair_hash(node, other):  # pragma: no cover (compiled)
    """A 64-bit hash of an ordered pair; for one ``node`` all ``other`` differ in it."""
    return mix(mix(np.uint64(node)) ^ np.uint64(other))


@numba.njit(nogil=True, cache=True)
def _below(score_a, hash_a, score_b, hash_b):  # pragma: no cover (compiled)
    return score_a < score_b or (score_a == score_b and hash_a > hash_b)


@numba.njit(nogil=True, cache=True)
def _sift_down(scores, hashes, nodes, size):  # pragma: no cover (compiled)
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and _below(scores[child + 1], hashes[child + 1], scores[child], hashes[child]):
            child += 1
        if not _below(scores[child], hashes[child], scores[place], hashes[place]):
            return
        scores[place], scores[child] = scores[child], scores[place]
        hashes[place], hashes[child] = hashes[child], hashes[place]
        nodes[place], nodes[child] = nodes[child], nodes[place]
        place = child


@numba.njit(nogil=True, cache=True)
def _offer(scores, hashes, nodes, size, score, node, row_node):  # pragma: no cover (compiled)
    """Puts a node into the heap of the k best so far (the worst of them at its root); returns the heap's size."""
    full = size == scores.shape[0]
    if full and score < scores[0]:
        return size
    pair = pair_hash(row_node, node)
    if full:
        if _below(scores[0], hashes[0], score, pair):
            scores[0], hashes[0], nodes[0] = score, pair, node
            _sift_down(scores, hashes, nodes, size)
        return size
    place = size
    scores[place], hashes[place], nodes[place] = score, pair, node
    while place > 0:
        parent = (place - 1) // 2
        if not _below(scores[place], hashes[place], scores[parent], hashes[parent]):
            break
        scores[place], scores[parent] = scores[parent], scores[place]
        hashes[place], hashes[parent] = hashes[parent], hashes[place]
        nodes[place], nodes[parent] = nodes[parent], nodes[place]
        place = parent
    return size + 1


@numba.njit(nogil=True, cache=True)
def _drain(scores, hashes, nodes, size, out_index, out_score):  # pragma: no cover (compiled)
    """Empties the heap into one row of the result, the best first."""
    out_index[size:] = -1
    out_score[size:] = 0
    while size > 0:
        size -= 1
        out_index[size] = nodes[0]
        out_score[size] = scores[0]
        scores[0], hashes[0], nodes[0] = scores[size], hashes[size], nodes[size]
        _sift_down(scores, hashes, nodes, size)


@numba.njit(nogil=True, cache=True)
def _mark_skipped(stamp, row, node, skip_indptr, skip_indices):  # pragma: no cover (compiled)
    stamp[node] = row
    for place in range(skip_indptr[node], skip_indptr[node + 1]):
        stamp[skip_indices[place]] = row


@numba.njit(nogil=True, cache=True)
def product_top(  # pragma: no cover (compiled)
    nodes, left, right, num_nodes, least, skip_indptr, skip_indices, out_index, out_score
):
    """Scores are the rows of a product of two sparse matrices, each ``(indptr, indices, values)``, above ``least``."""
    left_indptr, left_indices, left_values = left
    right_indptr, right_indices, right_values = right
    k = out_index.shape[1]
    total, touched = np.zeros(num_nodes), np.empty(num_nodes, np.int64)
    seen, stamp = np.zeros(num_nodes, np.bool_), np.full(num_nodes, -1, np.int64)
    scores, hashes, heap = np.empty(k, np.float32), np.empty(k, np.uint64), np.empty(k, np.int64)
    for row in range(nodes.shape[0]):
        node = nodes[row]
        count = 0
        for i in range(left_indptr[node], left_indptr[node + 1]):
            middle, weight = left_indices[i], left_values[i]
            for j in range(right_indptr[middle], right_indptr[middle + 1]):
                other = right_indices[j]
                if not seen[other]:
                    seen[other] = True
                    touched[count] = other
                    count += 1
                total[other] += weight * right_values[j]
        _mark_skipped(stamp, row, node, skip_indptr, skip_indices)
        size = 0
        for i in range(count):
            other = touched[i]
            score = np.float32(total[other])
            if total[other] > least and stamp[other] != row:
                size = _offer(scores, hashes, heap, size, score, other, node)
            total[other] = 0.0
            seen[other] = False
        _drain(scores, hashes, heap, size, out_index[row], out_score[row])


@numba.njit(nogil=True, cache=True)
def dense_top(nodes, rows, least, skip_indptr, skip_indices, out_index, out_score):  # pragma: no cover (compiled)
    """Scores are given: ``rows`` ``(n, N)`` float32; those above ``least`` count."""
    k = out_index.shape[1]
    stamp = np.full(rows.shape[1], -1, np.int64)
    scores, hashes, heap = np.empty(k, np.float32), np.empty(k, np.uint64), np.empty(k, np.int64)
    for row in range(nodes.shape[0]):
        _mark_skipped(stamp, row, nodes[row], skip_indptr, skip_indices)
        size = 0
        for other in range(rows.shape[1]):
            if rows[row, other] > least and stamp[other] != row:
                size = _offer(scores, hashes, heap, size, rows[row, other], other, nodes[row])
        _drain(scores, hashes, heap, size, out_index[row], out_score[row])


@numba.njit(nogil=True, cache=True)
def _push(node, indptr, indices, alpha, eps, rank, residual, touched, seen, scratch):  # pragma: no cover (compiled)
    """Personalised PageRank of ``node`` by forward push, into ``rank``; returns how many nodes are in ``touched``.

    Nodes are pushed in rounds, all those at once whose residual is too large when the round begins: pushed one after
    the other, nodes in the same position would get scores that differ by their order in the queue.
    """
    front, coming, mass, queued = scratch
    residual[node] = 1.0
    touched[0], seen[node], count = node, True, 1
    front[0], waiting = node, min(1, indptr[node + 1] - indptr[node])
    while waiting > 0:
        for place in range(waiting):
            current = front[place]
            mass[place] = residual[current]
            rank[current] += alpha * residual[current]
            residual[current] = 0.0
            queued[current] = False
        arrived = 0
        for place in range(waiting):
            current = front[place]
            share = (1.0 - alpha) * mass[place] / (indptr[current + 1] - indptr[current])
            for i in range(indptr[current], indptr[current + 1]):
                other = indices[i]
                residual[other] += share
                if not seen[other]:
                    seen[other] = True
                    touched[count] = other
                    count += 1
                if not queued[other] and residual[other] > eps * (indptr[other + 1] - indptr[other]):
                    queued[other] = True
                    coming[arrived] = other
                    arrived += 1
        front, coming, waiting = coming, front, arrived
    return count


@numba.njit(nogil=True, cache=True)
def _push_scratch(num_nodes):  # pragma: no cover (compiled)
    integers, floats = (np.empty(num_nodes, np.int64), np.empty(num_nodes, np.int64)), np.empty(num_nodes)
    return integers[0], integers[1], floats, np.zeros(num_nodes, np.bool_)


@numba.njit(nogil=True, cache=True)
def push_top(  # pragma: no cover (compiled)
    nodes, indptr, indices, alpha, eps, skip_indptr, skip_indices, out_index, out_score
):
    """Scores are personalised PageRank by forward push."""
    num_nodes, k = indptr.shape[0] - 1, out_index.shape[1]
    rank, residual, scratch = np.zeros(num_nodes), np.zeros(num_nodes), _push_scratch(num_nodes)
    touched, seen = np.empty(num_nodes, np.int64), np.zeros(num_nodes, np.bool_)
    stamp = np.full(num_nodes, -1, np.int64)
    scores, hashes, heap = np.empty(k, np.float32), np.empty(k, np.uint64), np.empty(k, np.int64)
    for row in range(nodes.shape[0]):
        node = nodes[row]
        count = _push(node, indptr, indices, alpha, eps, rank, residual, touched, seen, scratch)
        _mark_skipped(stamp, row, node, skip_indptr, skip_indices)
        size = 0
        for i in range(count):
            other = touched[i]
            score = np.float32(rank[other])
            if score > 0 and stamp[other] != row:
                size = _offer(scores, hashes, heap, size, score, other, node)
            rank[other], residual[other], seen[other] = 0.0, 0.0, False
        _drain(scores, hashes, heap, size, out_index[row], out_score[row])


@numba.njit(nogil=True, cache=True)
def push_pairs(nodes, starts, targets, indptr, indices, alpha, eps, out):  # pragma: no cover (compiled)
    """``out[j]``: personalised PageRank of ``targets[j]`` for ``nodes[i]``, ``starts[i] <= j < starts[i + 1]``."""
    num_nodes = indptr.shape[0] - 1
    rank, residual, scratch = np.zeros(num_nodes), np.zeros(num_nodes), _push_scratch(num_nodes)
    touched, seen = np.empty(num_nodes, np.int64), np.zeros(num_nodes, np.bool_)
    for row in range(nodes.shape[0]):
        count = _push(nodes[row], indptr, indices, alpha, eps, rank, residual, touched, seen, scratch)
        for place in range(starts[row], starts[row + 1]):
            out[place] = rank[targets[place]]
        for i in range(count):
            rank[touched[i]], residual[touched[i]], seen[touched[i]] = 0.0, 0.0, False


@numba.njit(nogil=True, cache=True)
def min_rank_top(nodes, lists, num_nodes, out_index, out_score):  # pragma: no cover (compiled)
    """Merges ranked lists ``(n, L, k)``: by the best rank, then by the sum of ranks (k + 1 where missing).

    The score is 1 / (best rank).
    """
    _, num_lists, k = lists.shape
    best, total = np.zeros(num_nodes, np.int64), np.zeros(num_nodes, np.int64)
    touched = np.empty(num_lists * k, np.int64)
    # The order is that of one integer, exact in float64; the score is made from it at the end.
    scores, hashes, heap = np.empty(k), np.empty(k, np.uint64), np.empty(k, np.int64)
    order, step = np.empty(k), float(num_lists * (k + 1) + 1)
    for row in range(nodes.shape[0]):
        count = 0
        for which in range(num_lists):
            for place in range(k):
                other = lists[row, which, place]
                if other < 0:
                    break
                if best[other] == 0:
                    best[other], total[other] = k + 1, num_lists * (k + 1)
                    touched[count] = other
                    count += 1
                best[other] = min(best[other], place + 1)
                total[other] += place + 1 - (k + 1)
        size = 0
        for i in range(count):
            other = touched[i]
            size = _offer(scores, hashes, heap, size, -(best[other] * step + total[other]), other, nodes[row])
        found = size
        _drain(scores, hashes, heap, size, out_index[row], order)
        for place in range(k):
            out_score[row, place] = 1.0 / best[out_index[row, place]] if place < found else 0.0
        for i in range(count):
            best[touched[i]] = 0


@numba.njit(nogil=True, cache=True)
def common_sum(source, target, indptr, indices, weights, out):  # pragma: no cover (compiled)
    """``out[i]``: the sum of ``weights`` over the common neighbours of ``source[i]`` and ``target[i]``."""
    for i in range(source.shape[0]):
        a, a_end = indptr[source[i]], indptr[source[i] + 1]
        b, b_end = indptr[target[i]], indptr[target[i] + 1]
        total = 0.0
        while a < a_end and b < b_end:
            if indices[a] == indices[b]:
                total += weights[indices[a]]
                a, b = a + 1, b + 1
            elif indices[a] < indices[b]:
                a += 1
            else:
                b += 1
        out[i] = total


@numba.njit(nogil=True, cache=True)
def fill_legal(anchors, names, seed, num_nodes, skip_indptr, skip_indices, lists):  # pragma: no cover (compiled)
    """Fills the -1 at the end of each row of ``lists`` ``(n, k)`` by random legal nodes of its anchor.

    Legal are the nodes that are neither the anchor nor its neighbours in the skip CSR; each anchor must have at least
    one. They are drawn without replacement, those already in the row included (Floyd's sampling, a bounded number of
    steps); when a row holds every legal node, the places left are drawn with replacement. What a row draws depends on
    ``seed`` and its name in ``names`` ``(n,)`` alone. (A remainder of 64 bits is uniform to 1 in 2^40 and better.)
    """
    k = lists.shape[1]
    rank_stamp = np.full(num_nodes, -1, np.int64)
    for row in range(anchors.shape[0]):
        node, word = anchors[row], pair_hash(seed, names[row])
        taken = 0
        while taken < k and lists[row, taken] >= 0:
            taken += 1
        neighbors = skip_indices[skip_indptr[node] : skip_indptr[node + 1]]
        blocked = np.empty(neighbors.shape[0] + 1 + taken, np.int64)
        blocked[: neighbors.shape[0]] = neighbors
        blocked[neighbors.shape[0]] = node
        for place in range(taken):
            blocked[neighbors.shape[0] + 1 + place] = lists[row, place]
        blocked.sort()
        free = num_nodes - blocked.shape[0]
        wanted = min(k - taken, free)
        ranks = np.empty(wanted, np.int64)
        for draw in range(wanted):
            top = free - wanted + draw
            rank = np.int64(mix(word ^ np.uint64(draw)) % np.uint64(top + 1))
            ranks[draw] = top if rank_stamp[rank] == row else rank
            rank_stamp[ranks[draw]] = row
        ranks.sort()
        below = 0
        for draw in range(wanted):
            while below < blocked.shape[0] and blocked[below] <= ranks[draw] + below:
                below += 1
            lists[row, taken + draw] = ranks[draw] + below
        full = taken + wanted
        for place in range(full, k):
            lists[row, place] = lists[row, np.int64(mix(word ^ np.uint64(place)) % np.uint64(full))]
