from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl import progress
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures import cosine
from mebns_pl.graph.measures.abstract import MEASURES
from mebns_pl.graph.measures.cosine import FeatureCosine
from mebns_pl.graph.measures.katz import Katz
from mebns_pl.graph.measures.local_path import LocalPath
from mebns_pl.graph.measures.min_rank import MinRank
from mebns_pl.graph.measures.neighbors import (
    AbstractNeighborMeasure,
    AdamicAdar,
    CommonNeighbors,
    Jaccard,
    ResourceAllocation,
)
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.measures.paths_of_length_three import PathsOfLengthThree
from mebns_pl.graph.measures.surroundings import SurroundingsCosine
from mebns_pl.graph.sparse import Features
from references import proximity as reference
from references.pair_features import pair_features
from references.pair_measures import jaccard, local_path, paths_of_length_three

NEIGHBOR_MEASURES = [
    (CommonNeighbors(), reference.common_neighbors),
    (AdamicAdar(), reference.adamic_adar),
    (ResourceAllocation(), reference.resource_allocation),
]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Edges (2, n) and the number of nodes: isolated nodes, hubs, complete and empty graphs among them."""
    num_nodes = draw(st.integers(2, 14))
    pairs = [(a, b) for a in range(num_nodes) for b in range(a + 1, num_nodes)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=40))
    hub = draw(st.integers(-1, num_nodes - 1))
    if hub >= 0:
        edges = sorted({*edges, *((min(hub, w), max(hub, w)) for w in range(0, num_nodes - 1) if w != hub)})
    return np.array(edges, dtype=np.int64).reshape(-1, 2).T, num_nodes


def build(edges: np.ndarray, num_nodes: int, x: torch.Tensor | Features | None = None) -> Graph:
    return Graph.from_edges(torch.from_numpy(np.ascontiguousarray(edges)), num_nodes, x)


def assert_lists(
    result: tuple[torch.Tensor, torch.Tensor], expected: list[list[tuple[int, np.float32]]], k: int
) -> None:
    index, score = result
    assert index.dtype == torch.int64
    assert score.dtype == torch.float32
    assert index.shape == score.shape == (len(expected), k)
    for row, best in enumerate(expected):
        padding = k - len(best)
        assert index[row].tolist() == [w for w, _ in best] + [-1] * padding
        np.testing.assert_allclose(score[row].numpy(), [s for _, s in best] + [0.0] * padding, rtol=1e-6)


@given(graph=graphs(), k=st.integers(1, 16), exclude=st.booleans())
def test_katz_lists_are_those_of_its_pairs(graph, k, exclude):
    edges, num_nodes = graph
    built, a = build(edges, num_nodes), reference.adjacency(edges, num_nodes)
    source, target = torch.cartesian_prod(torch.arange(num_nodes), torch.arange(num_nodes)).t()
    scores = Katz(0.02).pairs(built, source, target).view(num_nodes, num_nodes).float().numpy()
    nodes = torch.arange(num_nodes).flip(0)
    expected = [reference.top(scores[u], u, k, excluded(a, u, exclude)) for u in nodes.tolist()]
    assert_lists(Katz(0.02).top(built, nodes, k, built if exclude else None), expected, k)


@pytest.mark.parametrize("degree_normalized", [True, False])
@given(graph=graphs(), k=st.integers(1, 16), exclude=st.booleans())
def test_paths_of_length_three_equal_the_dense_reference(degree_normalized, graph, k, exclude):
    edges, num_nodes = graph
    built, a = build(edges, num_nodes), reference.adjacency(edges, num_nodes)
    nodes = torch.arange(num_nodes).flip(0)
    expected = []
    for u in nodes.tolist():
        scores = [paths_of_length_three(a, u, v, degree_normalized) for v in range(num_nodes)]
        scores = np.round(scores, 10)  # pairs in the same position are tied, whatever the order of additions
        expected.append(reference.top(scores, u, k, excluded(a, u, exclude)))
    measure = PathsOfLengthThree(degree_normalized)
    assert_lists(measure.top(built, nodes, k, built if exclude else None), expected, k)


@given(graph=graphs(), k=st.integers(1, 16), exclude=st.booleans())
def test_local_path_equals_the_dense_reference(graph, k, exclude):
    edges, num_nodes = graph
    built, a = build(edges, num_nodes), reference.adjacency(edges, num_nodes)
    nodes, scores = torch.arange(num_nodes).flip(0), local_path(a, 0.01)
    expected = [reference.top(scores[u].round(10), u, k, excluded(a, u, exclude)) for u in nodes.tolist()]
    assert_lists(LocalPath(0.01).top(built, nodes, k, built if exclude else None), expected, k)


@given(graph=graphs(), k=st.integers(1, 16), exclude=st.booleans())
def test_jaccard_equals_the_dense_reference(graph, k, exclude):
    edges, num_nodes = graph
    built, a = build(edges, num_nodes), reference.adjacency(edges, num_nodes)
    nodes, expected = torch.arange(num_nodes).flip(0), []
    for u in nodes.tolist():
        scores = np.array([jaccard(a, u, v) for v in range(num_nodes)])
        expected.append(reference.top(scores, u, k, excluded(a, u, exclude)))
    assert_lists(Jaccard().top(built, nodes, k, built if exclude else None), expected, k)


@pytest.mark.parametrize("sparse", [False, True])
@given(graph=graphs(), seed=st.integers(0, 100), k=st.integers(1, 16), exclude=st.booleans())
def test_surroundings_equal_the_dense_reference(sparse, graph, seed, k, exclude):
    """And the lists are those of the pairs, linked ones among them."""
    edges, num_nodes = graph
    x = np.random.default_rng(seed).integers(-1, 2, (num_nodes, 5)).astype(np.float32)
    features = Features.of(torch.from_numpy(x).to_sparse()) if sparse else torch.from_numpy(x)
    built, a = build(edges, num_nodes, features), reference.adjacency(edges, num_nodes)
    nodes = torch.arange(num_nodes).flip(0)
    found = SurroundingsCosine().top(built, nodes, k, built if exclude else None)
    source, target = torch.cartesian_prod(nodes.flip(0), nodes.flip(0)).t()
    scores = SurroundingsCosine().pairs(built, source, target).view(num_nodes, num_nodes).numpy()
    expected = [reference.top(scores[u], u, k, excluded(a, u, exclude)) for u in nodes.tolist()]
    assert_lists(found, expected, k)
    for place, u in enumerate(nodes.tolist()):
        dense = {v: pair_features(a, x, u, v)[2] for v in range(num_nodes) if v not in {u, *excluded(a, u, exclude)}}
        best = sorted((score for score in dense.values() if score > 1e-9), reverse=True)[:k]
        np.testing.assert_allclose(found[1][place, : len(best)], best, rtol=1e-5)
        assert not found[1][place, len(best) :].any()


def test_katz_lists_are_refused_where_walks_do_not_converge():
    complete = Graph.from_edges(torch.combinations(torch.arange(6)).t(), 6)
    with pytest.raises(ValueError, match=r"beta: got 0.2; the walks from node 3 do not converge"):
        Katz(0.2).top(complete, torch.tensor([3]), 2)


def excluded(a: np.ndarray, node: int, exclude: bool) -> set[int]:
    return set(a[node].nonzero()[0].tolist()) if exclude else set()


@pytest.mark.parametrize(("measure", "dense"), NEIGHBOR_MEASURES)
@given(graph=graphs(), k=st.integers(1, 16), exclude=st.booleans())
def test_neighbor_measures_equal_the_dense_reference(measure, dense, graph, k, exclude):
    edges, num_nodes = graph
    built, a = build(edges, num_nodes), reference.adjacency(edges, num_nodes)
    scores = dense(a)
    nodes = torch.arange(num_nodes).flip(0)
    expected = [reference.top(scores[u], u, k, excluded(a, u, exclude)) for u in nodes.tolist()]
    assert_lists(measure.top(built, nodes, k, built if exclude else None), expected, k)


@pytest.mark.parametrize(("measure", "dense"), NEIGHBOR_MEASURES)
@given(graph=graphs())
def test_pairs_equal_the_dense_reference(measure, dense, graph):
    edges, num_nodes = graph
    scores = dense(reference.adjacency(edges, num_nodes))
    source, target = (torch.from_numpy(ends) for ends in (~np.eye(num_nodes, dtype=bool)).nonzero())
    found = measure.pairs(build(edges, num_nodes), source, target)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), scores[source, target], rtol=1e-6)


@given(graph=graphs(), alpha=st.sampled_from([0.15, 0.5]))
def test_pagerank_is_exact_for_a_small_eps(graph, alpha):
    edges, num_nodes = graph
    built, exact = build(edges, num_nodes), reference.pagerank(reference.adjacency(edges, num_nodes), alpha)
    index, score = PersonalizedPageRank(alpha, eps=1e-12).top(built, torch.arange(num_nodes), num_nodes)
    for u in range(num_nodes):
        reachable = {w for w in range(num_nodes) if w != u and exact[u, w] > 1e-12}
        listed = index[u][index[u] >= 0]
        assert set(listed.tolist()) == reachable
        np.testing.assert_allclose(score[u][: len(listed)].numpy(), exact[u][listed], rtol=1e-4, atol=1e-8)
        assert bool((score[u].diff() <= 0).all())


@given(graph=graphs(), eps=st.sampled_from([1e-1, 1e-2, 1e-4]))
def test_pagerank_is_below_the_exact_one_by_at_most_eps_times_degree(graph, eps):
    edges, num_nodes = graph
    a = reference.adjacency(edges, num_nodes)
    exact = reference.pagerank(a, 0.15)
    index, score = PersonalizedPageRank(0.15, eps).top(build(edges, num_nodes), torch.arange(num_nodes), num_nodes)
    for u in range(num_nodes):
        found = np.zeros(num_nodes)
        listed = index[u] >= 0
        found[index[u][listed]] = score[u][listed]
        others = np.arange(num_nodes) != u
        gap = (exact[u] - found)[others]
        assert (gap > -1e-7).all()
        assert (gap <= eps * a.sum(1)[others] + 1e-7).all()


@pytest.mark.parametrize("sparse", [False, True])
@given(graph=graphs(), seed=st.integers(0, 100), k=st.integers(1, 16), exclude=st.booleans())
def test_cosine_equals_the_dense_reference(sparse, graph, seed, k, exclude):
    edges, num_nodes = graph
    x = np.random.default_rng(seed).integers(-1, 2, (num_nodes, 4)).astype(np.float32)
    features = Features.of(torch.from_numpy(x).to_sparse()) if sparse else torch.from_numpy(x)
    built, a = build(edges, num_nodes, features), reference.adjacency(edges, num_nodes)
    scores = np.round(reference.cosine(x), 12)
    index, score = FeatureCosine().top(built, torch.arange(num_nodes), k, built if exclude else None)
    for u in range(num_nodes):
        legal = [w for w in range(num_nodes) if w != u and w not in excluded(a, u, exclude) and scores[u, w] > 0]
        listed = index[u][index[u] >= 0].tolist()
        assert len(set(listed)) == len(listed) == min(k, len(legal))
        assert set(listed) <= set(legal)
        np.testing.assert_allclose(
            score[u][: len(listed)].numpy(), sorted(scores[u, legal], reverse=True)[:k], rtol=1e-5
        )
        np.testing.assert_allclose(score[u][: len(listed)].numpy(), scores[u, listed], rtol=1e-5)


def test_cosine_is_the_same_when_the_dense_block_is_small(monkeypatch, tiny_graph):
    whole = FeatureCosine().top(tiny_graph, torch.arange(30), 7)
    monkeypatch.setattr(cosine, "_BLOCK", 1)
    cut = FeatureCosine().top(tiny_graph, torch.arange(30), 7)
    assert torch.equal(whole[0], cut[0])
    assert torch.equal(whole[1], cut[1])


@given(graph=graphs(), k=st.integers(1, 16), exclude=st.booleans())
def test_min_rank_needs_no_more_than_the_top_k(graph, k, exclude):
    edges, num_nodes = graph
    built, a = build(edges, num_nodes), reference.adjacency(edges, num_nodes)
    measures = [CommonNeighbors(), ResourceAllocation(), PersonalizedPageRank(eps=1e-3)]
    nodes = torch.arange(num_nodes)
    skip = built if exclude else None
    whole = [measure.top(built, nodes, num_nodes, skip)[0] for measure in measures]
    expected = [
        reference.min_rank([[w for w in ranking[u].tolist() if w >= 0] for ranking in whole], u, k)
        for u in nodes.tolist()
    ]
    assert_lists(MinRank(measures).top(built, nodes, k, skip), expected, k)
    for u, best in enumerate(expected):
        assert not {w for w, _ in best} & ({u} | excluded(a, u, exclude))


OPTIONS = {MinRank: MinRank([ResourceAllocation(), PersonalizedPageRank(), FeatureCosine()])}
EVERY = [OPTIONS[cls] if cls in OPTIONS else cls() for cls in MEASURES.classes.values()]


@pytest.mark.parametrize("measure", EVERY, ids=lambda measure: type(measure).__name__)
class TestContract:
    def test_number_of_threads_changes_nothing(self, measure, tiny_graph, monkeypatch):
        results = []
        for threads in (1, 2, 7):
            monkeypatch.setattr(progress, "num_threads", lambda threads=threads: threads)
            results.append(measure.top(tiny_graph, torch.arange(30), 5, tiny_graph))
        for index, score in results[1:]:
            assert torch.equal(index, results[0][0])
            assert torch.equal(score, results[0][1])

    def test_rows_do_not_depend_on_each_other(self, measure, tiny_graph):
        index, score = measure.top(tiny_graph, torch.arange(30), 5)
        for u in (29, 3, 3):
            one = measure.top(tiny_graph, torch.tensor([u]), 5)
            assert torch.equal(one[0][0], index[u])
            assert torch.equal(one[1][0], score[u])

    def test_lists_are_sorted_legal_and_padded(self, measure, tiny_graph):
        index, score = measure.top(tiny_graph, torch.arange(30), 28, tiny_graph)
        assert bool((score.diff(dim=1) <= 0).all())
        assert torch.equal(index >= 0, score > 0)
        for u in range(30):
            listed = index[u][index[u] >= 0].tolist()
            neighbors = tiny_graph.indices[tiny_graph.indptr[u] : tiny_graph.indptr[u + 1]].tolist()
            assert len(set(listed)) == len(listed)
            assert not {u, *neighbors} & set(listed)

    def test_edges_left_out_of_message_passing_do_not_count(self, measure, tiny_graph):
        gone = tiny_graph.edge_index[:, ::3]
        masked = tiny_graph.without(gone)
        kept = masked.edge_index
        rebuilt = Graph.from_edges(kept, 30, tiny_graph.x)
        for found, expected in zip(
            measure.top(masked, torch.arange(30), 6), measure.top(rebuilt, torch.arange(30), 6), strict=True
        ):
            assert torch.equal(found, expected)

    def test_no_node_is_preferred_by_its_number(self, measure):
        # In a complete graph with equal features all others are equally near; the first k numbers would be a bias.
        edges = torch.combinations(torch.arange(60)).t()
        graph = Graph.from_edges(edges, 60, torch.ones(60, 4))
        index, _ = measure.top(graph, torch.arange(60), 6)
        assert 20 < index.double().mean() < 40
        assert len({tuple(row) for row in index.tolist()}) > 50

    def test_refuses_bad_arguments(self, measure, tiny_graph):
        with pytest.raises(ValueError, match="k: expected 1 or more, got 0"):
            measure.top(tiny_graph, torch.tensor([0]), 0)
        with pytest.raises(ValueError, match="nodes: got 30"):
            measure.top(tiny_graph, torch.tensor([0, 30]), 2)
        with pytest.raises(ValueError, match="exclude: got 4 nodes"):
            measure.top(tiny_graph, torch.tensor([0]), 2, Graph.from_edges(torch.tensor([[0], [1]]), 4))

    def test_no_nodes_are_no_lists(self, measure, tiny_graph):
        index, score = measure.top(tiny_graph, torch.tensor([], dtype=torch.long), 3)
        assert index.shape == score.shape == (0, 3)


def test_pairs_leave_out_masked_edges():
    triangle = Graph.from_edges(torch.tensor([[0, 1, 0], [1, 2, 2]]), 3)
    ends = torch.tensor([0]), torch.tensor([2])
    measures: list[AbstractNeighborMeasure] = [CommonNeighbors(), AdamicAdar(), ResourceAllocation()]
    for measure in measures:
        assert measure.pairs(triangle, *ends).item() > 0
        assert measure.pairs(triangle.without(torch.tensor([[1], [2]])), *ends).item() == 0


def test_pagerank_of_hubs_and_isolated_nodes_ends():
    star = Graph.from_edges(torch.stack([torch.zeros(200, dtype=torch.long), torch.arange(1, 201)]), 202)
    index, score = PersonalizedPageRank(eps=1e-7).top(star, torch.tensor([0, 1, 201]), 201)
    assert (index >= 0).sum(dim=1).tolist() == [200, 200, 0]
    assert index[1, 0] == 0
    assert score[0].sum() == pytest.approx(1 - 1 / 1.85, rel=1e-3)  # the walk is at the centre every second step


@pytest.mark.parametrize("arguments", [{"alpha": 0.0}, {"alpha": 1.0}, {"alpha": float("nan")}, {"eps": 0.0}])
def test_pagerank_refuses_bad_parameters(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments)) + ": expected .*, got"):
        PersonalizedPageRank(**arguments)


def test_cosine_needs_features_and_min_rank_measures():
    with pytest.raises(ValueError, match="no node features"):
        FeatureCosine().top(Graph.from_edges(torch.tensor([[0], [1]]), 2), torch.tensor([0]), 1)
    with pytest.raises(ValueError, match="measures: got none"):
        MinRank([])
