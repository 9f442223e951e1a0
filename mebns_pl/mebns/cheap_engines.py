"""Cheaper hypergradients behind the interface of the exact engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn

from mebns_pl.checks import at_least
from mebns_pl.mebns.bilevel import AbstractEngine, BilevelProblem, HigherEngine, directional
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
    engine: AbstractEngine = field(default_factory=HigherEngine)

    def __post_init__(self) -> None:
        at_least(1, "steps", n=self.n)

    def check(self, student: nn.Module) -> None:
        """Asks the engine."""
        self.engine.check(student)

    def due(self, number: int) -> bool:
        """Every n-th step of the run, from the first."""
        return number % self.n == 0 and self.engine.due(number // self.n)

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        """The engine's."""
        return self.engine.hypergradient(problem)


def _stands_for(name: str, param: str) -> bool:
    return param == name or param.startswith(name + ".")
