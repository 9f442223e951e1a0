"""Which pairs are known edges: exact membership in O(log E), with no N x N anything."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph


class KnownEdges:
    """The edges a negative must not be: those of one graph, and self-pairs.

    Args:
        graph: the *training* graph; held-out edges are unknown to samplers.

    Example:
        >>> known = KnownEdges(Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4))
        >>> known.mask(torch.tensor([0, 0, 3]), torch.tensor([1, 2, 3])).tolist()
        [True, False, True]
        >>> known.num_legal(torch.tensor([0, 1, 3])).tolist()
        [2, 1, 3]
    """

    def __init__(self, graph: Graph) -> None:
        self.num_nodes = graph.num_nodes
        self.indptr = graph.indptr
        self._degree = graph.indptr.diff()
        # A node is its own neighbour here, so that one sorted list holds all that is not allowed.
        loops = torch.arange(graph.num_nodes, device=graph.indptr.device)
        self._keys = torch.cat([graph.edge_keys, loops * graph.num_nodes + loops]).sort().values
        blocked = self._keys % self.num_nodes
        row = self._keys // self.num_nodes
        first = graph.indptr[:-1] + loops
        place = torch.arange(len(self._keys), device=first.device) - first[row]
        # Number of legal nodes below the j-th blocked one of a row; ascending within rows, so ascending overall
        # once rows are told apart: one binary search finds the r-th legal node of any row.
        self._legal_below = row * (self.num_nodes + 1) + (blocked - place)
        self._first = first

    def mask(self, source: Tensor, target: Tensor) -> Tensor:
        """True where (source, target) is a known edge or a self-pair; shapes broadcast, int64 in, bool out."""
        keys = source * self.num_nodes + target
        place = torch.searchsorted(self._keys, keys).clamp_(max=len(self._keys) - 1)
        return self._keys[place] == keys

    def num_legal(self, anchors: Tensor) -> Tensor:
        """How many nodes are a legal negative for each anchor: N - 1 - degree."""
        return self.num_nodes - 1 - self._degree[anchors]

    def legal_node(self, anchors: Tensor, rank: Tensor) -> Tensor:
        """The ``rank``-th legal node of each anchor in ascending order, ``0 <= rank < num_legal``.

        Args:
            anchors: ``(...)`` int64.
            rank: ``(...)`` int64.
        """
        query = anchors * (self.num_nodes + 1) + rank
        place = torch.searchsorted(self._legal_below, query, right=True)
        return rank + place - self._first[anchors]

    def blocked(self) -> tuple[Tensor, Tensor]:
        """All that is not legal as CSR ``(N + 1,), (E + N,)``, int64: each node's neighbours and the node itself."""
        loops = torch.arange(self.num_nodes + 1, device=self.indptr.device)
        return self.indptr + loops, self._keys % self.num_nodes

    def to(self, device: torch.device | str) -> KnownEdges:
        """The same edges on ``device``."""
        moved = object.__new__(KnownEdges)
        moved.num_nodes = self.num_nodes
        for name in ("indptr", "_degree", "_keys", "_legal_below", "_first"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved
