"""HeaRT's generator as it was run, dense and one end of an edge after the other, with scipy's ranks."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata


def stack_pagerank(a: np.ndarray, node: int, alpha: float, eps: float) -> np.ndarray:
    """PageRank by pushing the node that came last onto the list."""
    degree, rank, residual, waiting = a.sum(1), np.zeros(len(a)), np.zeros(len(a)), [node]
    residual[node] = alpha
    while waiting:
        current = waiting.pop()
        mass, residual[current] = residual[current], 0.0
        rank[current] += mass
        for other in a[current].nonzero()[0]:
            residual[other] += (1 - alpha) * mass / degree[current]
            if residual[other] >= alpha * eps * degree[other] and other not in waiting:
                waiting.append(other)
    return rank.astype(np.float32)


def ranks(row: np.ndarray) -> np.ndarray:
    """1 for the best; zeros after all above zero; then those below zero. By scipy."""
    out, above, worst = np.empty_like(row), row > 0, 0
    if above.any():
        order = rankdata(row[above], method="min")
        out[above] = order.max() - order + 1
        worst = out[above].max()
    out[row == 0] = worst + 1
    out[row < 0] = worst + 2
    return out


def generate(
    a: np.ndarray, x: np.ndarray | None, val: list[list[int]], test: list[list[int]], k: int, alpha: float, eps: float
) -> np.ndarray:
    """``(edges, 2, k)``: nodes that stand in for the target, and for the source."""
    a, num_nodes = a.astype(np.float32), len(a)
    degree = a.sum(0)
    score = (a @ a) * np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)
    walk = np.stack([stack_pagerank(a, node, alpha, eps) for node in range(num_nodes)])
    similar = None if x is None else x.astype(np.float32)
    if similar is not None:
        norm = np.linalg.norm(similar, axis=1, keepdims=True)
        similar = similar / np.where(norm == 0, 1, norm)
        similar = similar @ similar.T
    with_val, generator, chosen = a.copy(), np.random.RandomState(42), []
    for u, v in val:
        with_val[u, v] = with_val[v, u] = 1
    for place, (u, v) in enumerate(val + test):
        known = a if place < len(val) else with_val
        for node, other in ((u, v), (v, u)):
            out = known[node] > 0
            out[[node, other]] = True
            rows = [score[node].copy(), walk[node].copy()] + ([] if similar is None else [similar[node].copy()])
            for row in rows:
                row[out] = -1
            zero = np.all([row == 0 for row in rows], axis=0)
            rows = [ranks(row) for row in rows]
            if similar is not None:
                similar[node] = rows[2]  # the slip
            found = num_nodes - int(zero.sum()) - int(out.sum())
            best = torch.topk(torch.from_numpy(-np.min(rows, axis=0)), min(k, found)).indices.numpy()
            more = generator.choice(zero.nonzero()[0], k - found) if found < k else np.zeros(0, np.int64)
            chosen.append(np.concatenate([best, more]))
    return np.array(chosen).reshape(-1, 2, k)
