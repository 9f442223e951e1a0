"""Kinds of nodes, and which kinds are linked: what a negative of a typed graph may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 64
"""Kinds; more are no kinds of things, and tables of kinds by nodes would be large."""


@dataclass(frozen=True)
class NodeTypes:
    """What kind of thing each node is, and between which kinds there are edges; users and items, say.

    Args:
        kind: ``(N,)`` int64, numbers of kinds.
        linked: ``(T, T)`` bool, symmetric: whether nodes of two kinds can be linked.

    Example:
        >>> types = NodeTypes.of(["user", "item", "user"], torch.tensor([[0], [1]]))
        >>> types.fit(torch.tensor([0, 0]), torch.tensor([1, 2])).tolist()
        [True, False]
    """

    kind: Tensor
    linked: Tensor

    @staticmethod
    def of(names: Sequence[str], edges: Tensor) -> NodeTypes | None:
        """Kinds by name, linked as ``edges`` ``(2, n)`` link them; None where each is linked to each, or none to any.

        Args:
            names: N texts.
            edges: those that may be known in training: held-out ones do not show in what is drawn.
        """
        if len(set(names)) > MOST:
            return None
        numbers = {name: number for number, name in enumerate(sorted(set(names)))}
        kind = torch.tensor([numbers[name] for name in names], dtype=torch.int64)
        linked = torch.zeros(len(numbers), len(numbers), dtype=torch.bool)
        linked[kind[edges[0]], kind[edges[1]]] = True
        linked |= linked.t().clone()
        return None if bool(linked.all()) or not bool(linked.any()) else NodeTypes(kind, linked)

    def fit(self, source: Tensor, target: Tensor) -> Tensor:
        """Whether nodes can be linked, by their kinds; shapes broadcast, int64 in, bool out."""
        return self.linked[self.kind[source], self.kind[target]]

    @property
    def num_pairs(self) -> int:
        """How many pairs of different nodes can be linked, by their kinds."""
        size = torch.bincount(self.kind, minlength=len(self.linked))
        ordered = size[:, None] * size - size.diag()  # no node with itself
        return int((ordered * self.linked).sum()) // 2

    def only(self, first: int, second: int) -> NodeTypes:
        """The same kinds, of which these two alone are linked."""
        linked = torch.zeros_like(self.linked)
        linked[first, second] = linked[second, first] = True
        return NodeTypes(self.kind, linked)
