"""Several pools put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mebns_pl.pools.abstract import AbstractPool, PoolPart, PoolRequest
from mebns_pl.pools.all_pairs import MAX_NODES, AllPairsPool
from mebns_pl.pools.listed import PageRankPool, TwoHopPool
from mebns_pl.pools.nearest import NearestPool


class UnionPool(AbstractPool):
    """The pairs of all of several pools, each pair once. Each pool gets an equal share of ``max_pairs``.

    Args:
        pools: one pool or more.

    Raises:
        ValueError: no pool.

    Example:
        >>> import torch
        >>> from mebns_pl.pools.abstract import AllowedPairs
        >>> from mebns_pl.graph.csr import Graph
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> request = PoolRequest(path, AllowedPairs.all(4), embed=lambda graph: None)
        >>> [(part.name, len(part.keys)) for part in UnionPool([TwoHopPool(), PageRankPool()]).parts(request)]
        [('two-hop', 2), ('PageRank, top 100', 3)]
    """

    def __init__(self, pools: Sequence[AbstractPool]) -> None:
        if not pools:
            raise ValueError("pools: got none; at least one pool is needed")
        self.pools = tuple(pools)

    def check(self, num_nodes: int, embeds: bool) -> None:
        """See :meth:`AbstractPool.check`."""
        for pool in self.pools:
            pool.check(num_nodes, embeds)

    def parts(self, request: PoolRequest) -> list[PoolPart]:
        """See :meth:`AbstractPool.parts`."""
        most = max(1, request.max_pairs // len(self.pools))
        shared = replace(request, max_pairs=most, embed=lambda _: request.embeddings)  # made once for all
        return [part for pool in self.pools for part in pool.parts(shared)]


def default_pool(request: PoolRequest) -> AbstractPool:
    """All pairs of small graphs; above, two-hop, PageRank and nearest neighbours (where the student has embeddings)."""
    if request.graph.num_nodes <= MAX_NODES:
        return AllPairsPool()
    pools: list[AbstractPool] = [TwoHopPool(), PageRankPool()]
    return UnionPool(pools if request.embeddings is None else [*pools, NearestPool()])
