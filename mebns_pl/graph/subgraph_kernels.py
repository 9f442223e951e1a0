"""Compiled loops that cut the enclosing subgraphs of node pairs out of a CSR adjacency, and label their nodes.

What a pair costs depends on the rows of its own nodes alone: ``numbers``, an array over all nodes, says which number a
node has in the subgraph, counted from 1, and a pair clears what it has written. ``keep`` is a mask over ``indices``, or
None.

Places and counts are uint64, nodes and numbers uint32: of a signed place the compiled code would ask each time whether
it is negative, which takes half as long again as the rest of an inner loop.
"""

from __future__ import annotations

import numpy as np

from mebns_pl.graph.hashing import mix, pair_hash
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"

_DROPPED = 2**31 - 1  # the number of nodes that a hop's limit has left out
_FAR = 2**30  # a distance that no path has


@kernel
def _kept(keep, place):  # pragma: no cover (compiled)
    if keep is None:
        return True
    return keep[place]


@kernel
def _room(array, size):  # pragma: no cover (compiled)
    """The array itself, or a longer copy where it holds fewer than ``size`` entries."""
    if array.shape[0] >= size:
        return array
    longer = np.empty(max(size, 2 * array.shape[0]), array.dtype)
    longer[: array.shape[0]] = array
    return longer


@kernel
def _touched(members, first, last, indptr, indices, keep):  # pragma: no cover (compiled)
    """Reads both ends of the members' rows: ``(sum of their lengths, some word)``.

    The reads depend on nothing but the list of members, so that a processor waits for many of them at once; read one
    after the other later, rows of a large graph would each cost a wait for main memory. The word must be used.
    """
    total, word = np.uint64(0), np.uint64(0)
    for i in range(first, last):
        start, stop = indptr[members[i]], indptr[members[i] + np.uint64(1)]
        total += stop - start
        if start < stop:
            end = stop - np.uint64(1)
            word |= indices[start] | indices[end] | np.uint64(_kept(keep, start)) | np.uint64(_kept(keep, end))
    return np.int64(total), word


@kernel
def _thin(members, first, last, limit, word, numbers):  # pragma: no cover (compiled)
    """Keeps those ``limit`` of ``members[first:last]`` with the smallest hashes; returns the new end."""
    hashes = np.empty(last - first, np.uint64)
    for i in range(first, last):
        hashes[i - first] = mix(word ^ np.uint64(members[i]))
    greatest = np.sort(hashes)[limit - 1]
    end = first
    for i in range(first, last):
        numbers[members[i]] = _DROPPED
        if hashes[i - first] <= greatest:
            members[end] = members[i]
            end += 1
            numbers[members[i]] = end
    return end


@kernel
def _gather(  # pragma: no cover (compiled)
    source, target, indptr, indices, keep, num_hops, limit, members, seen, numbers
):
    """The nodes of a subgraph, hop by hop: ``(count, members, num_seen, seen)``.

    ``seen`` are the members and those that the limit has left out.
    """
    word = pair_hash(min(source, target), max(source, target))
    members[0], members[1] = source, target
    num_ends = 1 if source == target else 2
    for i in range(num_ends):
        seen[i], numbers[members[i]] = members[i], i + 1
    first, count, num_seen = np.uint64(0), np.uint64(num_ends), np.uint64(num_ends)
    for _ in range(num_hops):
        last = count
        reach, word_read = _touched(members, first, last, indptr, indices, keep)
        reach = min(reach, numbers.shape[0])
        members, seen = _room(members, np.int64(count) + reach + 1), _room(seen, np.int64(num_seen) + reach + 1)
        members[count] = word_read
        for i in range(first, last):
            for place in range(indptr[members[i]], indptr[members[i] + np.uint64(1)]):
                # written without a branch: whether a node is new, a processor cannot foresee
                node = indices[place]
                number = numbers[node]
                is_new = (number == 0) & _kept(keep, place)
                members[count] = seen[num_seen] = node
                count += np.uint64(is_new)
                num_seen += np.uint64(is_new)
                numbers[node] = np.int32(count) if is_new else number
        if np.int64(count - last) > limit:
            count = np.uint64(_thin(members, np.int64(last), np.int64(count), limit, word, numbers))
        first = last
    return count, members, num_seen, seen


