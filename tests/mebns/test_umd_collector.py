"""The UMD-Collector against loops, and the promises about its meta set."""

from __future__ import annotations

import math
import statistics
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mebns_pl import GCN, DotDecoder, EncoderDecoder
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.mebns.umd_collector import UMDCollector, augmented, least_uncertain, moments
from references import step as reference

KEY = Key(6, "tests/umd")


def adjacency(graph: Graph) -> Tensor:
    dense = torch.zeros(graph.num_nodes, graph.num_nodes)
    dense[graph.edge_index[1], graph.edge_index[0]] = 1
    return dense


def noise(graph: Graph, pairs: Tensor, key: Key) -> Tensor:
    """Logits far from 0, whose spread grows with the target: a pass without a model."""
    return (
        1000.0 * pairs[0]
        + pairs[1] * torch.randn(pairs.shape[1], generator=key.generator(), dtype=torch.float64) * 1e-3
    )


# --- augmentation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("features", ["dense", "sparse", "none"])
def test_augmentation_drops_whole_edges_and_columns(features: str) -> None:
    graph = reference.make_graph(features)
    one = augmented(graph, 0.4, 0.5, KEY)
    before, after = adjacency(graph), adjacency(one)
    assert torch.equal(after, after.t())
    assert bool((after <= before).all())
    assert 0 < after.sum() < before.sum()
    assert graph.keep is None
    assert graph.feature_mask is None
    if features != "none":
        assert one.feature_mask is not None
        assert set(one.feature_mask.tolist()) == {0, 1}


def test_augmentation_is_keyed_and_its_parts_are_independent() -> None:
    graph = reference.make_graph("dense")
    one, same, other = (
        augmented(graph, 0.4, 0.5, KEY),
        augmented(graph, 0.4, 0.5, KEY),
        augmented(graph, 0.4, 0.5, KEY.child("x")),
    )
    assert torch.equal(one.keep, same.keep)
    assert torch.equal(one.feature_mask, same.feature_mask)
    assert not torch.equal(one.keep, other.keep)
    # The edges dropped do not depend on whether features are masked
    assert torch.equal(one.keep, augmented(graph, 0.4, 0.0, KEY).keep)
    assert augmented(graph, 0.4, 0.0, KEY).feature_mask is None


def test_augmentation_keeps_what_is_masked_already() -> None:
    graph = reference.make_graph("none")
    gone = reference.make_edges()[:, :7]
    one = augmented(graph.without(gone), 0.3, 0.0, KEY)
    assert not bool(adjacency(one)[gone[0], gone[1]].any())


def test_augmentation_rates() -> None:
    graph = reference.make_graph("dense")
    kept, seen = 0.0, 0.0
    for number in range(200):
        one = augmented(graph, 0.3, 0.2, KEY.child(number))
        kept += float(one.keep.double().mean()) / 200
        seen += float(one.feature_mask.double().mean()) / 200
    assert kept == pytest.approx(0.7, abs=0.03)
    assert seen == pytest.approx(0.8, abs=0.06)


# --- moments --------------------------------------------------------------------------------------


def test_moments_equal_a_plain_loop() -> None:
    graph = reference.make_graph("dense")
    pairs = reference.make_edges()[:, :9]
    predictor = EncoderDecoder(graph.spec, partial(GCN, hidden_channels=4, dropout=0.3), DotDecoder).double()
    calls: list[tuple[Tensor, Tensor, Key]] = []

    @torch.no_grad()
    def score(one: Graph, asked: Tensor, key: Key) -> Tensor:
        calls.append((one.keep, one.feature_mask, key))
        return predictor(predictor.prepare(one, asked, key=key))

    mean, std = moments(score, graph, pairs, 6, 0.3, 0.4, KEY)
    passes = [
        score(augmented(graph, 0.3, 0.4, KEY.child(t)), pairs, KEY.child(t).child("dropout")).tolist() for t in range(6)
    ]
    for place, logits in enumerate(zip(*passes, strict=True)):
        assert float(mean[place]) == pytest.approx(statistics.mean(logits), rel=1e-12)
        assert float(std[place]) == pytest.approx(statistics.stdev(logits), rel=1e-9)
    # Each pass has another graph and another dropout mask
    assert len({tuple(keep.tolist()) for keep, _, _ in calls[:6]}) == 6
    assert len({key for _, _, key in calls[:6]}) == 6


