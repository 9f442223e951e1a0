"""Lists of PageRank, and the nodes near both ends of a pair, against dense inverses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mebns_pl.graph import near_nodes as module
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.near_nodes import PageRankTable, near_nodes, page_rank_of_ends, page_rank_table
from references.lpformer import near
from references.proximity import adjacency, pagerank
from references.step import NUM_NODES, make_edges

EXACT = PersonalizedPageRank(alpha=0.2, eps=1e-15)
LOW = (0.0, 1e-9, 1e-9)
EDGES = torch.cat([make_edges(), torch.tensor([[0], [23]])], dim=1)  # node 23 hangs by one edge
PAIRS = torch.cartesian_prod(torch.arange(NUM_NODES), torch.arange(NUM_NODES)).t()


def make_table(graph: Graph, measure: PersonalizedPageRank = EXACT, top: int = NUM_NODES) -> PageRankTable:
    return page_rank_table(graph, measure, top)


def test_lists_hold_the_highest() -> None:
    table, top = make_table(Graph.from_edges(EDGES, NUM_NODES), top=4), 4
    exact = pagerank(adjacency(EDGES.numpy(), NUM_NODES), 0.2)
    np.testing.assert_allclose(table.own, exact.diagonal(), rtol=1e-10)
    np.fill_diagonal(exact, 0)
    for node in range(NUM_NODES):
        part = slice(table.ptr[node], table.ptr[node + 1])
        assert sorted(set(table.nodes[part].tolist())) == table.nodes[part].tolist()
        np.testing.assert_allclose(table.ranks[part], exact[node, table.nodes[part]], rtol=1e-10)
        np.testing.assert_allclose(sorted(table.ranks[part]), np.sort(exact[node])[-top:], rtol=1e-10)
    assert table.nodes.nbytes + table.ranks.nbytes == 12 * top * NUM_NODES


def test_lists_of_some_nodes_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, some = Graph.from_edges(EDGES, NUM_NODES), torch.tensor([5, 23, 2])
    whole, part = make_table(graph), page_rank_table(graph, EXACT, NUM_NODES, some)
    monkeypatch.setattr(module, "slices", lambda size: [slice(0, 10), slice(10, size)])
    parts = make_table(graph)
    for name in ("ptr", "nodes", "ranks", "own"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    for place, node in enumerate(some.tolist()):
        here, there = (slice(one.ptr[i], one.ptr[i + 1]) for one, i in ((part, place), (whole, node)))
        np.testing.assert_array_equal(part.nodes[here], whole.nodes[there])
        np.testing.assert_array_equal(part.ranks[here], whole.ranks[there])


def test_nodes_equal_the_reference_without_the_pairs_edge() -> None:
    """Of linked pairs and others; of a node with itself; where nothing is left of a walk."""
    found = near_nodes(make_table(Graph.from_edges(EDGES, NUM_NODES)), PAIRS, PAIRS, NUM_NODES, (0.0, 0.01, 0.02))
    a = adjacency(EDGES.numpy(), NUM_NODES)
    for pair, (u, v) in enumerate(PAIRS.t().tolist()):
        low, high = min(u, v), max(u, v)
        expected = near(a, low, high, 0.2, (0.0, 0.01, 0.02))
        part = slice(int(found.sets.ptr[pair]), int(found.sets.ptr[pair + 1]))
        assert found.sets.members[part].tolist() == [node for node, *_ in expected]
        assert found.groups[part].tolist() == [group for _, group, *_ in expected]
        ranks = torch.tensor([row[2:] for row in expected], dtype=torch.float64).view(-1, 2)
        torch.testing.assert_close(found.ranks[part], ranks, rtol=1e-10, atol=1e-13)


def test_a_push_that_stops_early_and_lists_that_end_are_nearly_right() -> None:
    """Of what they hold, the error is of the order of the push's."""
    graph, a = Graph.from_edges(EDGES, NUM_NODES), adjacency(EDGES.numpy(), NUM_NODES)
    table = make_table(graph, PersonalizedPageRank(alpha=0.2, eps=1e-5), top=12)
    found = near_nodes(table, EDGES, EDGES, NUM_NODES, LOW)
    for pair, (u, v) in enumerate(EDGES.t().tolist()):
        exact = {node: ranks for node, _, *ranks in near(a, min(u, v), max(u, v), 0.2, (0.0, 0.0, 0.0))}
        for place in range(int(found.sets.ptr[pair]), int(found.sets.ptr[pair + 1])):
            expected = torch.tensor(exact.get(int(found.sets.members[place]), [0.0, 0.0]), dtype=torch.float64)
            torch.testing.assert_close(found.ranks[place], expected, rtol=0, atol=1e-3)


def test_page_rank_of_ends_equals_the_reference_without_the_pairs_edge() -> None:
    table = make_table(Graph.from_edges(EDGES, NUM_NODES))
    found, a = page_rank_of_ends(table, PAIRS, PAIRS), adjacency(EDGES.numpy(), NUM_NODES)
    for value, (u, v) in zip(found.tolist(), PAIRS.t().tolist(), strict=True):
        without = a.copy()
        without[u, v] = without[v, u] = 0
        exact = pagerank(without, 0.2)
        assert value == pytest.approx(0 if u == v else exact[u, v] + exact[v, u], rel=1e-9, abs=1e-12)
    assert torch.equal(found, page_rank_of_ends(table, PAIRS.flip(0), PAIRS.flip(0)))
    assert float(found[(torch.tensor([[0], [23]]) == PAIRS).all(dim=0)]) == pytest.approx(0, abs=1e-12)  # a bridge


def test_counts_and_selections() -> None:
    found = near_nodes(make_table(Graph.from_edges(EDGES, NUM_NODES)), PAIRS, PAIRS, NUM_NODES, LOW)
    some = found.select(torch.tensor([40, 3, 40]))
    assert torch.equal(some.counts, found.counts[[40, 3, 40]])
    assert torch.equal(found.counts.sum(1), found.sets.sizes)
    part = slice(int(found.sets.ptr[3]), int(found.sets.ptr[4]))
    here = slice(int(some.sets.ptr[1]), int(some.sets.ptr[2]))
    assert torch.equal(some.ranks[here], found.ranks[part])
    assert torch.equal(some.groups[here], found.groups[part])


def test_graphs_without_edges_have_no_near_nodes() -> None:
    for num_nodes in (1, 3):
        graph = Graph.from_edges(torch.empty(2, 0, dtype=torch.int64), num_nodes)
        pairs = torch.zeros(2, 2, dtype=torch.int64)
        assert near_nodes(make_table(graph), pairs, pairs, num_nodes, LOW).counts.tolist() == [[0, 0, 0]] * 2
