"""A small graph of three types, two pairs of which are linked, and what is legal in it, by loops."""

from __future__ import annotations

import torch

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.node_types import NodeTypes

NAMES = [("user", "item", "tag")[number % 3] for number in range(24)]
EDGES = torch.tensor(
    [[0, 0, 3, 3, 6, 9, 12, 1, 1, 4, 7, 0, 15, 18, 21, 21], [1, 4, 1, 7, 4, 10, 13, 2, 5, 5, 8, 16, 19, 22, 1, 4]]
)
"""Users with items, items with tags; tag 11 and others without an edge."""


def typed_graph(features: bool = False) -> Graph:
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0)) if features else None
    return Graph.from_edges(EDGES, 24, x, types=NodeTypes.of(NAMES, EDGES))


LINKED = {("user", "item"), ("item", "user"), ("item", "tag"), ("tag", "item")}


def legal(anchor: int, edges: torch.Tensor = EDGES) -> list[int]:
    """What a negative of a node may be."""
    known = {frozenset(pair) for pair in edges.t().tolist()}
    return [
        node for node in range(24) if (NAMES[anchor], NAMES[node]) in LINKED and frozenset((anchor, node)) not in known
    ]
