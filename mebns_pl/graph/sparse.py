"""Products with constant sparse matrices, differentiable to any order."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

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
        """X W, ``(N, F) @ (F, C) -> (N, C)``, differentiable in W to any order."""
        return product(self.matrix, self.transposed, weight)


def _compact(matrix: Tensor) -> Tensor:
    """The CSR matrix with int32 indices where they fit."""
    if matrix.values().numel() >= 2**31 - 1:
        return matrix
    return torch.sparse_csr_tensor(
        matrix.crow_indices().int(), matrix.col_indices().int(), matrix.values(), matrix.shape, check_invariants=False
    )


def product(matrix: Tensor, transposed: Tensor, h: Tensor) -> Tensor:
    """M h for a constant sparse ``matrix`` and its transpose, differentiable to any order.

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
        matrix = matrices[0]
        result = h.new_empty(matrix.shape[0], h.shape[1])
        with torch.autocast(h.device.type, enabled=False):  # autocast would take the sparse matrix, too
            return result.addmm_(matrix, h, beta=0)  # in place: ``matrix @ h`` would fill and copy the result first

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.matrices = inputs[0]

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return None, _Product.apply(ctx.matrices[::-1], grad)
