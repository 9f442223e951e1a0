"""Draws by row: what a row of the union batch gets depends on its name and the key, not on how the batch is cut."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key, uniform


def fractions(key: Key, rows: Tensor, num_columns: int) -> Tensor:
    """Uniform numbers fine enough to choose among billions.

    Args:
        key: the draw's key.
        rows: ``(b,)`` int64, names of the rows.
        num_columns: C.

    Returns:
        ``(b, C)`` float64 in [0, 1), multiples of 2^-48.
    """
    numbers = uniform(key, rows, 2 * num_columns).double()
    return numbers[:, :num_columns] + numbers[:, num_columns:] * 2.0**-24


def whole_numbers(key: Key, rows: Tensor, bound: Tensor | int, num_columns: int) -> Tensor:
    """Uniform whole numbers from 0 to below a bound.

    Args:
        key: the draw's key.
        rows: ``(b,)`` int64, names of the rows.
        bound: a number, or ``(b, 1)`` or ``(b, C)`` int64; at least 1.
        num_columns: C.

    Returns:
        ``(b, C)`` int64.
    """
    top = torch.as_tensor(bound, device=rows.device)
    # The product may round up to the bound
    return (fractions(key, rows, num_columns) * top).long().minimum(top - 1)


def legal_nodes(known: KnownEdges, anchors: Tensor, rows: Tensor, num_columns: int, key: Key) -> Tensor:
    """Uniform legal nodes of each anchor, arbitrary ones of an anchor that has none.

    Args:
        known: the pairs that are not legal, on the anchors' device.
        anchors: ``(b,)`` int64.
        rows: ``(b,)`` int64, names of the rows.
        num_columns: C.
        key: the draw's key.

    Returns:
        ``(b, C)`` int64.
    """
    rank = whole_numbers(key, rows, known.num_legal(anchors).clamp_min(1)[:, None], num_columns)
    return known.legal_node(anchors[:, None].expand_as(rank), rank).clamp_max(known.num_nodes - 1)


def gumbel(key: Key, rows: Tensor, num_columns: int) -> Tensor:
    """Standard Gumbel noise: the k largest of ``logits + noise`` are a draw without replacement by ``softmax(logits)``.

    Args:
        key: the draw's key.
        rows: ``(b,)`` int64, names of the rows.
        num_columns: C.

    Returns:
        ``(b, C)`` float64, finite.
    """
    return -(-(fractions(key, rows, num_columns) + 2.0**-49).log()).log()