@kernel
def _connect(  # pragma: no cover (compiled)
    members, count, num_ends, indptr, indices, keep, numbers, starts, local
):
    """The edges among members: row i of ``local``, which is unordered, starts at ``starts[i]``; returns ``local``.

    The edge between the two ends of the pair is left out. The inner loop writes each neighbour and goes on by 1 only if
    it is a member: whether it is, a processor cannot foresee.
    """
    size, word_read = _touched(members, np.uint64(0), count, indptr, indices, keep)
    local = _room(local, min(size, np.int64(count * count)) + 1)
    local[0] = word_read
    edge = np.uint64(0)
    for i in range(count):
        first, last = indptr[members[i]], indptr[members[i] + np.uint64(1)]
        starts[i] = edge
        if last - first > np.uint64(16) * count:
            # a row much longer than the subgraph: look the members up in it
            row = indices[first:last]
            for j in range(count):
                found = np.uint64(np.searchsorted(row, members[j]))
                local[edge] = j
                edge += np.uint64(found < last - first and row[found] == members[j] and _kept(keep, first + found))
        else:
            for place in range(first, last):
                number = np.uint32(numbers[indices[place]] - 1)  # of a node without one it is a large one
                local[edge] = number
                edge += np.uint64((number < count) & _kept(keep, place))
        if i < np.uint64(2) and num_ends == 2:
            for place in range(starts[i], edge):
                if local[place] == np.uint64(1) - i:
                    edge -= np.uint64(1)
                    local[place] = local[edge]
                    break
    starts[count] = edge
    return local


@kernel
def _transpose(count, starts, local, cursor, out):  # pragma: no cover (compiled)
    """Writes the rows in ascending order: the transposed of a symmetric matrix is itself, and its rows start alike."""
    cursor[:count] = starts[:count]
    for i in range(count):
        for place in range(starts[i], starts[i + np.uint64(1)]):
            j = local[place]
            out[cursor[j]] = i
            cursor[j] += np.uint64(1)
    for i in range(count):
        if cursor[i] != starts[i + np.uint64(1)]:
            raise ValueError("graph: an edge stands in one of its two rows alone; allowed is an undirected graph")


@kernel
def _distances(root, removed, count, starts, rows, distance, queue):  # pragma: no cover (compiled)
    """``distance[i]`` from the root by paths without the node ``removed``, -1 where there is none.

    A breadth-first search that goes over to the nodes not yet reached, each of which looks for one neighbour in the
    last level, when they have fewer edges than that level (Beamer, Asanovic and Patterson, SC 2012).
    """
    one = np.uint64(1)
    distance[:count] = -1
    distance[root] = 0
    queue[0], head, tail, step = root, np.uint64(0), one, 0
    level_edges = starts[root + 1] - starts[root]
    edges_left = starts[count] - level_edges
    if removed >= 0:
        distance[removed] = _FAR
        edges_left -= starts[removed + 1] - starts[removed]
    while head < tail and edges_left > np.uint64(0):
        last = tail
        if edges_left + count < level_edges:
            for node in range(count):
                if distance[node] < 0:
                    for place in range(starts[node], starts[node + one]):
                        if distance[rows[place]] == step:
                            distance[node] = step + 1
                            queue[tail] = node
                            tail += one
                            break
        else:
            for i in range(head, last):
                for place in range(starts[queue[i]], starts[queue[i] + one]):
                    # written without a branch that no processor could foresee
                    node = rows[place]
                    known = distance[node]
                    queue[tail] = node
                    tail += np.uint64(known < 0)
                    distance[node] = step + 1 if known < 0 else known
        step += 1
        head, level_edges = last, np.uint64(0)
        for i in range(head, tail):
            level_edges += starts[queue[i] + one] - starts[queue[i]]
        edges_left -= level_edges


@kernel
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
        half, odd = (a + b) >> 1, (a + b) & 1
        out[i] = 0 if (a < 0) | (b < 0) else 1 + min(a, b) + half * (half + odd - 1)
    out[:num_ends] = 1


