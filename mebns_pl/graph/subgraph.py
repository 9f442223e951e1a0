"""Enclosing subgraphs of many node pairs at once, with SEAL's node labels, as one block-diagonal graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.graph import subgraph_kernels as kernels
from mebns_pl.graph.csr import Graph
from mebns_pl.progress import in_threads, slices
from mebns_pl.types import to_device

_NO_LIMIT = 2**62
_LEAST = 32  # pairs of a part: fewer are not worth a thread


@dataclass(frozen=True)
class Subgraphs:
    """Enclosing subgraphs of M pairs as one block-diagonal graph, in the layout of PyG's ``Batch``.

    Args:
        ptr: ``(M + 1,)`` int64; the nodes of pair i are ``ptr[i] ... ptr[i + 1] - 1``, the pair's own two first:
            source, target, or one where they are the same.
        nodes: ``(n,)`` int64, node numbers in the whole graph.
        labels: ``(n,)`` int64 double-radius labels: 1 for the two ends, 0 for nodes that do not reach both of them.
        indptr: ``(n + 1,)`` int64, CSR row starts of the symmetric adjacency.
        indices: ``(e,)`` int64, neighbours by their place in ``nodes``, ascending within each row.

    Example:
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> subgraphs = enclosing_subgraphs(path, torch.tensor([[0, 1], [2, 2]]))
        >>> subgraphs.nodes.tolist(), subgraphs.labels.tolist(), subgraphs.ptr.tolist()
        ([0, 2, 1, 3, 1, 2, 0, 3], [1, 1, 2, 0, 1, 1, 0, 0], [0, 4, 8])
        >>> subgraphs.select(torch.tensor([1])).edge_index.tolist()
        [[2, 3, 0, 1], [0, 1, 2, 3]]
    """

    ptr: Tensor
    nodes: Tensor
    labels: Tensor
    indptr: Tensor
    indices: Tensor

    @property
    def num_pairs(self) -> int:
        """M."""
        return self.ptr.numel() - 1

    @cached_property
    def batch(self) -> Tensor:
        """``(n,)`` int64, the pair of each node."""
        return _fill_rows(self.ptr, torch.empty_like(self.nodes))

    @cached_property
    def edge_index(self) -> Tensor:
        """``(2, e)`` int64, the edges in PyG's layout: (source, target)."""
        edges = self.indices.new_empty(2, self.indices.numel())
        edges[0] = self.indices
        _fill_rows(self.indptr, edges[1])
        return edges

    def select(self, index: Tensor | slice) -> Subgraphs:
        """The subgraphs of some pairs, in the order of ``index``, in which one may stand more than once.

        Args:
            index: int64 positions, each in ``-M ... M - 1``; a bool mask ``(M,)``; or a slice.

        Raises:
            ValueError: a position outside, a mask of another length, or subgraphs that are not on the CPU.
        """
        _refuse_device("the subgraphs", self.ptr)
        places = _positions(index, self.num_pairs)
        arrays = tuple(array.numpy() for array in (self.ptr, self.nodes, self.labels, self.indptr, self.indices))
        ptr, indptr = arrays[0], arrays[3]
        first, last = ptr[places], ptr[places + 1]
        new_ptr, new_edge = _starts(last - first), _starts(indptr[last] - indptr[first])
        num_nodes, num_edges = new_ptr[-1], new_edge[-1]
        out = tuple(np.zeros(size, np.int64) for size in (num_nodes, num_nodes, num_nodes + 1, num_edges))
        kernels.select(places, arrays, new_ptr, new_edge, out)
        return Subgraphs(*map(torch.from_numpy, (new_ptr, *out)))

    def to(self, device: torch.device | str) -> Subgraphs:
        """The same subgraphs on ``device``."""
        return to_device(self, device)


