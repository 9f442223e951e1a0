from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl.datasets.catalog import load_graph
from mebns_pl.datasets.split import split_edges
from mebns_pl.errors import DataError
from mebns_pl.evaluation import negatives
from mebns_pl.evaluation.negatives import AbstractEvalNegatives, HeartNegatives, RandomNegatives, uniform_non_edges
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.cosine import FeatureCosine
from mebns_pl.graph.measures.neighbors import ResourceAllocation
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.keys import Key
from references import eval_negatives as reference

KEY = Key(3, "test")


@st.composite
def held_out(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, Graph]:
    """Positives, known edges and a training graph; no node is linked to all others."""
    num_nodes = draw(st.integers(4, 14))
    pairs = [(a, b) for a in range(num_nodes) for b in range(a + 1, num_nodes)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=2, max_size=30))
    degree = Counter(end for edge in edges for end in edge)
    num_nodes += max(degree.values()) == num_nodes - 1
    edges = torch.tensor(edges).t().contiguous()
    cut = draw(st.integers(1, edges.shape[1] - 1))
    x = torch.randn(num_nodes, 3, generator=torch.Generator().manual_seed(0)) if draw(st.booleans()) else None
    return edges[:, :cut], edges, Graph.from_edges(edges[:, cut:], num_nodes, x)


def pair_set(edges: torch.Tensor) -> set[tuple[int, int]]:
    return {tuple(sorted(pair)) for pair in edges.t().tolist()}


@given(case=held_out(), num=st.integers(1, 12))
def test_random_negatives_are_legal_and_distinct(case, num):
    positives, known, graph = case
    made = RandomNegatives(num).generate(positives, graph, known, KEY)
    assert made.shape == (2, positives.shape[1], num)
    assert made.dtype == torch.int64
    half = (num + 1) // 2
    for row, (u, v) in enumerate(positives.t().tolist()):
        source, target = made[:, row].tolist()
        assert source[:half] == [u] * half
        assert target[half:] == [v] * (num - half)
        reference.check_half(target[:half], reference.legal_nodes(pair_set(known), graph.num_nodes, u), [])
        reference.check_half(source[half:], reference.legal_nodes(pair_set(known), graph.num_nodes, v), [])


@given(case=held_out(), num=st.integers(1, 12), block=st.integers(1, 5))
def test_rows_of_other_nodes_change_no_negative(case, num, block):
    positives, known, graph = case
    hows = RandomNegatives(num), HeartNegatives(num)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "BLOCK", block)
        found = [how.generate(positives, graph, known, KEY) for how in hows]
        pairs = uniform_non_edges(num, graph.num_nodes, known, KEY)
        patch.setattr(negatives, "edges_at", lambda nodes, edges, num_nodes: edges)
        assert all(
            torch.equal(how.generate(positives, graph, known, KEY), made) for how, made in zip(hows, found, strict=True)
        )
        assert torch.equal(uniform_non_edges(num, graph.num_nodes, known, KEY), pairs)


@given(case=held_out(), block=st.integers(1, 5))
def test_degrees_of_repeated_edges_are_those_of_their_graph(case, block):
    positives, known, graph = case
    several = torch.cat([known, positives.flip(0)], dim=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "BLOCK", block)
        assert torch.equal(
            negatives.degrees(several, graph.num_nodes), Graph.from_edges(several, graph.num_nodes).degree
        )


def test_degrees_of_nodes_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"node numbers must be in 0 ... 1, got 0 ... 2"):
        negatives.degrees(torch.tensor([[0], [2]]), 2)


@given(case=held_out(), num=st.integers(1, 12))
def test_heart_negatives_are_the_nearest_legal_nodes_then_others(case, num):
    positives, known, graph = case
    negatives = HeartNegatives(num).generate(positives, graph, known, KEY)
    assert negatives.shape == (2, positives.shape[1], 2 * num)
    blocked = Graph.from_edges(known, graph.num_nodes)
    measures = [ResourceAllocation(), PersonalizedPageRank()] + ([] if graph.x is None else [FeatureCosine()])
    nodes = torch.arange(graph.num_nodes)
    whole = [measure.top(graph, nodes, graph.num_nodes, blocked)[0] for measure in measures]
    for row, (u, v) in enumerate(positives.t().tolist()):
        source, target = negatives[:, row].tolist()
        assert source[:num] == [u] * num
        assert target[num:] == [v] * num
        for kept, found in ((u, target[:num]), (v, source[num:])):
            rankings = [[w for w in ranking[kept].tolist() if w >= 0] for ranking in whole]
            place = 0
            for rank_set in reference.nearest(rankings, num):
                part = found[place : place + len(rank_set)]
                assert set(part) <= rank_set
                assert len(set(part)) == len(part)
                place += len(part)
            reference.check_half(found, reference.legal_nodes(pair_set(known), graph.num_nodes, kept), found[:place])


