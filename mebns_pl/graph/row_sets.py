"""Sets of rows, one a pair, and the sums over them as sparse products; the common neighbours of pairs as such sets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.proximity import structure
from mebns_pl.graph.sparse import product
from mebns_pl.types import to_device


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
        matrix = _ones(self.ptr, self.members, self.num_rows, h.dtype)
        if not torch.is_grad_enabled():
            return product(matrix, matrix, h)  # the transpose would not be read
        if "ptr" not in self._made:
            self._made["ptr"], self._made["members"] = _transposed(self.ptr, self.members, self.num_rows)
        return product(matrix, _ones(self._made["ptr"], self._made["members"], self.num_sets, h.dtype), h)

    def select(self, index: Tensor | slice) -> RowSets:
        """The sets at ``index`` (int64 positions, bool mask, or slice), in that order."""
        starts, sizes = self.ptr[:-1][index], self.sizes[index]
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        shift = torch.repeat_interleave(starts - ptr[:-1], sizes)
        members = self.members[torch.arange(shift.numel(), device=shift.device) + shift]
        return RowSets(ptr, members, self.num_rows)

    def to(self, device: torch.device | str) -> RowSets:
        """The same sets on ``device``."""
        return RowSets(self.ptr.to(device), self.members.to(device), self.num_rows)


def common_neighbors(graph: Graph, pairs: Tensor) -> RowSets:
    """The common neighbours of each pair ``(2, M)``, ascending, over the edges that take part in message passing.

    The two lists of neighbours are merged on the CPU: the cost of a pair is the sum of its degrees, whatever the size
    of the graph. A node and itself have all its neighbours in common.

    Example:
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> common_neighbors(path, torch.tensor([[0, 0], [2, 3]])).members.tolist()
        [1]
    """
    indptr, indices = structure(to_device(graph, "cpu") if graph.indptr.is_cuda else graph)
    source, target = (end.numpy() for end in pairs.cpu().contiguous())
    ptr, members = _merge(source, target, indptr, indices)
    return RowSets(torch.from_numpy(ptr), torch.from_numpy(members), graph.num_nodes).to(pairs.device)


def _ones(ptr: Tensor, members: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
    """The CSR matrix of ones; int32 indices spare the sparse kernels a conversion."""
    values = torch.ones(members.numel(), dtype=dtype, device=members.device)
    return torch.sparse_csr_tensor(
        ptr.int(), members.int(), values, (ptr.numel() - 1, num_columns), check_invariants=False
    )


def _transposed(ptr: Tensor, members: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """The CSR arrays of the transpose."""
    if ptr.device.type == "cpu":
        own_ptr, own_members = _transpose(ptr.numpy(), members.numpy(), num_rows)
        return torch.from_numpy(own_ptr), torch.from_numpy(own_members)
    sets = torch.repeat_interleave(torch.arange(ptr.numel() - 1, device=ptr.device), ptr.diff())
    counts = torch.bincount(members, minlength=num_rows)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]), sets[members.argsort(stable=True)]


@numba.njit(nogil=True, cache=True)
def _transpose(ptr, members, num_rows):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    own_ptr = np.zeros(num_rows + 1, np.int64)
    for row in members:
        own_ptr[row + 1] += 1
    own_ptr = np.cumsum(own_ptr)
    place, sets = own_ptr[:-1].copy(), np.empty(members.shape[0], np.int64)
    for number in range(ptr.shape[0] - 1):
        for i in range(ptr[number], ptr[number + 1]):
            row = members[i]
            sets[place[row]] = number
            place[row] += 1
    return own_ptr, sets


@numba.njit(nogil=True, cache=True)
def _merge(source, target, indptr, indices):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    ptr = np.zeros(source.shape[0] + 1, np.int64)
    bound = 0
    for i in range(source.shape[0]):
        bound += min(indptr[source[i] + 1] - indptr[source[i]], indptr[target[i] + 1] - indptr[target[i]])
    members = np.empty(bound, np.int64)
    count = 0
    for i in range(source.shape[0]):
        a, a_end = indptr[source[i]], indptr[source[i] + 1]
        b, b_end = indptr[target[i]], indptr[target[i] + 1]
        while a < a_end and b < b_end:
            if indices[a] == indices[b]:
                members[count] = indices[a]
                a, b, count = a + 1, b + 1, count + 1
            elif indices[a] < indices[b]:
                a += 1
            else:
                b += 1
        ptr[i + 1] = count
    return ptr, members[:count].copy()
