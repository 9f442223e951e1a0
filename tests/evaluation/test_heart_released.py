"""The benchmark's generator, slips included: against a slow twin, and against the released files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mebns_pl import progress
from mebns_pl.datasets.catalog import load_graph
from mebns_pl.datasets.official_splits import OfficialSplit, load_official_split
from mebns_pl.evaluation.heart_released import HeartReleasedGenerator
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from references import heart_released as reference
from references import proximity as proximity_reference
from references.effort import examples


@st.composite
def held_out(draw: st.DrawFn) -> tuple[Graph, np.ndarray, np.ndarray | None, Tensor, Tensor]:
    """A training graph (also dense, with its features), validation and test edges; nodes are met several times."""
    num_nodes = draw(st.integers(8, 14))
    pairs = [(a, b) for a in range(num_nodes) for b in range(a + 1, num_nodes)]
    edges = torch.tensor(draw(st.lists(st.sampled_from(pairs), unique=True, min_size=8, max_size=16))).t().contiguous()
    num_val, num_test = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    x = None
    if draw(st.booleans()):
        # Powers of two: cosines are exact, so that both ways of computing them have the same ties
        row = st.sampled_from([[1, 0, 0, 0], [0, 2, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, -1, 1]])
        x = np.array([draw(row) for _ in range(num_nodes)], dtype=np.float32)
    train = edges[:, num_val + num_test :]
    features = None if x is None else torch.from_numpy(x)
    if x is not None and draw(st.booleans()):
        features = Features.of(features.to_sparse())
    graph = Graph.from_edges(train, num_nodes, features)
    dense = proximity_reference.adjacency(train.numpy(), num_nodes)
    return graph, dense, x, edges[:, :num_val], edges[:, num_val : num_val + num_test]


@settings(max_examples=examples(60))
@given(case=held_out(), k=st.integers(1, 3))
def test_it_equals_the_slow_twin(case, k):
    graph, dense, x, val, test = case
    legal = (
        graph.num_nodes
        - 2
        - torch.bincount(
            torch.cat([graph.indices, graph.rows, val.flatten(), val.flatten()]), minlength=graph.num_nodes
        )
    )
    if int(legal[torch.cat([val, test], dim=1)].min()) < k:
        k = 1
    try:
        expected = reference.generate(dense, x, val.t().tolist(), test.t().tolist(), k, 0.15, 1e-4)
    except ValueError:  # fewer legal nodes than asked for
        return
    found = torch.cat(HeartReleasedGenerator(k, eps=1e-4).generate(graph, val, test), dim=1)
    ends = torch.cat([val, test], dim=1)
    assert found.shape == (2, ends.shape[1], 2 * k)
    assert torch.equal(found[0, :, :k], ends[0, :, None].expand(-1, k))
    assert torch.equal(found[1, :, k:], ends[1, :, None].expand(-1, k))
    np.testing.assert_array_equal(found[1, :, :k].numpy(), expected[:, 0])
    np.testing.assert_array_equal(found[0, :, k:].numpy(), expected[:, 1])


def dense_case(num_nodes: int = 40) -> tuple[Graph, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ring = torch.stack([torch.arange(num_nodes), (torch.arange(num_nodes) + 1) % num_nodes])
    x = torch.rand(num_nodes, 6, generator=generator)
    return Graph.from_edges(ring, num_nodes, x), torch.tensor([[0, 0, 0], [10, 20, 30]])


def test_the_second_visit_turns_the_similarities_upside_down():
    graph, edges = dense_case()
    val, _ = HeartReleasedGenerator(12).generate(graph, edges, edges[:, :0])
    first, second, third = ({*val[1, row, :12].tolist()} for row in range(3))
    assert len(first & third) > len(first & second)
    # Left out the first time, the first edge's target is thought the most similar of all the second time
    assert 10 in second
    assert 10 not in first


def test_it_does_not_depend_on_threads_or_generators_of_others(monkeypatch):
    graph, edges = dense_case()
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(progress, "num_threads", lambda threads=threads: threads)
        np.random.seed(threads)
        before = np.random.get_state()[1].tolist()
        results.append(torch.cat(HeartReleasedGenerator(30).generate(graph, edges, edges + 1), dim=1))
        assert np.random.get_state()[1].tolist() == before
    assert torch.equal(*results)


def test_features_are_not_written_to():
    graph, edges = dense_case()
    before = graph.x.clone()
    HeartReleasedGenerator(5).generate(graph, edges, edges + 1)
    assert torch.equal(graph.x, before)


def test_too_many_negatives_are_refused():
    graph, edges = dense_case()
    with pytest.raises(ValueError, match=r"num_per_end: got 39; node \d+ has 3\d legal nodes"):
        HeartReleasedGenerator(39).generate(graph, edges, edges)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_per_end": 0}, "num_per_end: got 0"),
        ({"alpha": 1.0}, r"alpha: got 1\.0"),
        ({"eps": 0.0}, r"eps: got 0\.0"),
    ],
)
def test_arguments_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        HeartReleasedGenerator(**change)


def overlap(made: Tensor, given: Tensor) -> float:
    """Share of the given pairs that were made, as sets for each row and end."""
    half, shares = given.shape[2] // 2, []
    for row in range(given.shape[1]):
        for part in (slice(0, half), slice(half, None)):
            one, other = ({tuple(p) for p in pairs[:, row, part].t().tolist()} for pairs in (made, given))
            shares.append(len(one & other) / len(other))
    return float(np.mean(shares))


def citeseer(data_root) -> tuple[Graph, OfficialSplit]:
    parts, loaded = load_official_split("citeseer", data_root), load_graph("citeseer", data_root)
    return Graph.from_edges(parts.train, loaded.num_nodes, loaded.x), parts


def test_the_first_of_the_released_negatives_are_made_again(data_root):
    """Negatives of an edge depend on the edges before it only. Eight in 227, so that the test is fast."""
    graph, parts = citeseer(data_root)
    val, _ = HeartReleasedGenerator().generate(graph, parts.val[:, :8], parts.val[:, :0])
    assert overlap(val, parts.val_hard[:, :8]) > 0.99


@pytest.mark.slow
def test_the_released_negatives_are_made_again(data_root):
    graph, parts = citeseer(data_root)
    val, test = HeartReleasedGenerator().generate(graph, parts.val, parts.test)
    assert overlap(val, parts.val_hard) > 0.99
    assert overlap(test, parts.test_hard) > 0.99
