"""Compiled loops that cut the enclosing subgraphs of node pairs out of a CSR adjacency, label their nodes, join them.

What a pair costs depends on the rows of its own nodes alone: nodes are numbered by a small hash table, cleared for each
pair, instead of an array over the whole graph. A table has 2^k entries ``node << 32 | local number``, -1 where empty;
``shift`` is 64 - k, which turns a hash into a slot. ``keep`` is a mask over ``indices``, or None.
"""

from __future__ import annotations

import numba
import numpy as np

from mebns_pl.graph.kernels import mix, pair_hash

# mypy: disable-error-code="no-untyped-def"

_DROPPED = 2**31 - 1  # the local number of nodes that a hop's limit has left out


@numba.njit(nogil=True, cache=True)
def _kept(keep, place):  # pragma: no cover (compiled)
    if keep is None:
        return True
    return keep[place]


@numba.njit(nogil=True, cache=True)
def _room(array, size):  # pragma: no cover (compiled)
    """The array itself, or a longer copy where it holds fewer than ``size`` entries."""
    if array.shape[0] >= size:
        return array
    longer = np.empty(max(size, 2 * array.shape[0]), array.dtype)
    longer[: array.shape[0]] = array
    return longer


@numba.njit(nogil=True, cache=True)
def _slot(table, shift, node):  # pragma: no cover (compiled)
    """Where the node stands in the table, or the empty slot where it would."""
    slot = np.int64((np.uint64(node) * np.uint64(0x9E3779B97F4A7C15)) >> shift)
    last = table.shape[0] - 1
    while table[slot] >= 0 and table[slot] >> 32 != node:
        slot = (slot + 1) & last
    return slot


@numba.njit(nogil=True, cache=True)
def _widened(store, table, size):  # pragma: no cover (compiled)
    """A table for ``size`` nodes with the entries of ``table``: ``(store, table, shift)``; it lies in the store."""
    bits = 3
    while 1 << bits < 2 * size:
        bits += 1
    shift = np.uint64(64 - bits)
    entries = table.copy()
    store = _room(store, 1 << bits)
    wider = store[: 1 << bits]
    wider[:] = -1
    for entry in entries:
        if entry >= 0:
            wider[_slot(wider, shift, entry >> 32)] = entry
    return store, wider, shift


@numba.njit(nogil=True, cache=True)
def _thin(members, first, last, limit, word, table, shift):  # pragma: no cover (compiled)
    """Keeps those ``limit`` of ``members[first:last]`` with the smallest hashes; returns the new end."""
    hashes = np.empty(last - first, np.uint64)
    for i in range(first, last):
        hashes[i - first] = mix(word ^ np.uint64(members[i]))
    greatest = np.sort(hashes)[limit - 1]
    end = first
    for i in range(first, last):
        node = members[i]
        slot = _slot(table, shift, node)
        if hashes[i - first] <= greatest:
            members[end] = node
            table[slot] = node << 32 | end
            end += 1
        else:
            table[slot] = node << 32 | _DROPPED
    return end


@numba.njit(nogil=True, cache=True)
def _gather(source, target, indptr, indices, keep, num_hops, limit, members, store):  # pragma: no cover (compiled)
    """The nodes of a subgraph, hop by hop: ``(count, members, store, table, shift)``."""
    num_nodes = indptr.shape[0] - 1
    word = pair_hash(min(source, target), max(source, target))
    members[0], members[1] = source, target
    count = 1 if source == target else 2
    store, table, shift = _widened(store, store[:0], count)
    for i in range(count):
        table[_slot(table, shift, members[i])] = members[i] << 32 | i
    first, seen = 0, count
    for _ in range(num_hops):
        last, reach = count, 0
        for i in range(first, last):
            reach += indptr[members[i] + 1] - indptr[members[i]]
        reach = min(reach, num_nodes)
        members = _room(members, count + reach)
        if 2 * (seen + reach) > table.shape[0]:
            store, table, shift = _widened(store, table, seen + reach)
        for i in range(first, last):
            for place in range(indptr[members[i]], indptr[members[i] + 1]):
                if _kept(keep, place):
                    other = indices[place]
                    slot = _slot(table, shift, other)
                    if table[slot] < 0:
                        table[slot] = other << 32 | count
                        members[count] = other
                        count += 1
        seen += count - last
        if count - last > limit:
            count = _thin(members, last, count, limit, word, table, shift)
        first = last
    return count, members, store, table, shift


