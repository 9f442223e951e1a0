"""Which pairs are known edges: exact membership in O(log degree), with no N x N anything.

Kernels go over arrays by uint64: of a signed place the compiled code would ask each time whether it is negative.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.csr_kernels import merge_runs
from mebns_pl.graph.hashing import mix, pair_hash
from mebns_pl.graph.node_types import NodeTypes
from mebns_pl.kernels import kernel
from mebns_pl.types import to_device

# mypy: disable-error-code="no-untyped-def"


class KnownEdges:
    """The pairs a negative must not be: the edges of one graph, self-pairs, and pairs of types that are not linked.

    Args:
        graph: the *training* graph, with its types; held-out edges are unknown to samplers.

    Attributes:
        types: those of the graph, or None.

    Example:
        >>> known = KnownEdges(Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4))
        >>> known.mask(torch.tensor([0, 0, 3]), torch.tensor([1, 2, 3])).tolist()
        [True, False, True]
        >>> known.num_legal(torch.tensor([0, 1, 3])).tolist()
        [2, 1, 3]
    """

    def __init__(self, graph: Graph) -> None:
        self.num_nodes = graph.num_nodes
        self.indptr, self.indices = graph.indptr, graph.indices
        self._degree = graph.indptr.diff()
        self._num_asked = 0
        self.types = graph.types
        if graph.types is not None:
            self._of_types(graph.types)

    # What a search among all rows needs, on devices other than the CPU; searches in one row need the graph's rows alone

    @cached_property
    def _keys(self) -> Tensor:
        """``(E + N,)`` ascending: a node is its own neighbour here, so that one list holds all that is not allowed."""
        loops = torch.arange(self.num_nodes, device=self.indptr.device)
        rows = loops.repeat_interleave(self.indptr.diff())
        keys = torch.cat([rows * self.num_nodes + self.indices, loops * self.num_nodes + loops])
        return keys.sort().values

    @cached_property
    def _first(self) -> Tensor:
        """``(N + 1,)``, where rows start among what is not legal."""
        return self.indptr + torch.arange(self.num_nodes + 1, device=self.indptr.device)

    @cached_property
    def _legal_below(self) -> Tensor:
        """``(E + N,)``: number of legal nodes below the j-th blocked one of a row.

        Ascending within rows, so ascending overall once rows are told apart: one binary search finds the r-th legal
        node of any row.
        """
        blocked, row = self._keys % self.num_nodes, self._keys // self.num_nodes
        place = torch.arange(len(self._keys), device=row.device) - self._first[row]
        return row * (self.num_nodes + 1) + (blocked - place)

    def _of_types(self, types: NodeTypes) -> None:
        """Counts legal nodes among those alone that a row's type is linked to: the partners of the type, in order."""
        kind, row, blocked = types.kind, self._keys // self.num_nodes, self._keys % self.num_nodes
        fit = types.linked[:, kind]  # (T, N)
        self._num_partners = fit.sum(dim=1)
        self._partners = fit.nonzero()[:, 1]
        self._partner_start = self._num_partners.cumsum(0) - self._num_partners
        among = fit[kind[row], blocked]
        row, blocked = row[among], blocked[among]
        position = torch.empty_like(row)
        for number, partners in enumerate(fit):
            own = kind[row] == number
            position[own] = (partners.cumsum(0) - 1)[blocked[own]]
        self._degree = torch.bincount(row, minlength=self.num_nodes)  # blocked partners of each node
        self._first = torch.cat([self._degree.new_zeros(1), self._degree.cumsum(0)])
        place = torch.arange(len(row), device=row.device) - self._first[row]
        self._legal_below = row * (self.num_nodes + 1) + (position - place)

    def mask(self, source: Tensor, target: Tensor) -> Tensor:
        """True where (source, target) is no legal negative; shapes broadcast, int64 in, bool out."""
        found = self.listed(source, target)
        return found if self.types is None else found | ~self.types.fit(source, target)

    def listed(self, source: Tensor, target: Tensor) -> Tensor:
        """True where (source, target) is a known edge or a self-pair; shapes broadcast, int64 in, bool out."""
        if not source.is_cpu:
            return self._known_anywhere(source * self.num_nodes + target)
        source, target = torch.broadcast_tensors(source, target)
        found = torch.empty(source.shape, dtype=torch.bool)
        ends = source.reshape(-1).numpy(), target.reshape(-1).numpy()
        self._num_asked += found.numel()
        words = self._filter if _PAYS * self._num_asked >= len(self.indices) else _ALL
        _known(*ends, self.indptr.numpy(), self.indices.numpy(), words.numpy(), found.view(-1).numpy())
        return found

    @cached_property
    def _filter(self) -> Tensor:
        """A Bloom filter of the edges (CACM 1970): of pairs that are none one word tells nearly all; 1 to 2 E bytes."""
        words = torch.zeros(1 << (len(self.indices) // 8).bit_length(), dtype=torch.int64)
        _fill_filter(self.indptr.numpy(), self.indices.numpy(), words.numpy())
        return words

    def _known_anywhere(self, keys: Tensor) -> Tensor:
        """On any device: a search among all edges, not in one row."""
        place = torch.searchsorted(self._keys, keys).clamp_(max=len(self._keys) - 1)
        return self._keys[place] == keys

    def num_legal(self, anchors: Tensor) -> Tensor:
        """How many nodes are a legal negative for each anchor: N - 1 - degree, or of partners those that are left."""
        if self.types is not None:
            return self._num_partners[self.types.kind[anchors]] - self._degree[anchors]
        return self.num_nodes - 1 - self._degree[anchors]

    def legal_node(self, anchors: Tensor, rank: Tensor) -> Tensor:
        """The ``rank``-th legal node of each anchor in ascending order, ``0 <= rank < num_legal``.

        Args:
            anchors: ``(...)`` int64.
            rank: ``(...)`` int64.
        """
        if anchors.is_cpu:
            passed = self._passed_in_rows(anchors, rank)
        else:
            passed = self._passed_anywhere(anchors, anchors * (self.num_nodes + 1) + rank)
        position = rank + passed
        if self.types is None:
            return position
        start = self._partner_start[self.types.kind[anchors]]
        return self._partners[(start + position).clamp(0, len(self._partners) - 1)]

    def _passed_in_rows(self, anchors: Tensor, rank: Tensor) -> Tensor:
        anchors, rank = torch.broadcast_tensors(anchors, rank)
        passed = torch.empty(rank.shape, dtype=torch.int64)
        asked, out = (anchors.reshape(-1).numpy(), rank.reshape(-1).numpy()), passed.view(-1).numpy()
        if self.types is None:
            _passed(*asked, self.indptr.numpy(), self.indices.numpy(), out)
        else:
            _passed_listed(*asked, self.num_nodes, self._first.numpy(), self._legal_below.numpy(), out)
        return passed

    def _passed_anywhere(self, anchors: Tensor, query: Tensor) -> Tensor:
        """On any device: a search among all rows, not in one."""
        return torch.searchsorted(self._legal_below, query, right=True) - self._first[anchors]

    def legal_nodes(self, anchors: Tensor, generator: torch.Generator) -> Tensor:
        """One uniform legal node for each anchor, an arbitrary node for one that has none.

        The chance of two legal nodes differs by less than N / 2**63, the price of a modulo.

        Args:
            anchors: ``(...)`` int64.
            generator: CPU generator.

        Returns:
            int64 of the shape of ``anchors``.
        """
        words = torch.randint(2**63 - 1, anchors.shape, generator=generator)
        if self.types is None and anchors.is_cpu:
            rows, graph = anchors.reshape(-1).numpy(), (self.indptr.numpy(), self.indices.numpy())
            _nodes_of_words(rows, self.num_nodes, *graph, words.view(-1).numpy())
            return words
        rank = words % self.num_legal(anchors).clamp_min(1)
        # Where nothing is legal there is no such rank, and the search ends past the last node.
        return self.legal_node(anchors, rank).clamp_max(self.num_nodes - 1)

    def blocked(self) -> tuple[Tensor, Tensor]:
        """What is known as CSR ``(N + 1,), (E + N,)``, int64: each node's neighbours and the node itself."""
        first = self.indptr + torch.arange(self.num_nodes + 1, device=self.indptr.device)  # of all types
        return first, self._keys % self.num_nodes

    def to(self, device: torch.device | str) -> KnownEdges:
        """The same edges on ``device``."""
        moved = object.__new__(KnownEdges)
        moved.num_nodes, moved._num_asked = self.num_nodes, 0
        moved.types = None if self.types is None else to_device(self.types, device)
        typed = () if self.types is None else ("_num_partners", "_partners", "_partner_start", "_first", "_legal_below")
        searched = () if torch.device(device).type == "cpu" else ("_keys", "_first", "_legal_below")
        for name in ("indptr", "indices", "_degree", *typed, *searched):
            setattr(moved, name, getattr(self, name).to(device))
        return moved


_WIDTH = 8
"""So many entries of a row are compared without a branch, where a search would guess wrong three times."""

_PAYS = 8
"""The filter is made when one pair to so many entries has been asked for: searches have taken as long as it takes."""

_ALL = torch.full((1,), -1)
"""The filter of all pairs, which are searched for, then."""


@kernel
def _filter_place(row, other, num_nodes, num_words):  # pragma: no cover (compiled)
    """A pair's word in the filter, the same for both directions, and its two bits there; num_words is a power of 2."""
    hashed = (min(row, other) * num_nodes + max(row, other)) * np.uint64(0x9E3779B97F4A7C15)
    hashed ^= hashed >> np.uint64(32)  # the higher bits of a product depend on more of the pair
    bits = np.uint64(1) << (hashed & np.uint64(63)) | np.uint64(1) << (hashed >> np.uint64(6) & np.uint64(63))
    return hashed >> np.uint64(12) & (num_words - np.uint64(1)), bits


@kernel
def _fill_filter(starts, indices, out):  # pragma: no cover (compiled)
    """Sets the bits of all edges."""
    indptr, words, num_nodes = starts.view(np.uint64), out.view(np.uint64), np.uint64(len(starts) - 1)
    for row in range(num_nodes):
        for place in range(indptr[row], indptr[row + np.uint64(1)]):
            if np.uint64(indices[place]) > row:
                number, bits = _filter_place(row, np.uint64(indices[place]), num_nodes, np.uint64(len(words)))
                words[number] |= bits


@kernel
def _known(source, target, starts, indices, edge_filter, found):  # pragma: no cover (compiled)
    """Whether each pair is one of a node with itself, or its target in the row of its source."""
    indptr, words = starts.view(np.uint64), edge_filter.view(np.uint64)
    num_nodes, num_words = np.uint64(len(starts) - 1), np.uint64(len(words))
    for number in range(np.uint64(len(source))):
        row, other = np.uint64(source[number]), target[number]
        place, bits = _filter_place(row, np.uint64(other), num_nodes, num_words)
        equal = False
        if words[place] & bits == bits:
            low, high = indptr[row], indptr[row + np.uint64(1)]
            while high - low > np.uint64(_WIDTH):
                middle = (low + high) >> np.uint64(1)
                if indices[middle] <= other:
                    low = middle
                else:
                    high = middle
            for place in range(low, high):
                equal |= indices[place] == other
        found[number] = equal or source[number] == other


@kernel
def _num_passed(anchor, rank, indptr, indices):  # pragma: no cover (compiled)
    """How many of its anchor's blocked nodes, the anchor among them, a rank among the legal ones is not below."""
    start, high = indptr[anchor], indptr[anchor + np.uint64(1)]
    low, own, shifted = start, np.int64(anchor), rank - np.int64(start)
    # Below a neighbour there are as many nodes that are none as its number and its place say; of those above the
    # anchor, the anchor is one, and not legal
    while high - low > np.uint64(_WIDTH):
        middle = (low + high) >> np.uint64(1)
        node = indices[middle]
        if node - (node > own) <= shifted + np.int64(middle):
            low = middle + np.uint64(1)
        else:
            high = middle
    count = np.int64(low - start)
    for place in range(low, high):
        node = indices[place]
        count += node - (node > own) <= shifted + np.int64(place)
    return count + (rank + count >= own)


@kernel
def _passed(anchors, ranks, starts, indices, passed):  # pragma: no cover (compiled)
    """:func:`_num_passed` of each anchor and rank."""
    indptr = starts.view(np.uint64)
    for number in range(len(anchors)):
        passed[number] = _num_passed(np.uint64(anchors[number]), ranks[number], indptr, indices)


@kernel
def _nodes_of_words(anchors, num_nodes, starts, indices, words):  # pragma: no cover (compiled)
    """Writes over each random word the legal node of its anchor that has it for a rank, modulo their number."""
    indptr = starts.view(np.uint64)
    for number in range(np.uint64(len(anchors))):
        anchor = np.uint64(anchors[number])
        num_legal = num_nodes - 1 - np.int64(indptr[anchor + np.uint64(1)] - indptr[anchor])
        rank = np.int64(np.uint64(words[number]) % np.uint64(max(num_legal, 1)))
        # Where nothing is legal the search ends past the last node
        words[number] = min(rank + _num_passed(anchor, rank, indptr, indices), num_nodes - 1)


@kernel
def _passed_listed(anchors, ranks, num_nodes, first, legal_below, passed):  # pragma: no cover (compiled)
    """As :func:`_passed`, by a list of how many legal nodes are below each blocked one."""
    for number in range(len(anchors)):
        row = anchors[number]
        query = row * (num_nodes + 1) + ranks[number]
        low, high = first[row], first[row + 1]
        while low < high:
            middle = (low + high) // 2
            if legal_below[middle] <= query:
                low = middle + 1
            else:
                high = middle
        passed[number] = low - first[row]


@kernel
def fill_legal(anchors, own, names, seed, num_nodes, skip_indptr, skip_indices, lists):  # pragma: no cover (compiled)
    """Fills the -1 at the end of each row of ``lists`` ``(n, k)`` by random legal nodes of its anchor.

    Legal are the nodes that are neither ``own`` ``(n,)``, the anchor itself by its number among them, nor the anchor's
    neighbours in the skip CSR; each anchor must have at least one. They are drawn without replacement, those already in
    the row included (Floyd's sampling, a bounded number of steps); when a row holds every legal node, the places left
    are drawn with replacement. What a row draws depends on ``seed`` and its name in ``names`` ``(n,)`` alone. (A
    remainder of 64 bits is uniform to 1 in 2^40 and better.)
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
        blocked[neighbors.shape[0]] = own[row]
        blocked[neighbors.shape[0] + 1 :] = lists[row, :taken]
        blocked[neighbors.shape[0] :].sort()
        merge_runs(blocked, np.empty_like(blocked))
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
