"""The message-passing graph: a symmetric CSR adjacency with node features, and the products models need."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from mebns_pl.types import GraphSpec, to_device

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


def pair_keys(source: Tensor, target: Tensor, num_nodes: int) -> Tensor:
    """One int64 for each ordered pair: ``source * num_nodes + target``."""
    return source * num_nodes + target


@dataclass(frozen=True)
class Features:
    """A sparse node-feature matrix X with its transpose, both CSR, so that X W and its gradient are products.

    Args:
        matrix: ``(N, F)`` sparse CSR.
        transposed: ``(F, N)`` sparse CSR.

    Example:
        >>> words = Features.of(torch.tensor([[0.0, 2.0], [1.0, 0.0]]).to_sparse())
        >>> tuple(words.matrix.shape), words.to_dense().tolist()
        ((2, 2), [[0.0, 2.0], [1.0, 0.0]])
    """

    matrix: Tensor
    transposed: Tensor

    @staticmethod
    def of(matrix: Tensor) -> Features:
        """Wraps a sparse matrix of any layout."""
        matrix = matrix.coalesce() if matrix.layout == torch.sparse_coo else matrix
        return Features(
            _compact(matrix.to_sparse_csr()), _compact(matrix.to_sparse_coo().t().coalesce().to_sparse_csr())
        )

    def to_dense(self) -> Tensor:
        """``(N, F)`` dense."""
        return self.matrix.to_dense()

    def to(self, device: torch.device | str) -> Features:
        """The same matrix on ``device``."""
        return to_device(self, device)

    def type(self, dtype: torch.dtype) -> Features:
        """The same matrix in another floating point type."""
        return Features(self.matrix.to(dtype), self.transposed.to(dtype))

    def __matmul__(self, weight: Tensor) -> Tensor:
        """X W, ``(N, F) @ (F, C) -> (N, C)``, differentiable in W to any order and in forward mode."""
        return _Product.apply((self.matrix, self.transposed), weight)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Sampled:
    """What a graph of sampled neighbours knows besides its rows; row v of it holds a sample of v's neighbours.

    Args:
        degree: ``(N,)`` int64, how many neighbours each node has where its row was drawn.
        indptr: ``(N + 1,)`` int64, CSR row starts of the transposed adjacency.
        indices: ``(E,)`` int64, its columns.
        inner: what an encoder's next layer needs: the nodes one hop nearer to those asked for, the first of this
            graph's, and the rows of those nearer still; None where there are no more hops.
    """

    degree: Tensor
    indptr: Tensor
    indices: Tensor
    inner: Graph | None = None


@dataclass(frozen=True)
class Graph:
    """An undirected graph as message passing sees it, or a sample of one for a batch of its nodes.

    Args:
        indptr: ``(N + 1,)`` int64, CSR row starts.
        indices: ``(E,)`` int64, neighbours, ascending within each row; every edge stands in both rows.
        x: node features: dense ``(N, F)``, sparse :class:`Features`, or None.
        keep: ``(E,)`` bool, False where an edge is left out of message passing; None keeps all.
        feature_mask: ``(F,)`` factors on the features (augmentation); None changes nothing.
        node_ids: ``(N,)`` int64, the names of the nodes in the whole graph, for keyed draws in neighbour
            batches; None where this is the whole graph.
        sampled: what makes this a directed sample of a larger graph; None where it is undirected.

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
    _shared: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def from_edges(edges: Tensor, num_nodes: int, x: Tensor | Features | None = None) -> Graph:
        """Builds the symmetric adjacency of undirected ``edges`` ``(2, n)``; duplicates count once.

        Raises:
            ValueError: an end outside ``0 ... num_nodes - 1``, or a self-loop.
        """
        if edges.numel() and (int(edges.min()) < 0 or int(edges.max()) >= num_nodes):
            raise ValueError(
                f"edges: node numbers must be in 0 ... {num_nodes - 1}, got {int(edges.min())} ... {int(edges.max())}"
            )
        if bool((edges[0] == edges[1]).any()):
            raise ValueError(
                f"edges: self-loop at node {int(edges[0][edges[0] == edges[1]][0])}; drop self-loops first"
            )
        both = torch.cat([edges, edges.flip(0)], dim=1)
        keys = torch.unique(pair_keys(both[0], both[1], num_nodes))
        counts = torch.bincount(keys // num_nodes, minlength=num_nodes)
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Graph(indptr, keys % num_nodes, x)

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
        if self.x is None:
            return GraphSpec(self.num_nodes)
        sparse = isinstance(self.x, Features)
        return GraphSpec(self.num_nodes, (self.x.matrix if sparse else self.x).shape[1], sparse)  # type: ignore[union-attr]

    @property
    def rows(self) -> Tensor:
        """``(E,)`` int64, the row of each entry of ``indices``."""
        if "rows" not in self._shared:
            counts = self.indptr.diff()
            self._shared["rows"] = torch.repeat_interleave(torch.arange(self.num_nodes, device=counts.device), counts)
        return self._shared["rows"]

    @property
    def edge_keys(self) -> Tensor:
        """``(E,)`` int64 ascending, :func:`pair_keys` of every entry."""
        if "edge_keys" not in self._shared:
            self._shared["edge_keys"] = pair_keys(self.rows, self.indices, self.num_nodes)
        return self._shared["edge_keys"]

    @cached_property
    def edge_index(self) -> Tensor:
        """``(2, E')`` int64, the kept directed edges in PyG's layout: (source, target)."""
        edge_index = torch.stack([self.indices, self.rows])
        return edge_index if self.keep is None else edge_index[:, self.keep]

    @cached_property
    def degree(self) -> Tensor:
        """``(N,)`` int64, kept neighbours of each node; of a sample, those in the graph it was drawn from."""
        if self.sampled is not None:
            return self.sampled.degree
        if self.keep is None:
            return self.indptr.diff()
        return torch.zeros_like(self.indptr[1:]).index_add_(0, self.rows, self.keep.long())

    @property
    def dropout_rows(self) -> Tensor:
        """``(N,)`` int64, the names under which nodes draw their dropout masks."""
        return torch.arange(self.num_nodes, device=self.indptr.device) if self.node_ids is None else self.node_ids

    def neighbor_sum(self, h: Tensor) -> Tensor:
        """A h, the sum over kept neighbours: ``(N, C) -> (N, C)``, differentiable to any order, and in forward mode.

        In a sample each row is scaled by degree / neighbours drawn: an unbiased estimate of the sum over all.

        Cost: E C multiply-adds as one CSR product; no ``(E, C)`` messages are made.
        """
        h = h.float() if h.dtype == torch.bfloat16 else h  # sparse kernels have no bfloat16
        return _Product.apply(self._adjacency(h.dtype), h)  # type: ignore[no-any-return]

    def without(self, pairs: Tensor) -> Graph:
        """Leaves the undirected ``pairs`` ``(2, n)`` out of message passing; pairs that are no edges change nothing.

        Cost: O(E) to copy the mask, O(n log E) to find the pairs.
        """
        if not self.num_edges:
            return self
        both = torch.cat([pairs, pairs.flip(0)], dim=1)
        keys = pair_keys(both[0], both[1], self.num_nodes)
        place = torch.searchsorted(self.edge_keys, keys).clamp_(max=self.num_edges - 1)
        place = place[self.edge_keys[place] == keys]
        return self._masked(place)

    def dropped(self, keep_edge: Tensor) -> Graph:
        """Leaves undirected edges out by a mask over those with ``source < target``, in CSR order.

        Args:
            keep_edge: ``(E / 2,)`` bool.
        """
        upper = (self.rows < self.indices).nonzero().flatten()
        gone = upper[~keep_edge]
        mirrored = pair_keys(self.indices[gone], self.rows[gone], self.num_nodes)
        return self._masked(torch.cat([gone, torch.searchsorted(self.edge_keys, mirrored)]))

    def masked_features(self, keep_feature: Tensor) -> Graph:
        """Zeroes the feature columns where ``keep_feature`` ``(F,)`` is False."""
        mask = keep_feature if self.feature_mask is None else keep_feature * self.feature_mask
        return replace(self, feature_mask=mask)

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on ``device``."""
        return to_device(self, device)

    def _masked(self, place: Tensor) -> Graph:
        keep = torch.ones_like(self.indices, dtype=torch.bool) if self.keep is None else self.keep.clone()
        keep[place] = False
        return replace(self, keep=keep)

    def _adjacency(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The matrix of :meth:`neighbor_sum` and its transpose."""
        if "adjacency" not in self.__dict__ or self.__dict__["adjacency"][0].dtype != dtype:
            # int32 indices spare the sparse kernels a conversion at every product
            index_dtype = torch.int32 if self.num_edges < 2**31 - 1 else torch.int64
            if "indptr32" not in self._shared:
                self._shared["indptr32"] = self.indptr.to(index_dtype)
                self._shared["indices32"] = self.indices.to(index_dtype)
            rows = self._shared["indptr32"], self._shared["indices32"]
            if self.sampled is None:
                kept = torch.ones_like(self.indices, dtype=torch.bool) if self.keep is None else self.keep
                matrix = self._matrix(*rows, kept.to(dtype))
                self.__dict__["adjacency"] = matrix, matrix
            else:
                counts = self.indptr.diff()
                scale = self.sampled.degree.to(dtype) / counts.clamp(min=1).to(dtype)
                columns = self.sampled.indptr.to(index_dtype), self.sampled.indices.to(index_dtype)
                self.__dict__["adjacency"] = (
                    self._matrix(*rows, torch.repeat_interleave(scale, counts)),
                    self._matrix(*columns, scale[self.sampled.indices]),
                )
        return self.__dict__["adjacency"]  # type: ignore[no-any-return]

    def _matrix(self, indptr: Tensor, indices: Tensor, values: Tensor) -> Tensor:
        size = (self.num_nodes, self.num_nodes)
        return torch.sparse_csr_tensor(indptr, indices, values, size, check_invariants=False)


def _compact(matrix: Tensor) -> Tensor:
    """The CSR matrix with int32 indices where they fit."""
    if matrix.values().numel() >= 2**31 - 1:
        return matrix
    return torch.sparse_csr_tensor(
        matrix.crow_indices().int(), matrix.col_indices().int(), matrix.values(), matrix.shape, check_invariants=False
    )


def product(matrix: Tensor, transposed: Tensor, h: Tensor) -> Tensor:
    """M h for a constant sparse ``matrix`` and its transpose, differentiable to any order and in forward mode.

    Args:
        matrix: ``(R, N)`` sparse CSR.
        transposed: ``(N, R)`` sparse CSR; only derivatives read it.
        h: ``(N, C)``.
    """
    return _Product.apply((matrix, transposed), h)  # type: ignore[no-any-return]


class _Product(torch.autograd.Function):
    """M h for a constant sparse M, given with its transpose; linear, so each derivative is a product again."""

    @staticmethod
    def forward(matrices: tuple[Tensor, Tensor], h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):  # autocast would take the sparse matrix, too
            return matrices[0] @ h

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.matrices = inputs[0]

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return None, _Product.apply(ctx.matrices[::-1], grad)

    @staticmethod
    def jvp(ctx, _, tangent):  # type: ignore[no-untyped-def]
        return _Product.apply(ctx.matrices, tangent)
