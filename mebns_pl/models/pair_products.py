"""Inner products of pairs of rows, differentiable to any order, without copies of the rows: by compiled loops on a CPU.

With the pairs (s, t) fixed there are three maps, each the derivative of another:

- dots ``z -> <z_s, z_t>``,
- cross ``(a, b) -> <a_s, b_t> + <b_s, a_t>``,
- mix ``(g, z) -> sum of g e_s z_t + g e_t z_s``, a matrix like z.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph import product_kernels as kernels
from mebns_pl.graph.sparse import KERNEL_TYPES, in_parts

_CACHED = 2**23
"""Bytes of a matrix whose rows are read as fast in any order."""


def pair_dots(z: Tensor, pairs: Tensor) -> Tensor:
    """Inner products of the rows of z: ``(N, C), (2, M) -> (M,)``, in the type of z.

    Cost: M C multiply-adds; on the CPU no ``(M, C)`` tensor is made.
    """
    if z.device.type != "cpu" or z.dtype not in KERNEL_TYPES or not z.shape[1]:
        return (z.index_select(0, pairs[0]) * z.index_select(0, pairs[1])).sum(dim=1)
    return _Dots.apply(pairs, z)  # type: ignore[no-any-return]


class _Dots(torch.autograd.Function):
    @staticmethod
    def forward(pairs: Tensor, z: Tensor) -> Tensor:
        return _by_pair(kernels.dot_rows, pairs, z, z)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return None, _Mix.apply(*ctx.saved_tensors[:1], grad, ctx.saved_tensors[1])


class _Cross(torch.autograd.Function):
    @staticmethod
    def forward(pairs: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _by_pair(kernels.cross_rows, pairs, a, b)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        pairs, a, b = ctx.saved_tensors
        _, of_a, of_b = _asked_for(ctx)
        return None, _Mix.apply(pairs, grad, b) if of_a else None, _Mix.apply(pairs, grad, a) if of_b else None


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(pairs: Tensor, factors: Tensor, z: Tensor) -> Tensor:
        result = z.new_empty(z.shape)
        source, target = _ends(pairs, len(z))
        # A matrix whose product reads rows of z, where adding to either end's row would read and write the result's
        matrix = np.empty(len(z) + 1, np.int64), np.empty(2 * len(source), np.int64), factors.new_empty(2 * len(source))
        indptr, indices, values = *matrix[:2], matrix[2].numpy()
        kernels.both_ends(source, target, factors.detach().contiguous().numpy(), indptr, indices, values)
        dense, out = z.detach().contiguous().numpy(), result.numpy()
        in_parts(
            lambda rows: kernels.gather_rows(indptr, indices, values, dense, rows.start, rows.stop, out),
            len(z),
            2 * len(source) * z.shape[1],
        )
        return result

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        pairs, factors, z = ctx.saved_tensors
        _, of_factors, of_z = _asked_for(ctx)
        return (
            None,
            _Cross.apply(pairs, grad, z) if of_factors else None,
            _Mix.apply(pairs, factors, grad) if of_z else None,
        )


def _asked_for(ctx: Any) -> list[bool]:
    """Which inputs' gradients this backward pass has a use for, besides the leaves'.

    ``needs_input_grad`` tells which inputs require one at all: a bilevel step that differentiates by the weights alone
    would compute another by the embeddings, and drop it.
    """
    return [
        node is not None and (hasattr(node, "variable") or torch._C._will_engine_execute_node(node))
        for node, _ in ctx.next_functions
    ]


def _by_pair(loop: Any, pairs: Tensor, a: Tensor, b: Tensor) -> Tensor:
    source, target = _ends(pairs, len(a))
    result = a.new_empty(len(source))
    left, right, out = a.detach().contiguous().numpy(), b.detach().contiguous().numpy(), result.numpy()
    order = None
    if a.nbytes > _CACHED and len(source) > len(a) // 4:
        # Each target's row is read once, and anchors, which are fewer, come from the cache
        order, *ends = np.empty((3, len(source)), np.int64)
        kernels.sort_pairs(source, target, np.empty(len(a) + 1, np.int64), order, *ends)
        (source, target), out = ends, np.empty_like(out)
    in_parts(
        lambda part: loop(source, target, left, right, part.start, part.stop, out),
        len(source),
        len(source) * a.shape[1],
    )
    if order is not None:
        result.numpy()[order] = out
    return result


def _ends(pairs: Tensor, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """The two rows of pairs.

    Raises:
        IndexError: an end is no node: compiled loops look at no bounds.
    """
    ends = pairs.contiguous().numpy()
    if ends.size and (ends.min() < 0 or ends.max() >= num_nodes):
        raise IndexError(f"pairs: ends must be in 0 ... {num_nodes - 1}, got {ends.min()} ... {ends.max()}")
    return ends[0], ends[1]