@kernel
def enclose(sources, targets, starts, columns, keep, num_hops, limit):  # pragma: no cover (compiled)
    """The subgraphs of pairs, one after the other, in the graph of the CSR ``starts`` and ``columns``.

    Returns:
        ``num_nodes`` ``(m,)`` of each, ``nodes``, ``labels`` and ``degrees`` of all their nodes, and ``rows``, the
        neighbours of each node in ascending order, numbered within their own subgraph.
    """
    m = sources.shape[0]
    indptr, indices = starts.view(np.uint64), columns.view(np.uint64)
    num_nodes = np.empty(m, np.int64)
    room = 256 * min(m, 256)  # memory that is not written costs nothing
    nodes, labels, degrees = np.empty(room, np.uint32), np.empty(room, np.int64), np.empty(room, np.uint32)
    rows = np.empty(32 * room, np.uint32)
    members, seen = np.empty(1024, np.uint32), np.empty(1024, np.uint32)
    numbers = np.zeros(indptr.shape[0] - 1, np.int32)
    local, row_starts, cursor = np.empty(4096, np.uint32), np.empty(1024, np.uint64), np.empty(1024, np.uint64)
    first, second, queue = np.empty(1024, np.int32), np.empty(1024, np.int32), np.empty(1024, np.uint32)
    node, edge = np.int64(0), np.int64(0)
    for pair in range(m):
        num_ends = 1 if sources[pair] == targets[pair] else 2
        count, members, num_seen, seen = _gather(
            sources[pair], targets[pair], indptr, indices, keep, num_hops, limit, members, seen, numbers
        )
        size = np.int64(count)
        nodes, labels, degrees = _room(nodes, node + size), _room(labels, node + size), _room(degrees, node + size)
        row_starts, cursor, first = _room(row_starts, size + 1), _room(cursor, size), _room(first, size)
        second, queue = _room(second, size), _room(queue, size + 1)
        local = _connect(members, count, num_ends, indptr, indices, keep, numbers, row_starts, local)
        for i in range(num_seen):
            numbers[seen[i]] = 0
        num_edges = np.int64(row_starts[count])
        rows = _room(rows, edge + num_edges + size)  # a column of a matrix that is not symmetric ends no later
        _transpose(count, row_starts, local, cursor, rows[edge:])
        _label(num_ends, count, row_starts, rows[edge:], first, second, queue, labels[node:])
        nodes[node : node + size] = members[:size]
        for i in range(count):
            degrees[np.uint64(node) + i] = row_starts[i + np.uint64(1)] - row_starts[i]
        num_nodes[pair] = size
        node += size
        edge += num_edges
    return num_nodes, nodes[:node], labels[:node], degrees[:node], rows[:edge]


@kernel
def place(  # pragma: no cover (compiled)
    num_nodes, nodes, labels, degrees, rows, pair, node, edge, ptr, all_nodes, all_labels, indptr, indices
):
    """Copies what :func:`enclose` has returned into one graph, to its pairs, nodes and edges from these numbers on."""
    read_node, read_edge = 0, 0
    for size in num_nodes:
        first, first_edge = node, edge
        for i in range(read_node, read_node + size):
            node, edge = node + 1, edge + degrees[i]
            indptr[node] = edge
        all_nodes[first:node] = nodes[read_node : read_node + size]
        all_labels[first:node] = labels[read_node : read_node + size]
        read, write = rows[read_edge : read_edge + edge - first_edge], indices[first_edge:edge]
        for i in range(np.uint64(edge - first_edge)):
            write[i] = read[i] + first
        read_node, read_edge, pair = read_node + size, read_edge + edge - first_edge, pair + 1
        ptr[pair] = node


_AT_ONCE = 8


@kernel
def fill_rows(starts, out):  # pragma: no cover (compiled)
    """Writes i to ``out[starts[i] : starts[i + 1]]``, for every i, to the end of ``out``.

    Eight places are written at once, beyond the row's end as well, where the next row is written after it: how long a
    row is, a processor cannot foresee.
    """
    for i in range(starts.shape[0] - 1):
        start, stop = starts[i], starts[i + 1]
        if start + _AT_ONCE > out.shape[0]:
            out[start:stop] = i
            continue
        out[start : start + _AT_ONCE] = i
        if stop - start > _AT_ONCE:
            out[start + _AT_ONCE : stop] = i


@kernel
def select(index, arrays, new_ptr, new_edge, out):  # pragma: no cover (compiled)
    """Copies the blocks ``index``; the i-th gets the nodes from ``new_ptr[i]`` and the edges from ``new_edge[i]`` on.

    ``arrays`` are (ptr, nodes, labels, indptr, indices), ``out`` is the same without ptr, its indptr begins with 0.
    """
    ptr, nodes, labels, indptr, indices = arrays
    out_nodes, out_labels, out_indptr, out_indices = out
    for i in range(index.shape[0]):
        first, last, node, edge = ptr[index[i]], ptr[index[i] + 1], new_ptr[i], new_edge[i]
        for j in range(last - first):
            out_nodes[node + j] = nodes[first + j]
            out_labels[node + j] = labels[first + j]
            out_indptr[node + j + 1] = indptr[first + j + 1] - indptr[first] + edge
        for j in range(indptr[last] - indptr[first]):
            out_indices[edge + j] = indices[indptr[first] + j] - first + node
