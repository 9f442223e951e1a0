"""The bilevel step's derivative: how the student's loss on the meta set, after one update, depends on the weight net.

Two exact engines behind one interface. With inner loss ``L(theta, phi)`` and ``theta'(phi) = Opt(theta, grad L)``
both return ``d L_meta(theta'(phi)) / d phi`` and leave the student's parameters, buffers and optimizer state as they
were:

- :class:`HigherEngine` differentiates through the update with ``higher``, in one chain from outer loss to weight net.
- :class:`DirectionalEngine` uses that the weights' inputs are detached, so that
  ``dL_meta/dw_i = < (d theta'/d g)^T grad L_meta(theta'), grad l_i > / (2 n)``: the chain is cut at the gradient, and
  what crosses it is one vector.

The cheaper ones that wrap them are in :mod:`mebns_pl.mebns.cheap_engines`.

``higher``'s own Adam lets eps count 1/sqrt(1 - beta2^t) times, and ignores ``maximize`` and decoupled weight decay;
so the update rules here are our own, equal to ``torch.optim``'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import higher
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.mebns.learner import Gradients, Learner
from mebns_pl.models.predictor import LinkPredictor

Params = dict[str, Tensor]
_Rule = Callable[[Tensor, Tensor, dict[str, Any], dict[str, Any]], Tensor]


def sgd_rule(param: Tensor, grad: Tensor, state: dict[str, Any], options: dict[str, Any]) -> Tensor:
    """One ``torch.optim.SGD`` update of one tensor, differentiable; ``state`` is read, not written."""
    grad = -grad if options["maximize"] else grad
    if options["weight_decay"]:
        grad = grad + options["weight_decay"] * param
    if options["momentum"]:
        buffer = state.get("momentum_buffer")
        buffer = grad if buffer is None else options["momentum"] * buffer + (1 - options["dampening"]) * grad
        grad = grad + options["momentum"] * buffer if options["nesterov"] else buffer
    lr: float = options["lr"]
    return param - lr * grad


def adam_rule(param: Tensor, grad: Tensor, state: dict[str, Any], options: dict[str, Any]) -> Tensor:
    """One ``torch.optim.Adam`` or ``AdamW`` update of one tensor, differentiable; ``state`` is read, not written."""
    step = float(state.get("step", 0)) + 1
    grad = -grad if options["maximize"] else grad
    if options["weight_decay"]:
        if options["decoupled_weight_decay"]:
            param = param * (1 - options["lr"] * options["weight_decay"])
        else:
            grad = grad + options["weight_decay"] * param
    moments = (state["exp_avg"], state["exp_avg_sq"]) if "exp_avg" in state else (torch.zeros_like(param),) * 2
    return param - _AdamMove.apply(grad, *moments, step, options["betas"], options["lr"], options["eps"])  # type: ignore[no-any-return]


class _AdamMove(torch.autograd.Function):
    """What Adam takes off a tensor, from its gradient, in one pass each way; derivatives of the first order.

    With m and s the new moments, r the root of s over ``(1 - beta2^t)`` and k = lr / (1 - beta1^t) it is
    ``k m / (r + eps)``; its derivative ``k ((1 - beta1) - m r' / (r + eps)) / (r + eps)``, where
    ``r' = (1 - beta2) g / (r (1 - beta2^t))``.
    """

    @staticmethod
    def forward(
        grad: Tensor,
        mean: Tensor,
        square: Tensor,
        step: float,
        betas: tuple[float, float],
        lr: float,
        eps: float,
    ) -> Tensor:
        new_mean, root = _moments(grad, mean, square, step, betas)
        return new_mean.div_(root.add_(eps)).mul_(lr / (1 - betas[0] ** step))

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*inputs[:3], output)
        ctx.options = inputs[3:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, above):  # type: ignore[no-untyped-def]
        (grad, mean, square, move), (step, betas, lr, eps) = ctx.saved_tensors, ctx.options
        _, root = _moments(grad, mean, square, step, betas)
        # Where no gradient has ever come the root is 0 and has no derivative, but the update has one
        slope = (grad * ((1 - betas[1]) / (1 - betas[1] ** step))).div_(root).masked_fill_(root == 0, 0)
        slope = slope.mul_(move).neg_().add_(lr * (1 - betas[0]) / (1 - betas[0] ** step))
        return slope.div_(root.add_(eps)).mul_(above), *([None] * 6)


def _moments(
    grad: Tensor, mean: Tensor, square: Tensor, step: float, betas: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Adam's new mean, and the root of its new mean square, that one corrected for its start."""
    new_square = (square * betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    return (mean * betas[0]).add_(grad, alpha=1 - betas[0]), new_square.sqrt_().div_((1 - betas[1] ** step) ** 0.5)


_RULES: dict[type[Optimizer], _Rule] = {SGD: sgd_rule, Adam: adam_rule, AdamW: adam_rule}


def check_optimizer(optimizer: Optimizer, name: str) -> None:
    """Refuses optimizers that the lookahead cannot reproduce.

    Raises:
        ValueError: neither SGD, Adam nor AdamW (subclasses neither), or with ``amsgrad`` or ``differentiable``.
    """
    if type(optimizer) not in _RULES:
        allowed = ", ".join(kind.__name__ for kind in _RULES)
        raise ValueError(f"{name}: the bilevel step can look ahead through {allowed}, got {type(optimizer).__name__}")
    for option in ("amsgrad", "differentiable"):
        if any(group.get(option) for group in optimizer.param_groups):
            raise ValueError(f"{name}: {option}=True is not supported by the bilevel step; leave it False")


def updated(
    optimizer: Optimizer, params: Sequence[Tensor], values: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    """What ``optimizer`` would make of its parameters, as a differentiable function of the gradients.

    Args:
        optimizer: SGD, Adam or AdamW; read only.
        params: the optimizer's own parameters, which name the state.
        values: their values, tensors of the same shapes.
        grads: their gradients.

    Returns:
        New values, in the order of ``params``.

    Raises:
        ValueError: an optimizer that :func:`check_optimizer` refuses.
    """
    check_optimizer(optimizer, "optimizer")
    rule = _RULES[type(optimizer)]
    options = {param: group for group in optimizer.param_groups for param in group["params"]}
    return [
        rule(value, grad, optimizer.state.get(param, {}), options[param])
        for param, value, grad in zip(params, values, grads, strict=True)
    ]


def clipped(grads: Sequence[Tensor], max_norm: float | None) -> list[Tensor]:
    """Scales gradients to a joint 2-norm of at most ``max_norm``, differentiably; None changes nothing."""
    if max_norm is None:
        return list(grads)
    norm = torch.stack([grad.square().sum() for grad in grads]).sum()
    seen = norm > 0
    norm = torch.where(seen, torch.where(seen, norm, 1.0).sqrt(), 0.0)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [grad * scale for grad in grads]


@dataclass(frozen=True)
class BilevelProblem:
    """One bilevel step, as the engines see it. Losses are this rank's share of global sums.

    Args:
        student: the predictor whose update is looked through, with its optimizer.
        gradient_clip_norm: clipping that the real step applies too, or None.
        inner_loss: weights ``(n,)`` -> the student's loss at its live parameters; its graph is kept for several
            derivatives.
        outer_loss_at: parameters -> loss on the meta batch.
        weights_at: weight-net parameters -> weights ``(n,)``.
        weight_params: the weight net's parameters.
        group: the ranks.
    """

    student: Learner[LinkPredictor]
    gradient_clip_norm: float | None
    inner_loss: Callable[[Tensor], Tensor]
    outer_loss_at: Callable[[Params], Tensor]
    weights_at: Callable[[Params], Tensor]
    weight_params: Params
    group: AbstractGroup

    def student_params(self) -> Params:
        """The student's live parameters that the optimizer moves."""
        moved = {id(param) for param in self.student.params()}
        return {name: param for name, param in self.student.module.named_parameters() if id(param) in moved}

    def reduced(self, grads: Sequence[Tensor | None]) -> list[Tensor]:
        """Local gradients -> clipped union gradients; zeros stand for unused parameters."""
        params = self.student_params().values()
        full = [torch.zeros_like(p) if g is None else g for p, g in zip(params, grads, strict=True)]
        return clipped(self.group.sum_all(full), self.gradient_clip_norm)


class AbstractEngine(ABC):
    """Computes the hypergradient of one bilevel step."""

    def check(self, student: nn.Module) -> None:  # noqa: B027 (most engines work with any student)
        """Refuses, before training, a student that the engine cannot work with."""

    def due(self, number: int) -> bool:
        """Whether the ``number``-th step of the run (from 0) moves the weight net; in the others it only weighs."""
        return True

    @abstractmethod
    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        """``d L_meta(theta'(phi)) / d phi`` with L_meta, this rank's shares: the sums over ranks are the union's."""


class HigherEngine(AbstractEngine):
    """Differentiates through the student's update with ``higher``'s differentiable optimizers.

    Cost: the inner gradient with a graph, a forward and backward pass on the meta batch, and one backward pass through
    the inner gradient: about 3 student steps, and the memory of the second-order graph.

    Example:
        >>> HigherEngine()  # doctest: +ELLIPSIS
        <mebns_pl.mebns.bilevel.HigherEngine object at ...>
    """

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        """See :class:`AbstractEngine`."""
        phi = {name: value.detach().requires_grad_() for name, value in problem.weight_params.items()}
        params = problem.student_params()
        with torch.enable_grad():
            loss = problem.inner_loss(problem.weights_at(phi))
            optimizer = _DifferentiableOptimizer(problem.student.optimizer, params.values(), track_higher_grads=True)
            ahead = optimizer.step(loss, params=list(params.values()), grad_callback=problem.reduced)
            outer = problem.outer_loss_at(dict(zip(params, ahead, strict=True)))
            grads = torch.autograd.grad(outer, list(phi.values()), materialize_grads=True)
        return Gradients(outer.detach(), list(grads))


class DirectionalEngine(AbstractEngine):
    """Cuts the chain at the student's gradient; equal to :class:`HigherEngine` up to rounding, and cheaper.

    The gradient is linear in the weights, so that its product with one vector, the outer loss seen through the update,
    is all there is to differentiate. The update's own graph and the ranks' sums stay outside of it.

    Cost: the inner gradient with a graph, a forward and backward pass on the meta batch, and a backward pass through
    the inner gradient: about 2 student steps.

    Example:
        >>> DirectionalEngine()  # doctest: +ELLIPSIS
        <mebns_pl.mebns.bilevel.DirectionalEngine object at ...>
    """

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        """See :class:`AbstractEngine`."""
        return directional(problem, list(problem.student_params()))


def directional(problem: BilevelProblem, unrolled: Sequence[str]) -> Gradients:
    """The hypergradient by one product with the gradient, looking through the update of some parameters.

    Args:
        problem: the bilevel step.
        unrolled: names of the parameters that the lookahead moves; the others stay where they are. With all of them
            the result is exact. Clipping looks at their gradients alone.
    """
    phi = {name: value.detach().requires_grad_() for name, value in problem.weight_params.items()}
    params = problem.student_params()
    live = [params[name] for name in unrolled]
    values = {name: value.detach() for name, value in params.items()}
    with torch.enable_grad():
        weights = problem.weights_at(phi)
        leaf = weights.detach().requires_grad_()
        local = torch.autograd.grad(problem.inner_loss(leaf), live, create_graph=True, materialize_grads=True)
        grads = [grad.requires_grad_() for grad in problem.group.sum_all([g.detach() for g in local])]
        start = [values[name] for name in unrolled]
        moved = updated(problem.student.optimizer, live, start, clipped(grads, problem.gradient_clip_norm))
        outer = problem.outer_loss_at({**values, **dict(zip(unrolled, moved, strict=True))})
        direction = problem.group.sum_all(torch.autograd.grad(outer, grads, materialize_grads=True))
    slope = slope_of_weights(local, leaf, direction)
    grads_of_phi = torch.autograd.grad(weights, list(phi.values()), slope, materialize_grads=True)
    return Gradients(outer.detach(), list(grads_of_phi))


def slope_of_weights(grads: Sequence[Tensor], weights: Tensor, direction: Sequence[Tensor]) -> Tensor:
    """``(n,)``: the derivative by each weight of the product of the student's gradient with a direction.

    Args:
        grads: the student's gradient, with its graph.
        weights: ``(n,)``, a leaf of that graph.
        direction: of the shapes of ``grads``.
    """
    # Parameters that no negative reaches have gradients that do not depend on the weights
    reached = [place for place, gradient in enumerate(grads) if gradient.requires_grad]
    (slope,) = torch.autograd.grad(
        [grads[place] for place in reached], weights, [direction[place] for place in reached], materialize_grads=True
    )
    return slope


class _DifferentiableOptimizer(higher.optim.DifferentiableOptimizer):
    """``higher``'s frame round our own update rules."""

    def __init__(self, other: Optimizer, *args: Any, **kwargs: Any) -> None:
        self._rule = _RULES[type(other)]
        super().__init__(other, *args, **kwargs)

    def _update(self, grouped_grads: list[list[Tensor]], **_: Any) -> None:
        for group, grads, states in zip(self.param_groups, grouped_grads, self.state, strict=True):
            pairs = enumerate(zip(group["params"], grads, strict=True))
            group["params"] = [self._rule(param, grad, states[place], group) for place, (param, grad) in pairs]
