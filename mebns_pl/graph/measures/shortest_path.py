"""The distance of two nodes, by breadth-first search."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.abstract import AbstractPairMeasure
from mebns_pl.graph.measures.rows import compiled_rows, frequent_first, row_scores
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


class ShortestPath(AbstractPairMeasure):
    """One over the number of edges of a shortest path, 0 where there is none, infinite for a node with itself.

    Cost: a breadth-first search for each different source.

    Example:
        >>> import torch
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
        >>> ShortestPath().pairs(path, torch.tensor([0, 0]), torch.tensor([2, 3])).tolist()
        [0.5, 0.0]
    """

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        indptr, indices = structure(graph)
        ends = frequent_first(source, target, graph.num_nodes)
        rows = compiled_rows(lambda nodes, *out: _distance_rows(nodes, indptr, indices, *out), graph.num_nodes)
        return row_scores(rows, *ends, graph.num_nodes)


@kernel
def _distance_rows(nodes, indptr, indices, ptr, columns, values):  # pragma: no cover (compiled)
    """See :data:`~mebns_pl.graph.measures.rows.Fill`."""
    num_nodes = indptr.shape[0] - 1
    distance = np.full(num_nodes, -1, np.int64)
    for row in range(nodes.shape[0]):
        node, head = nodes[row], ptr[row]
        if head + num_nodes > columns.shape[0]:
            return row
        columns[head], values[head], distance[node], count = node, np.inf, 0, head + 1
        while head < count:
            current = columns[head]
            head += 1
            for i in range(indptr[current], indptr[current + 1]):
                other = indices[i]
                if distance[other] < 0:
                    distance[other] = distance[current] + 1
                    columns[count], values[count] = other, 1.0 / distance[other]
                    count += 1
        for place in range(ptr[row], count):
            distance[columns[place]] = -1
        ptr[row + 1] = count
    return nodes.shape[0]
