"""Compiled loops that score given pairs, those of one source node together.

``nodes`` ``(n,)`` are the sources, and the pairs of ``nodes[i]`` are those at ``starts[i] ... starts[i + 1] - 1`` of
``targets`` and ``out``. Each call has scratch of its own, so that sources can be parted among threads in any way.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from mebns_pl.graph.measures.kernels import _drain as drain
from mebns_pl.graph.measures.kernels import _mark_skipped as mark_skipped
from mebns_pl.graph.measures.kernels import _offer as offer

# mypy: disable-error-code="no-untyped-def"


@numba.njit(nogil=True, cache=True)
def _katz(  # pragma: no cover (compiled)
    node, indptr, indices, beta, tolerance, max_length, total, term, coming, reached, seen
):
    """Fills ``total`` at the first nodes of ``reached``; returns how many these are, negative without convergence."""
    reached[0], seen[node], count = node, True, 1
    term[node] = 1.0
    going, length = True, 0
    while going and length < max_length:
        length += 1
        going = False
        before = count
        for i in range(before):
            current = reached[i]
            share = beta * term[current]
            if share > 0.0:
                for j in range(indptr[current], indptr[current + 1]):
                    other = indices[j]
                    coming[other] += share
                    if not seen[other]:
                        seen[other] = True
                        reached[count] = other
                        count += 1
                        going = True
        for i in range(count):
            current = reached[i]
            total[current] += coming[current]
            if coming[current] > tolerance * total[current]:
                going = True
            term[current], coming[current] = coming[current], 0.0
    return -count if going else count


@numba.njit(nogil=True, cache=True)
def katz_top(  # pragma: no cover (compiled)
    nodes, indptr, indices, beta, tolerance, max_length, bits, skip_indptr, skip_indices, out_index, out_score
):
    """The nodes of the highest sums over walks, rounded to ``bits``, as the kernels of :mod:`.kernels` give them.

    Returns the first node without convergence, or -1.
    """
    num_nodes, k = indptr.shape[0] - 1, out_index.shape[1]
    total, term, coming = np.zeros(num_nodes), np.zeros(num_nodes), np.zeros(num_nodes)
    reached, seen = np.empty(num_nodes, np.int64), np.zeros(num_nodes, np.bool_)
    stamp = np.full(num_nodes, -1, np.int64)
    scores, hashes, heap = np.empty(k, np.float32), np.empty(k, np.uint64), np.empty(k, np.int64)
    for row in range(nodes.shape[0]):
        node = nodes[row]
        count = _katz(node, indptr, indices, beta, tolerance, max_length, total, term, coming, reached, seen)
        if count < 0:
            return node
        mark_skipped(stamp, row, node, skip_indptr, skip_indices)
        size = 0
        for i in range(count):
            other = reached[i]
            mantissa, exponent = math.frexp(total[other])
            score = np.float32(math.ldexp(np.rint(mantissa * bits) / bits, exponent))
            if score > 0 and stamp[other] != row:
                size = offer(scores, hashes, heap, size, score, other, node)
            total[other], term[other], seen[other] = 0.0, 0.0, False
        drain(scores, hashes, heap, size, out_index[row], out_score[row])
    return -1


@numba.njit(nogil=True, cache=True)
def katz_pairs(  # pragma: no cover (compiled)
    nodes, starts, targets, indptr, indices, beta, tolerance, max_length, out
):
    """``out[j]``: the sum over walks of length l of ``beta ** l``; returns the first node without convergence, or -1.

    A source is done when the next length reaches no new node and adds to no node more than ``tolerance`` of its sum.
    """
    num_nodes = indptr.shape[0] - 1
    total, term, coming = np.zeros(num_nodes), np.zeros(num_nodes), np.zeros(num_nodes)
    reached, seen = np.empty(num_nodes, np.int64), np.zeros(num_nodes, np.bool_)
    for row in range(nodes.shape[0]):
        node = nodes[row]
        count = _katz(node, indptr, indices, beta, tolerance, max_length, total, term, coming, reached, seen)
        if count < 0:
            return node
        for place in range(starts[row], starts[row + 1]):
            out[place] = total[targets[place]]
        for i in range(count):
            total[reached[i]], term[reached[i]], seen[reached[i]] = 0.0, 0.0, False
    return -1


@numba.njit(nogil=True, cache=True)
def distance_pairs(nodes, starts, targets, indptr, indices, out):  # pragma: no cover (compiled)
    """``out[j]``: the number of edges of a shortest path, -1 where there is none."""
    num_nodes = indptr.shape[0] - 1
    distance, queue = np.full(num_nodes, -1, np.int64), np.empty(num_nodes, np.int64)
    for row in range(nodes.shape[0]):
        queue[0], distance[nodes[row]], head, count = nodes[row], 0, 0, 1
        while head < count:
            current = queue[head]
            head += 1
            for i in range(indptr[current], indptr[current + 1]):
                other = indices[i]
                if distance[other] < 0:
                    distance[other] = distance[current] + 1
                    queue[count] = other
                    count += 1
        for place in range(starts[row], starts[row + 1]):
            out[place] = distance[targets[place]]
        for i in range(count):
            distance[queue[i]] = -1


@numba.njit(nogil=True, cache=True)
def sparse_dot_pairs(sources, targets, indptr, indices, values, out):  # pragma: no cover (compiled)
    """``out[j]``: the dot product of two sparse rows with ascending column numbers."""
    for pair in range(sources.shape[0]):
        a, a_end = indptr[sources[pair]], indptr[sources[pair] + 1]
        b, b_end = indptr[targets[pair]], indptr[targets[pair] + 1]
        total = 0.0
        while a < a_end and b < b_end:
            if indices[a] == indices[b]:
                total += values[a] * values[b]
                a, b = a + 1, b + 1
            elif indices[a] < indices[b]:
                a += 1
            else:
                b += 1
        out[pair] = total


@numba.njit(nogil=True, cache=True)
def stack_push(node, indptr, indices, alpha, eps, out):  # pragma: no cover (compiled)
    """``out`` ``(N,)`` float32: personalised PageRank of ``node``; of the nodes that wait the last is pushed first.

    The residual of a waiting node grows while it waits. Scores differ from those of other orders by up to ``eps``
    times the degree, which is why the order is part of what is reproduced.
    """
    num_nodes = indptr.shape[0] - 1
    rank, residual = np.zeros(num_nodes), np.zeros(num_nodes)
    stack, waits = np.empty(num_nodes, np.int64), np.zeros(num_nodes, np.bool_)
    limit = np.empty(num_nodes)
    for other in range(num_nodes):
        limit[other] = alpha * eps * (indptr[other + 1] - indptr[other])
    residual[node] = alpha
    stack[0], size = node, 1
    waits[node] = True
    while size > 0:
        size -= 1
        current = stack[size]
        waits[current] = False
        mass = residual[current]
        rank[current] += mass
        residual[current] = 0.0
        first, last = indptr[current], indptr[current + 1]
        if first < last:
            share = (1.0 - alpha) * mass / (last - first)
            for i in range(first, last):
                other = indices[i]
                residual[other] += share
                if residual[other] >= limit[other] and not waits[other]:
                    waits[other] = True
                    stack[size] = other
                    size += 1
    for other in range(num_nodes):
        out[other] = np.float32(rank[other])
