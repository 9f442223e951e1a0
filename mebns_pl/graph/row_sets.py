"""Sets of rows, one a pair, and the sums over them as sparse products; the common neighbours of pairs as such sets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.sparse import entries_of, product, transposed


@dataclass(frozen=True)
class RowSets:
    """M sets of row numbers: a 0/1 matrix S ``(M, N)`` in CSR form, whose product with ``h`` adds rows up.

    Args:
        ptr: ``(M + 1,)`` int64, where each set starts.
        members: ``(m,)`` int64, row numbers in ``0 ... N - 1``, those of one set together.
        num_rows: N.

    Example:
        >>> sets = RowSets(torch.tensor([0, 2, 2]), torch.tensor([0, 2]), num_rows=3)
        >>> sets.sums(torch.tensor([[1.0], [10.0], [100.0]])).tolist()
        [[101.0], [0.0]]
    """

    ptr: Tensor
    members: Tensor
    num_rows: int
    _made: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def num_sets(self) -> int:
        """M."""
        return self.ptr.numel() - 1

    @property
    def sizes(self) -> Tensor:
        """``(M,)`` int64."""
        return self.ptr.diff()

    def sums(self, h: Tensor) -> Tensor:
        """S h, the sum of each set's rows: ``(N, C) -> (M, C)``, differentiable to any order.

        Cost: m C additions; m + N once for the transpose, where derivatives may be asked for.
        """
        h = h.float() if h.dtype == torch.bfloat16 else h  # sparse kernels have no bfloat16
        matrix = _ones(self.ptr, self.members, self.num_rows, h.dtype)
        if not torch.is_grad_enabled():
            return product(matrix, None, h)
        if "ptr" not in self._made:
            self._made["ptr"], self._made["members"], _ = transposed(self.ptr, self.members, self.num_rows)
        return product(matrix, _ones(self._made["ptr"], self._made["members"], self.num_sets, h.dtype), h)

    def select(self, index: Tensor | slice) -> RowSets:
        """The sets at ``index`` (int64 positions, bool mask, or slice), in that order."""
        ptr, places = entries_of(self.ptr, torch.arange(self.num_sets, device=self.ptr.device)[index])
        return RowSets(ptr, self.members[places], self.num_rows)

    def to(self, device: torch.device | str) -> RowSets:
        """The same sets on ``device``."""
        return RowSets(self.ptr.to(device), self.members.to(device), self.num_rows)


def common_neighbors(graph: Graph, pairs: Tensor) -> RowSets:
    """The common neighbours of each pair ``(2, M)``, ascending, over the edges that take part in message passing.

    The two lists of neighbours are merged on the CPU: time and memory of a pair are the sum of its degrees, and O(E)
    once. A node and itself have all its neighbours in common.

    Example:
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> common_neighbors(path, torch.tensor([[0, 0], [2, 3]])).members.tolist()
        [1]
    """
    indptr, indices = structure(graph)
    adjacency = csr_array((np.ones(len(indices), np.int8), indices, indptr), shape=(graph.num_nodes, graph.num_nodes))
    source, target = (adjacency[end.numpy()] for end in pairs.cpu())
    common = source.multiply(target)
    ptr, members = (torch.from_numpy(part.astype(np.int64)) for part in (common.indptr, common.indices))
    return RowSets(ptr, members, graph.num_nodes).to(pairs.device)


def _ones(ptr: Tensor, members: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
    """The CSR matrix of ones; int32 indices spare the sparse kernels a conversion."""
    values = torch.ones(members.numel(), dtype=dtype, device=members.device)
    return torch.sparse_csr_tensor(
        ptr.int(), members.int(), values, (ptr.numel() - 1, num_columns), check_invariants=False
    )
