"""The nearest neighbours of each source node in the student's own embedding space."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import entries_of
from mebns_pl.pools.abstract import AbstractPool, PoolPart, PoolRequest, undirected_keys

_BLOCK = 2**24  # similarities of a block, 64 MiB in float32


class NearestPool(AbstractPool):
    """For each source node the ``top`` nodes whose embeddings are nearest to its own, exactly.

    The embeddings are those that the student itself makes. Similarities are computed in blocks of source nodes, on the
    student's device, and none is kept: the memory is that of one block.

    Cost: n N C multiply-adds for n source nodes, N target nodes and C channels.

    Args:
        top: nodes in each source node's list, 1 or more.
        cosine: whether embeddings are brought to length 1 first; False compares inner products, which suits a student
            with a dot-product decoder.

    Raises:
        ValueError: ``top`` is below 1.

    Example:
        >>> from mebns_pl.pools.abstract import AllowedPairs, pairs_of
        >>> from mebns_pl.graph.csr import Graph
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.1], [0.0, 2.0]])
        >>> request = PoolRequest(path, AllowedPairs.all(4), embed=lambda graph: z)
        >>> pairs_of(NearestPool(top=1).parts(request)[0].keys, 4).tolist()
        [[0, 1], [2, 3]]
    """

    def __init__(self, top: int = 100, cosine: bool = True) -> None:
        at_least(1, top=top)
        self.top, self.cosine = top, cosine

    def check(self, num_nodes: int, embeds: bool) -> None:
        """See :meth:`AbstractPool.check`."""
        if not embeds:
            raise DataError(
                "pool: NearestPool needs a student that embeds nodes (an encoder with a decoder); this one scores "
                "pairs without; take TwoHopPool, PageRankPool or a UnionPool of these"
            )

    def parts(self, request: PoolRequest) -> list[PoolPart]:
        """See :meth:`AbstractPool.parts`.

        Raises:
            DataError: the student has no embeddings of nodes.
        """
        z = request.embeddings
        self.check(request.graph.num_nodes, embeds=z is not None)
        assert z is not None
        top, notes = request.bounded(self.top, "nearest")
        z = torch.nn.functional.normalize(z, dim=1) if self.cosine else z
        keys = [torch.empty(0, dtype=torch.int64)]
        for group, targets in request.allowed.groups():
            columns = targets.nonzero().flatten()
            compared = z if len(columns) == len(z) else z[columns.to(z.device)]
            place = torch.full((len(z),), -1, dtype=torch.int64)
            place[columns] = torch.arange(len(columns))
            for rows in group.split(max(1, _BLOCK // max(1, len(columns)))):
                similar = z[rows.to(z.device)] @ compared.t()
                gone = self._left_out(request, rows, place)
                similar[gone[0].to(z.device), gone[1].to(z.device)] = -torch.inf
                best = similar.topk(min(top, len(columns)), dim=1)
                real = (best.values > -torch.inf).cpu()
                pairs = torch.stack([rows[:, None].expand_as(real)[real], columns[best.indices.cpu()[real]]])
                keys.append(undirected_keys(pairs, request.graph.num_nodes))
        return [PoolPart(f"nearest, top {top:,}", torch.unique(torch.cat(keys)), notes)]

    @staticmethod
    def _left_out(request: PoolRequest, rows: Tensor, place: Tensor) -> Tensor:
        """``(2, m)``: (row of the block, column of the block) of the pairs that no pool holds, self-pairs included."""
        graph = request.left_out
        starts, entries = entries_of(graph.indptr, rows)
        row, column = torch.arange(len(rows)).repeat_interleave(starts.diff()), place[graph.indices[entries]]
        row, column = torch.cat([row, torch.arange(len(rows))]), torch.cat([column, place[rows]])
        return torch.stack([row, column])[:, column >= 0]
