"""Inner products of pairs equal those of copied rows, with derivatives of the first and second order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mebns_pl.graph import product_kernels
from mebns_pl.models import pair_products
from mebns_pl.models.pair_products import pair_dots


def slow(z: Tensor, pairs: Tensor) -> Tensor:
    return torch.stack([(z[s] * z[t]).sum() for s, t in pairs.t().tolist()])


def made(num_pairs: int = 11) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(7, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    return z, torch.randint(7, (2, num_pairs), generator=generator)


@pytest.mark.parametrize("cached", [0, 2**23], ids=["by target", "in their order"])
def test_equal_to_copied_rows_with_two_derivatives(cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_products, "_CACHED", cached)
    z, pairs = made()
    pairs[:, 0] = 3  # a node with itself
    found = []
    for dots in (pair_dots, slow):
        value = dots(z, pairs)
        (first,) = torch.autograd.grad((value.sigmoid() * value).sum(), z, create_graph=True)
        (second,) = torch.autograd.grad((first.square() * z).sum(), z)
        found.append((value, first, second))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_order_of_pairs_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    z, pairs = made(50)
    found = pair_dots(z, pairs)
    monkeypatch.setattr(pair_products, "_CACHED", 0)
    assert torch.equal(pair_dots(z, pairs), found)


def test_a_derivative_by_the_factors_alone_makes_none_by_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    leaf, pairs = made()
    z, factors = 2 * leaf, torch.ones(11, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad((factors * pair_dots(z, pairs)).sum(), z, create_graph=True)
    calls: list[int] = []
    both_ends = product_kernels.both_ends
    monkeypatch.setattr(product_kernels, "both_ends", lambda *args: (calls.append(1), both_ends(*args)))
    above = torch.ones_like(first)
    (by_factors,) = torch.autograd.grad(first, factors, above, retain_graph=True)
    assert not calls
    both = torch.autograd.grad(first, (factors, leaf), above)
    assert len(calls) == 1
    assert torch.equal(both[0], by_factors)


def test_derivatives_of_derivatives() -> None:
    z, pairs = made()
    assert torch.autograd.gradgradcheck(
        lambda h: torch.autograd.grad(pair_dots(h, pairs).exp().sum(), h, create_graph=True)[0], z * 0.3
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types_and_none_at_all(dtype: torch.dtype) -> None:
    z, pairs = made()
    h = z.detach().to(dtype)
    torch.testing.assert_close(pair_dots(h, pairs), slow(h, pairs), rtol=0.05, atol=0.05)
    assert pair_dots(h, pairs[:, :0]).shape == (0,)


def test_ends_that_are_no_nodes_are_refused() -> None:
    z, pairs = made()
    pairs[1, 2] = 7
    with pytest.raises(IndexError, match=r"0 \.\.\. 6, got 1 \.\.\. 7"):
        pair_dots(z, pairs)
