"""Known edges against sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges, _filter_place
from references.negatives import legal_nodes


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    num_nodes = draw(st.integers(1, 8))
    everything = [(a, b) for a in range(num_nodes) for b in range(a + 1, num_nodes)]
    chosen = draw(st.lists(st.booleans(), min_size=len(everything), max_size=len(everything)))
    return num_nodes, [pair for pair, is_edge in zip(everything, chosen, strict=True) if is_edge]


def build(num_nodes: int, edges: list[tuple[int, int]]) -> KnownEdges:
    return KnownEdges(Graph.from_edges(torch.tensor(edges, dtype=torch.int64).view(-1, 2).t(), num_nodes))


@given(graph=graphs())
def test_mask_is_membership(graph: tuple[int, list[tuple[int, int]]]) -> None:
    num_nodes, edges = graph
    nodes = torch.arange(num_nodes)
    legal = [
        [target in legal_nodes(edges, num_nodes, source) for target in range(num_nodes)] for source in range(num_nodes)
    ]
    assert (~build(num_nodes, edges).mask(nodes[:, None], nodes)).tolist() == legal


def test_a_filter_that_is_made_when_it_pays_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(700, (2, 4000), generator=generator)
    graph = Graph.from_edges(ends[:, ends[0] < ends[1]], 700)
    edges, asked = set(map(tuple, graph.edge_index.t().tolist())), torch.randint(700, (2, 500), generator=generator)
    expected = [pair in edges or pair[0] == pair[1] for pair in map(tuple, asked.t().tolist())]
    known = KnownEdges(graph)
    assert known.mask(*asked[:, :400]).tolist() == expected[:400]
    assert "_filter" not in known.__dict__
    assert known.mask(*asked).tolist() == expected
    assert "_filter" in known.__dict__
    assert bool(known.mask(*graph.edge_index).all())
    assert known._filter.nbytes <= 2 * graph.num_edges


@pytest.mark.parametrize("spread", [1, 97, 1024])
def test_the_filter_lets_few_pairs_through_that_are_no_edges(spread: int) -> None:
    """Two bits of a word to at least eight for each edge; also where node numbers have a pattern."""
    nodes = spread * torch.arange(500)
    places = torch.arange(500 * 500)[torch.rand(500 * 500, generator=torch.Generator().manual_seed(1)) < 0.04]
    source, target = nodes[places // 500], nodes[places % 500]
    graph = Graph.from_edges(torch.stack([source, target])[:, source < target], spread * 500)
    known = KnownEdges(graph)
    words, is_edge = known._filter.numpy().view(np.uint64), known.listed(nodes[:, None], nodes)
    num_nodes, num_words = np.uint64(graph.num_nodes), np.uint64(len(words))

    def passes(row: int, other: int) -> bool:
        place, bits = _filter_place(np.uint64(row), np.uint64(other), num_nodes, num_words)
        return bool(words[place] & bits == bits)

    others = [(row, other) for row, other in nodes[(~is_edge).nonzero()[::40]].tolist()]
    assert sum(passes(*pair) for pair in others) < 0.07 * len(others)
    assert all(passes(*pair) for pair in graph.edge_index.t().tolist())


@given(graph=graphs())
def test_legal_nodes_by_rank(graph: tuple[int, list[tuple[int, int]]]) -> None:
    num_nodes, edges = graph
    known = build(num_nodes, edges)
    for anchor in range(num_nodes):
        legal = legal_nodes(edges, num_nodes, anchor)
        assert int(known.num_legal(torch.tensor(anchor))) == len(legal)
        anchors = torch.full((len(legal),), anchor)
        assert known.legal_node(anchors, torch.arange(len(legal))).tolist() == legal


@given(graph=graphs(), data=st.data())
def test_a_row_is_searched_as_all_edges_are(graph: tuple[int, list[tuple[int, int]]], data: st.DataObject) -> None:
    """On the CPU a row, on other devices everything; transposed and broadcast arguments, too."""
    known, nodes = build(*graph), torch.arange(graph[0])
    source, target = nodes[:, None], nodes[None, :]
    for left, right in ((source, target), (target, source), (target.t(), nodes)):
        keys = left * graph[0] + right
        assert torch.equal(known.mask(left, right), known._known_anywhere(keys))
        rank = right.clamp(max=data.draw(st.integers(0, 8)))
        passed = known._passed_anywhere(left, left * (graph[0] + 1) + rank)
        assert torch.equal(known.legal_node(left, rank), rank + passed)


@pytest.mark.parametrize("degree", [1, 6, 7, 8, 9, 16, 17, 40, 59])
def test_rows_shorter_and_longer_than_what_is_compared_at_once(degree: int) -> None:
    """The hub's row is the first, one in the middle, or the last, so that a window of entries meets either end."""
    for hub in (0, 30, 59):
        others = torch.tensor([node for node in range(60) if node != hub])
        linked = others[torch.randperm(59, generator=torch.Generator().manual_seed(degree))[:degree]]
        edges = [(hub, node) for node in linked.tolist()]
        known, nodes = build(60, edges), torch.arange(60)
        for anchor in (0, hub, 29, 59):
            legal = legal_nodes(edges, 60, anchor)
            assert (~known.mask(torch.tensor(anchor), nodes)).nonzero().flatten().tolist() == legal
            assert known.legal_node(torch.full((len(legal),), anchor), torch.arange(len(legal))).tolist() == legal


