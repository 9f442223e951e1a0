"""A loss round given parameters: curvature, and a two-dimensional slice.

All functions take ``loss``, a function from named parameters to a ``()`` tensor, and the parameters at which to look.
Nothing of size P x P is made for P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.keys import Key

Params = dict[str, Tensor]
Loss = Callable[[Params], Tensor]


class Estimate(NamedTuple):
    """A mean over random probes.

    Args:
        value: the mean.
        error: its standard error.
    """

    value: float
    error: float


def hessian_product(loss: Loss, params: Params) -> Callable[[Tensor], Tensor]:
    """A function from a flat vector ``(P,)`` to the Hessian times it, ``(P,)``, by double backward.

    Cost: two backward passes a product; the gradient's graph is kept between calls.
    """
    live = {name: value.detach().requires_grad_() for name, value in params.items()}
    leaves = list(live.values())
    with torch.enable_grad():
        grads = torch.autograd.grad(loss(live), leaves, create_graph=True, materialize_grads=True)
    flat_grad = torch.cat([grad.flatten() for grad in grads])

    def multiply(vector: Tensor) -> Tensor:
        if not flat_grad.requires_grad:  # a loss that is linear in every parameter
            return torch.zeros_like(vector)
        rows = torch.autograd.grad(flat_grad, leaves, vector, retain_graph=True, materialize_grads=True)
        return torch.cat([row.flatten() for row in rows])

    return multiply


def top_eigenvalue(loss: Loss, params: Params, key: Key, tolerance: float = 1e-4, max_products: int = 500) -> float:
    """The Hessian's largest eigenvalue, by Lanczos iteration (ARPACK) on Hessian-vector products.

    Args:
        loss: parameters -> loss.
        params: where to look.
        key: names the first vector.
        tolerance: relative accuracy.
        max_products: bound on restarts of the iteration.

    Raises:
        ValueError: fewer than two parameters, or no convergence within the bound.
    """
    multiply, size, like = _prepared(loss, params)

    def matvec(vector: np.ndarray) -> np.ndarray:
        return multiply(torch.from_numpy(np.ascontiguousarray(vector)).to(like).flatten()).double().cpu().numpy()

    operator = LinearOperator((size, size), matvec=matvec, dtype=np.float64)
    options = {"v0": key.numpy().standard_normal(size), "tol": tolerance, "maxiter": max_products}
    try:
        (value,) = eigsh(operator, k=1, which="LA", return_eigenvectors=False, **options)
    except ArpackNoConvergence as error:
        raise ValueError(f"max_products: no convergence to {tolerance} within {max_products} restarts") from error
    return float(value)


def hessian_trace(loss: Loss, params: Params, key: Key, num_probes: int = 30) -> Estimate:
    """The Hessian's trace, by Hutchinson's estimate: the mean of ``v H v`` over random signs ``v``.

    Args:
        loss: parameters -> loss.
        params: where to look.
        key: names the probes.
        num_probes: 2 or more.

    Raises:
        ValueError: fewer than two probes.
    """
    at_least(2, num_probes=num_probes)
    multiply, size, like = _prepared(loss, params)
    found = []
    for probe in range(num_probes):
        signs = (torch.randint(2, (size,), generator=key.child(probe).generator()) * 2 - 1).to(like)
        found.append(float(signs @ multiply(signs)))
    values = torch.tensor(found, dtype=torch.float64)
    return Estimate(float(values.mean()), float(values.std() / num_probes**0.5))


def random_direction(params: Params, key: Key) -> Params:
    """A random direction, filter-normalised (Li et al. 2018, 1712.09913, section 4).

    Every row of a matrix has the norm of that row of the parameter; biases and other parameters with fewer than two
    dimensions do not move.
    """
    direction = {}
    for name, value in params.items():
        if value.dim() < 2:
            direction[name] = torch.zeros_like(value)
            continue
        drawn = torch.randn(value.shape, generator=key.child(name).generator(), dtype=torch.float64).to(value)
        axes = tuple(range(1, value.dim()))
        norms = drawn.norm(dim=axes, keepdim=True).clamp_min(torch.finfo(value.dtype).tiny)
        direction[name] = drawn * value.detach().norm(dim=axes, keepdim=True) / norms
    return direction


def loss_surface(loss: Loss, params: Params, directions: tuple[Params, Params], offsets: Tensor) -> Tensor:
    """Losses at ``params + a first + b second`` for all a, b of ``offsets`` ``(n,)``: ``(n, n)``, a down, b across.

    Cost: ``n^2`` forward passes.
    """
    first, second = directions
    losses = []
    with torch.no_grad():
        for a, b in product(offsets.tolist(), repeat=2):
            moved = {name: value + a * first[name] + b * second[name] for name, value in params.items()}
            losses.append(float(loss(moved)))
    return torch.tensor(losses, dtype=torch.float64).view(len(offsets), len(offsets))


def _prepared(loss: Loss, params: Params) -> tuple[Callable[[Tensor], Tensor], int, Tensor]:
    size = sum(value.numel() for value in params.values())
    if size < 2:
        raise ValueError(f"params: at least two parameters are needed, got {size}")
    return hessian_product(loss, params), size, next(iter(params.values())).detach()
