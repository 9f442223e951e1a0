"""Which pairs are known edges: exact membership in O(log degree), with no N x N anything."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.hashing import mix, pair_hash
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


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
        self._first = torch.cat([first, first.new_tensor([len(self._keys)])])

    def mask(self, source: Tensor, target: Tensor) -> Tensor:
        """True where (source, target) is a known edge or a self-pair; shapes broadcast, int64 in, bool out."""
        keys = source * self.num_nodes + target
        if not keys.is_cpu:
            return self._known_anywhere(keys)
        found = torch.empty(keys.shape, dtype=torch.bool)
        rows = source.expand(keys.shape).reshape(-1).numpy()
        _known(rows, keys.reshape(-1).numpy(), self._first.numpy(), self._keys.numpy(), found.view(-1).numpy())
        return found

    def _known_anywhere(self, keys: Tensor) -> Tensor:
        """On any device: a search among all edges, not in one row."""
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
        if not query.is_cpu:
            return rank + self._passed_anywhere(anchors, query)
        passed = torch.empty(query.shape, dtype=torch.int64)
        rows, first = anchors.expand(query.shape).reshape(-1).numpy(), self._first.numpy()
        _passed(rows, query.reshape(-1).numpy(), first, self._legal_below.numpy(), passed.view(-1).numpy())
        return rank + passed

    def _passed_anywhere(self, anchors: Tensor, query: Tensor) -> Tensor:
        return torch.searchsorted(self._legal_below, query, right=True) - self._first[anchors]

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


@kernel
def _known(rows, keys, first, all_keys, found):  # pragma: no cover (compiled)
    """Whether each key is among those of its row."""
    for number in range(len(rows)):
        row = rows[number]
        low, high = first[row], first[row + 1]
        end = high
        while low < high:
            middle = (low + high) // 2
            if all_keys[middle] < keys[number]:
                low = middle + 1
            else:
                high = middle
        found[number] = low < end and all_keys[low] == keys[number]


@kernel
def _passed(rows, queries, first, legal_below, passed):  # pragma: no cover (compiled)
    """How many of its row's values each query is not below."""
    for number in range(len(rows)):
        row = rows[number]
        low, high = first[row], first[row + 1]
        while low < high:
            middle = (low + high) // 2
            if legal_below[middle] <= queries[number]:
                low = middle + 1
            else:
                high = middle
        passed[number] = low - first[row]


@kernel
def fill_legal(anchors, names, seed, num_nodes, skip_indptr, skip_indices, lists):  # pragma: no cover (compiled)
    """Fills the -1 at the end of each row of ``lists`` ``(n, k)`` by random legal nodes of its anchor.

    Legal are the nodes that are neither the anchor nor its neighbours in the skip CSR; each anchor must have at least
    one. They are drawn without replacement, those already in the row included (Floyd's sampling, a bounded number of
    steps); when a row holds every legal node, the places left are drawn with replacement. What a row draws depends on
    ``seed`` and its name in ``names`` ``(n,)`` alone. (A remainder of 64 bits is uniform to 1 in 2^40 and better.)
    """
    k = lists.shape[1]
    rank_stamp = np.full(num_nodes, -1, np.int64)
    for row in range(anchors.shape[0]):
        node, word = anchors[row], pair_hash(seed, names[row])
        taken = 0
        while taken < k and lists[row, taken] >= 0:
            taken += 1
        neighbors = skip_indices[skip_indptr[node] : skip_indptr[node + 1]]
        blocked = np.empty(neighbors.shape[0] + 1 + taken, np.int64)
        blocked[: neighbors.shape[0]] = neighbors
        blocked[neighbors.shape[0]] = node
        for place in range(taken):
            blocked[neighbors.shape[0] + 1 + place] = lists[row, place]
        blocked.sort()
        free = num_nodes - blocked.shape[0]
        wanted = min(k - taken, free)
        ranks = np.empty(wanted, np.int64)
        for draw in range(wanted):
            top = free - wanted + draw
            rank = np.int64(mix(word ^ np.uint64(draw)) % np.uint64(top + 1))
            ranks[draw] = top if rank_stamp[rank] == row else rank
            rank_stamp[ranks[draw]] = row
        ranks.sort()
        below = 0
        for draw in range(wanted):
            while below < blocked.shape[0] and blocked[below] <= ranks[draw] + below:
                below += 1
            lists[row, taken + draw] = ranks[draw] + below
        full = taken + wanted
        for place in range(full, k):
            lists[row, place] = lists[row, np.int64(mix(word ^ np.uint64(place)) % np.uint64(full))]
