"""Every pair that is no edge, of small graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.errors import DataError
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.pools.abstract import AbstractPool, PoolPart, PoolRequest, undirected_keys

MAX_NODES = 5000
"""Largest number of nodes for which all pairs are scored."""
_BLOCK = 2**21


class AllPairsPool(AbstractPool):
    """All allowed pairs. The coverage is 1, and the cost N²: above 5,000 nodes it is refused.

    Example:
        >>> from mebns_pl.pools.abstract import AllowedPairs, pairs_of
        >>> from mebns_pl.graph.csr import Graph
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
        >>> (part,) = AllPairsPool().parts(PoolRequest(path, AllowedPairs.all(4), embed=lambda graph: None))
        >>> pairs_of(part.keys, 4).tolist()
        [[0, 0, 1, 2], [2, 3, 3, 3]]
    """

    def check(self, num_nodes: int, embeds: bool) -> None:
        """See :meth:`AbstractPool.check`."""
        if num_nodes > MAX_NODES:
            raise DataError(
                f"pool: AllPairsPool scores at most {MAX_NODES:,} nodes with each other, the graph has {num_nodes:,}; "
                "take TwoHopPool, PageRankPool, NearestPool or UnionPool"
            )

    def parts(self, request: PoolRequest) -> list[PoolPart]:
        """See :meth:`AbstractPool.parts`.

        Raises:
            DataError: more than 5,000 nodes, or more pairs than ``max_pairs``.
        """
        num_nodes, allowed = request.graph.num_nodes, request.allowed
        self.check(num_nodes, embeds=False)
        known = KnownEdges(request.left_out)
        keys = [torch.empty(0, dtype=torch.int64)]
        for group, targets in allowed.groups():
            columns = targets.nonzero().flatten()
            for rows in group.split(max(1, _BLOCK // max(1, len(columns)))):
                pairs = torch.cartesian_prod(rows, columns).t()
                # A pair that is allowed in both directions comes twice
                twice = (pairs[0] > pairs[1]) & allowed.forward(pairs.flip(0))
                pairs = pairs[:, ~twice & ~known.mask(pairs[0], pairs[1])]
                keys.append(undirected_keys(pairs, num_nodes))
        found = torch.cat(keys).sort().values
        if len(found) > request.max_pairs:
            raise DataError(f"pool: AllPairsPool has {len(found):,} pairs; max_pairs allows {request.max_pairs:,}")
        return [PoolPart("all pairs", found, [])]

    def holds(self, request: PoolRequest, pairs: Tensor) -> list[Tensor]:
        """See :meth:`AbstractPool.holds`; no pair need be listed for it."""
        known = KnownEdges(request.left_out)
        return [request.allowed.mask(pairs) & ~known.mask(pairs[0], pairs[1])]