@given(graph=graphs(), seed=st.integers(0, 2**31))
def test_uniform_draws_are_the_legal_nodes_of_random_ranks(graph: tuple[int, list[tuple[int, int]]], seed: int) -> None:
    num_nodes, edges = graph
    anchors = torch.arange(num_nodes)[:, None].expand(-1, 3)
    drawn = build(num_nodes, edges).legal_nodes(anchors, torch.Generator().manual_seed(seed))
    words = torch.randint(2**63 - 1, anchors.shape, generator=torch.Generator().manual_seed(seed))
    for anchor in range(num_nodes):
        # a node linked to all others is given the last one
        legal = legal_nodes(edges, num_nodes, anchor) or [num_nodes - 1]
        assert drawn[anchor].tolist() == [legal[word % len(legal)] for word in words[anchor].tolist()]


@given(graph=graphs())
def test_blocked_is_all_that_is_not_legal(graph: tuple[int, list[tuple[int, int]]]) -> None:
    num_nodes, edges = graph
    indptr, indices = build(num_nodes, edges).blocked()
    for anchor in range(num_nodes):
        blocked = sorted(set(range(num_nodes)) - set(legal_nodes(edges, num_nodes, anchor)))
        assert indices[indptr[anchor] : indptr[anchor + 1]].tolist() == blocked


def test_shapes_are_kept() -> None:
    known = build(5, [(0, 1), (1, 2)])
    anchors = torch.tensor([[0, 1, 2], [3, 4, 1]])
    assert known.legal_node(anchors, torch.zeros_like(anchors)).tolist() == [[2, 3, 0], [0, 0, 3]]
    assert known.mask(anchors, torch.tensor(1)).tolist() == [[True, True, True], [False, False, True]]
    assert known.num_legal(anchors).tolist() == [[3, 2, 3], [4, 4, 2]]


def test_a_moved_copy_knows_the_same() -> None:
    known = build(5, [(0, 1), (1, 2)])
    other, nodes = known.to("cpu"), torch.arange(5)
    assert torch.equal(other.mask(nodes[:, None], nodes), known.mask(nodes[:, None], nodes))
    assert torch.equal(other.legal_node(nodes, nodes * 0), known.legal_node(nodes, nodes * 0))
    assert torch.equal(other.num_legal(nodes), known.num_legal(nodes))


def test_a_masked_graph_is_known_as_a_whole() -> None:
    """What is left out of message passing is an edge all the same."""
    graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), 4)
    known = KnownEdges(graph.without(torch.tensor([[0], [1]])))
    assert known.mask(torch.tensor([0]), torch.tensor([1])).tolist() == [True]


def test_large_node_numbers_do_not_overflow() -> None:
    num_nodes = 10**6
    edges = torch.tensor([[0, num_nodes - 1], [num_nodes - 1, num_nodes - 2]])
    known = KnownEdges(Graph.from_edges(edges, num_nodes))
    last = torch.tensor([num_nodes - 1])
    assert known.mask(last, torch.tensor([0, 1, num_nodes - 1])).tolist() == [True, False, True]
    assert known.legal_node(last, torch.tensor([0, num_nodes - 4])).tolist() == [1, num_nodes - 3]
