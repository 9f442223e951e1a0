"""HeaRT's negatives as its generator made them, slips included (Li et al., NeurIPS 2023, arXiv 2306.10453).

Nothing here is how negatives should be made; :class:`~mebns_pl.evaluation.negatives.HeartNegatives` is. It is for
numbers that can be compared with published ones on graphs whose released files are not at hand. What the released
CiteSeer files show, and this module does on purpose:

- The measure called resource allocation divides by the degree of the *candidate*, not of the common neighbours.
- Personalised PageRank is approximated by a push that takes waiting nodes from a stack, in single precision.
- A node's row of feature similarities is overwritten by its ranks in place. The next time the node is met these ranks
  are taken for similarities, so that its order is turned upside down every second time; and nodes that were left out
  (with the worst rank of all) then stand at the top. Validation edges come first, in the file's order, then test edges.
- Nodes with a similarity of zero share the rank after the last one; of several measures the best rank counts. So where
  a measure has few nodes above zero, a large part of all nodes is tied at a good rank, and which of them are taken is
  up to the order in which ``torch.topk`` leaves ties on the CPU.
- Validation negatives avoid training edges only, test negatives avoid training and validation edges.
- Nodes without a score above zero get nodes drawn with replacement by numpy's legacy generator, seeded with 42.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mebns_pl.evaluation.negatives import ends_replaced
from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.pagerank import stack_push
from mebns_pl.graph.sparse import Features
from mebns_pl.progress import in_threads

_SEED = 42  # the benchmark's


@dataclass(frozen=True)
class HeartReleasedGenerator:
    """Makes the negatives of a whole benchmark, validation and test together, for the one depends on the other.

    Args:
        num_per_end: negatives for each end of an edge, 1 or more.
        alpha: restart probability of PageRank.
        eps: precision of PageRank; the benchmark took 1e-7 for Cora and CiteSeer and 1e-5 for PubMed.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), num_nodes=6)
        >>> val, test = HeartReleasedGenerator(1).generate(graph, torch.tensor([[0], [2]]), torch.tensor([[1], [4]]))
        >>> val.tolist(), test.tolist()
        ([[[0, 4]], [[3, 2]]], [[[1, 2]], [[3, 4]]])
    """

    num_per_end: int = 250
    alpha: float = 0.15
    eps: float = 1e-7

    def __post_init__(self) -> None:
        if self.num_per_end < 1:
            raise ValueError(f"num_per_end: got {self.num_per_end}; allowed is 1 or more")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha: got {self.alpha}; allowed is a restart probability in (0, 1)")
        if not self.eps > 0:
            raise ValueError(f"eps: got {self.eps}; allowed is a number above 0")

    def generate(self, graph: Graph, val: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        """The negatives of all held-out edges.

        Nodes are worked on in parallel: a row of similarities changes only when its own node is met.

        Args:
            graph: the training graph with its features, on the CPU.
            val: ``(2, p)`` int64, validation edges in the benchmark's order and direction.
            test: ``(2, q)`` int64, test edges, likewise.

        Returns:
            ``(2, p, 2 num_per_end)`` and ``(2, q, 2 num_per_end)`` int64.

        Raises:
            ValueError: an end with fewer legal nodes than negatives are asked for.
        """
        with_val = Graph.from_edges(torch.cat([graph.edge_index, val], dim=1), graph.num_nodes)
        scores = _Scores(graph, self.alpha, self.eps)
        held_out = torch.cat([val, test], dim=1)
        ends = held_out.t().flatten().numpy()  # of one edge after the other, in which order all of them are met
        visits: dict[int, list[int]] = defaultdict(list)
        for order, end in enumerate(ends.tolist()):
            visits[end].append(order)
        chosen = np.full((len(ends), self.num_per_end), -1, dtype=np.int64)
        unscored: dict[int, np.ndarray] = {}
        known_graphs = structure(graph), structure(with_val)

        def node(number: int) -> None:
            """Fills the rows of one node's visits; keeps, by visit, the nodes to draw from where places are left."""
            by_degree, by_walk, by_features = scores.rows(number)
            for order in visits[number]:
                indptr, indices = known_graphs[order >= 2 * val.shape[1]]
                left_out = np.zeros(len(by_degree), dtype=bool)
                left_out[indices[indptr[number] : indptr[number + 1]]] = True
                left_out[[number, ends[order ^ 1]]] = True
                rows = [by_degree.copy(), by_walk.copy()] + ([] if by_features is None else [by_features])  # not a copy
                for row in rows:
                    row[left_out] = -1
                zero = np.logical_and.reduce([row == 0 for row in rows])
                for row in rows:
                    _overwrite_by_ranks(row)
                best = torch.from_numpy(-np.minimum.reduce(rows))
                num = min(len(left_out) - int(left_out.sum()) - int(zero.sum()), self.num_per_end)
                chosen[order, :num] = torch.topk(best, num).indices.numpy()
                if num < self.num_per_end:
                    if not zero.any():
                        has = f"node {number} has {num} legal nodes, so at most as many"
                        raise ValueError(f"num_per_end: got {self.num_per_end}; {has}")
                    unscored[order] = zero.nonzero()[0]

        in_threads(node, sorted(visits), "HeaRT negatives, as released")
        # The one stream of random numbers is used in the order of the visits
        generator = np.random.RandomState(_SEED)
        for order in sorted(unscored):
            missing = chosen[order] < 0
            chosen[order, missing] = generator.choice(unscored[order], int(missing.sum()))
        nodes = torch.from_numpy(chosen).view(-1, 2, self.num_per_end)
        negatives = ends_replaced(held_out, nodes[:, 0], nodes[:, 1])
        return negatives[:, : val.shape[1]], negatives[:, val.shape[1] :]


