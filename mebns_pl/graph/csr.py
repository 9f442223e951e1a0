"""The message-passing graph: a symmetric CSR adjacency with node features, and the sums that models need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph import csr_kernels as kernels
from mebns_pl.graph.node_types import NodeTypes
from mebns_pl.graph.row_lists import both_ways, sorted_rows
from mebns_pl.graph.sparse import Features, product
from mebns_pl.types import GraphSpec, to_device

T = TypeVar("T")


def pair_keys(source: Tensor, target: Tensor, num_nodes: int) -> Tensor:
    """One int64 for each ordered pair: ``source * num_nodes + target``."""
    return source * num_nodes + target


def check_ends(edges: Tensor, num_nodes: int) -> None:
    """Refuses edges ``(2, n)`` that are none of ``num_nodes`` nodes.

    Raises:
        ValueError: an end outside ``0 ... num_nodes - 1``, or a self-loop.
    """
    if edges.numel() and (int(edges.min()) < 0 or int(edges.max()) >= num_nodes):
        raise ValueError(
            f"edges: node numbers must be in 0 ... {num_nodes - 1}, got {int(edges.min())} ... {int(edges.max())}"
        )
    if bool((edges[0] == edges[1]).any()):
        raise ValueError(f"edges: self-loop at node {int(edges[0][edges[0] == edges[1]][0])}; drop self-loops first")


def spec_of(num_nodes: int, x: Tensor | Features | None) -> GraphSpec:
    """What models need to know of a graph of so many nodes with such features."""
    if isinstance(x, Features):
        return GraphSpec(num_nodes, x.matrix.shape[1], True)
    return GraphSpec(num_nodes) if x is None else GraphSpec(num_nodes, x.shape[1])


@dataclass(frozen=True)
class Sampled:
    """What a graph of sampled neighbours knows besides its rows; row v of it holds a sample of v's neighbours.

    Args:
        degree: ``(N,)`` int64, how many neighbours each node has where its row was drawn.
        indptr: ``(N + 1,)`` int64, CSR row starts of the transposed adjacency; None where no derivative is asked for.
        indices: ``(E,)`` int64, its columns; or None.
        inner: what an encoder's next layer needs: the nodes one hop nearer to those asked for, the first of this
            graph's, and the rows of those nearer still; None where there are no more hops.
    """

    degree: Tensor
    indptr: Tensor | None
    indices: Tensor | None
    inner: Graph | None = None


@dataclass(frozen=True)
class Graph:
    """An undirected graph as message passing sees it, or a sample of one for a batch of its nodes.

    Args:
        indptr: ``(N + 1,)`` int64, CSR row starts.
        indices: ``(E,)`` int64, neighbours, ascending within each row; every edge stands in both rows.
        x: node features: dense ``(N, F)``, sparse :class:`Features`, or None.
        keep: ``(E,)`` bool, False where an edge is left out of message passing, in both rows; None keeps all.
        feature_mask: ``(F,)`` factors on the features (augmentation); None changes nothing.
        node_ids: ``(N,)`` int64, the names of the nodes in the whole graph, for keyed draws in neighbour
            batches; None where this is the whole graph.
        sampled: what makes this a directed sample of a larger graph; None where it is undirected.
        weight: ``(E,)`` floating point, 0 or more, by which messages along each entry count, the same in both
            directions; None counts all alike. Structure (degrees, neighbours) takes no notice of it.
        present: ``(E,)`` bool, False where an edge is taken for missing (augmentation), so that it is left out of
            everything; None where all are there. Of target edges, ``keep`` alone knows.
        types: kinds of the nodes, where only some of these are linked: no negative joins two others. None where any
            two nodes may be linked.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
        >>> graph.num_nodes, graph.degree.tolist()
        (4, [1, 2, 1, 0])
    """

    indptr: Tensor
    indices: Tensor
    x: Tensor | Features | None = None
    keep: Tensor | None = None
    feature_mask: Tensor | None = None
    node_ids: Tensor | None = None
    sampled: Sampled | None = None
    weight: Tensor | None = None
    present: Tensor | None = None
    types: NodeTypes | None = None
    _shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def from_edges(
        edges: Tensor,
        num_nodes: int,
        x: Tensor | Features | None = None,
        weight: Tensor | None = None,
        types: NodeTypes | None = None,
    ) -> Graph:
        """Builds the symmetric adjacency of undirected ``edges`` ``(2, n)``; duplicates count once.

        Args:
            edges: ``(2, n)`` int64.
            num_nodes: N.
            x: node features.
            weight: ``(n,)`` weights of the edges, of duplicates the greatest counts; or None.
            types: of the nodes, or None.

        Raises:
            ValueError: an end outside ``0 ... num_nodes - 1``, or a self-loop.
        """
        check_ends(edges, num_nodes)
        edges = edges.cpu()
        indptr, indices = map(torch.from_numpy, sorted_rows(lambda: both_ways(edges), num_nodes))
        graph = Graph(indptr, indices, x, types=types)
        if weight is None:
            return graph
        place = graph._places(torch.cat([edges, edges.flip(0)], dim=1))
        by_entry = weight.new_zeros(len(indices)).scatter_reduce(0, place, weight.repeat(2), "amax")
        return replace(graph, weight=by_entry)

    @property
    def edges(self) -> Tensor:
        """``(2, E / 2)`` int64, the edges of an undirected graph on the CPU with source < target, sorted; made anew."""
        edges = torch.empty(2, self.num_edges // 2, dtype=torch.int64)
        kernels.write_edges(self.indptr.numpy(), self.indices.numpy(), edges.numpy())
        return edges

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.indptr.numel() - 1

    @property
    def num_edges(self) -> int:
        """E, directed, those left out included."""
        return self.indices.numel()

    @property
    def spec(self) -> GraphSpec:
        """What models need to know."""
        return spec_of(self.num_nodes, self.x)

    @property
    def dense_x(self) -> Tensor | None:
        """Features ``(N, F)`` as a dense matrix, made once where they are sparse; None where there are none."""
        if isinstance(self.x, Features):
            if "dense x" not in self._shared:
                self._shared["dense x"] = self.x.to_dense()
            return self._shared["dense x"]  # type: ignore[no-any-return]
        return self.x

    @property
    def rows(self) -> Tensor:
        """``(E,)`` int64, the row of each entry of ``indices``."""
        if "rows" not in self._shared:
            counts = self.indptr.diff()
            self._shared["rows"] = torch.repeat_interleave(torch.arange(self.num_nodes, device=counts.device), counts)
        return self._shared["rows"]  # type: ignore[no-any-return]

    @property
    def edge_keys(self) -> Tensor:
        """``(E,)`` int64 ascending, :func:`pair_keys` of every entry."""
        if "edge_keys" not in self._shared:
            self._shared["edge_keys"] = pair_keys(self.rows, self.indices, self.num_nodes)
        return self._shared["edge_keys"]  # type: ignore[no-any-return]

    @cached_property
    def edge_index(self) -> Tensor:
        """``(2, E')`` int64, the kept directed edges in PyG's layout: (source, target)."""
        edge_index = torch.stack([self.indices, self.rows])
        return edge_index if self.keep is None else edge_index[:, self.keep]

    @cached_property
    def edge_weight(self) -> Tensor | None:
        """``(E',)``, the weights of :attr:`edge_index`, or None."""
        return self.weight if self.weight is None or self.keep is None else self.weight[self.keep]

    @cached_property
    def strength(self) -> Tensor:
        """``(N,)``, the sum of the weights of each node's kept edges: its degree where edges have none."""
        if self.weight is None:
            return self.degree
        weight = self.weight if self.keep is None else self.weight * self.keep
        return weight.new_zeros(self.num_nodes).index_add_(0, self.rows, weight)

    def degree_of(self, nodes: Tensor) -> Tensor:
        """``(...)`` int64, the degrees of ``nodes`` ``(...)`` on their device, wherever the graph is."""
        return self.degree[nodes.to(self.indptr.device)].to(nodes.device)

    @cached_property
    def degree(self) -> Tensor:
        """``(N,)`` int64, kept neighbours of each node; of a sample, those in the graph it was drawn from."""
        if self.sampled is not None:
            return self.sampled.degree
        if self.keep is None:
            return self.indptr.diff()
        if not self.keep.is_cpu:
            return torch.zeros_like(self.indptr[1:]).index_add_(0, self.rows, self.keep.long())
        degree = torch.empty_like(self.indptr[1:])
        kernels.kept_degrees(self.indptr.numpy(), self.keep.numpy(), degree.numpy())
        return degree

    @property
    def dropout_rows(self) -> Tensor:
        """``(N,)`` int64, the names under which nodes draw their dropout masks."""
        return torch.arange(self.num_nodes, device=self.indptr.device) if self.node_ids is None else self.node_ids

    def neighbor_sum(self, h: Tensor) -> Tensor:
        """A h, the (weighted) sum over kept neighbours: ``(N, C) -> (N, C)``, differentiable to any order.

        In a sample each row is scaled by degree / neighbours drawn: an unbiased estimate of the sum over all.

        Cost: E C multiply-adds as one CSR product; no ``(E, C)`` messages are made.
        """
        return self._product("adjacency", h)

    def normalized_sum(self, h: Tensor) -> Tensor:
        r""":math:`\hat D^{-1/2} (A + I) \hat D^{-1/2} h` with :math:`\hat D` = strength + 1: ``(N, C) -> (N, C)``.

        The propagation of Kipf and Welling (1609.02907, eq. 2). Otherwise as :meth:`neighbor_sum`; the scaled matrix
        is made once for a graph, so that no scaled copy of ``h`` is.
        """
        return self._product("normalized", h)

    def without(self, pairs: Tensor) -> Graph:
        """Leaves the undirected ``pairs`` ``(2, n)`` out of message passing; pairs that are no edges change nothing.

        Cost: O(E) to copy the mask, O(n log degree) to find the pairs.
        """
        if not self.num_edges:
            return self
        # Pairs that are no edges go to a slot of their own: to leave them out here, a GPU would have to be waited for
        place = self._places(torch.cat([pairs, pairs.flip(0)], dim=1))
        return replace(self, keep=self._masked(self.keep, torch.where(place < 0, self.num_edges, place)))

    def with_targets(self) -> Graph:
        """The graph with all edges that :meth:`without` has left out, for what leaves each pair's own edge out."""
        return replace(self, keep=self.present)

    def once(self, name: str, make: Callable[[Graph], T]) -> T:
        """What ``make`` makes of all edges, targets or not; kept under ``name`` for all that :meth:`without` makes.

        Where edges are taken for missing it is made anew at each call.
        """
        if self.present is not None:
            return make(self.with_targets())
        if name not in self._shared:
            self._shared[name] = make(self.with_targets())
        return self._shared[name]  # type: ignore[no-any-return]

    def once_each(self, name: str, make: Callable[[Graph], T]) -> T:
        """The same where edges or features are taken for missing: then it is kept for this graph alone."""
        alone = self.present is not None or self.feature_mask is not None
        kept: dict[str, Any] = self.__dict__ if alone else self._shared
        if name not in kept:
            kept[name] = make(self.with_targets())
        return kept[name]  # type: ignore[no-any-return]

    def dropped(self, keep_edge: Tensor) -> Graph:
        """Leaves undirected edges out by a mask over those with ``source < target``, in CSR order.

        Args:
            keep_edge: ``(E / 2,)`` bool.
        """
        kept = torch.ones(self.num_edges, dtype=torch.bool)
        indptr, indices = self.indptr.cpu().numpy(), self.indices.cpu().numpy()
        kernels.drop_edges(indptr, indices, keep_edge.cpu().numpy(), indptr[:-1].copy(), kept.numpy())
        stays = kept.to(self.indptr.device)
        keep, present = (stays if mask is None else stays & mask for mask in (self.keep, self.present))
        return replace(self, keep=keep, present=present)

    def masked_features(self, keep_feature: Tensor) -> Graph:
        """Zeroes the feature columns where ``keep_feature`` ``(F,)`` is False."""
        mask = keep_feature if self.feature_mask is None else keep_feature * self.feature_mask
        return replace(self, feature_mask=mask)

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on ``device``."""
        return to_device(self, device)

    def _places(self, pairs: Tensor) -> Tensor:
        """``(m,)`` int64: where each pair ``(2, m)`` stands among the entries, -1 where it is no edge."""
        if pairs.is_cpu:
            place = torch.empty(pairs.shape[1], dtype=torch.int64)
            source, target = pairs.contiguous().numpy()
            kernels.edge_places(source, target, self.indptr.numpy(), self.indices.numpy(), place.numpy())
            return place
        keys = pair_keys(pairs[0], pairs[1], self.num_nodes)
        place = torch.searchsorted(self.edge_keys, keys).clamp_(max=self.num_edges - 1)
        return torch.where(self.edge_keys[place] == keys, place, -1)

    def _masked(self, mask: Tensor | None, place: Tensor) -> Tensor:
        """A mask ``(E,)`` with False at ``place`` besides; E stands for none."""
        keep = torch.ones(self.num_edges + 1, dtype=torch.bool, device=self.indptr.device)
        if mask is not None:
            keep[:-1] = mask
        keep[place] = False
        return keep[:-1]

    def _product(self, kind: str, h: Tensor) -> Tensor:
        """The product of the adjacency, or of the scaled one with self-loops ("normalized"), with ``h``."""
        h = h.float() if h.dtype == torch.bfloat16 else h  # sparse kernels have no bfloat16
        own = self._side("own", kind, h.dtype)
        # Only derivatives look at the transpose of a sample
        turned = self.sampled is not None and torch.is_grad_enabled()
        return product(own, self._side("transposed", kind, h.dtype) if turned else own, h)

    def _side(self, side: str, kind: str, dtype: torch.dtype) -> Tensor:
        """The matrix of :meth:`_product`, or its transpose; kept."""
        name = f"{kind}, {side}"
        if name not in self.__dict__ or self.__dict__[name].dtype != dtype:
            self.__dict__[name] = self._made(side, kind == "normalized", dtype)
        matrix: Tensor = self.__dict__[name]
        return matrix

    def _made(self, side: str, normalized: bool, dtype: torch.dtype) -> Tensor:
        if self.sampled is None:
            ones = torch.ones(self.num_edges, dtype=dtype, device=self.indptr.device)
            values = ones if self.weight is None else self.weight.to(dtype)
            return self._matrix("own", self.indptr, self.rows, self.indices, values, normalized)
        counts = self.indptr.diff()
        scale = self.sampled.degree.to(dtype) / counts.clamp(min=1).to(dtype)
        if side == "own":
            return self._matrix(side, self.indptr, self.rows, self.indices, scale[self.rows], normalized)
        indptr, indices = self.sampled.indptr, self.sampled.indices
        assert indptr is not None
        assert indices is not None
        rows = torch.repeat_interleave(torch.arange(self.num_nodes, device=counts.device), indptr.diff())
        return self._matrix(side, indptr, rows, indices, scale[indices], normalized)

    def _matrix(
        self, side: str, indptr: Tensor, rows: Tensor, indices: Tensor, values: Tensor, normalized: bool
    ) -> Tensor:
        """The CSR matrix of these entries, zero where they are left out; its pattern is kept for ``side``."""
        if self.keep is not None:
            values = values * self.keep
        if normalized:
            root = (self.strength + 1).to(values.dtype).rsqrt()
            values = _with_loops(values * root[rows] * root[indices], root.square(), indptr, rows)
        starts, columns = (f"{side} {part}{' with loops' * normalized}" for part in ("indptr", "indices"))
        if starts not in self._shared:
            if normalized:
                nodes = torch.arange(self.num_nodes + 1, device=indptr.device)
                indptr, indices = indptr + nodes, _with_loops(indices, nodes[:-1], indptr, rows)
            # int32 indices spare the sparse kernels a conversion at every product
            small = torch.int32 if len(indices) < 2**31 - 1 else torch.int64
            self._shared[starts], self._shared[columns] = indptr.to(small), indices.to(small)
        size = (self.num_nodes, self.num_nodes)
        return torch.sparse_csr_tensor(
            self._shared[starts], self._shared[columns], values, size, check_invariants=False
        )


def structure(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """``indptr`` and ``indices`` of the edges that take part in message passing, on the CPU wherever the graph is."""
    if graph.keep is None:
        return graph.indptr.cpu().numpy(), graph.indices.cpu().numpy()
    indptr = torch.cat([graph.indptr[:1], graph.degree.cumsum(0)])
    return indptr.cpu().numpy(), graph.indices[graph.keep].cpu().numpy()


def _with_loops(entries: Tensor, loops: Tensor, indptr: Tensor, rows: Tensor) -> Tensor:
    """A CSR matrix's entries ``(E,)`` with those of the self-loops ``(N,)``, each at the end of its row."""
    result = entries.new_empty(len(entries) + len(loops))
    result[torch.arange(len(entries), device=rows.device) + rows] = entries
    result[indptr[1:] + torch.arange(len(loops), device=rows.device)] = loops
    return result
