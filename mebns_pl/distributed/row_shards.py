"""A table whose rows are parted among the ranks: each holds its own, and asks the others for those that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_START_ROWS = 2**14
"""Rows that are drawn from one seed, so that their values do not depend on the number of ranks."""


@dataclass(frozen=True)
class RowShards:
    """Which rank holds which rows: contiguous blocks, of equal size but for the last ones (as torch's ``Shard(0)``).

    Args:
        num_rows: N, of the whole table.
        rank: this process's number, 0 ... size - 1.
        size: number of processes.

    Example:
        >>> RowShards(num_rows=5, rank=1, size=2).own
        slice(3, 5, None)
    """

    num_rows: int
    rank: int = 0
    size: int = 1

    @property
    def own(self) -> slice:
        """This rank's rows."""
        first = min(self.rank * self.block, self.num_rows)
        return slice(first, min(first + self.block, self.num_rows))

    @property
    def block(self) -> int:
        """Rows of a rank; the last ones may hold fewer, or none."""
        return -(-self.num_rows // self.size)

    def begin(self, channels: int, std: float, seed: int) -> Tensor:
        """This rank's rows ``(n, channels)`` float32, normally distributed; the same on any number of ranks."""
        own, parts = self.own, []
        for block in range(own.start // _START_ROWS, -(-own.stop // _START_ROWS) if own.stop > own.start else 0):
            first = block * _START_ROWS
            generator = torch.Generator().manual_seed((seed + block) % 2**63)
            rows = torch.randn(min(_START_ROWS, self.num_rows - first), channels, generator=generator) * std
            parts.append(rows[max(own.start - first, 0) : own.stop - first])
        return torch.cat(parts) if parts else torch.empty(0, channels)

    def lookup(self, table: Tensor, rows: Tensor) -> Tensor:
        """Rows of the whole table. All ranks call this at the same time, and take its derivative at the same time.

        The derivative is a sparse tensor of this rank's rows, summed over all ranks; it cannot be differentiated again.

        Args:
            table: ``(n, C)``, this rank's rows.
            rows: ``(m,)`` int64 in [0, N), repeated as they may be, with none even.

        Returns:
            ``(m, C)``.

        Cost: two messages of m numbers, then of m rows, all to all; as much again for the derivative.
        """
        if self.size == 1:
            return functional.embedding(rows, table, sparse=True)
        return _Lookup.apply(table, rows, self)  # type: ignore[no-any-return]


class _Lookup(torch.autograd.Function):
    """Asks each row's owner for it; its derivative goes the same way back."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, shards: RowShards) -> Tensor:
        owners = rows // shards.block
        order = owners.argsort(stable=True)
        wanted = torch.bincount(owners, minlength=shards.size)
        given = torch.empty_like(wanted)
        torch.distributed.all_to_all_single(given, wanted)
        ctx.wanted, ctx.given = wanted.tolist(), given.tolist()
        asked = _swap(rows[order], ctx.wanted, ctx.given) - shards.own.start
        found = torch.empty(len(rows), table.shape[1], dtype=table.dtype, device=table.device)
        found[order] = _swap(table[asked], ctx.given, ctx.wanted)
        ctx.save_for_backward(order, asked)
        ctx.shape = table.shape
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        order, asked = ctx.saved_tensors
        slopes = _swap(grad[order], ctx.wanted, ctx.given)
        return torch.sparse_coo_tensor(asked[None], slopes, ctx.shape, check_invariants=False).coalesce(), None, None


def _swap(rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """Sends ``sent[r]`` rows to rank r, one rank's behind the other's; gives back what has come, in that order."""
    found = rows.new_empty(sum(received), *rows.shape[1:])
    torch.distributed.all_to_all_single(found, rows.contiguous(), received, sent)
    return found
