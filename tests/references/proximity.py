"""Proximity measures the slow obvious way: dense matrices, Python sorting, one node at a time."""

from __future__ import annotations

import math

import numpy as np
import torch

WORD = 2**64


def mix(value: int) -> int:
    """SplitMix64's finaliser."""
    h = (value + 0x9E3779B97F4A7C15) % WORD
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB % WORD
    return h ^ (h >> 31)


def pair_hash(node: int, other: int) -> int:
    """The hash that orders equal scores."""
    return mix(mix(node) ^ other)


def different_nodes(num_nodes: int) -> torch.Tensor:
    """``(2, N (N - 1))``: all pairs of two nodes, in both directions."""
    nodes = torch.arange(num_nodes)
    pairs = torch.cartesian_prod(nodes, nodes).t()
    return pairs[:, pairs[0] != pairs[1]]


def adjacency(edges: np.ndarray, num_nodes: int) -> np.ndarray:
    """``(N, N)`` float64, symmetric."""
    matrix = np.zeros((num_nodes, num_nodes))
    matrix[edges[0], edges[1]] = matrix[edges[1], edges[0]] = 1.0
    return matrix


def common_neighbors(a: np.ndarray) -> np.ndarray:
    """Number of common neighbours of all pairs."""
    return _weighted(a, lambda degree: 1.0)


def adamic_adar(a: np.ndarray) -> np.ndarray:
    """Common neighbours, each 1 / log(degree)."""
    return _weighted(a, lambda degree: 1 / math.log(degree) if degree > 1 else 0.0)


def resource_allocation(a: np.ndarray) -> np.ndarray:
    """Common neighbours, each 1 / degree."""
    return _weighted(a, lambda degree: 1 / degree)


def _weighted(a: np.ndarray, weight) -> np.ndarray:
    scores = np.zeros_like(a)
    for z in range(len(a)):
        neighbors = a[z].nonzero()[0]
        for u in neighbors:
            scores[u, neighbors] += weight(len(neighbors))
    return scores


def pagerank(a: np.ndarray, alpha: float) -> np.ndarray:
    """Row u is the exact personalised PageRank of u; the walk ends at a node without neighbours."""
    degree = a.sum(1, keepdims=True)
    walk = a / np.maximum(degree, 1)
    return alpha * np.linalg.inv(np.eye(len(a)) - (1 - alpha) * walk)


def cosine(x: np.ndarray) -> np.ndarray:
    """Cosine of all pairs of rows; 0 with rows of zeros."""
    norm = np.sqrt((x.astype(float) ** 2).sum(1))
    scale = np.where(norm > 0, 1 / np.where(norm > 0, norm, 1), 0)
    return (x * scale[:, None]) @ (x * scale[:, None]).T


def top(scores: np.ndarray, node: int, k: int, excluded: set[int]) -> list[tuple[int, np.float32]]:
    """The k best other nodes with positive scores, from the node's row of scores."""
    rounded = scores.astype(np.float32)
    legal = [w for w in range(len(scores)) if w != node and w not in excluded and rounded[w] > 0]
    best = sorted(legal, key=lambda w: (-rounded[w], pair_hash(node, w)))[:k]
    return [(w, rounded[w]) for w in best]


def min_rank(rankings: list[list[int]], node: int, k: int) -> list[tuple[int, np.float32]]:
    """Merges *whole* rankings, of which each measure's first k count for the sum of ranks."""
    best, total = {}, {}
    for w in {w for ranking in rankings for w in ranking}:
        ranks = [ranking.index(w) + 1 if w in ranking else math.inf for ranking in rankings]
        best[w], total[w] = min(ranks), sum(min(rank, k + 1) for rank in ranks)
    order = sorted(best, key=lambda w: (best[w], total[w], pair_hash(node, w)))[:k]
    return [(w, np.float32(1 / best[w])) for w in order]
