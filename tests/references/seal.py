"""SEAL pair by pair: breadth-first search in sets, labels by the formula, dense matrices, the convolution as a loop."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl import SEAL
from mebns_pl.graph.csr import Graph
from references.models import dense_features


def neighbors_of(graph: Graph) -> list[set[int]]:
    """The kept neighbours of each node."""
    found: list[set[int]] = [set() for _ in range(graph.num_nodes)]
    for source, target in graph.edge_index.t().tolist():
        found[source].add(target)
    return found


def distances(start: int, neighbors: dict[int, set[int]]) -> dict[int, int]:
    """Numbers of steps from ``start`` to all that it reaches."""
    found, front = {start: 0}, [start]
    while front:
        node = front.pop(0)
        for other in neighbors[node]:
            if other not in found:
                found[other] = found[node] + 1
                front.append(other)
    return found


def enclosing(graph: Graph, u: int, v: int, num_hops: int) -> tuple[list[int], dict[int, set[int]], dict[int, int]]:
    """Nodes, neighbours within, and labels of one pair's subgraph."""
    whole = neighbors_of(graph)
    whole[u].discard(v)
    whole[v].discard(u)
    inside = {u, v}
    for _ in range(num_hops):
        inside |= {other for node in inside for other in whole[node]}
    within = {node: whole[node] & inside for node in inside}
    ends = []
    for start, other in ((u, v), (v, u)):
        gone = set() if u == v else {other}
        cut = {node: within[node] - gone for node in inside - gone}
        ends.append(distances(start, cut))
    labels = {}
    for node in inside:
        near, far = ends[0].get(node), ends[1].get(node)
        if node in (u, v):
            labels[node] = 1
        elif near is None or far is None:
            labels[node] = 0
        else:
            d = near + far
            labels[node] = 1 + min(near, far) + (d // 2) * (d // 2 + d % 2 - 1)
    return list(inside), within, labels


def logit(model: SEAL, graph: Graph, u: int, v: int) -> Tensor:
    """The logit of one pair, without dropout, ``()``."""
    nodes, within, labels = enclosing(graph, u, v, model.num_hops)
    adjacency = torch.eye(len(nodes), dtype=torch.float64)
    for i, node in enumerate(nodes):
        for j, other in enumerate(nodes):
            adjacency[i, j] += other in within[node]
    degree = adjacency.sum(1)
    spread = adjacency / (degree[:, None] * degree[None, :]).sqrt()
    first = model.labels[[labels[node] for node in nodes]] @ model.linears[0].weight.t()
    if model.features is not None:
        first = first + dense_features(graph)[nodes] @ model.features.weight
    layers = [(spread @ first + model.biases[0]).tanh()]
    for linear, bias in list(zip(model.linears, model.biases, strict=True))[1:]:
        layers.append((spread @ layers[-1] @ linear.weight.t() + bias).tanh())
    order = sorted(range(len(nodes)), key=lambda i: -float(layers[-1][i].detach()))[: model.num_pooled]
    rows = [torch.cat([layer[i] for layer in layers]) for i in order]
    rows += [torch.zeros_like(rows[0])] * (model.num_pooled - len(rows))
    first_conv = [(model.node_channels.weight @ row + model.node_channels.bias).relu() for row in rows]
    pooled = [torch.maximum(a, b) for a, b in zip(first_conv[::2], first_conv[1::2], strict=False)]
    weight, bias = model.order_conv.weight, model.order_conv.bias
    windows = [sum(weight[:, :, i] @ pooled[start + i] for i in range(5)) + bias for start in range(len(pooled) - 4)]
    flat = torch.stack(windows).relu().t().flatten()
    return model.last((model.dense.weight @ flat + model.dense.bias).relu())[0]
