"""Personalised PageRank, by pushing probability along edges."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mebns_pl.checks import above, within
from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.abstract import AbstractMeasure, AbstractPairMeasure
from mebns_pl.graph.measures.rows import Rows, compiled_rows, row_scores, top_lists
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


class PersonalizedPageRank(AbstractMeasure, AbstractPairMeasure):
    """Where a random walk that restarts at the node is found, by forward push (Andersen, Chung and Lang, FOCS 2006).

    The walk restarts with probability ``alpha`` and else goes to a uniform neighbour. The score of v for u is below
    the exact one by at most ``eps`` times v's degree. A pair's score is the sum of the two directions. Cost: after the
    first push at most ``1 / (alpha eps)`` edge steps for each node; scores of pairs take one push for each of their
    different nodes.

    Args:
        alpha: restart probability, in (0, 1).
        eps: largest residual for each edge of a node, above 0.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> import torch
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> PersonalizedPageRank().top(path, torch.tensor([0]), k=3)[0].tolist()
        [[1, 2, -1]]
    """

    def __init__(self, alpha: float = 0.15, eps: float = 1e-5) -> None:
        within("(0, 1)", "restart probability", alpha=alpha)
        above(0, eps=eps)
        self.alpha = alpha
        self.eps = eps

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        return top_lists(self.rows(graph), graph, nodes, k, exclude)

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        rows, n = self.rows(graph), graph.num_nodes
        # Symmetric to the last bit: a sum of two numbers has no order
        return (row_scores(rows, source, target, n) + row_scores(rows, target, source, n)).float()

    def rows(self, graph: Graph) -> Rows:
        """The scores of all nodes that a push reaches; a row begins with the node itself."""
        arguments = (*structure(graph), float(self.alpha), float(self.eps))
        return compiled_rows(lambda nodes, *out: _push_rows(nodes, *arguments, *out), graph.num_nodes)


@kernel
def _push_rows(nodes, indptr, indices, alpha, eps, ptr, columns, values):  # pragma: no cover (compiled)
    """See :data:`~mebns_pl.graph.measures.rows.Fill`: forward push.

    Nodes are pushed in rounds, all those at once whose residual is too large when the round begins: pushed one after
    the other, nodes in the same position would get scores that differ by their order in the queue.
    """
    num_nodes = indptr.shape[0] - 1
    rank, residual, mass = np.zeros(num_nodes), np.zeros(num_nodes), np.empty(num_nodes)
    front, coming = np.empty(num_nodes, np.int64), np.empty(num_nodes, np.int64)
    seen, queued = np.zeros(num_nodes, np.bool_), np.zeros(num_nodes, np.bool_)
    for row in range(nodes.shape[0]):
        node, count = nodes[row], ptr[row]
        if count + num_nodes > columns.shape[0]:
            return row
        residual[node] = 1.0
        columns[count], seen[node] = node, True
        count += 1
        front[0], waiting = node, min(1, indptr[node + 1] - indptr[node])
        while waiting > 0:
            for place in range(waiting):
                current = front[place]
                mass[place] = residual[current]
                rank[current] += alpha * residual[current]
                residual[current] = 0.0
                queued[current] = False
            arrived = 0
            for place in range(waiting):
                current = front[place]
                share = (1.0 - alpha) * mass[place] / (indptr[current + 1] - indptr[current])
                for i in range(indptr[current], indptr[current + 1]):
                    other = indices[i]
                    residual[other] += share
                    if not seen[other]:
                        seen[other] = True
                        columns[count] = other
                        count += 1
                    if not queued[other] and residual[other] > eps * (indptr[other + 1] - indptr[other]):
                        queued[other] = True
                        coming[arrived] = other
                        arrived += 1
            front, coming, waiting = coming, front, arrived
        for place in range(ptr[row], count):
            other = columns[place]
            values[place] = rank[other]
            rank[other], residual[other], seen[other] = 0.0, 0.0, False
        ptr[row + 1] = count
    return nodes.shape[0]


@kernel
def stack_push(node, indptr, indices, alpha, eps, out):  # pragma: no cover (compiled)
    """``out`` ``(N,)`` float32: personalised PageRank of ``node``; of the nodes that wait the last is pushed first.

    The residual of a waiting node grows while it waits. Scores differ from those of other orders by up to ``eps``
    times the degree, which is why the order is part of what is reproduced.
    """
    num_nodes = indptr.shape[0] - 1
    rank, residual = np.zeros(num_nodes), np.zeros(num_nodes)
    stack, waits = np.empty(num_nodes, np.int64), np.zeros(num_nodes, np.bool_)
    limit = np.empty(num_nodes)
    for other in range(num_nodes):
        limit[other] = alpha * eps * (indptr[other + 1] - indptr[other])
    residual[node] = alpha
    stack[0], size = node, 1
    waits[node] = True
    while size > 0:
        size -= 1
        current = stack[size]
        waits[current] = False
        mass = residual[current]
        rank[current] += mass
        residual[current] = 0.0
        first, last = indptr[current], indptr[current + 1]
        if first < last:
            share = (1.0 - alpha) * mass / (last - first)
            for i in range(first, last):
                other = indices[i]
                residual[other] += share
                if residual[other] >= limit[other] and not waits[other]:
                    waits[other] = True
                    stack[size] = other
                    size += 1
    for other in range(num_nodes):
        out[other] = np.float32(rank[other])
