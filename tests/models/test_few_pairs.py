"""Few pairs' inputs hold a part of the graph, and give what the whole graph would, with derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from mebns_pl import GAT, GCN, SAGE, DotDecoder, EncoderDecoder, FullGraph
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key

NUM_NODES = 200
RING = torch.stack([torch.arange(NUM_NODES), (torch.arange(NUM_NODES) + 1) % NUM_NODES])
PAIRS = torch.tensor([[0, 50, 9], [1, 120, 9]])


def ring(kind: str) -> Graph:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(NUM_NODES, 6, generator=generator, dtype=torch.float64)
    x = {"dense": x, "sparse": Features.of((x * (x > 0)).to_sparse()), "none": None}[kind]
    return Graph.from_edges(RING, NUM_NODES, x)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("encoder", [GCN, SAGE, GAT])
def test_a_part_gives_what_the_whole_gives(encoder: Callable[..., nn.Module], num_layers: int, kind: str) -> None:
    torch.manual_seed(0)
    graph, left_out = ring(kind), PAIRS[:, :1]
    model = EncoderDecoder(graph.spec, partial(encoder, hidden_channels=8, num_layers=num_layers), DotDecoder).double()
    few = FullGraph().of_few(model, graph, graph, PAIRS, left_out, Key(0, "tests"))
    assert few.graph.num_nodes < 40
    found = []
    for inputs in (few, model.prepare(graph.without(left_out), PAIRS)):
        logits = model(inputs)
        grads = torch.autograd.grad(logits.square().sum(), list(model.parameters()), create_graph=True)
        again = torch.autograd.grad(
            sum(grad.square().sum() for grad in grads), list(model.parameters()), materialize_grads=True
        )
        found.append([logits, *grads, *again])
    for a, b in zip(*found, strict=True):
        a, b = a.detach(), b.detach()
        assert float((a - b).abs().max()) <= 1e-10 * (1 + float(b.abs().max()))


def test_the_whole_where_there_are_no_features_or_most_nodes_are_reached() -> None:
    graph = ring("none")
    model = EncoderDecoder(graph.spec, partial(GCN, hidden_channels=8), DotDecoder)
    assert FullGraph().of_few(model, graph, graph, PAIRS, RING[:, :1], Key(0, "tests")).graph.num_nodes == NUM_NODES
    graph = ring("dense")
    model = EncoderDecoder(graph.spec, partial(GCN, hidden_channels=8), DotDecoder)
    assert FullGraph().of_few(model, graph, graph, RING, RING[:, :1], Key(0, "tests")).graph.sampled is None
