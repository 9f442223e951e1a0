"""NCN pair by pair: common neighbours as an intersection of sets, their embeddings added in a loop."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl import NCN
from mebns_pl.graph.csr import Graph
from references.seal import neighbors_of


def common(graph: Graph, u: int, v: int) -> list[int]:
    """The common neighbours, ascending."""
    neighbors = neighbors_of(graph)
    return sorted(neighbors[u] & neighbors[v])


def logit(model: NCN, graph: Graph, u: int, v: int) -> Tensor:
    """The logit of one pair, without dropout, ``()``."""
    z = model.encoder(graph)
    total = torch.zeros_like(z[0])
    for node in common(graph, u, v):
        total = total + z[node]
    row = torch.arange(1)
    hidden = model.ends((z[u] * z[v])[None], row, None) + model.common(total[None], row, None)
    return model.head(hidden, row, None)[0, 0]
