"""Enclosing subgraphs against networkx on thousands of small graphs, and what they must hold."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl.graph.csr import Graph, Sampled
from mebns_pl.graph.subgraph import Subgraphs, enclosing_subgraphs
from references import subgraph as reference


def graph_of(networkx_graph: nx.Graph) -> Graph:
    """The same graph, and isolated nodes of all the numbers below its own."""
    edges = torch.tensor(list(networkx_graph.edges), dtype=torch.long).reshape(-1, 2).t()
    return Graph.from_edges(edges, max(networkx_graph) + 1)


def pairs_of(*pairs: tuple[int, int]) -> torch.Tensor:
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()


def assert_equal(found: Subgraphs, graph: nx.Graph, pairs: torch.Tensor, num_hops: int, limit: int | None = None):
    """Every pair's subgraph is that of the reference, and the arrays are laid out as promised."""
    assert_well_formed(found)
    assert found.num_pairs == pairs.shape[1]
    nodes, ptr = found.nodes.tolist(), found.ptr.tolist()
    edges = [[] for _ in range(found.num_pairs)]
    for pair, a, b in zip(found.batch[found.edge_index[1]].tolist(), *found.edge_index.tolist(), strict=True):
        edges[pair].append((nodes[a], nodes[b]))
    for i, (source, target) in enumerate(pairs.t().tolist()):
        expected = reference.enclosing(graph, source, target, num_hops, limit)
        own = nodes[ptr[i] : ptr[i + 1]]
        ends = [source] if source == target else [source, target]
        assert own[: len(ends)] == ends
        assert len(own) == len(expected.nodes)
        assert set(own) == expected.nodes
        assert len(edges[i]) == len(expected.edges)
        assert set(edges[i]) == expected.edges
        assert dict(zip(own, found.labels[ptr[i] : ptr[i + 1]].tolist(), strict=True)) == expected.labels


def assert_well_formed(found: Subgraphs):
    for array in (found.ptr, found.nodes, found.labels, found.indptr, found.indices):
        assert array.dtype == torch.int64
        assert array.dim() == 1
    num_nodes, num_edges = found.nodes.numel(), found.indices.numel()
    assert found.ptr[0] == 0
    assert found.ptr[-1] == num_nodes == found.labels.numel()
    assert found.indptr[0] == 0
    assert found.indptr[-1] == num_edges
    assert found.indptr.numel() == num_nodes + 1
    rows = torch.repeat_interleave(torch.arange(num_nodes), found.indptr.diff())
    keys = rows * max(1, num_nodes) + found.indices
    assert bool((keys.diff() > 0).all())  # ascending in each row, no edge twice
    mirrored = found.indices * max(1, num_nodes) + rows
    assert torch.equal(mirrored.sort().values, keys)
    assert torch.equal(found.batch[rows], found.batch[found.indices])


