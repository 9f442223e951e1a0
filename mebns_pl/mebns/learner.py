"""What learns in a step, and what a step finds for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mebns_pl.models.layers import parted_of

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Gradients:
    """A learner's loss with its gradients.

    Args:
        loss: ``()``, detached.
        dense: one tensor a parameter, before clipping.
        tables: one sparse tensor of the batch's rows for each embedding table, never clipped.
        parted: whether the tables' rows are parted among ranks: each has the sums over all ranks of its own rows.
    """

    loss: Tensor
    dense: list[Tensor]
    tables: list[Tensor] = field(default_factory=list)
    parted: bool = False

    def __add__(self, other: Gradients) -> Gradients:
        """Both together, on the device of ``other``: a checkpoint brings its gradients back on the CPU."""
        parts = zip([self.loss, *self.dense, *self.tables], [other.loss, *other.dense, *other.tables], strict=True)
        loss, *rest = [mine.to(value.device) + value for mine, value in parts]
        return Gradients(loss, rest[: len(self.dense)], rest[len(self.dense) :], self.parted)

    def __truediv__(self, count: int) -> Gradients:
        """The mean of ``count``."""
        if count == 1:
            return self
        dense, tables = ([g / count for g in grads] for grads in (self.dense, self.tables))
        return Gradients(self.loss / count, dense, tables, self.parted)

    def values(self) -> list[Tensor]:
        """All that must be finite, dense and without structure."""
        return [self.loss, *self.dense, *(table.coalesce().values() for table in self.tables)]


@dataclass(frozen=True)
class Learner(Generic[ModuleT]):
    """A module and the optimizers that move it.

    Args:
        module: the module.
        optimizer: moves its parameters.
        tables: moves its embedding tables, of which a step meets a few rows, where they are not among ``optimizer``'s
            parameters; else None.
    """

    module: ModuleT
    optimizer: Optimizer
    tables: Optimizer | None = None

    def params(self) -> list[nn.Parameter]:
        """The parameters that ``optimizer`` moves, in the module's order."""
        moved = {id(param) for group in self.optimizer.param_groups for param in group["params"]}
        return [param for param in self.module.parameters() if id(param) in moved]

    def table_params(self) -> list[nn.Parameter]:
        """The embedding tables that ``tables`` moves."""
        return [] if self.tables is None else [p for group in self.tables.param_groups for p in group["params"]]

    def gradients(self, loss: Tensor) -> Gradients:
        """This rank's share: the derivatives of its share ``()`` of a loss."""
        params = self.params()
        grads = torch.autograd.grad(loss, [*params, *self.table_params()], materialize_grads=True)
        parted = self.tables is not None and bool(parted_of(self.module))
        return Gradients(loss.detach(), list(grads[: len(params)]), list(grads[len(params) :]), parted)
