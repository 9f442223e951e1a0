"""Compiled products with sparse matrices give the sums in order, on any number of threads, and their derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mebns_pl.graph import sparse
from mebns_pl.graph.sparse import Features


def in_order(matrix: Tensor, h: Tensor) -> Tensor:
    """M h one entry after the other."""
    result = torch.zeros(matrix.shape[0], h.shape[1], dtype=h.dtype)
    for row, column in matrix.nonzero().tolist():
        result[row] = result[row] + matrix[row, column] * h[column]
    return result


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """One thread, or two whatever the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr(sparse, "_LEAST_WORK", 0)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(30, 7), (7, 30), (9, 9)])
def test_products_are_the_sums_in_order(shape: tuple[int, int], dtype: torch.dtype, threads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(shape, generator=generator).to(dtype)
    dense[torch.rand(shape, generator=generator) < 0.6] = 0
    weight = torch.randn(shape[1], 21, generator=generator).to(dtype).requires_grad_()
    above = torch.randn(shape[0], 21, generator=generator).to(dtype)
    words = Features.of(dense.to_sparse())
    found = words @ weight
    assert torch.equal(found, in_order(dense, weight.detach()))
    (slope,) = torch.autograd.grad(found, weight, above)
    assert torch.equal(slope, in_order(dense.t(), above))


def test_a_view_is_taken_as_it_is() -> None:
    words = Features.of(torch.eye(4).to_sparse())
    h = torch.arange(12.0).view(3, 4).t()
    assert torch.equal(words @ h, h)