def assert_same(a: Subgraphs, b: Subgraphs):
    for name in ("ptr", "nodes", "labels", "indptr", "indices"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def random_graph(rng: np.random.Generator) -> nx.Graph:
    """2 to 14 nodes of any density, sometimes with a hub, often in parts and with isolated nodes."""
    num_nodes = int(rng.integers(2, 15))
    graph = nx.gnp_random_graph(num_nodes, float(rng.choice([0.05, 0.15, 0.3, 0.6])), seed=int(rng.integers(2**31)))
    if rng.random() < 0.3:
        graph.add_edges_from((0, node) for node in range(1, num_nodes) if rng.random() < 0.9)
    return graph


def many_graphs(rng: np.random.Generator, count: int, first: int = 0) -> tuple[nx.Graph, torch.Tensor]:
    """Random graphs as one, its nodes numbered from ``first`` on, and four pairs of each graph and some across."""
    graphs = [random_graph(rng) for _ in range(count)]
    whole = nx.convert_node_labels_to_integers(nx.disjoint_union_all(graphs), first_label=first)
    sizes = np.array([graph.number_of_nodes() for graph in graphs])
    starts = first + np.cumsum(sizes) - sizes
    own = [start + rng.integers(size, size=(4, 2)) for start, size in zip(starts, sizes, strict=True)]
    across = first + rng.integers(whole.number_of_nodes(), size=(50, 2))
    return whole, torch.from_numpy(np.concatenate([*own, across])).t()


@pytest.mark.parametrize("num_hops", [0, 1, 2, 3])
@pytest.mark.parametrize("limit", [None, 1, 2, 4])
def test_thousands_of_random_graphs(num_hops, limit):
    whole, pairs = many_graphs(np.random.default_rng([num_hops, limit or 0]), 130)
    found = enclosing_subgraphs(graph_of(whole), pairs, num_hops, limit)
    assert_equal(found, whole, pairs, num_hops, limit)
    labels = set(found.labels.tolist())
    assert labels >= ({1, 2, 0} if num_hops else {1})


@pytest.mark.parametrize("limit", [None, 2])
def test_graphs_of_many_nodes(limit):
    """Numbers that no 16 bits hold."""
    whole, pairs = many_graphs(np.random.default_rng(7), 60, first=70_000)
    for num_hops in (1, 3):
        found = enclosing_subgraphs(graph_of(whole), pairs, num_hops, limit)
        assert_equal(found, whole, pairs, num_hops, limit)


@pytest.mark.parametrize("first", [0, 70_000])
@pytest.mark.parametrize("limit", [None, 3])
def test_rows_much_longer_than_the_subgraph(first, limit):
    """Two hubs of 200 leaves each, one linked to the other: as far nodes of a subgraph they are searched, not read."""
    leaves = [*((0, leaf) for leaf in range(10, 210)), *((1, leaf) for leaf in range(200, 400))]
    whole = nx.convert_node_labels_to_integers(nx.empty_graph(401), first_label=first)
    whole.add_edges_from((first + a, first + b) for a, b in [*leaves, (1, 0), (0, 2), (2, 3), (3, 4), (4, 5)])
    pairs = first + pairs_of((2, 3), (3, 2), (10, 11), (10, 400), (205, 206), (205, 205), (0, 1), (0, 0), (0, 10))
    gone = first + pairs_of((0, 205), (1, 0), (2, 3))
    fewer = nx.Graph(whole)
    fewer.remove_edges_from(gone.t().tolist())
    for num_hops in (1, 2):
        found = enclosing_subgraphs(graph_of(whole), pairs, num_hops, limit)
        assert_equal(found, whole, pairs, num_hops, limit)
        found = enclosing_subgraphs(graph_of(whole).without(gone), pairs, num_hops, limit)
        assert_equal(found, fewer, pairs, num_hops, limit)


@pytest.mark.parametrize("first", [0, 70_000])
def test_edges_left_out_do_not_exist(first):
    whole, pairs = many_graphs(np.random.default_rng(3), 60, first)
    graph = graph_of(whole)
    gone = graph.edge_index[:, ::3]
    fewer = nx.Graph(whole)
    fewer.remove_edges_from(gone.t().tolist())
    assert_equal(enclosing_subgraphs(graph.without(gone), pairs, 2), fewer, pairs, 2)


def test_larger_subgraphs():
    """Hundreds of nodes with cycles and a tail: buffers grow, labels grow, searches have many levels."""
    rng = np.random.default_rng(5)
    whole = nx.disjoint_union(nx.barabasi_albert_graph(300, 4, seed=1), nx.cycle_graph(90))
    nx.add_path(whole, [0, *range(390, 420)])
    pairs = torch.from_numpy(rng.integers(420, size=(8, 2))).t()
    pairs = torch.cat([pairs, pairs_of((300, 301), (340, 340), (0, 1), (419, 400))], dim=1)
    graph = graph_of(whole)
    for num_hops in (2, 40):
        assert_equal(enclosing_subgraphs(graph, pairs, num_hops), whole, pairs, num_hops)


def test_labels_of_the_paper():
    """Figure 2's rule by hand: (1, 1) has 2, (1, 2) has 3, (1, 3) has 4, (2, 2) has 5, (2, 3) has 6."""
    edges = torch.tensor([[0, 2], [2, 1], [0, 3], [3, 4], [4, 1], [3, 5], [5, 6], [6, 1], [7, 0]]).t()
    found = enclosing_subgraphs(Graph.from_edges(edges, 8), pairs_of((0, 1)), 2)
    assert dict(zip(found.nodes.tolist(), found.labels.tolist(), strict=True)) == {
        0: 1, 1: 1, 2: 2, 3: 3, 4: 3, 5: 5, 6: 4, 7: 0,
    }  # fmt: skip


@pytest.mark.parametrize("limit", [None, 2])
def test_nodes_stand_in_the_order_in_which_hops_find_them(limit):
    """Sums over neighbours are made in this order, so that their last bits depend on it."""
    whole, pairs = many_graphs(np.random.default_rng(13), 60)
    graph = graph_of(whole)
    found = enclosing_subgraphs(graph, pairs, 2, limit)
    for i, (source, target) in enumerate(pairs.t().tolist()):
        own = found.nodes[found.ptr[i] : found.ptr[i + 1]].tolist()
        rows = [graph.indices[graph.indptr[node] : graph.indptr[node + 1]].tolist() for node in own]
        ends = [source] if source == target else [source, target]
        assert own == [node for node in dict.fromkeys(ends + [node for row in rows for node in row]) if node in own]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_edges_and_nodes_know_their_rows(counts):
    """Rows of any length, none at all too, wherever they stand: what is written beyond one is written over."""
    starts = torch.tensor([0, *counts]).cumsum(0)
    found = Subgraphs(starts, starts.new_zeros(sum(counts)), starts.new_zeros(0), starts, starts.new_zeros(sum(counts)))
    expected = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    assert torch.equal(found.batch, expected)
    assert torch.equal(found.edge_index[1], expected)


@pytest.mark.parametrize("limit", [None, 2])
def test_a_pair_does_not_depend_on_the_others_or_on_threads(limit):
    whole, pairs = many_graphs(np.random.default_rng(11), 100)
    graph = graph_of(whole)
    found = enclosing_subgraphs(graph, pairs, 2, limit)
    for threads in (1, 2, 5):
        assert_same(found, enclosing_subgraphs(graph, pairs, 2, limit, threads=threads))
    for place in (0, 33, 449):
        alone = enclosing_subgraphs(graph, pairs[:, place : place + 1], 2, limit)
        assert_same(alone, found.select(torch.tensor([place])))
    turned = enclosing_subgraphs(graph, pairs.flip(0), 2, limit)
    for i in range(found.num_pairs):
        own, other = (set(s.nodes[s.ptr[i] : s.ptr[i + 1]].tolist()) for s in (found, turned))
        assert own == other


def test_no_pairs_and_no_edges():
    nothing = enclosing_subgraphs(Graph.from_edges(pairs_of(), 3), pairs_of())
    assert_well_formed(nothing)
    assert nothing.num_pairs == 0
    assert_same(nothing, nothing.select(slice(None)))
    bare = enclosing_subgraphs(Graph.from_edges(pairs_of(), 3), pairs_of((0, 1), (2, 2)))
    assert_equal(bare, nx.empty_graph(3), pairs_of((0, 1), (2, 2)), 1)


class TestSelect:
    @pytest.fixture
    def graph(self) -> Graph:
        return graph_of(nx.gnp_random_graph(30, 0.15, seed=4))

    @pytest.fixture
    def pairs(self) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(4).integers(30, size=(2, 20)))

    @pytest.mark.parametrize(
        "index",
        [
            torch.tensor([3, 0, 3, 19, -1]),
            torch.zeros(0, dtype=torch.long),
            torch.arange(20) % 3 == 0,
            slice(None),
            slice(15, 2, -4),
            slice(18, 40),
        ],
        ids=str,
    )
    def test_it_is_what_those_pairs_give(self, graph, pairs, index):
        places = torch.from_numpy(np.arange(20)[index if isinstance(index, slice) else index.numpy()].copy())
        selected = enclosing_subgraphs(graph, pairs).select(index)
        assert_same(selected, enclosing_subgraphs(graph, pairs[:, places]))
        assert_well_formed(selected)

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            (torch.tensor([0, 20]), "index: got 20; allowed are -20 ... 19"),
            (torch.tensor([-21]), "index: got -21; allowed are"),
            (torch.ones(19, dtype=torch.bool), r"index: got a mask of shape \(19,\); allowed is \(20,\)"),
            (torch.tensor([0.5]), "index: got torch.float32"),
        ],
    )
    def test_refusals(self, graph, pairs, index, message):
        with pytest.raises(ValueError, match=message):
            enclosing_subgraphs(graph, pairs).select(index)

    def test_edge_index_on_another_device_is_the_same(self, graph, pairs):
        found = enclosing_subgraphs(graph, pairs)
        assert found.to("meta").edge_index.shape == found.edge_index.shape
        with pytest.raises(ValueError, match="the subgraphs: got tensors on meta; allowed is the CPU"):
            found.to("meta").select(slice(None))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": pairs_of((0, 30))}, "pairs: got nodes 0 ... 30; allowed are 0 ... 29"),
        ({"pairs": pairs_of((-1, 3))}, "pairs: got nodes -1 ... 3"),
        ({"pairs": torch.zeros(3, 2, dtype=torch.long)}, r"pairs: got torch.int64 of shape \(3, 2\)"),
        ({"pairs": torch.zeros(2, 3)}, "pairs: got torch.float32"),
        ({"pairs": torch.zeros(2, 3, dtype=torch.long, device="meta")}, "pairs: got tensors on meta"),
        ({"num_hops": -1}, "num_hops: expected 0 or more, got -1"),
        ({"max_nodes_per_hop": 0}, "max_nodes_per_hop: expected 1 or more or null, got 0"),
        ({"threads": 0}, "threads: expected 1 or more or null, got 0"),
    ],
)
def test_refusals(tiny_graph, arguments, message):
    with pytest.raises(ValueError, match=message):
        enclosing_subgraphs(tiny_graph, **{"pairs": pairs_of((0, 1)), **arguments})


def test_a_graph_elsewhere_is_refused(tiny_graph):
    with pytest.raises(ValueError, match="graph: got tensors on meta; allowed is the CPU"):
        enclosing_subgraphs(tiny_graph.to("meta"), pairs_of((0, 1)))


def test_a_sample_is_refused(tiny_graph):
    """Its rows are not symmetric."""
    sample = replace(tiny_graph, sampled=Sampled(tiny_graph.degree, None, None))
    with pytest.raises(ValueError, match="graph: got a sample of neighbours; allowed is an undirected graph"):
        enclosing_subgraphs(sample, pairs_of((0, 1)))
