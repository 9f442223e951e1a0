"""The numbers of the evaluation card against slow twins, and what it says of them."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl.analysis.card import (
    COUNTED,
    HEURISTICS,
    OF_FEATURES,
    OF_WALKS,
    Rival,
    bootstrap_interval,
    chance,
    heuristic_results,
    heuristics_for,
    of_negatives,
    random_ranks,
    recommendation,
    repeat_patterns,
    shared_pairs,
    val_and_test,
)
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.neighbors import AdamicAdar
from mebns_pl.graph.measures.paths_of_length_three import PathsOfLengthThree
from mebns_pl.metrics.stage import StageMetrics
from mebns_pl.types import EvalBatch
from references.runs import make_data


def every_order(repeats: list[int]) -> np.ndarray:
    """The distribution of the rank by going through all orders of the positive and the distinct negatives."""
    pairs = [times for times, count in enumerate(repeats, 1) for _ in range(count)]
    ranks: Counter[int] = Counter()
    for order in itertools.permutations(range(len(pairs) + 1)):
        above = order[: order.index(len(pairs))]
        ranks[1 + sum(pairs[place] for place in above)] += 1
    total = sum(ranks.values())
    return np.array([ranks[rank] / total for rank in range(1, sum(pairs) + 2)])


@pytest.mark.parametrize("repeats", [[0], [1], [4], [0, 2], [3, 1], [1, 1, 1], [2, 0, 0, 2]])
def test_ranks_by_chance_are_those_of_all_orders(repeats: list[int]) -> None:
    np.testing.assert_allclose(random_ranks(repeats), every_order(repeats), atol=1e-12)


def test_ranks_by_chance_among_many_negatives_are_those_of_random_scores() -> None:
    repeats = [60, 40, 20, 5]
    weights = np.repeat(np.arange(1, 5), repeats)
    above = np.random.default_rng(0).random((20_000, len(weights) + 1))
    drawn = 1 + ((above[:, 1:] > above[:, :1]) * weights).sum(axis=1)
    found = random_ranks(repeats)
    assert found.sum() == pytest.approx(1)
    assert (found / np.arange(1, len(found) + 1)).sum() == pytest.approx((1 / drawn).mean(), abs=0.003)
    for k in (1, 10, 100):
        assert found[:k].sum() == pytest.approx((drawn <= k).mean(), abs=0.01)


def test_chance_with_distinct_negatives_has_a_closed_form() -> None:
    found = chance(np.array([[500]] * 7), 7, 21)
    assert found["mrr"] == pytest.approx(sum(1 / rank for rank in range(1, 502)) / 501)
    assert found["hits@10"] == pytest.approx(10 / 501)
    assert (found["auc"], found["ap"]) == (0.5, 0.25)
    few = chance(np.array([[4]]), 1, 1)
    assert few["hits@10"] == pytest.approx(1)
    mixed = chance(np.array([[2, 0], [0, 1]]), 2, 2)
    assert mixed["mrr"] == pytest.approx((np.mean([1, 1 / 2, 1 / 3]) + np.mean([1, 1 / 3])) / 2)
    many = np.array([[i, 80 - i] for i in range(80)])
    assert chance(many, 1, 1)["mrr"] == pytest.approx(
        np.mean([chance(many[i : i + 1], 1, 1)["mrr"] for i in range(0, 80, 4)]), rel=0.02
    )


@given(
    st.integers(1, 5).flatmap(
        lambda p: st.lists(
            st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=6, max_size=6), min_size=p, max_size=p
        )
    )
)
def test_repeats_are_counted_whatever_the_direction(rows: list[list[tuple[int, int]]]) -> None:
    negatives = torch.tensor(rows).permute(2, 0, 1)
    found = repeat_patterns(negatives, 4)
    for row, pairs in zip(found.tolist(), rows, strict=True):
        times = Counter(Counter(frozenset(pair) for pair in pairs).values())
        assert {place: count for place, count in enumerate(row, 1) if count} == dict(times)
    edges = torch.tensor([[0, 2], [1, 3]])
    expected = sum(set(pair) in ({0, 1}, {2, 3}) for pairs in rows for pair in pairs)
    assert shared_pairs(negatives, edges, 4) == expected


def test_heuristics_are_scored_as_a_model_is() -> None:
    data = make_data()
    batch = data.eval_set("test")
    found = heuristic_results(batch, data.test_graph)
    for name, measure in (
        ("AdamicAdar", AdamicAdar()),
        (COUNTED, PathsOfLengthThree(False)),
        ("PathsOfLengthThree", PathsOfLengthThree()),
    ):
        metrics = StageMetrics()
        metrics.update(lambda pairs, measure=measure: measure.pairs(data.test_graph, *pairs), batch)
        assert found[name].metrics == {key: float(value) for key, value in metrics.compute().items()}
        assert (1 / found[name].ranks).mean() == pytest.approx(found[name].metrics["mrr"])
    values = [one.metrics["mrr"] for one in found.values()]
    assert values == sorted(values, reverse=True)
    assert set(found) == set(HEURISTICS) | set(OF_WALKS)


def test_heuristics_that_go_through_the_graph_are_left_out_where_it_is_large() -> None:
    ring = torch.stack([torch.arange(4000), (torch.arange(4000) + 1) % 4000])
    assert set(heuristics_for(Graph.from_edges(ring, 4000))) == set(HEURISTICS) | {
        "PersonalizedPageRank",
        "ShortestPath",
    }
    assert set(heuristics_for(Graph.from_edges(ring, 9000))) == set(HEURISTICS)


@pytest.mark.parametrize("num_features", [63, 64])
def test_features_are_heuristics_where_there_are_many(num_features: int) -> None:
    data = make_data()
    x = torch.rand(data.spec.num_nodes, num_features, generator=torch.Generator().manual_seed(0))
    found = heuristic_results(data.eval_set("test"), replace(data.test_graph, x=x, _shared={}))
    assert set(found) == {*HEURISTICS, *OF_WALKS, *(OF_FEATURES if num_features == 64 else {})}


def test_heuristics_against_shared_negatives() -> None:
    data = make_data()
    whole = data.eval_set("test")
    found = heuristic_results(EvalBatch(whole.positives, None, whole.random_negatives), data.test_graph)
    for one in found.values():
        assert (1 / one.ranks).mean() == pytest.approx(one.metrics["mrr"])


@pytest.mark.parametrize(
    ("graph", "best", "mrr", "with_val"),
    [
        ("air_routes", "PathsOfLengthThree", 0.2628, 0.2610),
        ("usair", "ResourceAllocation", 0.3507, 0.3585),
        ("ns", "ResourceAllocation", 0.7462, 0.7651),
        pytest.param("yeast", "PathsOfLengthThree", 0.3663, 0.3746, marks=pytest.mark.slow),
    ],
)
def test_heuristics_on_real_graphs(
    graph: str, best: str, mrr: float, with_val: float, request: pytest.FixtureRequest
) -> None:
    """On the graph that models are tested on, and on that of training and validation edges."""
    data = LinkDataModule(graph, None if graph == "air_routes" else request.getfixturevalue("data_root"))
    batch = data.eval_set("test")
    edges = torch.cat([data.split.observed, data.split.val], dim=1)
    for known, expected in ((data.test_graph, mrr), (Graph.from_edges(edges, data.loaded.num_nodes), with_val)):
        results = heuristic_results(batch, known)
        assert next(name for name in results if name in HEURISTICS) == best
        assert results[best].metrics["mrr"] == pytest.approx(expected, abs=1e-4)


def test_on_a_sparse_graph_walks_are_best(data_root: Path) -> None:
    data = LinkDataModule("ns", data_root)
    results = heuristic_results(data.eval_set("test"), data.test_graph)
    assert next(iter(results)) == "PersonalizedPageRank"
    assert results["PersonalizedPageRank"].metrics["mrr"] == pytest.approx(0.7521, abs=1e-4)


def test_the_interval_is_the_percentile_bootstrap() -> None:
    values = 1 / (1 + np.random.default_rng(1).integers(0, 30, 150))
    low, high = bootstrap_interval(values)
    rng = np.random.default_rng(5)
    means = [values[rng.integers(0, 150, 150)].mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.006)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values[:1]) == (values[0], values[0])
    many = np.resize(values, 200_000)
    assert bootstrap_interval(many, resamples=10**6)[1] - many.mean() < (high - low) / 10


BEST = ("AdamicAdar", 0.2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"interval": (0.01, 0.4)}, "No better than chance (MRR 2.0 %): do not use this model."),
        (
            {"interval": (0.01, 0.4), "rival": Rival(*BEST, (-0.2, -0.1))},
            "do not use this model. Without training AdamicAdar has 20.0 %.",
        ),
        ({"rival": Rival(*BEST, (-0.03, -0.01))}, "A heuristic is better, without training: AdamicAdar (MRR 20.0 %), by"
         " 1.0 to 3.0 points: `--model=Heuristic --model.measure=AdamicAdar`."),
        ({"rival": Rival(*BEST, (-0.03, 0.01))}, "No better than a heuristic: AdamicAdar (MRR 20.0 %) cannot be told"),
        ({"rival": Rival(*BEST, (0.01, 0.03))}, "Better than the best heuristic, AdamicAdar (MRR 20.0 %), by 1.0"),
        ({"rival": Rival(COUNTED, 0.4, (-0.03, -0.01))}, "=PathsOfLengthThree --model.measure.degree_norm"),
        ({"system": "MeBNS"}, "Whether MeBNS helps is not known"),
        (
            {"system": "MeBNS", "plain_mrr": 0.3},
            "Whether MeBNS helps here cannot be told: the plain control has MRR 30.0 %, within",
        ),
        ({"system": "MeBNS", "plain_mrr": 0.5}, "MeBNS does not help here, it is worse: the plain control has MRR 50"),
        ({"system": "MeBNS", "plain_mrr": 0.1}, "MeBNS helps here: the plain control has MRR 10.0 %"),
        ({"system": "Heuristic", "rival": Rival(*BEST, (0.0, 0.0))}, "A heuristic, which learns nothing"),
        ({}, "Better than chance; no heuristic was tried"),
    ],
)  # fmt: skip
def test_what_is_recommended(arguments: dict, said: str) -> None:
    text = recommendation(**{"mrr": 0.3, "interval": (0.25, 0.35), "chance_mrr": 0.02, **arguments})
    assert said in text


def test_sentences() -> None:
    assert val_and_test(0.3, 0.2, 1000, 25) == (
        "Validation MRR 30.0 %, test 20.0 %: they are of different edges, and 25 of the 1,000 validation negatives "
        "(2.5 %) are test edges, which validation must not know: a good model ranks them high and loses there, not in "
        "test."
    )
    assert val_and_test(0.3, 0.2, 1000, 0).endswith("no validation negative is a test edge.")
    assert val_and_test(0.3, 0.2, None, None).endswith("they are of different edges.")
    assert val_and_test(0.3, 0.3, 1000, 25) == ""
    assert "of which 412.5 are distinct on average, 400 at fewest" in of_negatives(500, 412.5, 400, False)
    assert of_negatives(500, 490, 490, True) == "All edges are ranked against 500 negatives, 490 of them distinct."
