"""Sums over common neighbours: their number, Adamic-Adar, resource allocation; and the share that they are, Jaccard."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.abstract import AbstractMeasure, AbstractPairMeasure
from mebns_pl.graph.measures.products import Csr, pair_products, product_rows, product_top
from mebns_pl.graph.measures.rows import Block, top_lists


class AbstractNeighborMeasure(AbstractMeasure, AbstractPairMeasure):
    """A sum over common neighbours z of a weight that depends on the degree of z."""

    @abstractmethod
    def weights(self, degree: np.ndarray) -> np.ndarray:
        """Weight of a common neighbour, ``(N,)`` int64 -> ``(N,)`` float64; only degrees of 2 or more matter."""

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        return product_top(*self.factors(graph), 0.0, graph, nodes, k, exclude)

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The scores ``(m,)`` float32 of given pairs. Cost: the sum of the two degrees for each."""
        return pair_products(*self.factors(graph), source, target).float()

    def factors(self, graph: Graph) -> tuple[Csr, Csr]:
        """The adjacency with each neighbour's weight, and without: the scores are their product."""
        indptr, indices = structure(graph)
        weights = self.weights(np.diff(indptr))
        return (indptr, indices, weights[indices]), (indptr, indices, np.ones(len(indices)))


class CommonNeighbors(AbstractNeighborMeasure):
    """The number of common neighbours (Liben-Nowell and Kleinberg, CIKM 2003).

    Example:
        >>> import torch
        >>> square = Graph.from_edges(torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]]), num_nodes=4)
        >>> index, score = CommonNeighbors().top(square, torch.tensor([0, 1]), k=2)
        >>> index.tolist(), score.tolist()
        ([[2, -1], [3, -1]], [[2.0, 0.0], [2.0, 0.0]])
    """

    def weights(self, degree: np.ndarray) -> np.ndarray:
        return np.ones(len(degree))


class AdamicAdar(AbstractNeighborMeasure):
    """Common neighbours, each counted ``1 / log(degree)`` (Adamic and Adar, Social Networks 2003).

    Example:
        >>> import torch
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> AdamicAdar().pairs(path, torch.tensor([0]), torch.tensor([2]))
        tensor([1.4427])
    """

    def weights(self, degree: np.ndarray) -> np.ndarray:
        return np.where(degree > 1, 1 / np.log(np.maximum(degree, 2)), 0.0)


class ResourceAllocation(AbstractNeighborMeasure):
    """Common neighbours, each counted ``1 / degree`` (Zhou, Lü and Zhang, EPJ B 2009).

    Example:
        >>> import torch
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> ResourceAllocation().pairs(path, torch.tensor([0]), torch.tensor([2]))
        tensor([0.5000])
    """

    def weights(self, degree: np.ndarray) -> np.ndarray:
        weights: np.ndarray = 1 / np.maximum(degree, 1)
        return weights


class Jaccard(AbstractMeasure, AbstractPairMeasure):
    """The share of the two nodes' neighbours that are common, 0 where neither has any (Jaccard, 1901).

    Cost: that of :class:`CommonNeighbors`.

    Example:
        >>> import torch
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> Jaccard().pairs(path, torch.tensor([0, 1]), torch.tensor([2, 3]))
        tensor([0.5000, 0.5000])
    """

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        degree = graph.degree.numpy()
        common = product_rows(*CommonNeighbors().factors(graph), 0.0, graph.num_nodes)

        def shares(block: np.ndarray) -> Iterator[Block]:
            for part, ptr, columns, values in common(block):
                others, counts = columns[: ptr[-1]], values[: ptr[-1]]
                union = degree[block[part]].repeat(np.diff(ptr)) + degree[others] - counts
                yield part, ptr, others, counts / union

        return top_lists(shares, graph, nodes, k, exclude)

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The scores ``(m,)`` float32 of given pairs."""
        common = CommonNeighbors().pairs(graph, source, target)
        union = graph.degree[source] + graph.degree[target] - common
        return common / union.clamp_min(1)
