"""SimRank: two nodes are as near as their neighbours are."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from mebns_pl.checks import at_least, expect, within
from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.abstract import AbstractPairMeasure
from mebns_pl.graph.measures.rows import rounded

MOST_NODES = 5000
"""The largest graph: all pairs are computed together."""


class SimRank(AbstractPairMeasure):
    r"""SimRank (Jeh and Widom, KDD 2002): 1 for a node with itself, else decay times its neighbours' mean.

    .. math:: s(u, v) = \frac{\gamma}{k_u k_v} \sum_{a \in N(u)} \sum_{b \in N(v)} s(a, b)

    0 where one of the two has no neighbour. By iteration from the identity; every one leaves at most ``decay`` of the
    difference to the limit. Rounded to 28 bits.

    Cost: N E multiply-adds an iteration, whatever the pairs, and memory of two N x N matrices in float64 (400 MB for
    the largest graph that is allowed).

    Args:
        decay: gamma, in (0, 1).
        num_iterations: 1 or more.

    Raises:
        ValueError: an argument out of its range; in ``pairs``, a graph of more than 5,000 nodes.

    Example:
        >>> star = Graph.from_edges(torch.tensor([[0, 0], [1, 2]]), num_nodes=3)
        >>> SimRank(decay=0.8).pairs(star, torch.tensor([1, 0]), torch.tensor([2, 1])).float()
        tensor([0.8000, 0.0000])
    """

    def __init__(self, decay: float = 0.8, num_iterations: int = 20) -> None:
        within("(0, 1)", decay=decay)
        at_least(1, num_iterations=num_iterations)
        self.decay = decay
        self.num_iterations = num_iterations

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The scores ``(m,)`` float64 of given pairs."""
        expect(graph.num_nodes <= MOST_NODES, f"a graph of at most {MOST_NODES} nodes", num_nodes=graph.num_nodes)
        indptr, indices = structure(graph)
        degree, size = np.diff(indptr), (graph.num_nodes, graph.num_nodes)
        walk = csr_array((np.repeat(1 / np.maximum(degree, 1), degree), indices, indptr), shape=size)
        scores = np.eye(graph.num_nodes)
        for _ in range(self.num_iterations):
            scores = self.decay * (walk @ (walk @ scores).T)
            np.fill_diagonal(scores, 1.0)
        first, second = torch.minimum(source, target), torch.maximum(source, target)
        return torch.from_numpy(rounded(scores[first.numpy(), second.numpy()]))
