"""Cheaper hypergradients behind the interface of the exact engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mebns_pl.checks import at_least
from mebns_pl.mebns.bilevel import AbstractEngine, BilevelProblem, HigherEngine, directional, slope_of_weights
from mebns_pl.mebns.learner import Gradients


class LastBlock(AbstractEngine):
    """Looks through the update of some parameters only, the decoder's by default; the others stay where they are.

    The idea is FaMUS's (Xu et al., CVPR 2021): the layers next to the loss carry most of the meta gradient. With every
    parameter named it is :class:`~mebns_pl.mebns.bilevel.DirectionalEngine`, and exact.

    Cost: one forward pass on the meta batch, and the named parameters' share of the backward passes there, of the
    student's gradient, and of the pass through that.

    Args:
        names: parameters, or modules whose parameters all are meant, by their names in the predictor.

    Raises:
        ValueError: no name.

    Example:
        >>> LastBlock(["decoder", "encoder.biases.0"]).names
        ['decoder', 'encoder.biases.0']
    """

    def __init__(self, names: Sequence[str] = ("decoder",)) -> None:
        if not names:
            raise ValueError("names: at least one parameter or module is needed, got none")
        self.names = list(names)

    def check(self, student: nn.Module) -> None:
        """Refuses names that no parameter has.

        Raises:
            ValueError: such a name, with the names there are.
        """
        there = [name for name, _ in student.named_parameters()]
        for name in self.names:
            if not any(_stands_for(name, param) for param in there):
                raise ValueError(f"engine.names: the predictor has no parameter {name!r}; it has {', '.join(there)}")

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        """See :class:`~mebns_pl.mebns.bilevel.AbstractEngine`."""
        return directional(problem, list(self._unrolled(problem.student.module)))

    def _unrolled(self, student: nn.Module) -> Iterator[str]:
        for param, _ in student.named_parameters():
            if any(_stands_for(name, param) for name in self.names):
                yield param


@dataclass(frozen=True)
class Every(AbstractEngine):
    """Moves the weight net at every n-th step only; in between it weighs with what it has learned.

    Cost: one n-th of the engine's.

    Args:
        n: 1 or more.
        engine: computes the hypergradient when it is due; :class:`~mebns_pl.mebns.bilevel.HigherEngine` by default.

    Raises:
        ValueError: ``n`` is below 1.

    Example:
        >>> [number for number in range(7) if Every(3).due(number)]
        [0, 3, 6]
    """

    n: int = 4
    engine: AbstractEngine | None = None

    def __post_init__(self) -> None:
        at_least(1, "steps", n=self.n)

    @property
    def inner(self) -> AbstractEngine:
        """The engine that computes."""
        return self.engine or HigherEngine()

    def check(self, student: nn.Module) -> None:
        """Asks the engine."""
        self.inner.check(student)

    def due(self, number: int) -> bool:
        """Every n-th step of the run, from the first."""
        return number % self.n == 0 and self.inner.due(number // self.n)

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        """The engine's."""
        return self.inner.hypergradient(problem)


class AlignmentEngine(AbstractEngine):
    """A single-level surrogate: negatives gain whose gradient points where the meta loss falls, here and now.

    No lookahead is made. The coupling of a negative is the product of its gradient with that of the meta loss at the
    student as it is; centred and scaled to unit variance over the union's negatives it stands in for the hypergradient,
    so that it does not fade when the meta loss is small, as the bilevel one does. After the analysis of meta
    re-weighting in 2510.12209, whose surrogate centres couplings, too; this one is a reconstruction from its summary,
    for comparison, and no approximation of the exact engines.

    Cost: the inner gradient with a graph, a forward and backward pass on the meta batch, and a backward pass through
    the inner gradient: that of :class:`~mebns_pl.mebns.bilevel.DirectionalEngine` without the update.

    Example:
        >>> AlignmentEngine()  # doctest: +ELLIPSIS
        <mebns_pl.mebns.cheap_engines.AlignmentEngine object at ...>
    """

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        """See :class:`~mebns_pl.mebns.bilevel.AbstractEngine`."""
        phi = {name: value.detach().requires_grad_() for name, value in problem.weight_params.items()}
        params, group = problem.student_params(), problem.group
        with torch.enable_grad():
            weights = problem.weights_at(phi)
            leaf = weights.detach().requires_grad_()
            outer = problem.outer_loss_at(params)
            down = group.sum_all(torch.autograd.grad(outer, list(params.values()), materialize_grads=True))
            local = torch.autograd.grad(
                problem.inner_loss(leaf), list(params.values()), create_graph=True, materialize_grads=True
            )
        coupling = slope_of_weights(local, leaf, down)
        there = leaf.detach() > 0
        coupling = torch.where(there, coupling, 0)
        count, total = group.sum_all([there.sum().to(coupling.dtype), coupling.sum()])
        centered = torch.where(there, coupling - total / count.clamp(min=1), 0)
        deviation = (group.sum(centered.square().sum()) / count.clamp(min=1)).sqrt()
        slope = -centered / (deviation + torch.finfo(deviation.dtype).tiny) / count.clamp(min=1)
        grads = torch.autograd.grad(weights, list(phi.values()), slope, materialize_grads=True)
        return Gradients(outer.detach(), list(grads))


def _stands_for(name: str, param: str) -> bool:
    return param == name or param.startswith(name + ".")
