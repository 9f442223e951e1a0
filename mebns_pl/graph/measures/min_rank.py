"""The least of the ranks that several measures give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import AbstractMeasure
from mebns_pl.graph.measures.rows import best_of_rows
from mebns_pl.progress import in_threads, slices


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
        >>> from mebns_pl.graph.measures.neighbors import ResourceAllocation
        >>> from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
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
        names, n, missing = nodes.contiguous().numpy(), graph.num_nodes, len(self.measures) * (k + 1)
        index, order = np.empty((len(nodes), k), np.int64), np.empty((len(nodes), k))
        nothing = np.zeros(n + 1, np.int64), np.zeros(0, np.int64)

        def merge(part: slice) -> None:
            listed = lists[part] >= 0
            row, _, place = listed.nonzero()
            keys, inverse = np.unique(row * n + lists[part][listed], return_inverse=True)
            best = np.full(len(keys), k + 1)
            np.minimum.at(best, inverse, place + 1)
            total = missing + np.bincount(inverse, place - k, len(keys))
            ptr = np.searchsorted(keys, np.arange(part.stop - part.start + 1) * n)
            # One number, exact in float64 and the higher the better, holds both ranks
            values = (k + 2 - best) * (missing + 1) - total
            best_of_rows(names[part], ptr, keys % n, values, nothing, index[part], order[part])

        in_threads(merge, slices(len(names)))
        score = np.where(index >= 0, 1 / np.maximum(1, k + 1 - order // (missing + 1)), 0.0)
        return torch.from_numpy(index), torch.from_numpy(score.astype(np.float32))