@pytest.mark.parametrize("how", [RandomNegatives(6), HeartNegatives(3)], ids=["random", "heart"])
class TestContract:
    edges = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0], [1, 2, 3, 4, 5, 6, 7, 4]])

    def generate(self, how: AbstractEvalNegatives, key: Key = KEY) -> torch.Tensor:
        return how.generate(self.edges[:, 6:], Graph.from_edges(self.edges[:, :6], 40), self.edges, key)

    def test_the_key_decides(self, how):
        assert torch.equal(self.generate(how), self.generate(how))
        state = torch.get_rng_state()
        assert len({tuple(self.generate(how, Key(seed, "a")).flatten().tolist()) for seed in range(8)}) > 1
        assert torch.equal(state, torch.get_rng_state())

    def test_positives_count_as_known(self, how):
        positives = self.edges[:, 6:]
        negatives = how.generate(positives, Graph.from_edges(self.edges[:, :6], 9), self.edges[:, :6], KEY)
        assert not pair_set(positives) & pair_set(negatives.reshape(2, -1))

    def test_an_end_linked_to_every_node_is_named(self, how):
        star = torch.tensor([[2, 2, 2], [0, 1, 3]])
        with pytest.raises(DataError, match="node 2 is linked to all other 3 nodes"):
            how.generate(star[:, 2:], Graph.from_edges(star[:, :2], 4), star, KEY)

    def test_fewer_legal_nodes_than_asked_for_come_again(self, how):
        edges = torch.tensor([[0, 1], [1, 2]])
        negatives = how.generate(edges[:, 1:], Graph.from_edges(edges[:, :1], 4), edges, KEY)
        assert set(negatives[1, 0, :3].tolist()) == {3}
        assert set(negatives[0, 0, 3:].tolist()) == {0, 3}


def test_random_negatives_are_uniform_and_differ_between_positives():
    edges = torch.stack([torch.zeros(3, dtype=torch.long), torch.tensor([1, 4, 7])])
    positives = torch.stack([torch.zeros(3000, dtype=torch.long), torch.full((3000,), 7)])
    negatives = RandomNegatives(4).generate(positives, Graph.from_edges(edges[:, :2], 12), edges, KEY)
    counts = Counter(negatives[1, :, :2].flatten().tolist())
    assert set(counts) == set(range(12)) - {0, 1, 4, 7}
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-4
    both = Counter(tuple(sorted(pair)) for pair in negatives[1, :, :2].tolist())
    assert len(both) == 28  # every pair of two different ones of the eight
    assert scipy.stats.chisquare(list(both.values())).pvalue > 1e-4


def test_heart_fill_is_uniform():
    # Node 0 has no neighbour in the training graph, so all of its nodes are filled in.
    edges, graph = torch.tensor([[0], [1]]), Graph.from_edges(torch.zeros(2, 0, dtype=torch.long), 12)
    counts = Counter(
        int(w) for seed in range(400) for w in HeartNegatives(3).generate(edges, graph, edges, Key(seed, "t"))[1, 0, :3]
    )
    assert set(counts) == set(range(2, 12))
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-4


@given(num_nodes=st.integers(2, 9), data=st.data())
def test_uniform_non_edges_are_non_edges(num_nodes, data):
    pairs = [(a, b) for a in range(num_nodes) for b in range(a + 1, num_nodes)]
    chosen = data.draw(st.lists(st.sampled_from(pairs), unique=True))
    known = torch.tensor(chosen, dtype=torch.long).reshape(-1, 2).t()
    legal = reference.non_edges(set(chosen), num_nodes)
    if not legal:
        with pytest.raises(DataError, match=f"all pairs of the {num_nodes} nodes are edges"):
            uniform_non_edges(1, num_nodes, known, KEY)
        return
    found = uniform_non_edges(300, num_nodes, known, KEY)
    assert found.shape == (2, 300)
    assert {tuple(pair) for pair in found.t().tolist()} <= set(legal)


def test_uniform_non_edges_are_uniform():
    known = torch.tensor([[0, 0, 0, 1, 4], [1, 2, 3, 2, 5]])
    found = Counter(tuple(pair) for pair in uniform_non_edges(20_000, 7, known, KEY).t().tolist())
    legal = reference.non_edges(pair_set(known), 7)
    assert set(found) == set(legal)
    assert scipy.stats.chisquare(list(found.values())).pvalue > 1e-4


def test_uniform_non_edges_of_no_nodes_are_refused():
    with pytest.raises(DataError, match="at least one non-edge"):
        uniform_non_edges(1, 0, torch.zeros(2, 0, dtype=torch.long), KEY)


@pytest.mark.parametrize(("how", "argument"), [(RandomNegatives, "num_negatives"), (HeartNegatives, "num_per_end")])
def test_at_least_one_negative(how, argument):
    with pytest.raises(ValueError, match=f"{argument}: got 0"):
        how(0)


def test_heart_negatives_of_cora_are_hard(data_root):
    loaded = load_graph("cora", data_root)
    split = split_edges(loaded.edges, key=Key(0, "split"))
    graph = Graph.from_edges(split.observed, loaded.num_nodes, loaded.x)
    hard = HeartNegatives().generate(split.test, graph, split.all, KEY)
    easy = RandomNegatives(500).generate(split.test, graph, split.all, KEY)
    assert hard.shape == easy.shape == (2, 527, 500)
    shared = [np.mean(ResourceAllocation().pairs(graph, *pairs.reshape(2, -1)).numpy() > 0) for pairs in (hard, easy)]
    assert shared[0] > 0.1
    assert shared[0] > 5 * shared[1]
    assert not pair_set(split.all) & pair_set(hard.reshape(2, -1))
