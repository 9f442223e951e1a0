"""Paths of length three between two nodes, counted or weighted by the degrees on the way."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.abstract import AbstractMeasure, AbstractPairMeasure
from mebns_pl.graph.measures.rows import compiled_rows, frequent_first, rounded, scores_by_source, top_lists
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


class PathsOfLengthThree(AbstractMeasure, AbstractPairMeasure):
    r"""The number of paths u - a - b - v, each counted ``1 / sqrt(degree(a) degree(b))`` (Kovács et al., 2019, eq. 1).

    .. math:: \sum_{a, b} \frac{A_{ua} A_{ab} A_{bv}}{\sqrt{k_a k_b}}

    Kovács et al., *Network-based prediction of protein interactions*, Nature Communications 10, 1240 (2019). Paths that
    take the edge between u and v itself (a = v or b = u) do not count, so that an edge has the score that it would have
    if it were missing. The degrees of the nodes between are those of the graph as it is.

    Weighted scores are rounded to 28 bits, so that pairs in the same position have the same score whatever the order of
    additions; counts are exact up to 2^53.

    Cost: of a list, the degrees of all nodes within two steps of the node; of given pairs, for each different source
    the degrees of its neighbours, and for each pair the degree of its other end. Memory: O(N) for each thread.

    Args:
        degree_normalized: whether paths are weighted; False counts them.

    Example:
        >>> import torch
        >>> square = Graph.from_edges(torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]]), num_nodes=4)
        >>> pair = torch.tensor([0]), torch.tensor([1])
        >>> PathsOfLengthThree().pairs(square, *pair).item()  # 0 - 3 - 2 - 1
        0.5
        >>> PathsOfLengthThree(degree_normalized=False).top(square, torch.tensor([0]), k=2)[1].tolist()
        [[1.0, 1.0]]
    """

    def __init__(self, degree_normalized: bool = True) -> None:
        self.degree_normalized = degree_normalized

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        indptr, indices, weights = self._weighted(graph)

        def fill(block: np.ndarray, ptr: np.ndarray, columns: np.ndarray, values: np.ndarray) -> int:
            filled: int = _path_rows(block, indptr, indices, weights, ptr, columns, values)
            values[: ptr[filled]] = self._rounded(values[: ptr[filled]])
            return filled

        return top_lists(compiled_rows(fill, graph.num_nodes), graph, nodes, k, exclude)

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The scores ``(m,)`` float64 of given pairs."""
        arrays = self._weighted(graph)

        def score(nodes: np.ndarray, starts: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
            _path_pairs(nodes, starts, targets, *arrays, out)

        scores = scores_by_source(score, *frequent_first(source, target, graph.num_nodes))
        return torch.from_numpy(self._rounded(scores.numpy()))

    def _weighted(self, graph: Graph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The adjacency's CSR arrays, and what a path is multiplied by at each node."""
        indptr, indices = structure(graph)
        degree = np.maximum(np.diff(indptr), 1)
        return indptr, indices, 1 / np.sqrt(degree) if self.degree_normalized else np.ones(len(degree))

    def _rounded(self, scores: np.ndarray) -> np.ndarray:
        return rounded(scores) if self.degree_normalized else scores


@kernel
def _add_steps(node, indptr, indices, weights, middle, reached):  # pragma: no cover (compiled)
    """Adds to ``middle[b]``, of zeros, the weights of the nodes between ``node`` and b, for all b but ``node`` itself.

    Returns how many these are; they stand at the beginning of ``reached``.
    """
    count = 0
    for i in range(indptr[node], indptr[node + 1]):
        for j in range(indptr[indices[i]], indptr[indices[i] + 1]):
            other = indices[j]
            if other != node:
                if middle[other] == 0.0:
                    reached[count] = other
                    count += 1
                middle[other] += weights[indices[i]]
    return count


@kernel
def _last_step(node, first, indptr, indices, weights, middle):  # pragma: no cover (compiled)
    """The paths that end at ``node``, after :func:`_add_steps`.

    Where ``node`` is a neighbour of the path's other end, ``first`` is its weight, which is part of ``middle`` at each
    of its own neighbours: that of the paths through the edge. It is 0 elsewhere.
    """
    total = 0.0
    for i in range(indptr[node], indptr[node + 1]):
        # Exactly 0 where no other node is between; below 0 at the path's other end
        rest = middle[indices[i]] - first
        if rest > 0.0:
            total += rest * weights[indices[i]]
    return total


@kernel
def _path_rows(nodes, indptr, indices, weights, ptr, columns, values):  # pragma: no cover (compiled)
    """See :data:`~mebns_pl.graph.measures.rows.Fill`."""
    num_nodes = indptr.shape[0] - 1
    middle, total, reached = np.zeros(num_nodes), np.zeros(num_nodes), np.empty(num_nodes, np.int64)
    for row in range(nodes.shape[0]):
        node, count = nodes[row], ptr[row]
        if count + num_nodes > columns.shape[0]:
            return row
        num_reached = _add_steps(node, indptr, indices, weights, middle, reached)
        for i in range(num_reached):
            share = middle[reached[i]] * weights[reached[i]]
            for j in range(indptr[reached[i]], indptr[reached[i] + 1]):
                if total[indices[j]] == 0.0:
                    columns[count] = indices[j]
                    count += 1
                total[indices[j]] += share
        for i in range(indptr[node], indptr[node + 1]):
            total[indices[i]] = _last_step(indices[i], weights[indices[i]], indptr, indices, weights, middle)
        for place in range(ptr[row], count):
            values[place] = total[columns[place]]
            total[columns[place]] = 0.0
        for i in range(num_reached):
            middle[reached[i]] = 0.0
        ptr[row + 1] = count
    return nodes.shape[0]


@kernel
def _path_pairs(nodes, starts, targets, indptr, indices, weights, out):  # pragma: no cover (compiled)
    """``out[j]``: the paths from ``nodes[i]`` to ``targets[j]``, ``starts[i] <= j < starts[i + 1]``."""
    num_nodes = indptr.shape[0] - 1
    middle, first, reached = np.zeros(num_nodes), np.zeros(num_nodes), np.empty(num_nodes, np.int64)
    for row in range(nodes.shape[0]):
        neighbors = indices[indptr[nodes[row]] : indptr[nodes[row] + 1]]
        num_reached = _add_steps(nodes[row], indptr, indices, weights, middle, reached)
        for other in neighbors:
            first[other] = weights[other]
        for place in range(starts[row], starts[row + 1]):
            target = targets[place]
            out[place] = _last_step(target, first[target], indptr, indices, weights, middle)
        for other in neighbors:
            first[other] = 0.0
        for i in range(num_reached):
            middle[reached[i]] = 0.0
