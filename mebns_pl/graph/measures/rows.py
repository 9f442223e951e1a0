"""Rows of scores, sparse and some at a time: what lists of the nearest nodes and scores of pairs are made from.

A measure that goes out from a node has one compiled loop: it writes the scores of all nodes that it reaches. From these
rows come the k best, and the scores of given pairs; no N x N matrix is made.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.hashing import pair_hash
from mebns_pl.kernels import kernel
from mebns_pl.progress import in_threads, slices

# mypy: disable-error-code="no-untyped-def"

_ROOM = 2**18  # entries that are written before they are read: they stay in a core's cache

Block = tuple[slice, np.ndarray, np.ndarray, np.ndarray]
"""Rows of some nodes: ``part, ptr, columns, values``.

The scores of the i-th node of the part are ``values[ptr[i] : ptr[i + 1]]``, those of the nodes ``columns[...]``, int64,
each once; all others have 0.
"""

Rows = Callable[[np.ndarray], Iterator[Block]]
"""Nodes ``(n,)`` int64 -> their rows, block by block."""

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], int]
"""A compiled loop ``fill(nodes, ptr, columns, values)``: writes the rows of the first of ``nodes``, returns how many.

``ptr`` holds zeros. A row is begun only where there is room for N entries after ``ptr[row]``. Each call has scratch of
its own, so that nodes can be parted among threads.
"""


def compiled_rows(fill: Fill, num_nodes: int) -> Rows:
    """The rows that a compiled loop writes, in buffers that are used again for the next block."""

    def rows(nodes: np.ndarray) -> Iterator[Block]:
        room = num_nodes + max(_ROOM, num_nodes)
        columns, values, done = np.empty(room, np.int64), np.empty(room), 0
        while done < len(nodes):
            ptr = np.zeros(len(nodes) - done + 1, np.int64)
            filled = fill(nodes[done:], ptr, columns, values)
            yield slice(done, done + filled), ptr[: filled + 1], columns, values
            done += filled

    return rows


def top_lists(rows: Rows, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None) -> tuple[Tensor, Tensor]:
    """What :meth:`AbstractMeasure.top` returns, of the rows of a measure.

    Raises:
        ValueError: ``k``, ``nodes`` or ``exclude`` are not what is allowed.
    """
    at_least(1, k=k)
    outside = nodes[(nodes < 0) | (nodes >= graph.num_nodes)]
    if len(outside):
        raise ValueError(f"nodes: got {int(outside[0])}; allowed are 0 ... {graph.num_nodes - 1}")
    if exclude is not None and exclude.num_nodes != graph.num_nodes:
        raise ValueError(f"exclude: got {exclude.num_nodes} nodes; allowed is a graph of the same {graph.num_nodes}")
    skip = (np.zeros(graph.num_nodes + 1, np.int64), np.zeros(0, np.int64)) if exclude is None else structure(exclude)
    names = nodes.contiguous().numpy()
    index, score = np.empty((len(names), k), np.int64), np.empty((len(names), k), np.float32)

    def lists(part: slice) -> None:
        for block, ptr, columns, values in rows(names[part]):
            best_of_rows(names[part][block], ptr, columns, values, skip, index[part][block], score[part][block])

    in_threads(lists, slices(len(names)))
    return torch.from_numpy(index), torch.from_numpy(score)


def row_scores(rows: Rows, source: Tensor, target: Tensor, num_nodes: int) -> Tensor:
    """The scores ``(m,)`` float64 of pairs, each out of the row of its ``source`` ``(m,)``."""

    def score(nodes: np.ndarray, starts: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
        for block, ptr, columns, values in rows(nodes):
            _look_up(ptr, columns, values, starts[block.start :], targets, num_nodes, out)

    return scores_by_source(score, source, target)


def scores_by_source(
    score: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None],
    source: Tensor,
    target: Tensor,
    columns: tuple[int, ...] = (),
) -> Tensor:
    """Scores pairs, those of one source together, in threads.

    Args:
        score: ``score(nodes, starts, targets, out)`` fills ``out[j]`` with the score of ``targets[j]`` for
            ``nodes[i]``, ``starts[i] <= j < starts[i + 1]``.
        source: ``(m,)`` int64.
        target: ``(m,)`` int64.
        columns: ``(F,)`` where a pair has F scores.

    Returns:
        ``(m, *columns)`` float64.
    """
    order = source.argsort(stable=True)
    nodes, counts = torch.unique_consecutive(source[order], return_counts=True)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).numpy()
    names, targets, out = nodes.numpy(), target[order].numpy(), np.zeros((len(source), *columns))
    in_threads(lambda part: score(names[part], starts[part.start : part.stop + 1], targets, out), slices(len(names)))
    scores = torch.empty(out.shape, dtype=torch.float64)
    scores[order] = torch.from_numpy(out)
    return scores


def frequent_first(source: Tensor, target: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Turns pairs round, so that fewer different nodes are sources: lists of negatives keep one of their ends."""
    counts = torch.bincount(torch.cat([source, target]), minlength=num_nodes)
    turned = counts[target] > counts[source]
    return torch.where(turned, target, source), torch.where(turned, source, target)


def rounded(scores: np.ndarray) -> np.ndarray:
    """Scores to 28 bits: pairs in the same position have the same one, whatever the order of additions was."""
    mantissa, exponent = np.frexp(scores)
    result: np.ndarray = np.ldexp(np.rint(mantissa * 2.0**28) / 2.0**28, exponent)
    return result


@kernel
def best_of_rows(nodes, ptr, columns, values, skip, out_index, out_score):  # pragma: no cover (compiled)
    """Fills ``out_index`` ``(n, k)`` (best first, -1 where there are fewer) and ``out_score`` ``(n, k)`` from rows.

    Scores above 0 in the precision of ``out_score`` count. Of two nodes with the same score the one with the smaller
    :func:`pair_hash` comes first: no order of the node numbers shows in the result. ``skip`` is the CSR
    ``(indptr, indices)`` of the pairs to leave out; a node never gets itself.
    """
    skip_indptr, skip_indices = skip
    k, skipped = out_index.shape[1], np.full(skip_indptr.shape[0] - 1, -1, np.int64)
    heap = [(out_score[0, 0], np.uint64(0), columns[0]) for _ in range(0)]  # the worst of the best at its root
    for row in range(nodes.shape[0]):
        node = nodes[row]
        skipped[node] = row
        for place in range(skip_indptr[node], skip_indptr[node + 1]):
            skipped[skip_indices[place]] = row
        for place in range(ptr[row], ptr[row + 1]):
            score, other = out_score.dtype.type(values[place]), columns[place]
            if not score > 0 or skipped[other] == row or (len(heap) == k and score < heap[0][0]):
                continue
            entry = (score, ~pair_hash(node, other), other)
            if len(heap) < k:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
        out_index[row, len(heap) :] = -1
        out_score[row, len(heap) :] = 0
        while len(heap):
            place = len(heap) - 1
            out_score[row, place], _, out_index[row, place] = heapq.heappop(heap)


@kernel
def _look_up(ptr, columns, values, starts, targets, num_nodes, out):  # pragma: no cover (compiled)
    """``out[j]``: what row i has for ``targets[j]``, ``starts[i] <= j < starts[i + 1]``."""
    found = np.zeros(num_nodes)
    for row in range(ptr.shape[0] - 1):
        for place in range(ptr[row], ptr[row + 1]):
            found[columns[place]] = values[place]
        for place in range(starts[row], starts[row + 1]):
            out[place] = found[targets[place]]
        for place in range(ptr[row], ptr[row + 1]):
            found[columns[place]] = 0.0