@numba.njit(nogil=True, cache=True)
def _connect(  # pragma: no cover (compiled)
    members, count, num_ends, indptr, indices, keep, table, shift, ends, local, degrees
):
    """The edges among members: row i of ``local``, which is unordered, ends at ``ends[i]``; returns ``local``.

    ``degrees[j]`` counts the rows with j in them. The edge between the two ends of the pair is left out.
    """
    size = 0
    for i in range(count):
        size += min(indptr[members[i] + 1] - indptr[members[i]], count)
    local = _room(local, size)
    degrees[:count] = 0
    edge, left_out = 0, 1 if num_ends == 2 else -1  # the sum of the ends' numbers, 0 and 1
    for i in range(count):
        first, last = indptr[members[i]], indptr[members[i] + 1]
        if last - first > 16 * count:
            # a row much longer than the subgraph: look the members up in it
            row = indices[first:last]
            for j in range(count):
                place = np.searchsorted(row, members[j])
                found = place < last - first and row[place] == members[j] and _kept(keep, first + place)
                if found and i + j != left_out:
                    local[edge] = j
                    degrees[j] += 1
                    edge += 1
        else:
            for place in range(first, last):
                other = indices[place]
                entry = table[_slot(table, shift, other)]
                j = entry & 0xFFFFFFFF
                if entry >= 0 and j != _DROPPED and _kept(keep, place) and i + j != left_out:
                    local[edge] = j
                    degrees[j] += 1
                    edge += 1
        ends[i] = edge
    return local


@numba.njit(nogil=True, cache=True)
def _transpose(count, ends, local, degrees, starts, out):  # pragma: no cover (compiled)
    """Writes the rows in ascending order: the transposed of a symmetric matrix is itself. Fills ``starts`` too."""
    starts[0] = 0
    for i in range(count):
        starts[i + 1] = starts[i] + degrees[i]
    place = 0
    for i in range(count):
        while place < ends[i]:
            j = local[place]
            out[starts[j]] = i
            starts[j] += 1
            place += 1
    for i in range(count, 0, -1):
        starts[i] = starts[i - 1]
    starts[0] = 0


@numba.njit(nogil=True, cache=True)
def _distances(root, removed, count, starts, rows, distance, queue):  # pragma: no cover (compiled)
    """``distance[i]`` from the root by paths without the node ``removed``, -1 where there is none."""
    distance[:count] = -1
    distance[root] = 0
    if removed >= 0:
        distance[removed] = 0
    queue[0], head, tail = root, 0, 1
    while head < tail:
        current = queue[head]
        head += 1
        for place in range(starts[current], starts[current + 1]):
            other = rows[place]
            if distance[other] < 0:
                distance[other] = distance[current] + 1
                queue[tail] = other
                tail += 1


@numba.njit(nogil=True, cache=True)
def _label(num_ends, count, starts, rows, first, second, queue, out):  # pragma: no cover (compiled)
    """Double-radius node labels (Zhang and Chen, NeurIPS 2018, equation 4), 0 where an end is out of reach."""
    if num_ends == 2:
        _distances(0, 1, count, starts, rows, first, queue)
        _distances(1, 0, count, starts, rows, second, queue)
    else:
        _distances(0, -1, count, starts, rows, first, queue)
        second[:count] = first[:count]
    for i in range(count):
        a, b = np.int64(first[i]), np.int64(second[i])
        if i < num_ends:
            out[i] = 1
        elif a < 0 or b < 0:
            out[i] = 0
        else:
            half, odd = (a + b) // 2, (a + b) % 2
            out[i] = 1 + min(a, b) + half * (half + odd - 1)


