"""What negative samplers should do, worked out for one anchor at a time with sets and lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from mebns_pl.families import Family
from mebns_pl.graph.csr import Graph

Edges = Sequence[tuple[int, int]]


def members(family: Family, ways: Mapping[type, Sequence[Callable[..., Any]]], base: type = object) -> list[Any]:
    """One parameter for each way to build each class of a family; there is nothing to register.

    Args:
        family: the family.
        ways: how a class is built where its own defaults are not enough, or where they are not all that is to be tried.
        base: only classes below it.
    """
    return [
        pytest.param(build, id=f"{name}-{number}")
        for name, cls in family.classes.items()
        if issubclass(cls, base)
        for number, build in enumerate(ways.get(cls, [cls]))
    ]


def joined(counts: torch.Tensor) -> tuple[torch.Tensor, Graph]:
    """Pairs ``(2, b, K)`` and a graph in which their candidates have given degrees.

    Args:
        counts: ``(b, K)`` degrees; as many neighbours does a candidate share with its anchor.
    """
    size, width = counts.shape
    most = int(counts.max()) if counts.numel() else 0
    hubs, first = torch.arange(most), most + size
    anchors, candidates = most + torch.arange(size), first + torch.arange(size * width)
    edges = [torch.cartesian_prod(anchors, hubs).view(-1, 2)]
    for node, count in zip(candidates, counts.flatten().tolist(), strict=True):
        edges.append(torch.stack([node.expand(count), hubs[:count]], dim=1))
    pairs = torch.stack([anchors[:, None].expand(size, width), candidates.view(size, width)])
    return pairs, Graph.from_edges(torch.cat(edges).T, first + size * width)


# A triangle with a tail, a star that shares a leaf with it, and nodes 9 and 10 without edges.
MIXED: Edges = [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (4, 5), (4, 6), (4, 7), (7, 8)]
GRAPHS: dict[str, tuple[Edges, int]] = {
    "mixed": (MIXED, 11),
    "star": ([(0, leaf) for leaf in range(1, 8)], 8),
    "complete": ([(a, b) for a in range(6) for b in range(a + 1, 6)], 6),
    "complete but for one edge": ([(a, b) for a in range(6) for b in range(a + 1, 6) if (a, b) != (2, 4)], 6),
    "complete and an isolated node": ([(a, b) for a in range(6) for b in range(a + 1, 6)], 7),
    "one edge": ([(0, 1)], 2),
    "one edge of many nodes": ([(3, 5)], 8),
    "no edge": ([], 5),
    "one node": ([], 1),
}


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


def chain_moves(
    edges: Edges, num_nodes: int, anchor: int, logits: Sequence[float], power: float, uniform_share: float
) -> np.ndarray:
    """Transition matrix of one Metropolis-Hastings move over all nodes; only legal ones are moved to."""
    legal = legal_nodes(edges, num_nodes, anchor)

    def proposed(start: int, end: int) -> float:
        near = neighbors(edges, start) | {start}
        return uniform_share * (end in legal) / len(legal) + (1 - uniform_share) * (end in near) / len(near)

    moves = np.zeros((num_nodes, num_nodes))
    for start in range(num_nodes):
        for end in legal:
            if end != start:
                back = math.exp(power * logits[end]) * proposed(end, start)
                there = math.exp(power * logits[start]) * proposed(start, end)
                moves[start, end] = proposed(start, end) * min(1.0, back / there) if there else 0.0
        moves[start, start] = 1 - moves[start].sum()
    return moves


def first(mask: Sequence[bool], num_negatives: int) -> list[int]:
    """The first legal columns."""
    return [column for column, legal in enumerate(mask) if legal][:num_negatives]


def hardest(mask: Sequence[bool], scores: Sequence[float], num_negatives: int) -> list[int]:
    """The legal columns of the highest scores, the smaller column first of equal ones."""
    legal = [column for column, is_legal in enumerate(mask) if is_legal]
    return sorted(legal, key=lambda column: (-scores[column], column))[:num_negatives]


def softmax(scores: Sequence[float], mask: Sequence[bool], temperature: float) -> list[float]:
    """Probability of each column under a softmax over the legal ones."""
    powers = [math.exp(score / temperature) if legal else 0.0 for score, legal in zip(scores, mask, strict=True)]
    return [power / sum(powers) for power in powers]


def sigmoid(value: float) -> float:
    """Logistic function."""
    return 1 / (1 + math.exp(-value))


def hardness_gap(scores: Sequence[float], positive: float, alpha: float, beta: float, power: float) -> list[float]:
    """How far each candidate is from the wanted hardness."""
    return [abs(sigmoid(score) - beta * (sigmoid(positive) + alpha) ** (power + 1)) for score in scores]


def bayesian_risk(
    scores: Sequence[float],
    mask: Sequence[bool],
    positive: float,
    degrees: Sequence[int],
    num_nodes: int,
    trade_off: float,
) -> list[float]:
    """The risk of each candidate: information by the odds that it is no missing edge."""
    legal = [score for score, is_legal in zip(scores, mask, strict=True) if is_legal]
    risks = []
    for score, node_degree in zip(scores, degrees, strict=True):
        share = sum(other <= score for other in legal) / (len(legal) + 1)
        prior = node_degree / num_nodes
        # Bayes: the density of the k-th largest score is 2 (1 - F) for a true and 2 F for a false negative
        true, false = (1 - share) * (1 - prior), share * prior
        unbias = true / (true + false)
        information = 1 - sigmoid(positive - score)
        risks.append((1 - unbias) * information - trade_off * unbias * information)
    return risks
