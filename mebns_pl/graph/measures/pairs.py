"""Heuristics that score given pairs and have no list of the nearest nodes: Jaccard, degrees, walks, distance."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures import pair_kernels
from mebns_pl.graph.measures.proximity import (
    AbstractMeasure,
    AbstractPairMeasure,
    CommonNeighbors,
    Skip,
    pairs_by_source,
    structure,
    top_lists,
)

_KEPT_BITS = 2.0**28  # of a Katz score: the order of additions changes bits far below


class Jaccard(AbstractPairMeasure):
    """The share of the two nodes' neighbours that are common, 0 where neither has any (Jaccard, 1901).

    Example:
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> Jaccard().pairs(path, torch.tensor([0, 1]), torch.tensor([2, 3]))
        tensor([0.5000, 0.5000])
    """

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        common = CommonNeighbors().pairs(graph, source, target)
        union = graph.degree[source] + graph.degree[target] - common
        return common / union.clamp_min(1)


class PreferentialAttachment(AbstractPairMeasure):
    """The product of the two degrees (Barabási and Albert, Science 1999).

    Example:
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> PreferentialAttachment().pairs(path, torch.tensor([0, 0]), torch.tensor([1, 2]))
        tensor([2., 1.], dtype=torch.float64)
    """

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        return graph.degree[source].double() * graph.degree[target].double()


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
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> Katz(beta=0.1).pairs(path, torch.tensor([0]), torch.tensor([2]))
        tensor([0.0102], dtype=torch.float64)
    """

    def __init__(self, beta: float = 0.001, max_length: int = 1000) -> None:
        if not beta > 0:
            raise ValueError(f"beta: got {beta}; allowed is a number above 0")
        if max_length < 1:
            raise ValueError(f"max_length: got {max_length}; allowed is 1 or more")
        self.beta = beta
        self.max_length = max_length

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        indptr, indices = structure(graph)
        beta, max_length, failed = float(self.beta), self.max_length, list[int]()

        def score(nodes: np.ndarray, starts: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
            node = pair_kernels.katz_pairs(nodes, starts, targets, indptr, indices, beta, 1e-16, max_length, out)
            failed.extend([node] * (node >= 0))

        scores = pairs_by_source(score, *_frequent_first(source, target, graph.num_nodes))
        self._check(failed)
        mantissa, exponent = torch.frexp(scores)
        return torch.ldexp((mantissa * _KEPT_BITS).round() / _KEPT_BITS, exponent)

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        indptr, indices = structure(graph)
        beta, max_length, failed = float(self.beta), self.max_length, list[int]()

        def rows(block: np.ndarray, skip: Skip, index: np.ndarray, score: np.ndarray) -> None:
            node = pair_kernels.katz_top(
                block, indptr, indices, beta, 1e-16, max_length, _KEPT_BITS, *skip, index, score
            )
            failed.extend([node] * (node >= 0))

        lists = top_lists(rows, graph, nodes, k, exclude)
        self._check(failed)
        return lists

    def _check(self, failed: list[int]) -> None:
        if failed:
            raise ValueError(
                f"beta: got {self.beta}; the walks from node {min(failed)} do not converge within {self.max_length} "
                "steps; allowed is a beta below the inverse of the adjacency's largest eigenvalue"
            )


class ShortestPath(AbstractPairMeasure):
    """One over the number of edges of a shortest path, 0 where there is none, infinite for a node with itself.

    Cost: a breadth-first search for each different source.

    Example:
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
        >>> ShortestPath().pairs(path, torch.tensor([0, 0]), torch.tensor([2, 3])).tolist()
        [0.5, 0.0]
    """

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        indptr, indices = structure(graph)

        def score(nodes: np.ndarray, starts: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
            pair_kernels.distance_pairs(nodes, starts, targets, indptr, indices, out)

        distance = pairs_by_source(score, *_frequent_first(source, target, graph.num_nodes))
        return torch.where(distance < 0, 0.0, 1 / distance)


def _frequent_first(source: Tensor, target: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Turns pairs round, so that fewer different nodes are sources: lists of negatives keep one of their ends."""
    counts = torch.bincount(torch.cat([source, target]), minlength=num_nodes)
    turned = counts[target] > counts[source]
    return torch.where(turned, target, source), torch.where(turned, source, target)
