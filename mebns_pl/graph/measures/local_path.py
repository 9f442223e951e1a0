"""Walks of two and three steps between two nodes."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.abstract import AbstractMeasure, AbstractPairMeasure
from mebns_pl.graph.measures.rows import Rows, compiled_rows, frequent_first, rounded, row_scores, top_lists
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


class LocalPath(AbstractMeasure, AbstractPairMeasure):
    r"""The local path index ``A^2 + eps A^3`` (Lü, Jin and Zhou, Physical Review E 80, 046122, 2009).

    Common neighbours, and where two pairs have as many, walks of three steps decide. Of linked nodes some of these go
    through their own edge; of others all are paths. Rounded to 28 bits, so that pairs in the same position have the
    same score whatever the order of additions.

    Cost: for each different source the degrees of all nodes within two steps.

    Args:
        eps: weight of a walk of three steps, 0 or more.

    Raises:
        ValueError: ``eps`` is out of its range.

    Example:
        >>> import torch
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> LocalPath(eps=0.01).pairs(path, torch.tensor([0, 0]), torch.tensor([2, 3])).float()
        tensor([1.0000, 0.0100])
    """

    def __init__(self, eps: float = 0.01) -> None:
        at_least(0, eps=eps)
        self.eps = eps

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The scores ``(m,)`` float64 of given pairs."""
        return row_scores(self._rows(graph), *frequent_first(source, target, graph.num_nodes), graph.num_nodes)

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        return top_lists(self._rows(graph), graph, nodes, k, exclude)

    def _rows(self, graph: Graph) -> Rows:
        indptr, indices = structure(graph)

        def fill(nodes: np.ndarray, ptr: np.ndarray, columns: np.ndarray, values: np.ndarray) -> int:
            filled: int = _walk_rows(nodes, indptr, indices, float(self.eps), ptr, columns, values)
            values[: ptr[filled]] = rounded(values[: ptr[filled]])
            return filled

        return compiled_rows(fill, graph.num_nodes)


@kernel
def _walk_rows(nodes, indptr, indices, eps, ptr, columns, values):  # pragma: no cover (compiled)
    """See :data:`~mebns_pl.graph.measures.rows.Fill`."""
    num_nodes = indptr.shape[0] - 1
    two, three, reached = np.zeros(num_nodes), np.zeros(num_nodes), np.empty(num_nodes, np.int64)
    for row in range(nodes.shape[0]):
        node, count, num_reached = nodes[row], ptr[row], 0
        if count + num_nodes > columns.shape[0]:
            return row
        for i in range(indptr[node], indptr[node + 1]):
            for j in range(indptr[indices[i]], indptr[indices[i] + 1]):
                if two[indices[j]] == 0.0:
                    reached[num_reached] = indices[j]
                    num_reached += 1
                two[indices[j]] += 1.0
        for i in range(num_reached):
            for j in range(indptr[reached[i]], indptr[reached[i] + 1]):
                other = indices[j]
                if three[other] == 0.0 and two[other] == 0.0:
                    columns[count] = other
                    count += 1
                three[other] += two[reached[i]]
        for i in range(num_reached):
            columns[count] = reached[i]
            count += 1
        for place in range(ptr[row], count):
            other = columns[place]
            values[place] = two[other] + eps * three[other]
            two[other], three[other] = 0.0, 0.0
        ptr[row + 1] = count
    return nodes.shape[0]
