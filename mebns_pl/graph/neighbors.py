"""Neighbour sampling: the part of a graph that a few nodes' embeddings are computed from.

What a node draws from its neighbours is a function of the key and the node alone, whoever asks: so a node's embedding
is the same in whichever batch it stands, and ranks with a slice of a batch each compute what one process would.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.graph import neighbor_kernels as kernels
from mebns_pl.graph.csr import Graph, Sampled
from mebns_pl.graph.csr_kernels import edge_places
from mebns_pl.graph.sparse import Features, entries_of, transposed
from mebns_pl.keys import Key

ALL = 2**62
"""A fan-out that no node has."""


def sample_neighbors(
    graph: Graph, names: Tensor, fan_out: int, num_hops: int, key: Key, left_out: Tensor | None = None
) -> tuple[Graph, Tensor]:
    """Samples the surroundings of some nodes: each node up to ``num_hops - 1`` steps away keeps ``fan_out`` neighbours.

    Of a node with more kept neighbours than ``fan_out``, so many are drawn uniformly without replacement. On the
    sample an encoder of at most ``num_hops`` layers gives the nodes asked for an estimate of their embeddings
    (:meth:`Graph.neighbor_sum` is unbiased), and with a fan-out that no degree exceeds, the embeddings themselves.

    Cost: expected O(fan_out) a node that keeps neighbours, the features of the nodes that are reached, and for each
    pair left out a binary search; it does not grow with the graph. A graph with a ``keep`` mask costs the degrees of
    the nodes that are reached.

    Args:
        graph: the whole graph on the CPU.
        names: ``(M,)`` int64 nodes, repeated as they may be.
        fan_out: largest number of neighbours that a node keeps, 1 or more.
        num_hops: how far to go, 1 or more.
        key: names the draw.
        left_out: ``(2, n)`` int64, undirected pairs to leave out besides; or None.

    Returns:
        The sample, with ``node_ids``, the nodes asked for in the order in which they first come and then the others;
        and ``(M,)`` int64, the numbers of ``names`` in it.

    Raises:
        ValueError: ``fan_out`` or ``num_hops`` is below 1.

    Example:
        >>> star = Graph.from_edges(torch.tensor([[0, 0, 0, 0], [1, 2, 3, 4]]), num_nodes=5)
        >>> sample, places = sample_neighbors(star, torch.tensor([2, 0]), fan_out=3, num_hops=1, key=Key(0, "docs"))
        >>> sample.node_ids[places].tolist(), sample.indptr.tolist(), sample.degree[:2].tolist()
        ([2, 0], [0, 1, 4, 4, 4], [1, 4])
    """
    at_least(1, fan_out=fan_out, num_hops=num_hops)
    gone, word = _places(graph, left_out), np.uint64(key.integer())
    indptr, indices, keep = graph.indptr.numpy(), graph.indices.numpy(), _mask(graph)

    def degrees(nodes: np.ndarray) -> np.ndarray:
        found = np.empty(len(nodes), dtype=np.int64)
        kernels.count_neighbors(nodes, indptr, keep, gone, found)
        return found

    places, nodes = pd.factorize(names.numpy())
    degree = degrees(nodes)
    reached, counts, columns = [0, len(nodes)], [], []
    for _ in range(num_hops):
        frontier = slice(reached[-2], reached[-1])
        wanted = np.minimum(degree[frontier], fan_out)
        starts = np.concatenate([[0], wanted.cumsum()])
        drawn = np.empty(starts[-1], dtype=np.int64)
        kernels.draw_neighbors(nodes[frontier], degree[frontier], starts, word, indptr, indices, keep, gone, drawn)
        numbers, nodes = pd.factorize(np.concatenate([nodes, drawn]))
        degree = np.concatenate([degree, degrees(nodes[reached[-1] :])])
        reached.append(len(nodes))
        counts.append(wanted)
        columns.append(numbers[reached[-2] :])
    rows, entries = np.concatenate([[0], np.concatenate(counts).cumsum()]), np.concatenate(columns)
    sample: Graph | None = None
    # From the innermost: the nodes up to one hop, then two, ...; the outermost of each have no row
    for filled, size in pairwise(reached[1:]):
        row_starts = torch.from_numpy(np.concatenate([rows[: filled + 1], np.full(size - filled, rows[filled])]))
        row_entries = torch.from_numpy(entries[: rows[filled]])
        turned = transposed(row_starts, row_entries, size)[:2]
        sampled = Sampled(torch.from_numpy(degree[:size]), *turned, sample)
        sample = Graph(row_starts, row_entries, node_ids=torch.from_numpy(nodes[:size]), sampled=sampled)
    assert sample is not None
    x = _rows_of(graph.x, torch.from_numpy(nodes))
    return replace(sample, x=x, feature_mask=graph.feature_mask), torch.from_numpy(places)


def surroundings(graph: Graph, nodes: Tensor) -> Graph:
    """Some nodes with all their neighbours: what one layer of an encoder needs to compute them, without gradient.

    Cost: that of the nodes' edges; and once for a graph, whose part this knows to be, O(N).

    Args:
        graph: the whole graph on the CPU.
        nodes: ``(n,)`` int64, distinct; they come first in ``node_ids``.
    """
    indptr, indices = graph.indptr.numpy(), graph.indices.numpy()
    if "numbers" not in graph._shared:
        graph._shared["numbers"] = torch.full((graph.num_nodes,), -1, dtype=torch.int32)
    numbers = graph._shared["numbers"].numpy()
    most = int((graph.indptr[nodes + 1] - graph.indptr[nodes]).sum())
    starts, entries = np.zeros(len(nodes) + 1, dtype=np.int64), np.empty(most, dtype=np.int64)
    reached = np.empty(len(nodes) + most, dtype=np.int64)
    size = kernels.whole_rows(nodes.numpy(), indptr, indices, _mask(graph), numbers, starts, entries, reached)
    ids = torch.from_numpy(reached[:size].copy())
    row_starts = torch.from_numpy(np.concatenate([starts, np.full(size - len(nodes), starts[-1])]))
    row_entries = torch.from_numpy(entries[: starts[-1]])
    sampled = Sampled(graph.degree[ids], None, None)
    return Graph(row_starts, row_entries, _rows_of(graph.x, ids), None, graph.feature_mask, ids, sampled)


def with_neighbors(graph: Graph, nodes: Tensor) -> Tensor:
    """``(N,)`` bool: nodes and all their neighbours along edges that take part in message passing.

    Args:
        graph: the whole graph on the CPU.
        nodes: ``(N,)`` bool.
    """
    found = nodes.clone()
    kernels.mark_neighbors(nodes.numpy(), graph.indptr.numpy(), graph.indices.numpy(), _mask(graph), found.numpy())
    return found


def single_nodes(graph: Graph, nodes: Tensor) -> Graph:
    """Some nodes with their features and without neighbours.

    Args:
        graph: the whole graph on the CPU.
        nodes: ``(n,)`` int64, distinct.
    """
    starts, entries = torch.zeros(len(nodes) + 1, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    sampled = Sampled(graph.degree[nodes], starts, entries)
    return Graph(starts, entries, _rows_of(graph.x, nodes), None, graph.feature_mask, nodes, sampled)


def _places(graph: Graph, left_out: Tensor | None) -> np.ndarray:
    """Ascending places in ``graph.indices`` of both directions of the pairs."""
    if left_out is None or not left_out.numel():
        return np.empty(0, dtype=np.int64)
    source, target = torch.cat([left_out, left_out.flip(0)], dim=1).numpy()
    found = np.empty(len(source), dtype=np.int64)
    edge_places(source, target, graph.indptr.numpy(), graph.indices.numpy(), found)
    return np.unique(found[found >= 0])


def _mask(graph: Graph) -> np.ndarray:
    """The kernels' form of ``graph.keep``."""
    return np.empty(0, dtype=bool) if graph.keep is None else graph.keep.numpy()


def _rows_of(x: Tensor | Features | None, nodes: Tensor) -> Tensor | Features | None:
    """The features of some nodes; of a memory-mapped matrix only those rows are read."""
    if x is None or isinstance(x, Tensor):
        return x if x is None else x.index_select(0, nodes)
    indptr, places = entries_of(x.matrix.crow_indices().long(), nodes)
    entries = indptr, x.matrix.col_indices()[places].long(), x.matrix.values()[places]
    return Features.of(torch.sparse_csr_tensor(*entries, (len(nodes), x.matrix.shape[1]), check_invariants=False))
