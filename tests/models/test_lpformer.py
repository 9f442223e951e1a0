"""LPFormer against a pair-by-pair reference; what it sees of target edges; how much it keeps."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mebns_pl import GCN, SAGE, LPFormer
from mebns_pl.graph import near_nodes
from mebns_pl.graph.csr import Graph
from mebns_pl.models.lpformer import attention_means
from mebns_pl.models.predictor import score_pairs
from references.lpformer import logit
from references.step import NUM_NODES, make_edges, make_features


def make_model(graph: Graph, **options: object) -> LPFormer:
    """Small, float64, with PageRank as exact as an inverse."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exact = {
            "encoder": partial(GCN, hidden_channels=6),
            "hidden_channels": 5,
            "attention_channels": 4,
            "eps": 1e-15,
        }
        return LPFormer(graph.spec, **{**exact, **options}).double()  # type: ignore[arg-type]


def all_pairs() -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(NUM_NODES), torch.arange(NUM_NODES)).t()


@pytest.mark.parametrize("features", ["none", "dense", "sparse"])
def test_logits_equal_the_reference(features: str) -> None:
    """The encoder sees no target edge; PageRank all but the pair's own."""
    edges, targets = make_edges(), make_edges()[:, ::5]
    graph = Graph.from_edges(edges, NUM_NODES, make_features(features)).without(targets)
    model = make_model(graph, one_hop=0.02, farther=0.03)
    pairs = torch.cat([edges[:, ::2], targets, all_pairs()[:, ::5]], dim=1)
    inputs = model.prepare(graph, pairs)
    assert bool((inputs.near.counts.sum(0) > 0).all())
    assert bool((inputs.near.sets.sizes == 0).any())
    expected = torch.stack([logit(model, graph, edges, u, v) for u, v in pairs.t().tolist()])
    torch.testing.assert_close(model(inputs), expected, rtol=1e-10, atol=1e-10)


def test_pairs_have_no_direction() -> None:
    graph = Graph.from_edges(make_edges(), NUM_NODES, make_features("dense"))
    model = make_model(graph)
    assert torch.equal(*(model(model.prepare(graph, pairs)) for pairs in (all_pairs(), all_pairs().flip(0))))


def test_a_training_edge_is_not_told_by_its_nodes() -> None:
    """They are the same whether the edge is there, and whatever else is a target."""
    graph, edge = Graph.from_edges(make_edges(), NUM_NODES), make_edges()[:, :1]
    model = make_model(graph)
    there, target, gone = graph, graph.without(make_edges()[:, :5]), Graph.from_edges(make_edges()[:, 1:], NUM_NODES)
    first, second, third = (model.prepare(one, edge).near for one in (there, target, gone))
    assert torch.equal(first.ranks, second.ranks)
    for one in (first, second):
        assert torch.equal(one.sets.members, third.sets.members)
        assert torch.equal(one.groups, third.groups)
        torch.testing.assert_close(one.ranks, third.ranks, rtol=1e-10, atol=1e-13)


def test_edges_taken_for_missing_do_not_count() -> None:
    graph = Graph.from_edges(make_edges(), NUM_NODES)
    keep = torch.arange(graph.num_edges // 2) % 3 > 0
    dropped, pairs = graph.dropped(keep), all_pairs()[:, ::7]
    upper = graph.rows < graph.indices
    fewer = Graph.from_edges(torch.stack([graph.rows[upper], graph.indices[upper]])[:, keep], NUM_NODES)
    model = make_model(graph)
    model.prepare(graph, pairs)  # what is kept of the whole graph is not taken
    expected = model.prepare(fewer, pairs).near
    for one in (dropped, dropped.without(make_edges()[:, ::2]), graph.without(make_edges()[:, ::2]).dropped(keep)):
        found = model.prepare(one, pairs).near
        assert torch.equal(found.sets.members, expected.sets.members)
        assert torch.equal(found.groups, expected.groups)
        torch.testing.assert_close(found.ranks, expected.ranks, rtol=1e-10, atol=1e-13)


def test_page_rank_is_found_once_for_teacher_student_and_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, calls = Graph.from_edges(make_edges(), NUM_NODES), []
    table = near_nodes.page_rank_table
    monkeypatch.setattr(
        near_nodes, "page_rank_table", lambda *args, **options: calls.append(1) or table(*args, **options)
    )
    for model in (make_model(graph), make_model(graph)):
        for step in range(3):
            model.prepare(graph.without(make_edges()[:, step : step + 4]), all_pairs())
    assert len(calls) == 1
    make_model(graph, top=5).prepare(graph, all_pairs())
    assert len(calls) == 2


def test_blocks_score_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph.from_edges(make_edges(), NUM_NODES, make_features("dense"))
    model = make_model(graph)
    whole = score_pairs(model, model.scorer(graph), graph, all_pairs())
    monkeypatch.setattr(LPFormer, "score_block", 7)
    torch.testing.assert_close(
        score_pairs(model, model.scorer(graph), graph, all_pairs()), whole, rtol=1e-10, atol=1e-12
    )


def test_attention_is_a_mean_of_each_set() -> None:
    """Logits of any size; empty sets have zeros and no gradient."""
    logits = torch.tensor([0.0, 1000.0, 999.0, -2000.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1.0], [2.0], [4.0], [8.0]], dtype=torch.float64)
    found = attention_means(logits, x, torch.tensor([0, 0, 1, 3, 4]), torch.tensor([0, 1, 1, 2]) + 1)
    share = torch.tensor([1.0, -1.0], dtype=torch.float64).sigmoid()
    expected = torch.stack([x.new_zeros(1), x[0], x[1] * share[0] + x[2] * share[1], x[3]])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    (grad,) = torch.autograd.grad(found.sum(), logits, create_graph=True)
    slope = share[0] * share[1] * (x[1] - x[2]).item()
    torch.testing.assert_close(grad, torch.stack([slope * 0, slope, -slope, slope * 0]), rtol=1e-10, atol=1e-13)
    assert bool(torch.autograd.grad(grad.square().sum(), logits)[0].isfinite().all())


@pytest.mark.parametrize("encoder", [GCN, SAGE])
def test_half_precision_gives_nearly_the_same(encoder: type[GCN | SAGE]) -> None:
    graph = Graph.from_edges(make_edges(), NUM_NODES)
    model = make_model(graph, encoder=partial(encoder, hidden_channels=6)).float()
    inputs = model.prepare(graph, all_pairs())
    with torch.autocast("cpu", torch.bfloat16):
        found = model(inputs)
    found.sum().backward()
    torch.testing.assert_close(found.float(), model(inputs), rtol=0.1, atol=0.1)
    assert all(bool(param.grad.isfinite().all()) for param in model.parameters())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"top": 0}, "top: expected 1 or more, got 0"),
        ({"one_hop": 0.0}, "one_hop: expected a number above 0, got 0"),
        ({"farther": -1.0}, "farther: expected a number above 0, got -1"),
        ({"alpha": 1.0}, "alpha: expected a restart probability in"),
        ({"place_channels": 0}, "place_channels: expected 1 or more, got 0"),
        ({"attention_channels": 10**12}, "attention_channels: got 1000000000000, which would take"),
    ],
)
def test_refuses(options: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LPFormer(Graph.from_edges(make_edges(), NUM_NODES).spec, **options)  # type: ignore[arg-type]
