"""The ranks that share one union batch, seen from one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from mebns_pl.types import Share


class AbstractGroup(ABC):
    """Sums over ranks. Every rank makes the same calls in the same order, also one with an empty share.

    Args:
        rank: this process's number, 0 ... size - 1.
        size: number of processes.
    """

    rank: int
    size: int

    @abstractmethod
    def sum(self, value: Tensor) -> Tensor:
        """The sum over ranks, same shape; differentiable: its derivative is the sum of the ranks' derivatives."""

    @abstractmethod
    def max(self, value: Tensor) -> Tensor:
        """The elementwise maximum over ranks, same shape; without gradient."""

    @abstractmethod
    def sum_rows(self, value: Tensor) -> Tensor:
        """The sum over ranks of a sparse ``(N, C)`` tensor of some rows, coalesced; without gradient."""

    def sum_all(self, values: Sequence[Tensor]) -> list[Tensor]:
        """:meth:`sum` of several tensors as one flat vector: one message."""
        flat = self.sum(torch.cat([value.reshape(-1) for value in values]))
        parts = flat.split([value.numel() for value in values])
        return [part.view_as(value) for part, value in zip(parts, values, strict=True)]

    def share(self, num_rows: int) -> slice:
        """This rank's contiguous part of ``num_rows`` rows."""
        return Share(self.rank, self.size).of(num_rows)

    def rows_of_all(self, rows: Tensor, first_row: int, num_rows: int) -> Tensor:
        """The ranks' contiguous rows put together, exactly: each rank's are added to the others' zeros.

        Args:
            rows: ``(b, ...)``, this rank's, without gradient.
            first_row: their place in the whole.
            num_rows: B.

        Returns:
            ``(B, ...)``, the same on all ranks.
        """
        whole = rows.new_zeros(num_rows, *rows.shape[1:])
        whole[first_row : first_row + len(rows)] = rows
        return self.sum(whole)

    def columns_of_all(self, columns: Tensor) -> Tensor:
        """The ranks' columns ``(c, b)`` side by side, ``(c, B)``, in the order of ranks; no rank need know B."""
        counts = self._counts(columns.shape[1], columns.device)
        return self.rows_of_all(columns.t(), sum(counts[: self.rank]), sum(counts)).t()

    def _counts(self, own: int, device: torch.device) -> list[int]:
        """Every rank's number."""
        return self.rows_of_all(torch.tensor([own], device=device), self.rank, self.size).tolist()

    def spread(self, work: Callable[[int], Tensor], count: int) -> Iterator[Tensor]:
        """``work(0) ... work(count - 1)`` in order on every rank, each computed by one rank only.

        Args:
            work: number -> a tensor ``(m,)``, one shape and type for all numbers, without gradient.
            count: how many.
        """
        for first in range(0, count, self.size):
            # Where there are fewer numbers left than ranks, the others do the last one over for its shape
            number = min(first + self.rank, count - 1)
            own = work(number)[None]
            present = min(self.size, count - first)
            yield from self.rows_of_all(own[: int(self.rank < present)], min(self.rank, present), present)


class SingleProcess(AbstractGroup):
    """A group of one: sums change nothing.

    Example:
        >>> SingleProcess().share(5)
        slice(0, 5, None)
    """

    rank = 0
    size = 1

    def sum(self, value: Tensor) -> Tensor:
        """``value``."""
        return value

    def max(self, value: Tensor) -> Tensor:
        """``value`` without gradient."""
        return value.detach()

    def sum_rows(self, value: Tensor) -> Tensor:
        """``value``, coalesced."""
        return value.detach().coalesce()

    def sum_all(self, values: Sequence[Tensor]) -> list[Tensor]:
        """``values``."""
        return list(values)


class DistributedGroup(AbstractGroup):
    """All ranks of torch's default process group.

    Raises:
        RuntimeError: torch.distributed is not initialised.

    Example:
        >>> DistributedGroup()  # doctest: +SKIP
    """

    def __init__(self) -> None:
        if not torch.distributed.is_initialized():
            raise RuntimeError(
                "DistributedGroup: torch.distributed is not initialised; use SingleProcess for one process"
            )
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def sum(self, value: Tensor) -> Tensor:
        """Differentiable all-reduce."""
        return _Sum.apply(value)  # type: ignore[no-any-return]

    def max(self, value: Tensor) -> Tensor:
        """All-reduce by maximum."""
        value = value.detach().clone()
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
        return value

    def sum_rows(self, value: Tensor) -> Tensor:
        """Every rank sends its rows to all; they are added in the order of ranks."""
        value = value.detach().coalesce()
        counts = self._counts(value.indices().shape[1], value.device)
        nodes, rows = (self._gathered(part, counts) for part in (value.indices()[0], value.values()))
        return torch.sparse_coo_tensor(nodes[None], rows, value.shape).coalesce()

    def _gathered(self, part: Tensor, counts: Sequence[int]) -> Tensor:
        """The ranks' parts ``(n_r, ...)`` one behind the other."""
        padded = part.new_zeros(max(counts), *part.shape[1:])
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([other[:count] for other, count in zip(parts, counts, strict=True)])


class _Sum(torch.autograd.Function):
    """The sum over ranks; so is its derivative, which can be differentiated again.

    ``torch.distributed.nn.functional.all_reduce`` does the same, and is to be removed.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.apply(grad)  # type: ignore[no-any-return]