def enclosing_subgraphs(
    graph: Graph, pairs: Tensor, num_hops: int = 1, max_nodes_per_hop: int | None = None, threads: int | None = None
) -> Subgraphs:
    """The h-hop enclosing subgraphs of pairs with double-radius node labels (SEAL, Zhang and Chen, NeurIPS 2018).

    A pair's subgraph is induced on the nodes within ``num_hops`` of either end; an edge between the two ends is no part
    of it. With d_s the distance to the source by paths in the subgraph without the target, d_t the converse and
    d = d_s + d_t, the label of a node is ``1 + min(d_s, d_t) + (d // 2) (d // 2 + d % 2 - 1)`` (equation 4 of arXiv
    1802.09691); the ends have 1, and nodes that do not reach both have 0. For a pair of a node with itself both
    distances are those to the one node.

    Each pair's subgraph depends on the pair alone, not on the others or on the number of threads. Cost for a pair: the
    sum of its nodes' degrees; besides, four bytes for each node of the graph are cleared once for every part of the
    pairs that a thread takes.

    Args:
        graph: the graph on the CPU; edges left out of its message passing do not exist.
        pairs: ``(2, M)`` int64, sources and targets.
        num_hops: h, 0 or more.
        max_nodes_per_hop: of the nodes that a hop adds, only this many are kept, drawn by a hash of (pair, node) that
            is the same for both directions of a pair; those left out do not come back in a later hop. None keeps all.
        threads: at most this many threads; None takes as many as there are cores for this process.

    Raises:
        ValueError: an argument out of its range, a graph that is a sample of neighbours, or a graph or pairs that are
            not on the CPU.

    Example:
        >>> square = Graph.from_edges(torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]]), num_nodes=4)
        >>> found = enclosing_subgraphs(square, torch.tensor([[0], [2]]))
        >>> found.nodes.tolist(), found.labels.tolist()
        ([0, 2, 1, 3], [1, 1, 2, 2])
    """
    _refuse_device("graph", graph.indptr)
    _refuse_device("pairs", pairs)
    if pairs.dim() != 2 or pairs.shape[0] != 2 or pairs.dtype != torch.int64:
        raise ValueError(f"pairs: got {pairs.dtype} of shape {tuple(pairs.shape)}; allowed is int64 of shape (2, M)")
    if pairs.numel() and (int(pairs.min()) < 0 or int(pairs.max()) >= graph.num_nodes):
        found = f"{int(pairs.min())} ... {int(pairs.max())}"
        raise ValueError(f"pairs: got nodes {found}; allowed are 0 ... {graph.num_nodes - 1}")
    at_least(0, num_hops=num_hops)
    at_least(1, or_null=True, max_nodes_per_hop=max_nodes_per_hop, threads=threads)
    if graph.sampled is not None:
        raise ValueError("graph: got a sample of neighbours; allowed is an undirected graph")
    if graph.num_nodes >= 2**31:
        raise ValueError(f"graph: got {graph.num_nodes} nodes; allowed are fewer than 2^31")

    sources, targets = pairs[0].contiguous().numpy(), pairs[1].contiguous().numpy()
    indptr, indices = graph.indptr.numpy(), graph.indices.numpy()
    keep = None if graph.keep is None else graph.keep.numpy()
    limit = _NO_LIMIT if max_nodes_per_hop is None else max_nodes_per_hop

    def enclose(part: slice) -> tuple[np.ndarray, ...]:
        ends = sources[part], targets[part]
        return kernels.enclose(*ends, indptr, indices, keep, num_hops, limit)  # type: ignore[no-any-return]

    parts = in_threads(enclose, slices(len(sources), _LEAST, threads), threads=threads)
    return _joined(parts, threads)


def _joined(parts: list[tuple[np.ndarray, ...]], threads: int | None) -> Subgraphs:
    """What :func:`kernels.enclose` has made of the parts, one after the other as one graph: each is copied once."""
    pair, node, edge = (_starts(np.array([len(part[i]) for part in parts])) for i in (0, 1, 4))
    sizes = pair[-1] + 1, node[-1], node[-1], node[-1] + 1, edge[-1]
    arrays = tuple(np.empty(size, np.int64) for size in sizes)
    arrays[0][0] = arrays[3][0] = 0

    def place(i: int) -> None:
        kernels.place(*parts[i], pair[i], node[i], edge[i], *arrays)

    in_threads(place, range(len(parts)), threads=threads)
    return Subgraphs(*map(torch.from_numpy, arrays))


def _fill_rows(starts: Tensor, out: Tensor) -> Tensor:
    """Writes i to ``out[starts[i] : starts[i + 1]]``, for every i; returns ``out``."""
    if out.is_cpu:
        kernels.fill_rows(starts.numpy(), out.numpy())
        return out
    rows = torch.arange(len(starts) - 1, device=starts.device)
    return out.copy_(torch.repeat_interleave(rows, starts.diff(), output_size=len(out)))


def _starts(counts: np.ndarray) -> np.ndarray:
    """``(k + 1,)`` int64: 0 and the running sums of ``k`` counts."""
    return np.concatenate([[0], counts.cumsum()])


def _positions(index: Tensor | slice, size: int) -> np.ndarray:
    if isinstance(index, slice):
        return np.arange(size)[index]
    if index.dtype == torch.bool:
        if index.shape != (size,):
            raise ValueError(f"index: got a mask of shape {tuple(index.shape)}; allowed is ({size},)")
        return index.nonzero().flatten().numpy()
    if index.dtype != torch.int64 or index.dim() != 1:
        raise ValueError(f"index: got {index.dtype} of shape {tuple(index.shape)}; allowed is int64 of shape (k,)")
    outside = index[(index < -size) | (index >= size)]
    if len(outside):
        raise ValueError(f"index: got {int(outside[0])}; allowed are {-size} ... {size - 1}")
    return torch.arange(size)[index].numpy()


def _refuse_device(name: str, tensor: Tensor) -> None:
    if tensor.device.type != "cpu":
        raise ValueError(f"{name}: got tensors on {tensor.device}; allowed is the CPU, so move it there first")
