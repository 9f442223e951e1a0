"""Curvature against a dense Hessian of a tiny model; the surface against losses taken one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from mebns_pl import GAT, GCN, SAGE, EncoderDecoder, MLPDecoder
from mebns_pl.analysis.loss_geometry import (
    Loss,
    Params,
    hessian_product,
    hessian_trace,
    loss_surface,
    random_direction,
    top_eigenvalue,
)
from mebns_pl.keys import Key
from mebns_pl.mebns.losses.abstract import negative_losses, positive_losses
from mebns_pl.models.encoders.abstract import AbstractEncoder
from references.step import make_graph

KEY = Key(2, "tests/landscape")


def tiny(encoder: Callable[..., AbstractEncoder] = GCN, features: str = "dense") -> tuple[Loss, Params]:
    """A predictor of few parameters with its loss on some pairs, float64."""
    graph = make_graph(features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        predictor = EncoderDecoder(
            graph.spec, partial(encoder, hidden_channels=2), partial(MLPDecoder, hidden_channels=3)
        ).double()
        for param in predictor.parameters():
            torch.nn.init.normal_(param, std=0.7)
    inputs = predictor.prepare(graph, torch.tensor([[0, 3, 5, 7, 9, 2], [1, 4, 6, 12, 20, 18]]))

    def loss(params: Params) -> Tensor:
        logits = functional_call(predictor, params, (inputs,))
        return positive_losses(logits[:3]).mean() + negative_losses(logits[3:]).mean()

    return loss, {name: value.detach() for name, value in predictor.named_parameters()}


def dense_hessian(loss: Loss, params: Params) -> Tensor:
    """``(P, P)``, by central differences of the gradient."""
    names, sizes = list(params), [value.numel() for value in params.values()]

    def gradient(flat: Tensor) -> Tensor:
        flat = flat.clone().requires_grad_()
        parts = flat.split(sizes)
        value = loss({name: part.view_as(params[name]) for name, part in zip(names, parts, strict=True)})
        return torch.autograd.grad(value, flat)[0]

    start = torch.cat([value.flatten() for value in params.values()])
    steps = 1e-5 * torch.eye(len(start), dtype=torch.float64)
    rows = [(gradient(start + step) - gradient(start - step)) / 2e-5 for step in steps]
    hessian = torch.stack(rows)
    return (hessian + hessian.t()) / 2


@pytest.mark.parametrize(
    ("encoder", "features"),
    [(GCN, "dense"), (GCN, "sparse"), (partial(GAT, heads=2), "dense"), (SAGE, "none")],
    ids=str,
)
def test_curvature_is_that_of_the_dense_hessian(encoder: Callable[..., AbstractEncoder], features: str) -> None:
    loss, params = tiny(encoder, features)
    hessian = dense_hessian(loss, params)
    vector = torch.randn(len(hessian), generator=KEY.generator(), dtype=torch.float64)
    torch.testing.assert_close(hessian_product(loss, params)(vector), hessian @ vector, rtol=1e-5, atol=1e-7)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert eigenvalues[-1] > 1e-3
    assert top_eigenvalue(loss, params, KEY, tolerance=1e-8) == pytest.approx(float(eigenvalues[-1]), rel=1e-5)
    estimate = hessian_trace(loss, params, KEY, num_probes=200)
    assert abs(estimate.value - float(hessian.trace())) < 4 * estimate.error
    assert 0 < estimate.error < 0.5 * abs(float(hessian.trace()))


def quadratic(diagonal: list[float]) -> tuple[Loss, Params]:
    scale = torch.tensor(diagonal, dtype=torch.float64)
    return lambda params: 0.5 * (scale * params["w"] ** 2).sum(), {"w": torch.ones(len(diagonal), dtype=torch.float64)}


def test_the_top_eigenvalue_is_the_largest_not_the_one_of_largest_size() -> None:
    loss, params = quadratic([-9.0, 1.0, 3.0, 0.5])
    assert top_eigenvalue(loss, params, KEY) == pytest.approx(3.0, rel=1e-4)


def test_signs_make_the_trace_of_a_diagonal_exact() -> None:
    loss, params = quadratic([-9.0, 1.0, 3.0, 0.5])
    assert hessian_trace(loss, params, KEY, num_probes=2) == pytest.approx((-4.5, 0.0), abs=1e-12)


def test_a_linear_loss_has_no_curvature() -> None:
    params = {"w": torch.ones(3)}
    assert hessian_trace(lambda p: p["w"].sum(), params, KEY).value == 0


def test_directions_have_the_norms_of_the_filters() -> None:
    _, params = tiny()
    direction, other = random_direction(params, KEY), random_direction(params, KEY.child("other"))
    for name, value in params.items():
        if value.dim() < 2:
            assert not direction[name].any()
            continue
        for row, filter_ in zip(direction[name], value, strict=True):
            torch.testing.assert_close(row.norm(), filter_.norm())
        assert not torch.allclose(direction[name], other[name])
    again = random_direction(params, KEY)
    assert all(torch.equal(direction[name], again[name]) for name in params)


def test_the_surface_holds_the_losses() -> None:
    loss, params = tiny()
    directions = random_direction(params, KEY.child(0)), random_direction(params, KEY.child(1))
    surface = loss_surface(loss, params, directions, torch.tensor([-0.5, 0.0, 1.0]))
    assert surface[1, 1] == loss(params)
    moved = {name: params[name] - 0.5 * directions[0][name] + directions[1][name] for name in params}
    torch.testing.assert_close(surface[0, 2], loss(moved))
    assert surface.std() > 1e-3


def test_bad_arguments_are_refused() -> None:
    loss, params = quadratic([1.0])
    with pytest.raises(ValueError, match="num_probes: expected 2 or more, got 1"):
        hessian_trace(loss, params, KEY, num_probes=1)
    with pytest.raises(ValueError, match="params: at least two parameters are needed, got 1"):
        top_eigenvalue(loss, params, KEY)
