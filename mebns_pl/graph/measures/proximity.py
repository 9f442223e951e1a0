"""How near two nodes are by the graph's structure or the nodes' features: the k nearest of each node, and of pairs.

A measure is a small immutable object with the measure's own parameters; the graph is given to each call. Work is parted
by rows among threads, and the result does not depend on their number.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures import kernels, pair_kernels
from mebns_pl.graph.sparse import Features

Csr = tuple[np.ndarray, np.ndarray, np.ndarray]
_ROUND_OFF = 1e-9  # cosines up to this are rounding errors of a zero
_BLOCK = 2**22  # entries of a block of dense scores, 32 MiB in float64


class AbstractMeasure(ABC):
    """A proximity of node pairs that is 0 for most of them."""

    @abstractmethod
    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        """The k other nodes with the highest positive scores for each of ``nodes``.

        Args:
            graph: the graph on the CPU; edges left out of its message passing do not count.
            nodes: ``(n,)`` int64.
            k: length of the lists, at least 1.
            exclude: neighbours in this graph of the same nodes are left out; None leaves only the node itself out.

        Returns:
            ``(n, k)`` int64 node numbers, best first, padded with -1, and ``(n, k)`` float32 scores, padded with 0.
            Equal scores are ordered by a fixed hash of the pair, which prefers no node number.
        """


class AbstractPairMeasure(ABC):
    """A proximity of given node pairs: symmetric, the higher the nearer; only its order matters."""

    @abstractmethod
    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The scores of given pairs, each independent of the others.

        Args:
            graph: the graph on the CPU; edges left out of its message passing do not count.
            source: ``(m,)`` int64.
            target: ``(m,)`` int64.

        Returns:
            ``(m,)`` float32 or float64, never NaN.
        """