def test_moments_do_not_cancel() -> None:
    pairs = torch.tensor([[20, 22], [1, 3]])
    _, std = moments(noise, reference.make_graph("none"), pairs, 50, 0.2, 0.0, KEY)
    passes = [noise(reference.make_graph("none"), pairs, KEY.child(t).child("dropout")).tolist() for t in range(50)]
    for place, logits in enumerate(zip(*passes, strict=True)):
        assert float(std[place]) == pytest.approx(statistics.stdev(logits), rel=1e-6)


def test_equal_passes_have_no_uncertainty() -> None:
    pairs = torch.tensor([[0, 1], [1, 3]])
    mean, std = moments(
        lambda graph, asked, key: torch.tensor([0.1, 1e8]), reference.make_graph("none"), pairs, 3, 0.2, 0.0, KEY
    )
    assert mean.dtype == std.dtype == torch.float64
    assert std.tolist() == [0, 0]


# --- the least uncertain --------------------------------------------------------------------------


def least_uncertain_loop(mean: list[float], std: list[float], fraction: float, strata: int) -> list[bool]:
    order = sorted(range(len(mean)), key=lambda place: (mean[place], place))
    kept = set()
    for number in range(strata):
        members = sorted(place for rank, place in enumerate(order) if rank * strata // len(mean) == number)
        members.sort(key=lambda place: std[place])
        kept |= set(members[: math.ceil(fraction * len(members))])
    return [place in kept for place in range(len(mean))]


@given(
    values=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), max_size=20),
    fraction=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    strata=st.integers(1, 6),
)
def test_least_uncertain_is_the_loop(values: list[tuple[int, int]], fraction: float, strata: int) -> None:
    mean, std = [float(value[0]) for value in values], [float(value[1]) for value in values]
    found = least_uncertain(torch.tensor(mean), torch.tensor(std), fraction, strata)
    assert found.tolist() == least_uncertain_loop(mean, std, fraction, strata)


def test_hard_pairs_are_represented() -> None:
    """Where uncertainty is largest round a mean of 0, the lowest of all would leave that range out; strata do not."""
    mean = torch.linspace(-5, 5, 100)
    std = 2.0 - mean.abs() / 5
    strata, overall = least_uncertain(mean, std, 0.5, 5), least_uncertain(mean, std, 0.5, 1)
    hard = mean.abs() < 1
    assert int(overall[hard].sum()) == 0
    assert int(strata[hard].sum()) == 10
    assert [int(part.sum()) for part in strata.view(5, 20)] == [10] * 5


# --- the meta set ---------------------------------------------------------------------------------


