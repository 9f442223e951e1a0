"""Scores of given pairs against slow references, and what every pair measure must hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl import progress
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import MEASURES, PAIR_MEASURES
from mebns_pl.graph.measures.cosine import FeatureCosine
from mebns_pl.graph.measures.katz import Katz
from mebns_pl.graph.measures.local_path import LocalPath
from mebns_pl.graph.measures.neighbors import Jaccard
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.measures.paths_of_length_three import PathsOfLengthThree
from mebns_pl.graph.measures.preferential_attachment import PreferentialAttachment
from mebns_pl.graph.measures.shortest_path import ShortestPath
from mebns_pl.graph.measures.sim_rank import SimRank
from mebns_pl.graph.measures.surroundings import SurroundingsCosine
from mebns_pl.graph.sparse import Features
from references import pair_measures as reference
from references import proximity as proximity_reference

OPTIONS = {Katz: Katz(0.05)}
EVERY = [OPTIONS[cls] if cls in OPTIONS else cls() for cls in PAIR_MEASURES.classes.values()]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[np.ndarray, Graph]:
    """A dense adjacency of up to 12 nodes, isolated ones among them, and the same as a graph; then all pairs."""
    num_nodes = draw(st.integers(2, 12))
    pairs = [(a, b) for a in range(num_nodes) for b in range(a + 1, num_nodes)]
    edges = np.array(draw(st.lists(st.sampled_from(pairs), unique=True, max_size=25)), dtype=np.int64).reshape(-1, 2).T
    graph = Graph.from_edges(torch.from_numpy(np.ascontiguousarray(edges)), num_nodes)
    return proximity_reference.adjacency(edges, num_nodes), graph


def all_pairs(graph: Graph) -> torch.Tensor:
    nodes = torch.arange(graph.num_nodes)
    return torch.cartesian_prod(nodes, nodes).t()


def one_by_one(graph: Graph, score) -> np.ndarray:
    return np.array([score(u, v) for u, v in all_pairs(graph).t().tolist()])


@given(case=graphs())
def test_they_equal_the_references(case):
    a, graph = case
    pairs = all_pairs(graph)
    for measure, score in (
        (Jaccard(), lambda u, v: reference.jaccard(a, u, v)),
        (PreferentialAttachment(), lambda u, v: reference.preferential_attachment(a, u, v)),
        (ShortestPath(), lambda u, v: reference.inverse_distance(a, u, v)),
        (PathsOfLengthThree(), lambda u, v: reference.paths_of_length_three(a, u, v, True)),
        (PathsOfLengthThree(False), lambda u, v: reference.paths_of_length_three(a, u, v, False)),
    ):
        np.testing.assert_allclose(measure.pairs(graph, *pairs).numpy(), one_by_one(graph, score), rtol=1e-6)
    np.testing.assert_allclose(
        Katz(0.05).pairs(graph, *pairs).numpy(), reference.katz(a, 0.05).flatten(), rtol=1e-8, atol=1e-14
    )
    for measure, scores in (
        (LocalPath(0.03), reference.local_path(a, 0.03)),
        (SimRank(0.7, num_iterations=5), reference.sim_rank(a, 0.7, 5)),
    ):
        np.testing.assert_allclose(measure.pairs(graph, *pairs).numpy(), scores.flatten(), rtol=1e-7, atol=1e-12)
    rank = proximity_reference.pagerank(a, 0.15)
    different = pairs[0] != pairs[1]
    found = PersonalizedPageRank(eps=1e-8).pairs(graph, *pairs[:, different]).numpy()
    np.testing.assert_allclose(found, (rank + rank.T).flatten()[different.numpy()], atol=3e-7 * len(a))


@pytest.mark.parametrize("degree_normalized", [True, False])
@given(case=graphs())
def test_paths_of_an_edge_are_those_without_it(degree_normalized, case):
    """Exactly, zeros included: nothing is left of what was taken away."""
    _, graph = case
    measure = PathsOfLengthThree(degree_normalized)
    for edge in graph.edge_index.t()[:, :, None]:
        fewer = measure.pairs(graph.without(edge), *edge)
        found = measure.pairs(graph, *edge)
        assert bool(found == 0) == bool(fewer == 0)
        if not degree_normalized:
            assert torch.equal(found, fewer)


def test_katz_of_far_nodes_is_exact():
    """On a path there is one shortest walk, and its score does not drown in those of near nodes."""
    num_nodes = 60
    path = Graph.from_edges(torch.stack([torch.arange(num_nodes - 1), torch.arange(1, num_nodes)]), num_nodes)
    found = Katz(0.001).pairs(path, torch.zeros(1, dtype=torch.long), torch.tensor([num_nodes - 1]))
    assert float(found) == pytest.approx(1e-3 ** (num_nodes - 1), rel=1e-3)
    assert float(found) > 0


def test_katz_refuses_a_beta_that_does_not_converge():
    complete = Graph.from_edges(torch.combinations(torch.arange(6)).t(), 6)  # largest eigenvalue 5
    pairs = torch.tensor([[0], [1]])
    assert float(Katz(0.19, max_length=2000).pairs(complete, *pairs)) > 0
    with pytest.raises(ValueError, match=r"beta: got 0\.2; the walks from node \d do not converge within 1000 steps"):
        Katz(0.2).pairs(complete, *pairs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0.0,), "beta: expected a number above 0, got 0.0"), ((0.1, 0), "max_length: expected 1 or more, got 0")],
)
def test_katz_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Katz(*arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalPath(-0.1), "eps: expected 0 or more, got -0.1"),
        (lambda: SimRank(decay=1.0), r"decay: expected a share in \(0, 1\), got 1.0"),
        (lambda: SimRank(num_iterations=0), "num_iterations: expected 1 or more, got 0"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sim_rank_is_not_for_large_graphs():
    graph = Graph.from_edges(torch.tensor([[0], [1]]), 5001)
    with pytest.raises(ValueError, match="num_nodes: expected a graph of at most 5000 nodes, got 5001"):
        SimRank().pairs(graph, torch.tensor([0]), torch.tensor([1]))


def test_sim_rank_is_near_its_limit(tiny_graph):
    pairs = all_pairs(tiny_graph)
    found, limit = (SimRank(num_iterations=n).pairs(tiny_graph, *pairs) for n in (20, 200))
    assert float((found - limit).abs().max()) < 0.8**20


@pytest.mark.parametrize("sparse", [False, True])
@given(data=st.data())
def test_cosine_of_pairs(sparse, data):
    num_nodes = data.draw(st.integers(1, 8))
    values = st.sampled_from([0.0, 0.0, 1.0, -2.0, 0.5])
    x = torch.tensor([data.draw(st.lists(values, min_size=4, max_size=4)) for _ in range(num_nodes)])
    features = Features.of(x.to_sparse()) if sparse else x
    graph = Graph.from_edges(torch.zeros(2, 0, dtype=torch.long), num_nodes, features)
    expected = one_by_one(graph, lambda u, v: reference.cosine(x.double().numpy(), u, v))
    np.testing.assert_allclose(FeatureCosine().pairs(graph, *all_pairs(graph)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_cosine_of_features_that_are_no_numbers_is_zero(sparse, value):
    x = torch.tensor([[1.0, 2.0], [1.0, value], [1.0, 1.0]])
    graph = Graph.from_edges(torch.tensor([[0], [1]]), 3, Features.of(x.to_sparse()) if sparse else x)
    scores = FeatureCosine().pairs(graph, *all_pairs(graph)).view(3, 3)
    assert scores[1].tolist() == scores[:, 1].tolist() == [0, 0, 0]
    assert scores[0, 2] == pytest.approx(3 / 10**0.5)
    assert FeatureCosine().top(graph, torch.arange(3), 2)[0].tolist() == [[2, -1], [-1, -1], [0, -1]]
    surroundings = SurroundingsCosine().pairs(graph, *all_pairs(graph)).view(3, 3)
    assert surroundings[0, 2] > surroundings[0, 1] == 0
    assert SurroundingsCosine().top(graph, torch.arange(3), 2)[0].shape == (3, 2)
    assert not surroundings.isnan().any()


def test_cosine_needs_features():
    graph = Graph.from_edges(torch.tensor([[0], [1]]), 2)
    with pytest.raises(ValueError, match=r"no node features \(x is None\)"):
        FeatureCosine().pairs(graph, torch.tensor([0]), torch.tensor([1]))


def test_the_docs_tell_which_measures_list_no_nodes():
    docs = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text()
    told = docs.partition("These three score given pairs alone:\n\n")[2].partition("\n\n")[0]
    assert re.findall(r"^- `(\w+)`", told, re.MULTILINE) == sorted({*PAIR_MEASURES.classes} - {*MEASURES.classes})
    assert {*MEASURES.classes} - {*PAIR_MEASURES.classes} == {"MinRank"}


@pytest.mark.parametrize("measure", EVERY, ids=lambda measure: type(measure).__name__)
class TestContract:
    def test_symmetric_to_the_last_bit_and_never_nan(self, measure, tiny_graph):
        source, target = all_pairs(tiny_graph)
        scores = measure.pairs(tiny_graph, source, target)
        assert scores.shape == (900,)
        assert scores.is_floating_point()
        assert not bool(scores.isnan().any())
        assert torch.equal(scores, measure.pairs(tiny_graph, target, source))
        assert len(scores.unique()) > 2

    def test_a_pair_does_not_depend_on_the_others(self, measure, tiny_graph):
        pairs = all_pairs(tiny_graph)
        scores = measure.pairs(tiny_graph, *pairs)
        for place in (1, 77, 450, 899):
            assert float(measure.pairs(tiny_graph, *pairs[:, place : place + 1])) == float(scores[place])

    def test_edges_left_out_do_not_count(self, measure, tiny_graph):
        upper = tiny_graph.edge_index[:, tiny_graph.edge_index[0] < tiny_graph.edge_index[1]]
        fewer = Graph.from_edges(upper[:, 5:], tiny_graph.num_nodes, tiny_graph.x)
        pairs = all_pairs(tiny_graph)
        expected = measure.pairs(fewer, *pairs)
        assert torch.equal(measure.pairs(tiny_graph.without(upper[:, :5]), *pairs), expected)
        if not isinstance(measure, FeatureCosine):
            assert not torch.equal(measure.pairs(tiny_graph, *pairs), expected)

    def test_number_of_threads_changes_nothing(self, measure, tiny_graph, monkeypatch):
        pairs, results = all_pairs(tiny_graph), []
        for threads in (1, 3):
            monkeypatch.setattr(progress, "num_threads", lambda threads=threads: threads)
            results.append(measure.pairs(tiny_graph, *pairs))
        assert torch.equal(*results)

    def test_no_pairs(self, measure, tiny_graph):
        nothing = torch.zeros(0, dtype=torch.long)
        assert measure.pairs(tiny_graph, nothing, nothing).shape == (0,)


def test_walks_beyond_all_bounds_are_refused() -> None:
    """Six nodes that are all linked have 5 as their largest eigenvalue; sums of inf do not grow any more."""
    graph = Graph.from_edges(torch.combinations(torch.arange(6)).t(), 6)
    for beta in (0.3, 0.5, 0.99):
        with pytest.raises(ValueError, match="do not converge"):
            Katz(beta=beta).top(graph, torch.arange(6), 2)
