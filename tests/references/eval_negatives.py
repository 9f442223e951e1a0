"""What evaluation negatives must be, one positive at a time with sets."""

from __future__ import annotations

import numpy as np


def legal_nodes(known: set[tuple[int, int]], num_nodes: int, kept: int) -> set[int]:
    """Nodes whose pair with the kept end is neither a known edge nor a self-pair."""
    return {w for w in range(num_nodes) if w != kept and (kept, w) not in known and (w, kept) not in known}


def check_half(nodes: list[int], legal: set[int], first: list[int]) -> None:
    """Asserts that one half of a positive's negatives is ``first``, then legal nodes, none twice if that can be."""
    assert nodes[: len(first)] == first
    assert set(nodes) <= legal
    assert len(set(nodes)) == min(len(nodes), len(legal))


def nearest(rankings: list[list[int]], count: int) -> list[set[int]]:
    """Nodes by the best of their ranks: the sets of those of best rank 1, 2, ..., until ``count`` nodes are there."""
    sets: list[set[int]] = []
    for rank in range(max(map(len, rankings), default=0)):
        seen = set().union(*sets)
        if len(seen) >= count:
            break
        sets.append({ranking[rank] for ranking in rankings if rank < len(ranking)} - seen)
    return sets


def non_edges(known: set[tuple[int, int]], num_nodes: int) -> list[tuple[int, int]]:
    """All unordered pairs that are no known edge."""
    return [(a, b) for a, b in np.argwhere(np.triu(np.ones((num_nodes, num_nodes)), 1)).tolist() if (a, b) not in known]
