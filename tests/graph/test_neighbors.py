"""Neighbour sampling: who may be drawn, that it depends on key and node alone, and how likely each neighbour is."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.neighbors import sample_neighbors, surroundings
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key
from references.effort import examples

KEY = Key(3, "tests/neighbors")


def make_graph(num_nodes: int = 40, num_edges: int = 120, seed: int = 0, x: object = None) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(num_nodes, (2, num_edges), generator=generator)
    edges[0, : num_edges // 4] = 0  # a hub
    return Graph.from_edges(edges[:, edges[0] != edges[1]], num_nodes, x)  # type: ignore[arg-type]


def neighbors(graph: Graph, left_out: Tensor) -> dict[int, set[int]]:
    """The slow way: sets of kept neighbours."""
    gone = {(a, b) for a, b in left_out.T.tolist()} | {(b, a) for a, b in left_out.T.tolist()}
    sets: dict[int, set[int]] = {node: set() for node in range(graph.num_nodes)}
    for source, target in graph.edge_index.T.tolist():
        if (source, target) not in gone:
            sets[target].add(source)
    return sets


def drawn(sample: Graph) -> dict[int, list[int]]:
    """node -> its row, in the numbers of the whole graph."""
    assert sample.node_ids is not None
    rows = [row.tolist() for row in sample.node_ids[sample.indices].split(sample.indptr.diff().tolist())]
    return dict(zip(sample.node_ids.tolist(), rows, strict=True))


@settings(max_examples=examples(60))
@given(
    seed=st.integers(0, 10**6),
    fan_out=st.integers(1, 9),
    num_hops=st.integers(1, 3),
    num_names=st.integers(0, 6),
    num_left_out=st.integers(0, 60),
    masked=st.booleans(),
)
def test_rows_hold_legal_neighbors(
    seed: int, fan_out: int, num_hops: int, num_names: int, num_left_out: int, masked: bool
) -> None:
    graph = make_graph(num_nodes=25, num_edges=60, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    if masked:
        graph = graph.dropped(torch.rand(graph.num_edges // 2, generator=generator) < 0.6)
    left_out = torch.randint(25, (2, num_left_out), generator=generator)
    left_out = left_out[:, left_out[0] != left_out[1]]
    names = torch.randint(25, (num_names,), generator=generator)
    sample, places = sample_neighbors(graph, names, fan_out, num_hops, KEY, left_out)
    legal, rows = neighbors(graph, left_out), drawn(sample)
    assert sample.node_ids is not None
    assert sample.sampled is not None
    assert sample.node_ids[places].tolist() == names.tolist()
    assert sample.degree.tolist() == [len(legal[node]) for node in sample.node_ids.tolist()]
    reached = set(names.tolist())
    for _ in range(num_hops):
        for node in sorted(reached):
            assert len(rows[node]) == len(set(rows[node])) == min(fan_out, len(legal[node]))
            assert set(rows[node]) <= legal[node]
            assert rows[node] == sorted(rows[node])
        reached |= {other for node in reached for other in rows[node]}
    assert set(rows) == reached
    # the transposed adjacency
    ones = torch.ones(sample.num_edges)
    size = (sample.num_nodes, sample.num_nodes)
    as_csr = functools.partial(torch.sparse_csr_tensor, values=ones, size=size, check_invariants=False)
    matrix = as_csr(sample.indptr, sample.indices).to_dense()
    turned = torch.sparse_csr_tensor(
        sample.sampled.indptr, sample.sampled.indices, ones, size, check_invariants=False
    ).to_dense()
    assert torch.equal(matrix.T, turned)


def test_draws_depend_on_key_and_node_alone() -> None:
    graph = make_graph(num_edges=400)
    whole = drawn(sample_neighbors(graph, torch.arange(40), 3, 1, KEY)[0])
    for names in (torch.tensor([7, 0, 31]), torch.tensor([0])):
        part = drawn(sample_neighbors(graph, names, 3, 2, KEY)[0])
        for node, row in part.items():
            assert not row or row == whole[node]
    other = drawn(sample_neighbors(graph, torch.arange(40), 3, 1, KEY.at(0, 1))[0])
    assert sum(other[node] != whole[node] for node in other) > 20


@pytest.mark.parametrize("masked", [False, True])
def test_every_neighbor_is_equally_likely(masked: bool) -> None:
    """3 of 9 neighbours of a hub, two of its edges left out; 3,000 keys."""
    star = Graph.from_edges(torch.stack([torch.zeros(12, dtype=torch.int64), torch.arange(1, 13)]), 13)
    if masked:
        star = star.without(torch.tensor([[0], [12]]))
    left_out = torch.tensor([[0, 4], [1, 0]] if masked else [[0, 4, 0], [1, 0, 12]])
    counts = np.zeros(13)
    for step in range(3000):
        sample, _ = sample_neighbors(star, torch.tensor([0]), 3, 1, KEY.at(0, step), left_out)
        assert sample.node_ids is not None
        np.add.at(counts, sample.node_ids[sample.indices].numpy(), 1)
    assert counts[[0, 1, 4, 12]].sum() == 0
    legal = counts[[2, 3, 5, 6, 7, 8, 9, 10, 11]]
    assert legal.sum() == 9000
    # 1,000 each; the variance of one is 3000 * 1/3 * 2/3
    assert np.abs(legal - 1000).max() < 5 * (3000 * 2 / 9) ** 0.5


def test_neighbor_sum_is_unbiased() -> None:
    graph = make_graph(num_edges=300)
    h = torch.randn(40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, total = graph.neighbor_sum(h)[0], torch.zeros(5, dtype=torch.float64)
    sums = []
    for step in range(2000):
        sample, places = sample_neighbors(graph, torch.tensor([0]), 4, 1, KEY.at(0, step))
        assert sample.node_ids is not None
        sums.append(sample.neighbor_sum(h[sample.node_ids])[places[0]])
    total = torch.stack(sums)
    assert ((total.mean(0) - expected).abs() < 5 * total.std(0) / 2000**0.5).all()


def test_surroundings_are_all_neighbors() -> None:
    graph = make_graph()
    block = surroundings(graph, torch.tensor([5, 0]))
    assert block.node_ids is not None
    assert block.node_ids[:2].tolist() == [5, 0]
    legal = neighbors(graph, torch.empty(2, 0, dtype=torch.int64))
    rows = drawn(block)
    assert (set(rows[5]), set(rows[0])) == (legal[5], legal[0])


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_features_are_those_of_the_nodes(kind: str) -> None:
    dense = torch.randn(40, 7, generator=torch.Generator().manual_seed(2)).relu()
    graph = make_graph(x=dense if kind == "dense" else Features.of(dense.to_sparse()))
    sample, _ = sample_neighbors(graph, torch.tensor([3, 9, 3]), 2, 2, KEY)
    x = sample.x if isinstance(sample.x, Tensor) else sample.x.to_dense()  # type: ignore[union-attr]
    assert torch.equal(x, dense[sample.node_ids])
    if isinstance(sample.x, Features):
        assert torch.equal(sample.x.transposed.to_dense(), dense[sample.node_ids].T)


def test_a_graph_without_edges() -> None:
    graph = Graph.from_edges(torch.empty(2, 0, dtype=torch.int64), 4)
    sample, places = sample_neighbors(graph, torch.tensor([2, 2]), 3, 2, KEY, torch.tensor([[0], [1]]))
    assert (sample.num_nodes, sample.num_edges, places.tolist()) == (1, 0, [0, 0])
    assert sample.neighbor_sum(torch.ones(1, 2)).tolist() == [[0, 0]]


@pytest.mark.parametrize(("fan_out", "num_hops"), [(0, 1), (1, 0)])
def test_refuses(fan_out: int, num_hops: int) -> None:
    with pytest.raises(ValueError, match=r"(fan_out|num_hops): expected 1 or more, got 0"):
        sample_neighbors(make_graph(), torch.tensor([0]), fan_out, num_hops, KEY)
