"""What negative samplers should do, worked out for one anchor at a time with sets and lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Edges = Sequence[tuple[int, int]]


def neighbors(edges: Edges, node: int) -> set[int]:
    """Neighbours of a node."""
    return {b for a, b in edges if a == node} | {a for a, b in edges if b == node}


def legal_nodes(edges: Edges, num_nodes: int, anchor: int) -> list[int]:
    """Nodes that are neither the anchor nor linked to it, ascending."""
    return sorted(set(range(num_nodes)) - neighbors(edges, anchor) - {anchor})


def uniform(edges: Edges, num_nodes: int, anchor: int) -> list[float]:
    """Probability of each node under the uniform distribution over legal nodes."""
    legal = legal_nodes(edges, num_nodes, anchor)
    return [1 / len(legal) if node in legal else 0.0 for node in range(num_nodes)]


def degree(edges: Edges, num_nodes: int, anchor: int, power: float, draws: int) -> list[float]:
    """Probability of each node when one draws by degree at most ``draws`` times until legal, then uniformly."""
    weight = [len(neighbors(edges, node)) ** power for node in range(num_nodes)]
    return redrawn([item / sum(weight) for item in weight], edges, num_nodes, anchor, draws)


def redrawn(share: Sequence[float], edges: Edges, num_nodes: int, anchor: int, draws: int) -> list[float]:
    """Probability of each node when one draws by ``share`` at most ``draws`` times until legal, then uniformly."""
    legal = legal_nodes(edges, num_nodes, anchor)
    missed = 1.0
    result = [0.0] * num_nodes
    for _ in range(draws):
        for node in legal:
            result[node] += missed * share[node]
        missed *= 1 - sum(share[node] for node in legal)
    for node in legal:
        result[node] += missed / len(legal)
    return result


def khop(edges: Edges, num_nodes: int, anchor: int, hops: int) -> list[float]:
    """Probability of each node when one draws uniformly within ``hops`` of the anchor, or anywhere if that is empty."""
    ball = {anchor}
    for _ in range(hops):
        ball |= {other for node in ball for other in neighbors(edges, node)}
    legal = set(legal_nodes(edges, num_nodes, anchor))
    drawn = ball & legal or legal
    return [1 / len(drawn) if node in drawn else 0.0 for node in range(num_nodes)]


def walk(edges: Edges, num_nodes: int, anchor: int, length: int, draws: int) -> list[float]:
    """Probability of each node as the legal end of a walk of 2 ... ``length`` steps, by powers of a matrix."""
    step = np.eye(num_nodes)
    for node in range(num_nodes):
        if near := neighbors(edges, node):
            step[node] = [other in near for other in range(num_nodes)]
            step[node] /= len(near)
    powers = [np.linalg.matrix_power(step, steps) for steps in range(2, length + 1)]
    share = [float(item) for item in np.mean(powers, axis=0)[anchor]]
    return redrawn(share, edges, num_nodes, anchor, draws)


def common_neighbors(edges: Edges, num_nodes: int, anchor: int) -> dict[int, int]:
    """Number of common neighbours of the anchor with each legal node that has any."""
    counts = {
        node: len(neighbors(edges, anchor) & neighbors(edges, node)) for node in legal_nodes(edges, num_nodes, anchor)
    }
    return {node: count for node, count in counts.items() if count}


def first(mask: Sequence[bool], num_negatives: int) -> list[int]:
    """The first legal columns."""
    return [column for column, legal in enumerate(mask) if legal][:num_negatives]


def hardest(mask: Sequence[bool], scores: Sequence[float], num_negatives: int) -> list[int]:
    """The legal columns of the highest scores, the smaller column first of equal ones."""
    legal = [column for column, is_legal in enumerate(mask) if is_legal]
    return sorted(legal, key=lambda column: (-scores[column], column))[:num_negatives]
