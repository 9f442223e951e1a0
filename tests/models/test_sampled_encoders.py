"""Encoders on a sample that leaves no neighbour out: embeddings and gradients of the whole graph, dropout included."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from mebns_pl import LinearGCN
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.neighbors import sample_neighbors
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key
from mebns_pl.models.encoders.abstract import ENCODERS, AbstractLayeredEncoder

Make = Callable[..., AbstractLayeredEncoder]
LAYERED: list[Make] = [cls for cls in ENCODERS.classes.values() if issubclass(cls, AbstractLayeredEncoder)]
LAYERED.append(partial(LinearGCN, embed_nodes=True))  # embeddings beside features
KEY = Key(5, "tests/sampled")


@pytest.mark.parametrize("hops_and_layers", [(1, 1), (2, 1), (2, 2), (4, 3)])
@pytest.mark.parametrize("kind", ["dense", "sparse", "none"])
@pytest.mark.parametrize("cls", LAYERED)
def test_equals_the_whole_graph(cls: Make, kind: str, hops_and_layers: tuple[int, int]) -> None:
    num_hops, num_layers = hops_and_layers
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(200, (2, 300), generator=generator)
    edges = edges[:, edges[0] != edges[1]]
    x = torch.randn(200, 6, dtype=torch.float64, generator=generator)
    graph = Graph.from_edges(edges, 200, {"dense": x, "sparse": Features.of(x.relu().to_sparse()), "none": None}[kind])
    encoder = cls(graph.spec, hidden_channels=8, num_layers=num_layers, dropout=0.4).double()
    names, left_out = torch.randint(200, (12,), generator=generator), edges[:, ::5]
    sample, places = sample_neighbors(graph, names, 1000, num_hops, KEY, left_out)
    weight = torch.randn(12, 8, dtype=torch.float64, generator=generator)
    found, expected = encoder(sample, KEY)[places], encoder(graph.without(left_out), KEY)[names]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    params = list(encoder.parameters())
    grads = [torch.autograd.grad((z * weight).sin().sum(), params) for z in (found, expected)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one.to_dense(), other, rtol=1e-10, atol=1e-12)
        assert bool(other.any())
