"""What speaks for a predicted link: the neighbours that both its ends have, by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mebns_pl.graph.csr import Graph

SHOWN = 3
"""Common neighbours that are named."""


def common_neighbors(graph: Graph, pairs: Tensor, names: Sequence[str]) -> list[str]:
    """How many neighbours the ends of each pair have in common, and a few of them, those with fewest links first.

    Args:
        graph: the graph, N nodes.
        pairs: ``(2, n)`` int64 nodes.
        names: of the N nodes.

    Returns:
        n texts.

    Example:
        >>> import torch
        >>> square = Graph.from_edges(torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]]), num_nodes=4)
        >>> common_neighbors(square, torch.tensor([[0, 0], [2, 1]]), ["a", "b", "c", "d"])
        ['2 common neighbours: b, d', 'no common neighbour']
    """
    starts, others, degree = (part.cpu().numpy() for part in (graph.indptr, graph.indices, graph.degree))
    told = []
    for source, target in pairs.t().tolist():
        both = np.intersect1d(
            others[starts[source] : starts[source + 1]], others[starts[target] : starts[target + 1]], assume_unique=True
        )
        few = [names[node] for node in both[np.argsort(degree[both], kind="stable")][:SHOWN].tolist()]
        count = f"{len(both):,} common neighbour{'s' * (len(both) > 1)}" if len(both) else "no common neighbour"
        told.append(f"{count}: {', '.join(few)}{', ...' * (len(both) > SHOWN)}" if few else count)
    return told
