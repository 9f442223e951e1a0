"""LPFormer pair by pair: PageRank by an inverse of the graph without the pair's edge, one node after the other."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mebns_pl import LPFormer
from mebns_pl.graph.csr import Graph
from references.proximity import adjacency, pagerank


def near(
    a: np.ndarray, u: int, v: int, alpha: float, thresholds: tuple[float, float, float]
) -> list[tuple[int, int, float, float]]:
    """The kept nodes of a pair, ascending: number, group (0 both, 1 one, 2 neither), PageRank for u and for v."""
    a = a.copy()
    a[u, v] = a[v, u] = 0
    rank, found = pagerank(a, alpha), []
    for w in range(len(a)):
        group = 2 - int(a[u, w]) - int(a[v, w])
        if w not in (u, v) and min(rank[u, w], rank[v, w]) > max(thresholds[group], 1e-12):
            found.append((w, group, float(rank[u, w]), float(rank[v, w])))
    return found


def logit(model: LPFormer, graph: Graph, edges: Tensor, u: int, v: int) -> Tensor:
    """The logit of one pair, without dropout, ``()``; messages pass on ``graph``, PageRank is that of all ``edges``."""
    z = model.encoder(graph)
    kept = near(adjacency(edges.numpy(), graph.num_nodes), u, v, model.measure.alpha, model.thresholds)
    sizes, xs, powers = [0, 0, 0], [], []
    for w, group, *ranks in kept:
        sizes[group] += 1
        of_u, of_v = (math.log(1 + 1e4 * rank) for rank in ranks)
        first, last = model.first_places[group], model.last_places[group]
        there, back = (first(torch.tensor(order, dtype=z.dtype)) for order in ([of_u, of_v], [of_v, of_u]))
        x = model.nodes(z[w]) + model.places(last(there.clamp(min=0) + back.clamp(min=0)))
        slope = model.ends(z[u]) + model.ends(z[v]) + x
        xs.append(x)
        powers.append(model.attention(torch.where(slope > 0, slope, 0.2 * slope)).exp())
    total = torch.zeros(model.nodes.out_features, dtype=z.dtype)
    for x, power in zip(xs, powers, strict=True):
        total = total + power / sum(powers) * x
    counts = torch.tensor([math.log(1 + size) for size in sizes], dtype=z.dtype)
    return model.head(torch.cat([z[u] * z[v], total, counts])[None], torch.arange(1), None)[0, 0]
