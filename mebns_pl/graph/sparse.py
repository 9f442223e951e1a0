"""Products with constant sparse matrices, differentiable to any order."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from mebns_pl.graph import product_kernels as kernels
from mebns_pl.progress import in_threads, slices
from mebns_pl.types import to_device

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


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
        matrix = (matrix.coalesce() if matrix.layout == torch.sparse_coo else matrix).to_sparse_csr()
        indptr, indices, places = transposed(matrix.crow_indices(), matrix.col_indices(), matrix.shape[1])
        turned = (indptr, indices, matrix.values()[places], matrix.shape[::-1])
        return Features(_compact(matrix), _compact(torch.sparse_csr_tensor(*turned, check_invariants=False)))

    def to_dense(self) -> Tensor:
        """``(N, F)`` dense."""
        return self.matrix.to_dense()

    def to(self, device: torch.device | str) -> Features:
        """The same matrix on ``device``."""
        return to_device(self, device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the entries."""
        return self.matrix.dtype

    def type(self, dtype: torch.dtype) -> Features:
        """The same matrix in another floating point type."""
        return Features(self.matrix.to(dtype), self.transposed.to(dtype))

    def __matmul__(self, weight: Tensor) -> Tensor:
        """X W, ``(N, F) @ (F, C) -> (N, C)``, differentiable in W to any order."""
        return product(self.matrix, self.transposed, weight)


def _compact(matrix: Tensor) -> Tensor:
    """The CSR matrix with int32 indices where they fit."""
    if matrix.values().numel() >= 2**31 - 1:
        return matrix
    return torch.sparse_csr_tensor(
        matrix.crow_indices().int(), matrix.col_indices().int(), matrix.values(), matrix.shape, check_invariants=False
    )


def starts_of(counts: Tensor) -> Tensor:
    """``(n + 1,)``: 0 and the running sums of ``counts`` ``(n,)``, where the rows of a CSR matrix start."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def entries_of(indptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of some rows of a CSR matrix, repeated as they may be: their own ``indptr``, and the places of their entries."""
    counts = indptr[rows + 1] - indptr[rows]
    starts = starts_of(counts)
    shift = torch.repeat_interleave(indptr[rows] - starts[:-1], counts)
    return starts, torch.arange(shift.numel(), device=shift.device) + shift


def transposed(indptr: Tensor, indices: Tensor, num_columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row starts and columns of the transposed CSR matrix, and where each entry came from, int64; rows ascending."""
    if indptr.is_cuda:
        places = indices.argsort(stable=True)
        rows = torch.repeat_interleave(torch.arange(indptr.numel() - 1, device=indptr.device), indptr.diff())
        return starts_of(torch.bincount(indices, minlength=num_columns)), rows[places], places
    entries = (np.arange(indices.numel()), indices.numpy(), indptr.numpy())
    turned = csr_array(entries, shape=(indptr.numel() - 1, num_columns)).tocsc()
    starts, rows, places = (part.astype(np.int64) for part in (turned.indptr, turned.indices, turned.data))
    return torch.from_numpy(starts), torch.from_numpy(rows), torch.from_numpy(places)


def product(matrix: Tensor, transposed: Tensor | None, h: Tensor) -> Tensor:
    """M h for a constant sparse ``matrix`` and its transpose, differentiable to any order.

    Args:
        matrix: ``(R, N)`` sparse CSR.
        transposed: ``(N, R)`` sparse CSR; None where no derivative is asked for.
        h: ``(N, C)``.
    """
    return _Product.apply((matrix, transposed), h)  # type: ignore[no-any-return]


KERNEL_TYPES = (torch.float32, torch.float64)
"""Dense operands that compiled loops take, on the CPU."""

_LEAST_WORK = 2**22
"""Multiply-adds below which more threads are not worth their start."""


def in_parts(work: Callable[[slice], None], size: int, cost: int) -> None:
    """Has torch's number of threads do the parts of ``range(size)``, one where all costs few multiply-adds.

    Args:
        work: does a part; the parts must not depend on each other.
        size: what is cut.
        cost: multiply-adds of all.
    """
    threads = torch.get_num_threads() if cost > _LEAST_WORK else 1
    in_threads(work, slices(size, threads=threads), threads=threads)


def _compiled_product(matrix: Tensor, transposed: Tensor | None, h: Tensor, result: Tensor) -> Tensor:
    """M h on the CPU; every sum in the order of the columns, whatever the number of threads."""
    cost, dense, out = matrix.values().numel() * h.shape[1], h.numpy(), result.numpy()
    if transposed is None or matrix.shape[0] >= matrix.shape[1]:
        by_row = _arrays(matrix)
        in_parts(lambda rows: kernels.gather_rows(*by_row, dense, rows.start, rows.stop, out), len(out), cost)
    else:  # rows of the smaller of the two dense matrices are met in any order, and stay in the cache
        by_row = _arrays(transposed)
        in_parts(lambda part: kernels.scatter_rows(*by_row, dense[:, part], out[:, part]), out.shape[1], cost)
    return result


def _arrays(matrix: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return matrix.crow_indices().numpy(), matrix.col_indices().numpy(), matrix.values().numpy()


class _Product(torch.autograd.Function):
    """M h for a constant sparse M, given with its transpose; linear, so each derivative is a product again."""

    @staticmethod
    def forward(matrices: tuple[Tensor, Tensor | None], h: Tensor) -> Tensor:
        matrix = matrices[0]
        result = h.new_empty(matrix.shape[0], h.shape[1])
        if h.device.type == "cpu" and h.dtype in KERNEL_TYPES and matrix.dtype == h.dtype:
            return _compiled_product(*matrices, h.detach().contiguous(), result)
        with torch.autocast(h.device.type, enabled=False):  # autocast would take the sparse matrix, too
            return result.addmm_(matrix, h, beta=0)  # in place: ``matrix @ h`` would fill and copy the result first

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.matrices = inputs[0]

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return None, _Product.apply(ctx.matrices[::-1], grad)