def pool(num_positives: int = 20, num_negatives: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(24, (2, num_positives + num_negatives), generator=generator)
    labels = torch.cat([torch.ones(num_positives), torch.zeros(num_negatives)])
    shuffled = torch.randperm(len(labels), generator=generator)
    return pairs, labels[shuffled]


def steady(logits: Tensor) -> object:
    """A score with these means and a spread of each pair's own."""

    def score(graph: Graph, pairs: Tensor, key: Key) -> Tensor:
        spread = torch.linspace(0.01, 0.2, len(logits)).double()
        return logits + spread * torch.randn(len(logits), generator=key.generator(), dtype=torch.float64)

    return score


def test_meta_set_is_balanced_and_consistent() -> None:
    graph = reference.make_graph("dense")
    pairs, labels = pool()
    logits = torch.linspace(-1, 1, 80).double()[torch.randperm(80, generator=torch.Generator().manual_seed(1))]
    collector = UMDCollector(keep_fraction=0.5, num_strata=5)
    found = collector.collect(steady(logits), graph, pairs, labels, KEY)
    assert int((found.labels == 1).sum()) == int((found.labels == 0).sum()) == 10
    assert found.counts == {"scored": 80, "contradicted": 0, "kept": 20}
    assert found.labels.dtype == found.mean.dtype == found.std.dtype == torch.float32
    mean, std = moments(steady(logits), graph, pairs, 10, 0.2, 0.2, KEY)
    places = [int((mean.float() == value).nonzero()) for value in found.mean]
    assert torch.equal(pairs[:, places], found.pairs)
    assert torch.equal(labels[places], found.labels)
    torch.testing.assert_close(std[places].float(), found.std)
    for label in (1.0, 0.0):
        index = (labels == label).nonzero().flatten()
        allowed = index[least_uncertain(mean[index], std[index], 0.5, 5)].tolist()
        chosen = [place for place in places if labels[place] == label]
        assert set(chosen) <= set(allowed)
        assert label == 0.0 or sorted(chosen) == sorted(allowed)  # the smaller label is not cut
    again = collector.collect(steady(logits), graph, pairs, labels, KEY)
    assert torch.equal(again.pairs, found.pairs)


def test_confident_contradictions_are_dropped_and_counted() -> None:
    pairs, labels = pool()
    positives, negatives = ((labels == label).nonzero().flatten() for label in (1, 0))
    logits = torch.where(labels == 1, 0.5, -0.5).double()
    logits[positives[:3]] = -4.0  # P = 0.02 of an edge
    logits[positives[3]] = -1.0  # wrong, but not sure
    logits[negatives[:5]] = 4.0
    found = UMDCollector(keep_fraction=1.0, contradiction=0.9).collect(
        steady(logits), reference.make_graph("dense"), pairs, labels, KEY
    )
    assert found.counts["contradicted"] == 8
    assert found.counts["kept"] == len(found.labels) == 2 * 17
    assert float(found.mean[found.labels == 1].min()) < 0
    assert not bool((found.mean[found.labels == 1] < -2).any())
    assert not bool((found.mean[found.labels == 0] > 2).any())


def test_a_label_wholly_contradicted_still_has_pairs() -> None:
    pairs, labels = pool()
    found = UMDCollector().collect(
        steady(torch.full((80,), 6.0).double()), reference.make_graph("dense"), pairs, labels, KEY
    )
    assert int((found.labels == 0).sum()) == int((found.labels == 1).sum()) > 0
    assert found.counts["contradicted"] == 60


def test_drawing_a_meta_batch() -> None:
    pairs, labels = pool()
    found = UMDCollector().collect(steady(torch.zeros(80).double()), reference.make_graph("dense"), pairs, labels, KEY)
    batch, same = (found.draw(8, KEY.generator()) for _ in range(2))
    assert int((batch.labels == 1).sum()) == int((batch.labels == 0).sum()) == 4
    assert torch.equal(batch.pairs, same.pairs)
    assert len(set(batch.mean.tolist())) == 8  # without replacement
    assert len(found.draw(10_000, KEY.generator()).labels) == len(found.labels)
    assert found.draw(1, KEY.generator()).labels.tolist() == [1, 0]


def test_touches_no_global_generator_and_no_gradient() -> None:
    graph = reference.make_graph("dense")
    pairs, labels = pool()
    predictor = EncoderDecoder(graph.spec, GCN, DotDecoder).double()
    state = torch.get_rng_state()
    found = UMDCollector(num_passes=2).collect(
        lambda one, asked, key: predictor(predictor.prepare(one, asked, key=key)), graph, pairs, labels, KEY
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert not found.mean.requires_grad
    assert not found.std.requires_grad


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_passes": 1}, {"num_strata": 0}, {"negatives_per_positive": 0}, {"batch_size": 1}, {"refresh_epochs": 0},
        {"edge_drop": 1.0}, {"edge_drop": -0.1}, {"feature_mask": 1.0}, {"feature_mask": -0.1},
        {"keep_fraction": 0.0}, {"keep_fraction": 1.1}, {"contradiction": 0.4}, {"contradiction": 1.1},
        {"structure_ratio": -0.1}, {"structure_ratio": 1.1},
        {"edge_drop": 0.0, "feature_mask": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_refuses(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        UMDCollector(**arguments)
