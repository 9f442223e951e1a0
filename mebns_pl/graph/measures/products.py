"""Measures whose scores are products of two sparse matrices: lists of the best, and pairs one by one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.rows import Rows, compiled_rows, top_lists
from mebns_pl.kernels import kernel
from mebns_pl.progress import in_threads, slices

# mypy: disable-error-code="no-untyped-def"

Csr = tuple[np.ndarray, np.ndarray, np.ndarray]
"""``(indptr, indices, values)``, int64, int64, float64."""


def product_top(
    left: Csr, right: Csr, least: float, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None
) -> tuple[Tensor, Tensor]:
    """What :meth:`AbstractMeasure.top` returns where the scores are the product of two matrices, those above ``least``.

    Cost: for each node the sum of the lengths of the rows in ``right`` of its own row in ``left``.
    """
    return top_lists(product_rows(left, right, least, graph.num_nodes), graph, nodes, k, exclude)


def product_rows(left: Csr, right: Csr, least: float, num_nodes: int) -> Rows:
    """The rows of the product of two matrices, of its entries above ``least``."""
    return compiled_rows(lambda nodes, *out: _product_rows(nodes, left, right, num_nodes, least, *out), num_nodes)


def pair_products(left: Csr, right: Csr, source: Tensor, target: Tensor) -> Tensor:
    """``(m,)`` float64: the dot products of the rows ``source`` and ``target`` of two matrices of the same pattern."""
    indptr, indices, values = left
    ends, out = (source.contiguous().numpy(), target.contiguous().numpy()), np.empty(len(source))

    def dots(part: slice) -> None:
        _dot_pairs(ends[0][part], ends[1][part], indptr, indices, values, right[2], out[part])

    in_threads(dots, slices(len(out)))
    return torch.from_numpy(out)


@kernel
def _product_rows(nodes, left, right, num_nodes, least, ptr, columns, values):  # pragma: no cover (compiled)
    """See :data:`~mebns_pl.graph.measures.rows.Fill`."""
    left_indptr, left_indices, left_values = left
    right_indptr, right_indices, right_values = right
    total, seen = np.zeros(num_nodes), np.zeros(num_nodes, np.bool_)
    for row in range(nodes.shape[0]):
        node, count = nodes[row], ptr[row]
        if count + num_nodes > columns.shape[0]:
            return row
        for i in range(left_indptr[node], left_indptr[node + 1]):
            middle, weight = left_indices[i], left_values[i]
            for j in range(right_indptr[middle], right_indptr[middle + 1]):
                other = right_indices[j]
                if not seen[other]:
                    seen[other] = True
                    columns[count] = other
                    count += 1
                total[other] += weight * right_values[j]
        ptr[row + 1] = ptr[row]
        for place in range(ptr[row], count):
            other = columns[place]
            if total[other] > least:
                columns[ptr[row + 1]], values[ptr[row + 1]] = other, total[other]
                ptr[row + 1] += 1
            total[other], seen[other] = 0.0, False
    return nodes.shape[0]


@kernel
def _dot_pairs(source, target, indptr, indices, left, right, out):  # pragma: no cover (compiled)
    """``out[i]``: row ``source[i]`` of ``left`` times row ``target[i]`` of ``right``, columns ascending in each row."""
    for i in range(source.shape[0]):
        a, a_end = indptr[source[i]], indptr[source[i] + 1]
        b, b_end = indptr[target[i]], indptr[target[i] + 1]
        total = 0.0
        while a < a_end and b < b_end:
            if indices[a] == indices[b]:
                total += left[a] * right[b]
                a, b = a + 1, b + 1
            elif indices[a] < indices[b]:
                a += 1
            else:
                b += 1
        out[i] = total