class AbstractNeighborMeasure(AbstractMeasure, AbstractPairMeasure):
    """A sum over common neighbours z of a weight that depends on the degree of z."""

    @abstractmethod
    def weights(self, degree: np.ndarray) -> np.ndarray:
        """Weight of a common neighbour, ``(N,)`` int64 -> ``(N,)`` float64; only degrees of 2 or more matter."""

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        indptr, indices = structure(graph)
        weights = self.weights(np.diff(indptr))
        left, right = (indptr, indices, weights[indices]), (indptr, indices, np.ones(len(indices)))
        return _product_top(left, right, 0.0, graph, nodes, k, exclude)

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The scores ``(m,)`` float32 of given pairs. Cost: the sum of the two degrees for each."""
        indptr, indices = structure(graph)
        weights = self.weights(np.diff(indptr))
        out = np.empty(len(source), dtype=np.float32)
        ends = source.contiguous().numpy(), target.contiguous().numpy()
        in_threads(lambda s: kernels.common_sum(ends[0][s], ends[1][s], indptr, indices, weights, out[s]), len(out))
        return torch.from_numpy(out)


class CommonNeighbors(AbstractNeighborMeasure):
    """The number of common neighbours (Liben-Nowell and Kleinberg, CIKM 2003).

    Example:
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
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> AdamicAdar().pairs(path, torch.tensor([0]), torch.tensor([2]))
        tensor([1.4427])
    """

    def weights(self, degree: np.ndarray) -> np.ndarray:
        return np.where(degree > 1, 1 / np.log(np.maximum(degree, 2)), 0.0)


class ResourceAllocation(AbstractNeighborMeasure):
    """Common neighbours, each counted ``1 / degree`` (Zhou, Lü and Zhang, EPJ B 2009).

    Example:
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> ResourceAllocation().pairs(path, torch.tensor([0]), torch.tensor([2]))
        tensor([0.5000])
    """

    def weights(self, degree: np.ndarray) -> np.ndarray:
        weights: np.ndarray = 1 / np.maximum(degree, 1)
        return weights


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
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> PersonalizedPageRank().top(path, torch.tensor([0]), k=3)[0].tolist()
        [[1, 2, -1]]
    """

    def __init__(self, alpha: float = 0.15, eps: float = 1e-5) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha: got {alpha}; allowed is a restart probability in (0, 1)")
        if not eps > 0:
            raise ValueError(f"eps: got {eps}; allowed is a number above 0")
        self.alpha = alpha
        self.eps = eps

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        indptr, indices = structure(graph)
        alpha, eps = float(self.alpha), float(self.eps)

        def rows(block: np.ndarray, skip: Skip, index: np.ndarray, score: np.ndarray) -> None:
            kernels.push_top(block, indptr, indices, alpha, eps, *skip, index, score)

        return top_lists(rows, graph, nodes, k, exclude)

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        indptr, indices = structure(graph)
        alpha, eps = float(self.alpha), float(self.eps)

        def score(nodes: np.ndarray, starts: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
            kernels.push_pairs(nodes, starts, targets, indptr, indices, alpha, eps, out)

        # Symmetric to the last bit: a sum of two numbers has no order
        return (pairs_by_source(score, source, target) + pairs_by_source(score, target, source)).float()


class FeatureCosine(AbstractMeasure, AbstractPairMeasure):
    """The cosine of the angle between two nodes' features, dense or sparse; nodes without features have 0 with all.

    Raises (in ``top`` and ``pairs``):
        ValueError: the graph has no features.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
        >>> graph = Graph.from_edges(torch.tensor([[0], [1]]), num_nodes=3, x=x)
        >>> FeatureCosine().top(graph, torch.tensor([0]), k=2)
        (tensor([[ 1, -1]]), tensor([[0.7071, 0.0000]]))
    """

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        x = _features(graph)
        if isinstance(x, Features):
            rows, columns = _sparse(x.matrix), _sparse(x.transposed)
            row_of_value = np.repeat(np.arange(graph.num_nodes), np.diff(rows[0]))
            scale = _inverse_norm(rows, row_of_value, graph.num_nodes)
            left = (rows[0], rows[1], rows[2] * scale[row_of_value])
            right = (columns[0], columns[1], columns[2] * scale[columns[1]])
            return _product_top(left, right, _ROUND_OFF, graph, nodes, k, exclude)
        x = torch.nn.functional.normalize(x.double(), dim=1, eps=1e-300)
        return self._dense_top(x.numpy(), graph, nodes, k, exclude)

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The cosines ``(m,)`` float32 of given pairs. Cost: the non-zero features of both for each."""
        x = _features(graph)
        out = np.empty(len(source))
        ends = source.contiguous().numpy(), target.contiguous().numpy()
        if isinstance(x, Features):
            indptr, indices, values = _sparse(x.matrix)
            row_of_value = np.repeat(np.arange(graph.num_nodes), np.diff(indptr))
            scale = _inverse_norm((indptr, indices, values), row_of_value, graph.num_nodes)

            def sparse(s: slice) -> None:
                pair_kernels.sparse_dot_pairs(ends[0][s], ends[1][s], indptr, indices, values, out[s])
                out[s] *= scale[ends[0][s]] * scale[ends[1][s]]

            in_threads(sparse, len(out))
        else:
            unit = torch.nn.functional.normalize(x.double(), dim=1, eps=1e-300).numpy()

            def dense(s: slice) -> None:
                size = max(1, _BLOCK // max(1, unit.shape[1]))
                for start in range(s.start, min(s.stop, len(out)), size):
                    part = slice(start, min(start + size, s.stop))
                    out[part] = (unit[ends[0][part]] * unit[ends[1][part]]).sum(axis=1)

            in_threads(dense, len(out))
        out[np.abs(out) <= _ROUND_OFF] = 0.0
        return torch.from_numpy(out.astype(np.float32))

    @staticmethod
    def _dense_top(x: np.ndarray, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None) -> tuple[Tensor, Tensor]:
        size = max(1, _BLOCK // max(1, len(x)))

        def rows(block: np.ndarray, skip: Skip, index: np.ndarray, score: np.ndarray) -> None:
            for start in range(0, len(block), size):
                part = slice(start, start + size)
                # float64 products rounded to float32: how the block is cut shows in no score
                scores = (x[block[part]] @ x.T).astype(np.float32)
                kernels.dense_top(block[part], scores, _ROUND_OFF, *skip, index[part], score[part])

        return top_lists(rows, graph, nodes, k, exclude)


class MinRank(AbstractMeasure):
    """The smallest of a node's ranks under several measures (HeaRT, Li et al., NeurIPS 2023, arXiv 2306.10453).

    Each measure ranks the nodes that are not left out; nodes are ordered by their best rank, then by the sum of their
    ranks (k + 1 where a measure does not list the node among its k best), then by the hash of the pair. The lists of
    the k best are all that is needed: at least k nodes have a best rank of k or less. The score is 1 / (best rank).

    Args:
        measures: one measure or more.

    Raises:
        ValueError: no measure.

    Example:
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> measure = MinRank([ResourceAllocation(), PersonalizedPageRank()])
        >>> measure.top(path, torch.tensor([0]), k=3, exclude=path)
        (tensor([[ 2,  3, -1]]), tensor([[1.0000, 0.5000, 0.0000]]))
    """

    def __init__(self, measures: Sequence[AbstractMeasure]) -> None:
        if not measures:
            raise ValueError("measures: got none; at least one measure is needed")
        self.measures = tuple(measures)

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        lists = np.stack([measure.top(graph, nodes, k, exclude)[0].numpy() for measure in self.measures], axis=1)
        index, score = np.empty((len(nodes), k), np.int64), np.empty((len(nodes), k), np.float32)
        names, n = nodes.contiguous().numpy(), graph.num_nodes
        in_threads(lambda s: kernels.min_rank_top(names[s], lists[s], n, index[s], score[s]), len(names))
        return torch.from_numpy(index), torch.from_numpy(score)


def pairs_by_source(
    score: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None], source: Tensor, target: Tensor
) -> Tensor:
    """Scores pairs, those of one source together, in threads.

    Args:
        score: a kernel ``(nodes, starts, targets, out)``, as those of :mod:`mebns_pl.graph.measures.pair_kernels`.
        source: ``(m,)`` int64.
        target: ``(m,)`` int64.

    Returns:
        ``(m,)`` float64.
    """
    order = source.argsort(stable=True)
    nodes, counts = torch.unique_consecutive(source[order], return_counts=True)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).numpy()
    names, targets, out = nodes.numpy(), target[order].numpy(), np.zeros(len(source))
    in_threads(lambda s: score(names[s], starts[s.start : s.stop + 1], targets, out), len(names))
    scores = torch.empty(len(source), dtype=torch.float64)
    scores[order] = torch.from_numpy(out)
    return scores


Skip = tuple[np.ndarray, np.ndarray]
Rows = Callable[[np.ndarray, Skip, np.ndarray, np.ndarray], None]


def top_lists(rows: Rows, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None) -> tuple[Tensor, Tensor]:
    """Runs ``rows`` over slices of ``nodes`` in threads and gathers the lists."""
    if k < 1:
        raise ValueError(f"k: got {k}; allowed is 1 or more")
    outside = nodes[(nodes < 0) | (nodes >= graph.num_nodes)]
    if len(outside):
        raise ValueError(f"nodes: got {int(outside[0])}; allowed are 0 ... {graph.num_nodes - 1}")
    if exclude is not None and exclude.num_nodes != graph.num_nodes:
        raise ValueError(f"exclude: got {exclude.num_nodes} nodes; allowed is a graph of the same {graph.num_nodes}")
    nothing = np.zeros(graph.num_nodes + 1, np.int64), np.zeros(0, np.int64)
    skip = nothing if exclude is None else structure(exclude)
    names = nodes.contiguous().numpy()
    index, score = np.empty((len(names), k), np.int64), np.empty((len(names), k), np.float32)
    in_threads(lambda s: rows(names[s], skip, index[s], score[s]), len(names))
    return torch.from_numpy(index), torch.from_numpy(score)


def _product_top(
    left: Csr, right: Csr, least: float, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None
) -> tuple[Tensor, Tensor]:
    def rows(block: np.ndarray, skip: Skip, index: np.ndarray, score: np.ndarray) -> None:
        kernels.product_top(block, left, right, graph.num_nodes, least, *skip, index, score)

    return top_lists(rows, graph, nodes, k, exclude)


def structure(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """The CSR arrays of the edges that take part in message passing."""
    if graph.keep is None:
        return graph.indptr.numpy(), graph.indices.numpy()
    indptr = torch.cat([graph.indptr[:1], graph.degree.cumsum(0)])
    return indptr.numpy(), graph.indices[graph.keep].numpy()


def _features(graph: Graph) -> Tensor | Features:
    if graph.x is None:
        raise ValueError("graph: it has no node features (x is None); FeatureCosine needs them")
    return graph.x


def _inverse_norm(rows: Csr, row_of_value: np.ndarray, num_nodes: int) -> np.ndarray:
    """``(N,)``: one over the 2-norm of each row, 0 for a row of zeros."""
    norm = np.sqrt(np.bincount(row_of_value, weights=rows[2] ** 2, minlength=num_nodes))
    return np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)


def _sparse(matrix: Tensor) -> Csr:
    indptr, indices, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    return indptr.long().numpy(), indices.long().numpy(), values.double().numpy()


def num_threads() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def in_threads(work: Callable[[slice], None], size: int) -> None:
    """Calls ``work`` on slices that make up ``range(size)``, in as many threads as there are cores for this process."""
    threads = num_threads()
    step = max(1, -(-size // (4 * threads)))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [slice(start, start + step) for start in range(0, size, step)]))
