"""How alike the features round a pair are, on a graph from which the pair's own edge has been taken."""

from __future__ import annotations

import numpy as np


def pair_features(a: np.ndarray, x: np.ndarray, u: int, v: int) -> list[float]:
    """The three cosines of nodes u and v, ``a`` ``(N, N)`` the adjacency and ``x`` ``(N, F)`` the features."""
    a = a.copy()
    a[u, v] = a[v, u] = 0
    n = len(a)
    words = unit(x * (1 + np.log((1 + n) / (1 + (x != 0).sum(axis=0)))))
    sums = (a + np.eye(n)) @ (words / np.sqrt(a.sum(axis=1) + 1)[:, None])
    near = unit(sums)
    across = (words[u] @ near[v] + words[v] @ near[u]) / 2
    return [float(words[u] @ words[v]), float(across), float(near[u] @ near[v])]


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows shorter than rounding errors are 0."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 1e-9)