@numba.njit(nogil=True, cache=True)
def enclose(sources, targets, indptr, indices, keep, num_hops, limit):  # pragma: no cover (compiled)
    """The subgraphs of pairs, one after the other.

    Returns:
        ``num_nodes`` and ``num_edges`` ``(m,)`` of each, ``nodes``, ``labels`` and ``degrees`` of all their nodes, and
        ``rows``, the neighbours of each node in ascending order, numbered within their own subgraph.
    """
    m = sources.shape[0]
    num_nodes, num_edges = np.empty(m, np.int64), np.empty(m, np.int64)
    nodes, labels, degrees = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.int32)
    rows = np.empty(4096, np.int32)
    members, store = np.empty(1024, np.int64), np.empty(2048, np.int64)
    local, ends = np.empty(4096, np.int32), np.empty(1024, np.int64)
    starts, first = np.empty(1025, np.int64), np.empty(1024, np.int32)
    second, queue = np.empty(1024, np.int32), np.empty(1024, np.int32)
    node, edge = 0, 0
    for pair in range(m):
        num_ends = 1 if sources[pair] == targets[pair] else 2
        count, members, store, table, shift = _gather(
            sources[pair], targets[pair], indptr, indices, keep, num_hops, limit, members, store
        )
        nodes, labels, degrees = _room(nodes, node + count), _room(labels, node + count), _room(degrees, node + count)
        ends, starts, first = _room(ends, count), _room(starts, count + 1), _room(first, count)
        second, queue = _room(second, count), _room(queue, count)
        degree = degrees[node:]
        local = _connect(members, count, num_ends, indptr, indices, keep, table, shift, ends, local, degree)
        rows = _room(rows, edge + ends[count - 1])
        _transpose(count, ends, local, degree, starts, rows[edge:])
        _label(num_ends, count, starts, rows[edge:], first, second, queue, labels[node:])
        nodes[node : node + count] = members[:count]
        num_nodes[pair], num_edges[pair] = count, ends[count - 1]
        node += count
        edge += ends[count - 1]
    return num_nodes, num_edges, nodes[:node], labels[:node], degrees[:node], rows[:edge]


@numba.njit(nogil=True, cache=True)
def join(num_nodes, num_edges, part, node, edge, out):  # pragma: no cover (compiled)
    """Writes one result of :func:`enclose` into the joint arrays, its first node and edge at ``node`` and ``edge``.

    ``part`` is (nodes, labels, degrees, rows), ``out`` is (nodes, labels, indptr without its 0, indices).
    """
    nodes, labels, degrees, rows = part
    out_nodes, out_labels, out_indptr, out_indices = out
    out_nodes[node : node + nodes.shape[0]] = nodes
    out_labels[node : node + nodes.shape[0]] = labels
    end = edge
    for i in range(degrees.shape[0]):
        end += degrees[i]
        out_indptr[node + i] = end
    place = 0
    for pair in range(num_nodes.shape[0]):
        for _ in range(num_edges[pair]):
            out_indices[edge + place] = rows[place] + node
            place += 1
        node += num_nodes[pair]


@numba.njit(nogil=True, cache=True)
def select(index, ptr, nodes, labels, indptr, indices, new_ptr, new_edge, out):  # pragma: no cover (compiled)
    """Copies the blocks ``index``; the i-th gets the nodes from ``new_ptr[i]`` and the edges from ``new_edge[i]`` on.

    ``out`` is (nodes, labels, indptr without its 0, indices).
    """
    out_nodes, out_labels, out_indptr, out_indices = out
    for i in range(index.shape[0]):
        first, last, node, edge = ptr[index[i]], ptr[index[i] + 1], new_ptr[i], new_edge[i]
        for j in range(last - first):
            out_nodes[node + j] = nodes[first + j]
            out_labels[node + j] = labels[first + j]
            out_indptr[node + j] = indptr[first + j + 1] - indptr[first] + edge
        for j in range(indptr[last] - indptr[first]):
            out_indices[edge + j] = indices[indptr[first] + j] - first + node
