"""The structure round one pair the slow obvious way: the edge is taken out, then sets, and a search by steps."""

from __future__ import annotations

import math

import numpy as np

from references import pair_measures


def pair_structure(a: np.ndarray, u: int, v: int) -> list[float]:
    """The nine numbers, of the dense adjacency ``(N, N)``."""
    full, a = a, a.copy()
    a[u, v] = a[v, u] = 0
    degree = full.sum(1)  # of nodes between, which the edge does not touch
    first, second = set(a[u].nonzero()[0]), set(a[v].nonzero()[0])
    common = first & second
    steps = [(_steps(a, u, w), _steps(a, v, w)) for w in range(len(a))]
    return [
        *sorted([float(a[u].sum()), float(a[v].sum())]),
        len(common),
        sum(1 / math.log(degree[w]) for w in common),
        sum(1 / degree[w] for w in common),
        sum(pair in ((1, 2), (2, 1)) for pair in steps),
        sum(pair == (2, 2) for pair in steps),
        pair_measures.paths_of_length_three(a, u, v, False),
        sum(1 / math.sqrt(degree[x] * degree[y]) for x in first for y in second if a[x, y]),
    ]


def _steps(a: np.ndarray, u: int, w: int) -> float:
    distance = pair_measures.inverse_distance(a, u, w)
    return 1 / distance if distance else math.inf
