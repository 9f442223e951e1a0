"""Likeness of features round pairs against a slow reference, with and without an edge between the two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl import progress
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.surroundings import SurroundingsCosine
from mebns_pl.graph.pair_features import feature_table, pair_features
from mebns_pl.graph.sparse import Features
from references import pair_features as reference
from references.proximity import adjacency, different_nodes
from references.step import NUM_NODES, make_edges, make_features


@st.composite
def graphs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Adjacency, features (nodes without any among them), and edges."""
    num_nodes, num_features = draw(st.integers(2, 9)), draw(st.integers(1, 5))
    pairs = [(a, b) for a in range(num_nodes) for b in range(a + 1, num_nodes)]
    edges = np.array(draw(st.lists(st.sampled_from(pairs), unique=True, max_size=20)), dtype=np.int64).reshape(-1, 2).T
    values = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.5, -1.0]), min_size=num_features, max_size=num_features)
    x = np.array(draw(st.lists(values, min_size=num_nodes, max_size=num_nodes)))
    return adjacency(edges, num_nodes), x, torch.from_numpy(np.ascontiguousarray(edges))


@given(case=graphs(), sparse=st.booleans())
def test_they_equal_the_reference(case: tuple[np.ndarray, np.ndarray, torch.Tensor], sparse: bool) -> None:
    a, x, edges = case
    features = torch.from_numpy(x).float()
    graph = Graph.from_edges(edges, len(a), x=Features.of(features.to_sparse()) if sparse else features)
    pairs = different_nodes(len(a))
    found = pair_features(feature_table(graph), pairs)
    expected = [reference.pair_features(a, x, u, v) for u, v in pairs.t().tolist()]
    np.testing.assert_allclose(found.numpy(), np.array(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(pair_features(feature_table(graph), pairs.flip(0)), found)


def test_edges_left_out_do_not_count() -> None:
    edges, x = make_edges(), make_features("sparse")
    graph, fewer = Graph.from_edges(edges, NUM_NODES, x), Graph.from_edges(edges[:, 5:], NUM_NODES, x)
    pairs = different_nodes(NUM_NODES)
    without = pair_features(feature_table(graph.without(edges[:, :5])), pairs)
    assert torch.equal(without, pair_features(feature_table(fewer), pairs))
    assert not torch.equal(without, pair_features(feature_table(graph), pairs))


def test_the_heuristic_is_the_last_of_them() -> None:
    graph = Graph.from_edges(make_edges(), NUM_NODES, make_features("sparse"))
    source, target = different_nodes(NUM_NODES)
    found = SurroundingsCosine().pairs(graph, source, target)
    assert torch.equal(found, pair_features(feature_table(graph), torch.stack([source, target]))[:, 2])
    with pytest.raises(ValueError, match="it has no node features"):
        SurroundingsCosine().pairs(Graph.from_edges(make_edges(), NUM_NODES), source, target)


def test_features_left_out_do_not_count() -> None:
    x = make_features("dense")
    keep = torch.arange(x.shape[1]) % 2 > 0
    graph, pairs = Graph.from_edges(make_edges(), NUM_NODES, x), different_nodes(NUM_NODES)
    found = pair_features(feature_table(graph.masked_features(keep)), pairs)
    expected = pair_features(feature_table(Graph.from_edges(make_edges(), NUM_NODES, x[:, keep])), pairs)
    torch.testing.assert_close(found, expected)


def test_pairs_and_threads_do_not_matter_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    table = feature_table(Graph.from_edges(make_edges(), NUM_NODES, make_features("sparse")))
    pairs = different_nodes(NUM_NODES)
    found = pair_features(table, pairs)
    for place in (0, 77, 450):
        assert torch.equal(pair_features(table, pairs[:, place : place + 1])[0], found[place])
    monkeypatch.setattr(progress, "num_threads", lambda: 3)
    assert torch.equal(pair_features(table, pairs), found)
    assert pair_features(table, pairs[:, :0]).shape == (0, 3)


def test_refuses_a_graph_without_features() -> None:
    with pytest.raises(ValueError, match=r"graph: it has no node features \(x is None\)"):
        feature_table(Graph.from_edges(make_edges(), NUM_NODES))
