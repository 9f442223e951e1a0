"""Katz's index, summed by the length of walks until nothing changes."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mebns_pl.checks import above, at_least
from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.abstract import AbstractMeasure, AbstractPairMeasure
from mebns_pl.graph.measures.rows import Rows, compiled_rows, frequent_first, rounded, row_scores, top_lists
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"

_TOLERANCE = 1e-16


class Katz(AbstractMeasure, AbstractPairMeasure):
    r"""The sum over walks between two nodes of ``beta ** length`` (Katz, Psychometrika 1953): ``(I - beta A)^-1 - I``.

    Summed by length until nothing changes by more than 1 part in 10^16, so that far pairs count as exactly as near
    ones. Rounded to 28 bits, so that pairs in the same position have the same score whatever the order of additions.
    Cost: for each different source, its component's edges times the number of lengths (its diameter and some more); so
    the nearest nodes of all N take O(N E) times that, minutes at 20,000 nodes.

    Args:
        beta: what a step costs, above 0 and below the inverse of the adjacency's largest eigenvalue.
        max_length: longest walk; reached only by a ``beta`` that is too large, or on graphs of such a diameter.

    Raises:
        ValueError: an argument out of its range; in ``top`` and ``pairs``, a sum that does not converge.

    Example:
        >>> import torch
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> Katz(beta=0.1).pairs(path, torch.tensor([0]), torch.tensor([2]))
        tensor([0.0102], dtype=torch.float64)
    """

    def __init__(self, beta: float = 0.001, max_length: int = 1000) -> None:
        above(0, beta=beta)
        at_least(1, max_length=max_length)
        self.beta = beta
        self.max_length = max_length

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        ends = frequent_first(source, target, graph.num_nodes)
        return row_scores(self._rows(graph), *ends, graph.num_nodes)

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        return top_lists(self._rows(graph), graph, nodes, k, exclude)

    def _rows(self, graph: Graph) -> Rows:
        indptr, indices = structure(graph)

        def fill(nodes: np.ndarray, ptr: np.ndarray, columns: np.ndarray, values: np.ndarray) -> int:
            filled, failed = _katz_rows(nodes, indptr, indices, float(self.beta), self.max_length, ptr, columns, values)
            if failed >= 0:
                raise ValueError(
                    f"beta: got {self.beta}; the walks from node {failed} do not converge within {self.max_length} "
                    "steps; allowed is a beta below the inverse of the adjacency's largest eigenvalue"
                )
            values[: ptr[filled]] = rounded(values[: ptr[filled]])
            return filled  # type: ignore[no-any-return]

        return compiled_rows(fill, graph.num_nodes)


@kernel
def _katz_rows(nodes, indptr, indices, beta, max_length, ptr, columns, values):  # pragma: no cover (compiled)
    """See :data:`~mebns_pl.graph.measures.rows.Fill`; returns the number of rows, and a node without convergence or -1.

    A row is done when the next length reaches no new node and adds to no node more than 1 part in 10^16 of its sum.
    """
    num_nodes = indptr.shape[0] - 1
    total, term, coming = np.zeros(num_nodes), np.zeros(num_nodes), np.zeros(num_nodes)
    seen = np.zeros(num_nodes, np.bool_)
    for row in range(nodes.shape[0]):
        node, first = nodes[row], ptr[row]
        if first + num_nodes > columns.shape[0]:
            return row, -1
        columns[first], seen[node], count = node, True, first + 1
        term[node] = 1.0
        going, length = True, 0
        while going and length < max_length:
            length += 1
            going = False
            for i in range(first, count):
                current = columns[i]
                share = beta * term[current]
                if share > 0.0:
                    for j in range(indptr[current], indptr[current + 1]):
                        other = indices[j]
                        coming[other] += share
                        if not seen[other]:
                            seen[other] = True
                            columns[count] = other
                            count += 1
                            going = True
            for i in range(first, count):
                current = columns[i]
                total[current] += coming[current]
                if total[current] == np.inf:  # beyond all bounds, where no sum is seen to grow any more
                    return row, node
                if coming[current] > _TOLERANCE * total[current]:
                    going = True
                term[current], coming[current] = coming[current], 0.0
        if going:
            return row, node
        for place in range(first, count):
            other = columns[place]
            values[place] = total[other]
            total[other], term[other], seen[other] = 0.0, 0.0, False
        ptr[row + 1] = count
    return nodes.shape[0], -1
