"""SEAL against a pair-by-pair reference, SortPooling against Python's sort, and what it refuses."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl import SEAL
from mebns_pl.graph.csr import Graph
from mebns_pl.models.seal import NUM_LABELS, sort_places, sortpool_size
from mebns_pl.types import GraphSpec
from references.runs import fit, make_data, make_plain
from references.seal import enclosing, logit
from references.step import NUM_NODES, make_edges, make_features

BUILD = {
    "one hop": partial(SEAL, num_pooled=10, hidden_channels=4, num_layers=2),
    "two hops": partial(SEAL, num_hops=2, num_pooled=13, hidden_channels=5, num_layers=3),
    "no features": partial(SEAL, num_pooled=12, hidden_channels=4, num_layers=1, use_features=False),
}


@pytest.mark.parametrize("features", ["none", "dense", "sparse"])
@pytest.mark.parametrize("name", BUILD)
def test_logits_equal_the_reference(name: str, features: str) -> None:
    graph = Graph.from_edges(make_edges(), NUM_NODES, make_features(features)).without(make_edges()[:, ::5])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BUILD[name](graph.spec).double()
        for bias in model.biases:
            torch.nn.init.normal_(bias)
    # Edges, edges that are left out, non-edges, the isolated node, a pair of a node with itself
    others = torch.tensor([[0, 4, 23, 7], [9, 17, 3, 7]])
    pairs = torch.cat([make_edges()[:, :10], others], dim=1)
    found = model(model.prepare(graph, pairs))
    expected = torch.stack([logit(model, graph, u, v) for u, v in pairs.t().tolist()])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert found.std() > 1e-3


def test_both_directions_are_one_pair() -> None:
    graph = Graph.from_edges(make_edges(), NUM_NODES, make_features("dense"))
    model = BUILD["two hops"](graph.spec).double()
    pairs = torch.tensor([[0, 4, 23, 7], [9, 17, 3, 1]])
    forth, back = model(model.prepare(graph, pairs)), model(model.prepare(graph, pairs.flip(0)))
    torch.testing.assert_close(forth, back, rtol=1e-10, atol=1e-12)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=6), max_size=5), st.integers(1, 5))
def test_sort_places(blocks: list[list[int]], num_pooled: int) -> None:
    ptr = torch.tensor([0] + [len(block) for block in blocks]).cumsum(0)
    height = torch.tensor([value for block in blocks for value in block], dtype=torch.float64)
    sets = sort_places(height, ptr, num_pooled)
    expected = []
    for start, block in zip(ptr.tolist(), blocks, strict=False):
        order = sorted(range(len(block)), key=lambda i, block=block: -block[i])[:num_pooled]
        expected += [[start + i] for i in order] + [[]] * (num_pooled - len(order))
    found = [sets.members[a:b].tolist() for a, b in zip(sets.ptr[:-1].tolist(), sets.ptr[1:].tolist(), strict=True)]
    assert found == expected


def test_large_labels_share_an_embedding() -> None:
    long_path = torch.stack([torch.arange(99), torch.arange(1, 100)])
    ring = Graph.from_edges(torch.cat([long_path, torch.tensor([[0], [99]])], dim=1), 100)
    model = SEAL(ring.spec, num_hops=60)
    inputs = model.prepare(ring, torch.tensor([[0], [99]]))
    assert int(inputs.subgraphs.labels.max()) >= NUM_LABELS
    assert bool(model(inputs).isfinite())


def test_sortpool_size_is_a_quantile_of_the_sizes() -> None:
    edges = torch.cat([make_edges(), torch.stack([torch.zeros(16, dtype=torch.int64), torch.arange(24, 40)])], dim=1)
    graph = Graph.from_edges(edges, 40)
    sizes = sorted(len(enclosing(graph, u, v, 1)[0]) for u, v in edges.t().tolist())
    assert sortpool_size(graph, edges, share=0.6) == max(10, sizes[int(0.6 * len(sizes))])
    assert sortpool_size(graph, edges, share=1.0) == sizes[-1] > 20
    assert sortpool_size(graph, edges, share=0.0) == 10


@pytest.mark.parametrize(("name", "value"), [("num_hops", 0), ("num_pooled", 9), ("num_layers", 0)])
def test_bad_numbers_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}.*got {value}"):
        SEAL(GraphSpec(5), **{name: value})


def test_the_number_of_parameters_does_not_depend_on_the_graph() -> None:
    sizes = [sum(p.numel() for p in SEAL(GraphSpec(num_nodes)).parameters()) for num_nodes in (10, 10**6)]
    assert sizes[0] == sizes[1]


def test_inputs_hold_no_edges_of_the_whole_graph() -> None:
    """They travel between processes, each with its batch."""
    graph = Graph.from_edges(make_edges(), NUM_NODES, make_features("dense"))
    inputs = SEAL(graph.spec).prepare(graph, torch.tensor([[0], [9]]))
    assert inputs.graph.num_edges == 0
    plain = SEAL(graph.spec, use_features=False).prepare(graph, torch.tensor([[0], [9]]))
    assert plain.graph.num_nodes == 0


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_precisions_work(precision: str) -> None:
    """Subgraphs and features are prepared ahead, as they are stored."""
    found: dict[str, float] = {}
    for kind in ("32-true", precision):
        data = make_data()
        system = make_plain(data.spec, predictor=partial(SEAL, num_pooled=10, hidden_channels=4, num_layers=2))
        trainer = fit(system, data, epochs=1, precision=kind)
        found[kind] = float(trainer.callback_metrics["train/student_loss"])
    within = {"bf16-mixed": 0.05, "64-true": 1e-4}[precision]
    assert found[precision] == pytest.approx(found["32-true"], abs=within)
    assert found[precision] != found["32-true"]
