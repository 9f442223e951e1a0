"""Keyed dropout and the first linear map."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key
from mebns_pl.models.layers import FeatureLinear, KeyedDropout, NodeEmbedding, tables_of
from mebns_pl.types import GraphSpec

KEY = Key(9, "tests/layers")


@given(rows=st.lists(st.integers(0, 10**12), max_size=8), p=st.sampled_from([0.0, 0.2, 0.7]), width=st.integers(1, 4))
def test_each_row_has_its_own_mask(rows: list[int], p: float, width: int) -> None:
    layer, names = KeyedDropout(p), torch.tensor(rows, dtype=torch.int64)
    whole = layer(torch.ones(len(rows), width), names, KEY)
    for place, row in enumerate(rows):
        assert torch.equal(layer(torch.ones(1, width), torch.tensor([row]), KEY)[0], whole[place])


@pytest.mark.parametrize("p", [0.1, 0.6])
def test_dropout_keeps_the_mean(p: float) -> None:
    h, rows = torch.full((4000, 10), 3.0), torch.arange(4000)
    dropped = KeyedDropout(p)(h, rows, KEY)
    assert float((dropped == 0).float().mean()) == pytest.approx(p, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(3, rel=0.03)
    torch.testing.assert_close(dropped[dropped != 0], torch.full_like(dropped[dropped != 0], 3 / (1 - p)))


def test_keys_give_independent_masks() -> None:
    h, rows, layer = torch.ones(4000, 10), torch.arange(4000), KeyedDropout(0.5)
    one, other = (layer(h, rows, key) == 0 for key in (KEY.child(0), KEY.child(1)))
    assert float((one & other).float().mean()) == pytest.approx(0.25, abs=0.01)


def test_the_key_decides_not_the_mode() -> None:
    h, rows, layer = torch.ones(5, 3), torch.arange(5), KeyedDropout(0.5)
    assert layer.train()(h, rows, None) is h
    assert torch.equal(layer.eval()(h, rows, KEY), layer.train()(h, rows, KEY))
    assert KeyedDropout(0.0)(h, rows, KEY) is h


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_dropout_refuses(p: float) -> None:
    with pytest.raises(ValueError, match=rf"dropout.*{p}"):
        KeyedDropout(p)


def test_feature_linear_is_a_product() -> None:
    x = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
    edges, mask = torch.tensor([[0], [1]]), torch.tensor([1.0, 0.0, 0.5])
    for features in (x, Features.of(x.to_sparse())):
        graph = Graph.from_edges(edges, 3, features)
        layer = FeatureLinear(graph.spec, 4)
        torch.testing.assert_close(layer(graph), x @ layer.weight)
        torch.testing.assert_close(layer(replace(graph, feature_mask=mask)), (x * mask) @ layer.weight)


def test_without_features_it_is_an_embedding() -> None:
    graph = Graph.from_edges(torch.tensor([[0], [1]]), 400)
    layer = FeatureLinear(graph.spec, 16)
    assert torch.equal(layer(graph), layer.weight)
    assert float(layer(graph).detach().norm(dim=1).mean()) == pytest.approx(1, abs=0.1)
    part = replace(Graph.from_edges(torch.tensor([[0], [1]]), 2), node_ids=torch.tensor([7, 3]))
    assert torch.equal(layer(part), layer.weight[[7, 3]])


def test_feature_linear_refuses_other_features() -> None:
    edges = torch.tensor([[0], [1]])
    layer = FeatureLinear(Graph.from_edges(edges, 3, torch.ones(3, 2)).spec, 4)
    for other in (
        Graph.from_edges(edges, 3),
        Graph.from_edges(edges, 3, torch.ones(3, 5)),
        Graph.from_edges(edges, 4, torch.ones(4, 2)),
    ):
        with pytest.raises(ValueError, match="built for"):
            layer(other)


@pytest.mark.parametrize("num_nodes", [40, 8, 5])
def test_embeddings_begin_orthogonal(num_nodes: int) -> None:
    weight = NodeEmbedding(num_nodes, 8).double().weight.detach()
    small, scale = (weight.t() @ weight, num_nodes / 8) if num_nodes > 8 else (weight @ weight.t(), 1.0)
    torch.testing.assert_close(small, scale * torch.eye(len(small), dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert float(weight.square().sum(1).mean()) == pytest.approx(1, abs=1e-5)


def test_tables_are_embeddings_whatever_the_features() -> None:
    layers = [FeatureLinear(GraphSpec(3, 2), 4), FeatureLinear(GraphSpec(3), 4), NodeEmbedding(3, 4)]
    assert [id(table) for table in tables_of(torch.nn.ModuleList(layers))] == [id(one.weight) for one in layers[1:]]
