"""Numbers of the structure round pairs against a slow reference, with and without an edge between the two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl import progress
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.pair_structure import STRUCTURE, StructureTable, log_structure, pair_structure, structure_table
from references import pair_structure as reference
from references.proximity import adjacency, different_nodes


@st.composite
def graphs(draw: st.DrawFn) -> tuple[np.ndarray, Graph]:
    num_nodes = draw(st.integers(2, 10))
    pairs = [(a, b) for a in range(num_nodes) for b in range(a + 1, num_nodes)]
    edges = np.array(draw(st.lists(st.sampled_from(pairs), unique=True, max_size=25)), dtype=np.int64).reshape(-1, 2).T
    return adjacency(edges, num_nodes), Graph.from_edges(torch.from_numpy(np.ascontiguousarray(edges)), num_nodes)


@given(case=graphs())
def test_they_equal_the_reference(case: tuple[np.ndarray, Graph]) -> None:
    a, graph = case
    pairs = different_nodes(len(a))
    found = pair_structure(graph, pairs)
    expected = [reference.pair_structure(a, u, v) for u, v in pairs.t().tolist()]
    np.testing.assert_allclose(found.numpy(), np.array(expected, dtype=np.float32), rtol=1e-6)
    assert torch.equal(pair_structure(graph, pairs, num_hops=1), found[:, :5])
    assert torch.equal(pair_structure(graph, pairs.flip(0)), found)


def test_an_edge_has_the_numbers_that_it_would_have_if_it_were_missing(tiny_graph: Graph) -> None:
    """But for the degrees of the nodes between: none of them is an end of the edge."""
    edges = tiny_graph.edge_index[:, tiny_graph.edge_index[0] < tiny_graph.edge_index[1]]
    found = pair_structure(tiny_graph, edges)
    for place, edge in enumerate(edges.t()[:, :, None]):
        assert torch.equal(pair_structure(tiny_graph.without(edge), edge)[0], found[place])


def test_edges_left_out_do_not_count(tiny_graph: Graph) -> None:
    upper = tiny_graph.edge_index[:, tiny_graph.edge_index[0] < tiny_graph.edge_index[1]]
    fewer, pairs = Graph.from_edges(upper[:, 5:], tiny_graph.num_nodes), different_nodes(tiny_graph.num_nodes)
    masked = tiny_graph.without(upper[:, :5])
    assert torch.equal(pair_structure(masked, pairs), pair_structure(fewer, pairs))
    assert torch.equal(pair_structure(masked.with_targets(), pairs), pair_structure(tiny_graph, pairs))


def test_what_a_graph_keeps_is_found_once(tiny_graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the graph and whatever leaves targets out of it; edges taken for missing have numbers of their own."""
    made: list[Graph] = []

    def noted(graph: Graph) -> StructureTable:
        made.append(graph)
        return structure_table(graph)

    monkeypatch.setattr("mebns_pl.graph.pair_structure.structure_table", noted)
    graph = replace(tiny_graph, _shared={})
    upper, pairs = graph.edges, different_nodes(graph.num_nodes)
    found = pair_structure(graph, pairs)
    for hidden in (upper[:, :5], upper[:, 5:]):
        assert torch.equal(pair_structure(graph.without(hidden).with_targets(), pairs), found)
    assert torch.equal(pair_structure(graph, pairs, num_hops=1), found[:, :5])
    assert len(made) == 1
    fewer = pair_structure(Graph.from_edges(upper[:, 5:], graph.num_nodes), pairs)
    for other in (graph.without(upper[:, :5]), graph.dropped(torch.arange(upper.shape[1]) >= 5)):
        assert torch.equal(pair_structure(other, pairs), fewer)
    assert torch.equal(pair_structure(graph, pairs), found)
    assert len(made) == 4


def test_pairs_and_threads_do_not_matter_to_each_other(tiny_graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = different_nodes(tiny_graph.num_nodes)
    found = pair_structure(tiny_graph, pairs)
    for place in (0, 77, 450):
        assert torch.equal(pair_structure(tiny_graph, pairs[:, place : place + 1])[0], found[place])
    monkeypatch.setattr(progress, "num_threads", lambda: 3)
    assert torch.equal(pair_structure(tiny_graph, pairs), found)
    assert pair_structure(tiny_graph, pairs[:, :0]).shape == (0, 9)


def test_logarithms_by_name(tiny_graph: Graph) -> None:
    found = pair_structure(tiny_graph, different_nodes(tiny_graph.num_nodes))
    logs = log_structure(found)
    for column, name in enumerate(name for names in STRUCTURE.values() for name in names):
        scale = 100 if name in ("Adamic-Adar", "resource allocation", "paths of length three, weighted") else 1
        torch.testing.assert_close(logs[:, column], (scale * found[:, column]).log1p())
    assert torch.equal(log_structure(found[:, :5]), logs[:, :5])


def test_refuses_other_hops(tiny_graph: Graph) -> None:
    with pytest.raises(ValueError, match="num_hops: expected 1 or 2, got 3"):
        pair_structure(tiny_graph, torch.zeros(2, 0, dtype=torch.int64), num_hops=3)
