"""Encoders by other means: PyG's layers with the same weights, and dense matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn import GATConv, GCNConv, SAGEConv

from mebns_pl import GAT, GCN, SAGE, LinearGCN
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features


def dense_features(graph: Graph) -> Tensor:
    """``(N, F)``: what the first layer sees, one-hot where there are no features."""
    if graph.x is None:
        return torch.eye(graph.num_nodes, dtype=torch.float64)
    x = graph.x.to_dense() if isinstance(graph.x, Features) else graph.x
    return x if graph.feature_mask is None else x * graph.feature_mask


def gcn(encoder: GCN, graph: Graph) -> Tensor:
    """The encoder's embeddings by ``GCNConv``."""
    h = dense_features(graph)
    for layer, (linear, bias) in enumerate(zip(encoder.linears, encoder.biases, strict=True)):
        # The first layer multiplies x from the left: its weight is the transpose of a Linear's
        weight = linear.weight if layer else linear.weight.t()
        conv = GCNConv(h.shape[1], weight.shape[0]).double()
        conv.load_state_dict({"lin.weight": weight, "bias": bias})
        h = conv(h.relu() if layer else h, graph.edge_index)
    return h


def sage(encoder: SAGE, graph: Graph) -> Tensor:
    """The encoder's embeddings by ``SAGEConv``, whose bias stands at the neighbours' map."""
    h = dense_features(graph)
    layers = zip(encoder.neighbor_linears, encoder.own_linears, encoder.biases, strict=True)
    for layer, (neighbor, own, bias) in enumerate(layers):
        weights = [linear.weight if layer else linear.weight.t() for linear in (neighbor, own)]
        conv = SAGEConv(h.shape[1], weights[0].shape[0], aggr="mean").double()
        conv.load_state_dict({"lin_l.weight": weights[0], "lin_l.bias": bias, "lin_r.weight": weights[1]})
        h = conv(h.relu() if layer else h, graph.edge_index)
    return h


def gat(encoder: GAT, graph: Graph) -> Tensor:
    """The encoder's embeddings by attention over dense ``(N, N)`` matrices."""
    h = dense_features(graph) @ encoder.linear.weight
    mask = torch.eye(graph.num_nodes, dtype=torch.bool)
    mask[graph.edge_index[1], graph.edge_index[0]] = True
    for layer, conv in enumerate(encoder.convs):
        assert isinstance(conv, GATConv)
        heads = conv.lin(h.relu() if layer else h).view(graph.num_nodes, conv.heads, conv.out_channels)
        outputs = []
        for head in range(conv.heads):
            z = heads[:, head]
            logits = (z @ conv.att_dst[0, head])[:, None] + (z @ conv.att_src[0, head])[None, :]
            logits = torch.nn.functional.leaky_relu(logits, 0.2)
            outputs.append(logits.masked_fill(~mask, -torch.inf).softmax(1) @ z)
        h = torch.cat(outputs, dim=1) + conv.bias
    return h


def linear_gcn(encoder: LinearGCN, graph: Graph) -> Tensor:
    """The encoder's embeddings by powers of the dense propagation matrix, the residual's sum written out."""
    a = torch.eye(graph.num_nodes, dtype=torch.float64)
    a[graph.edge_index[1], graph.edge_index[0]] = 1
    root = a.sum(1).rsqrt()
    a = root[:, None] * a * root[None, :]
    parts = [] if encoder.linear is None else [dense_features(graph) @ encoder.linear.weight]
    first = sum(parts + ([] if encoder.nodes is None else [encoder.nodes.weight]))
    steps = encoder.num_layers
    total = torch.linalg.matrix_power(a, steps) @ first
    for step in range(steps):
        total = total + encoder.residual * torch.linalg.matrix_power(a, step) @ first
    return total


REFERENCES = {GCN: gcn, SAGE: sage, GAT: gat, LinearGCN: linear_gcn}
