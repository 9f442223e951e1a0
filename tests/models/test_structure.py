"""The predictor that sees structure, pair by pair; what it sees of target edges and of edges taken for missing."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from mebns_pl import GCN, StructureMLP, StructurePredictor
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.pair_features import feature_table, pair_features
from mebns_pl.graph.pair_structure import log_structure, pair_structure
from mebns_pl.models.structure import PAGE_RANK, log_page_rank
from references import pair_structure as reference
from references.proximity import adjacency, pagerank
from references.step import NUM_NODES, make_edges, make_features


def test_logits_equal_the_reference() -> None:
    """The encoder sees no target edge, the numbers all but the pair's own."""
    edges, targets = make_edges(), make_edges()[:, ::4]
    graph = Graph.from_edges(edges, NUM_NODES, make_features("dense"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = StructurePredictor(graph.spec, partial(GCN, hidden_channels=6), hidden_channels=5).double()
    pairs = torch.cat([targets, torch.tensor([[0, 3, 22], [9, 11, 4]])], dim=1)
    found = model(model.prepare(graph.without(targets), pairs))
    a, z = adjacency(edges.numpy(), NUM_NODES), model.encoder(graph.without(targets))
    for logit, (u, v) in zip(found, pairs.t().tolist(), strict=True):
        numbers = log_structure(torch.tensor([reference.pair_structure(a, u, v)]).float()).double()
        hidden = model.ends((z[u] * z[v])[None], torch.arange(1), None)
        hidden = hidden + model.structure(numbers, torch.arange(1), None)
        torch.testing.assert_close(model.head(hidden, torch.arange(1), None)[0, 0], logit, rtol=1e-5, atol=1e-5)


def test_numbers_alone_are_told_as_beside_embeddings_that_say_nothing() -> None:
    graph, pairs = Graph.from_edges(make_edges(), NUM_NODES), torch.tensor([[0, 3, 22, 5], [9, 11, 4, 0]])
    both, alone = StructurePredictor(graph.spec, hidden_channels=6), StructureMLP(graph.spec, 6)
    shared = {name: value for name, value in both.state_dict().items() if name in alone.state_dict()}
    assert alone.load_state_dict(shared, strict=False).missing_keys == ["linear.weight"]  # 0 to begin with
    torch.nn.init.zeros_(both.ends.last.weight)
    torch.nn.init.zeros_(both.ends.last.bias)
    found = alone(alone.prepare(graph.without(make_edges()[:, ::4]), pairs))
    torch.testing.assert_close(both(both.prepare(graph, pairs)), found)


def test_the_linear_part_stands_beside_the_rest() -> None:
    graph, pairs = Graph.from_edges(make_edges(), NUM_NODES), torch.tensor([[0, 3, 22, 5], [9, 11, 4, 0]])
    model = StructureMLP(graph.spec, 6)
    inputs = model.prepare(graph, pairs)
    before = model(inputs)
    torch.nn.init.normal_(model.linear.weight)
    torch.testing.assert_close(model(inputs) - before, (inputs.structure @ model.linear.weight.t()).squeeze(1))


def test_page_rank_is_one_more_number_and_does_not_tell_the_pairs_own_edge() -> None:
    graph, edges = Graph.from_edges(make_edges(), NUM_NODES), make_edges()
    model, plain = StructureMLP(graph.spec, page_rank=True), StructureMLP(graph.spec)
    pairs = torch.cat([edges[:, :6], torch.tensor([[0, 3, 22], [9, 11, 4]])], dim=1)
    found = model.prepare(graph.without(edges[:, :3]), pairs).structure
    assert torch.equal(found[:, :-1], plain.prepare(graph, pairs).structure)
    assert model(model.prepare(graph, pairs)).shape == (9,)
    a = adjacency(edges.numpy(), NUM_NODES)
    for value, (u, v) in zip(found[:, -1].tolist(), pairs.t().tolist(), strict=True):
        without = a.copy()
        without[u, v] = without[v, u] = 0
        exact = pagerank(without, PAGE_RANK.alpha)
        assert value == pytest.approx(math.log1p((exact[u, v] + exact[v, u]) / 1e-6) / 2, rel=1e-3)
    assert torch.equal(found[:, -1:], log_page_rank(graph, pairs))


def test_nodes_that_training_has_not_seen_are_scored() -> None:
    seen, more = Graph.from_edges(make_edges(), NUM_NODES), Graph.from_edges(make_edges(), NUM_NODES + 5)
    model, pairs = StructureMLP(seen.spec), torch.tensor([[0, NUM_NODES], [9, NUM_NODES + 1]])
    assert model.inductive
    found = model(model.prepare(more, pairs))
    torch.testing.assert_close(found[:1], model(model.prepare(seen, pairs[:, :1])))


def test_a_training_edge_is_not_told_by_its_numbers() -> None:
    """They are the same whether the edge is there, and whatever else is a target."""
    graph = Graph.from_edges(make_edges(), NUM_NODES)
    model, edge = StructurePredictor(graph.spec), make_edges()[:, :1]
    there, target, gone = graph, graph.without(make_edges()[:, :5]), Graph.from_edges(make_edges()[:, 1:], NUM_NODES)
    found = [model.prepare(one, edge).structure for one in (there, target, gone)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_edges_taken_for_missing_do_not_count() -> None:
    """Augmentation drops them from messages and numbers alike, targets or not."""
    graph = Graph.from_edges(make_edges(), NUM_NODES)
    keep = torch.arange(graph.num_edges // 2) % 3 > 0
    pairs = torch.cartesian_prod(torch.arange(NUM_NODES), torch.arange(4)).t()
    dropped = graph.dropped(keep)
    expected = log_structure(pair_structure(dropped, pairs))
    assert not torch.equal(expected, log_structure(pair_structure(graph, pairs)))
    targets = make_edges()[:, ::2]
    for one in (dropped, dropped.without(targets), graph.without(targets).dropped(keep)):
        assert torch.equal(StructurePredictor(graph.spec).prepare(one, pairs).structure, expected)


@pytest.mark.parametrize("model", [StructureMLP, StructurePredictor])
def test_features_are_among_the_numbers(model: type[StructureMLP | StructurePredictor]) -> None:
    """They know neither targets nor the pair's own edge; edges and features taken for missing do not count."""
    edges, targets, pairs = make_edges(), make_edges()[:, ::4], torch.tensor([[0, 3, 22], [9, 11, 4]])
    graph = Graph.from_edges(edges, NUM_NODES, make_features("sparse"))
    predictor = model(graph.spec, features=True).double()
    pairs = torch.cat([targets, pairs], dim=1)
    found = predictor.prepare(graph.without(targets), pairs)
    assert predictor(found).shape == (pairs.shape[1],)
    torch.testing.assert_close(found.structure[:, -3:], 10 * pair_features(feature_table(graph), pairs))
    gone = Graph.from_edges(edges[:, 1:], NUM_NODES, make_features("sparse"))
    torch.testing.assert_close(predictor.prepare(gone, edges[:, :1]).structure, found.structure[:1])
    keep_edge = torch.arange(graph.num_edges // 2) % 3 > 0
    keep_feature = torch.arange(graph.spec.num_features) % 2 > 0
    for other in (graph.dropped(keep_edge), graph.masked_features(keep_feature)):
        expected = 10 * pair_features(feature_table(other), pairs)
        assert not torch.equal(expected, found.structure[:, -3:])
        assert other.once_each("feature table", feature_table) is other.once_each("feature table", feature_table)
        torch.testing.assert_close(predictor.prepare(other.without(targets), pairs).structure[:, -3:], expected)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="features: expected False for a graph without features, got True"):
        StructureMLP(Graph.from_edges(make_edges(), NUM_NODES).spec, features=True)
    with pytest.raises(ValueError, match="num_hops: expected 1 or 2, got 3"):
        StructureMLP(Graph.from_edges(make_edges(), NUM_NODES).spec, num_hops=3)
    with pytest.raises(ValueError, match="num_hops: expected 1 or 2, got 0"):
        StructurePredictor(Graph.from_edges(make_edges(), NUM_NODES).spec, num_hops=0)