class _Scores:
    """The three measures of one node with all others, in single precision.

    Args:
        graph: the training graph.
        alpha: restart probability of PageRank.
        eps: its precision.
    """

    def __init__(self, graph: Graph, alpha: float, eps: float) -> None:
        self.indptr, self.indices = structure(graph)
        self.alpha, self.eps = alpha, eps
        degree = np.diff(self.indptr).astype(np.float32)
        self.inverse_degree = np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)
        self.x: Tensor | None = None
        if graph.x is not None:
            x = graph.x.matrix if isinstance(graph.x, Features) else graph.x
            self.x = _unit_rows(x.to_dense().float())

    def rows(self, node: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """``(N,)`` float32 each: common neighbours over the other's degree, PageRank, cosine (None: no features)."""
        num_nodes = len(self.inverse_degree)
        by_degree, by_walk = np.zeros(num_nodes, np.float32), np.empty(num_nodes, np.float32)
        for middle in self.indices[self.indptr[node] : self.indptr[node + 1]]:
            others = self.indices[self.indptr[middle] : self.indptr[middle + 1]]
            by_degree[others] += self.inverse_degree[others]
        stack_push(node, self.indptr, self.indices, self.alpha, self.eps, by_walk)
        return by_degree, by_walk, None if self.x is None else (self.x @ self.x[node]).numpy()


def _unit_rows(x: Tensor) -> Tensor:
    norm = x.square().sum(dim=1, keepdim=True).sqrt()
    return x / norm.masked_fill(norm == 0, 1.0)


def _overwrite_by_ranks(row: np.ndarray) -> None:
    """Puts ranks in place of scores: 1 for the best; equal ones share a rank; then zeros, then what is below zero.

    Equal scores get the rank of the *first* of them counted from the worst; so the best rank is 1 however many share
    it, and the next best is 1 + the number of those that share that next rank.
    """
    above, zero, below = row > 0, row == 0, row < 0
    worst = 0
    if above.any():
        _, inverse, counts = np.unique(row[above], return_inverse=True, return_counts=True)
        ranks = (counts.cumsum() - counts)[inverse]  # from the worst, 0
        ranks = ranks.max() - ranks + 1
        worst = ranks.max()
        row[above] = ranks
    row[zero] = worst + 1
    row[below] = worst + 2
