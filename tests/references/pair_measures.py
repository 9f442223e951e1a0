"""Pair heuristics the slow obvious way: sets, dense inverses, a search one step at a time."""

from __future__ import annotations

import numpy as np


def jaccard(a: np.ndarray, u: int, v: int) -> float:
    """Common neighbours over all neighbours of both."""
    first, second = set(a[u].nonzero()[0]), set(a[v].nonzero()[0])
    return len(first & second) / len(first | second) if first | second else 0.0


def preferential_attachment(a: np.ndarray, u: int, v: int) -> float:
    """Product of degrees."""
    return float(a[u].sum() * a[v].sum())


def katz(a: np.ndarray, beta: float) -> np.ndarray:
    """All pairs at once, by the inverse."""
    return np.linalg.inv(np.eye(len(a)) - beta * a) - np.eye(len(a))


def inverse_distance(a: np.ndarray, u: int, v: int) -> float:
    """1 / distance: 0 where there is no path, infinite for a node with itself."""
    reached, steps = {u}, 0
    while v not in reached:
        wider = reached | {int(w) for node in reached for w in a[node].nonzero()[0]}
        if wider == reached:
            return 0.0
        reached, steps = wider, steps + 1
    return 1 / steps if steps else float("inf")


def cosine(x: np.ndarray, u: int, v: int) -> float:
    """Cosine of two rows, 0 where one is all zeros."""
    norm = np.linalg.norm(x[u]) * np.linalg.norm(x[v])
    return float(x[u] @ x[v] / norm) if norm else 0.0


def paths_of_length_three(a: np.ndarray, u: int, v: int, degree_normalized: bool) -> float:
    """One path u - x - y - v after the other, without those that take the edge u - v."""
    degree, total = a.sum(1), 0.0
    for x in a[u].nonzero()[0]:
        for y in a[v].nonzero()[0]:
            if a[x, y] and x != v and y != u:
                total += 1 / np.sqrt(degree[x] * degree[y]) if degree_normalized else 1
    return total


def local_path(a: np.ndarray, eps: float) -> np.ndarray:
    """All pairs at once, by powers."""
    return a @ a + eps * a @ a @ a


def sim_rank(a: np.ndarray, decay: float, num_iterations: int) -> np.ndarray:
    """The definition, pair by pair, each iteration from the one before."""
    neighbors = [row.nonzero()[0] for row in a]
    scores = np.eye(len(a))
    for _ in range(num_iterations):
        before = scores
        scores = np.eye(len(a))
        for u, v in np.argwhere(~np.eye(len(a), dtype=bool)):
            if len(neighbors[u]) and len(neighbors[v]):
                scores[u, v] = decay * np.mean([before[x, y] for x in neighbors[u] for y in neighbors[v]])
    return scores
