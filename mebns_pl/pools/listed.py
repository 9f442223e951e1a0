"""The best nodes of each source node by a measure of proximity."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import AbstractMeasure
from mebns_pl.graph.measures.neighbors import ResourceAllocation
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.pools.abstract import AbstractPool, PoolPart, PoolRequest, undirected_keys

_BLOCK = 2**21  # cells of the lists that are made in one go


class TwoHopPool(AbstractPool):
    """Pairs with a common neighbour: for each source node the ``top`` best of them by resource allocation.

    A graph that joins nodes of two types only (users and items) has no such pair between the types.

    Args:
        top: nodes in each source node's list, 1 or more. How many lists were cut is told.

    Raises:
        ValueError: ``top`` is below 1.

    Example:
        >>> from mebns_pl.pools.abstract import AllowedPairs, pairs_of
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> (part,) = TwoHopPool().parts(PoolRequest(path, AllowedPairs.all(4), embed=lambda graph: None))
        >>> pairs_of(part.keys, 4).tolist()
        [[0, 1], [2, 3]]
    """

    def __init__(self, top: int = 1000) -> None:
        at_least(1, top=top)
        self.top = top

    def parts(self, request: PoolRequest) -> list[PoolPart]:
        """See :meth:`AbstractPool.parts`."""
        top, notes = request.bounded(self.top, "two-hop")
        keys, cut = listed_keys(ResourceAllocation(), request, top)
        if cut:
            notes.append(f"two-hop: {cut:,} nodes have more than {top:,} others two hops away; the best were taken")
        return [PoolPart("two-hop", keys, notes)]


class PageRankPool(AbstractPool):
    """For each source node the ``top`` nodes of the highest personalised PageRank.

    Args:
        top: nodes in each source node's list, 1 or more.
        alpha: restart probability, in (0, 1).
        eps: largest residual for each edge of a node, above 0; at 1e-4 a tenth of the cost of 1e-5.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> from mebns_pl.pools.abstract import AllowedPairs, pairs_of
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> (part,) = PageRankPool(top=1).parts(PoolRequest(path, AllowedPairs.all(4), embed=lambda graph: None))
        >>> pairs_of(part.keys, 4).tolist()
        [[0, 1], [2, 3]]
    """

    def __init__(self, top: int = 100, alpha: float = 0.15, eps: float = 1e-4) -> None:
        at_least(1, top=top)
        self.top = top
        self.measure = PersonalizedPageRank(alpha, eps)

    def parts(self, request: PoolRequest) -> list[PoolPart]:
        """See :meth:`AbstractPool.parts`."""
        top, notes = request.bounded(self.top, "PageRank")
        return [PoolPart(f"PageRank, top {top:,}", listed_keys(self.measure, request, top)[0], notes)]


def listed_keys(measure: AbstractMeasure, request: PoolRequest, top: int) -> tuple[Tensor, int]:
    """The keys of the ``top`` best allowed pairs of each source node, and how many nodes have more than these."""
    allowed, num_nodes = request.allowed, request.graph.num_nodes
    keys, cut = [torch.empty(0, dtype=torch.int64)], 0
    step = max(1, _BLOCK // (top + 1))
    for rows, targets in ((rows, targets) for group, targets in allowed.groups() for rows in group.split(step)):
        index, listed = best_targets(measure, request.graph, rows, top + 1, targets, request.left_out)
        cut += int(listed[:, top].sum())
        listed = listed[:, :top]
        pairs = torch.stack([rows[:, None].expand_as(listed)[listed], index[:, :top][listed]])
        keys.append(undirected_keys(pairs, num_nodes))
    return torch.unique(torch.cat(keys)), cut


def best_targets(
    measure: AbstractMeasure, graph: Graph, rows: Tensor, k: int, targets: Tensor, left_out: Graph
) -> tuple[Tensor, Tensor]:
    """The k best nodes of each row among ``targets``, exactly.

    A measure lists nodes of every kind, so rows whose lists do not hold k targets are asked for longer ones.

    Args:
        measure: lists nodes, best first.
        graph: the graph.
        rows: ``(n,)`` int64.
        k: length of the lists.
        targets: ``(N,)`` bool.
        left_out: pairs that are not listed.

    Returns:
        ``(n, k)`` int64 node numbers, and ``(n, k)`` bool, where there is one.
    """
    index = torch.zeros(len(rows), k, dtype=torch.int64)
    found = torch.zeros(len(rows), k, dtype=torch.bool)
    open_rows, ask = torch.arange(len(rows)), k
    while len(open_rows):
        short = []
        for part in open_rows.split(max(1, _BLOCK // ask)):
            nodes, _ = measure.top(graph, rows[part], ask, left_out)
            fits = (nodes >= 0) & targets[nodes.clamp_min(0)]
            # The first k of those that fit, in order: a stable sort brings them to the front
            order = (~fits).to(torch.uint8).argsort(dim=1, stable=True)[:, :k]
            index[part], found[part] = nodes.gather(1, order), fits.gather(1, order)
            short.append(part[~found[part, -1] & (nodes[:, -1] >= 0)])
        # A list of N cannot be full, since no node is in its own: this ends
        open_rows, ask = torch.cat(short), min(4 * ask, graph.num_nodes)
    return index, found
