"""Which arms are compared with which, and when a comparison is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mebns_pl.errors import DataError
from mebns_pl.report import statistics
from mebns_pl.report.comparisons import (
    LEVEL,
    LOSES,
    WINS,
    Comparison,
    Question,
    compare,
    num_tests,
    questions,
    ranking,
)
from mebns_pl.report.results import Results, results_of
from references.studies import Effect, made_up_study

TWO = {"graph": ["air_routes"], "system": ["Plain", "MeBNS"]}
FOUR = {"graph": ["a", "b"], "sampler": ["dns", "uniform"], "system": ["MeBNS", "Plain"]}


def of(frame: pd.DataFrame) -> Results:
    return results_of(frame, "test/mrr", Path("study"))


def compared(frame: pd.DataFrame, references: Sequence[str] = ()) -> list[Comparison]:
    results = of(frame)
    return compare(results, questions(results, references))


def better_by(amount: float, system: str = "MeBNS") -> Effect:
    return lambda arm: amount * (arm["system"] == system)


def test_systems_are_compared_with_plain_and_samplers_with_uniform() -> None:
    assert questions(of(made_up_study(FOUR, 2))) == [Question("system", "Plain"), Question("sampler", "uniform")]
    found = compared(made_up_study(FOUR, 2))
    assert [(one.value, one.setting, one.graphs) for one in found] == [
        ("MeBNS", "dns", ("a", "b")),
        ("MeBNS", "uniform", ("a", "b")),
        ("dns", "MeBNS", ("a", "b")),
        ("dns", "Plain", ("a", "b")),
    ]
    assert [part.graphs for part in found[0].parts] == [("a",), ("b",)]
    assert (num_tests(found), num_tests(compared(made_up_study(TWO, 2)))) == (8, 1)


def test_without_such_axes_the_first_one_is_asked_about() -> None:
    frame = made_up_study({"graph": ["a"], "model": ["gcn", "ncn"], "lr": ["0.1", "0.01"]}, 2)
    assert questions(of(frame)) == [Question("model", "gcn")]
    assert questions(of(made_up_study({"graph": ["a"], "model": ["gcn"]}, 2))) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("axis/size=3", "reference: got 'axis/size=3'; the axes that vary are axis/sampler, axis/system"),
        ("system=None", "reference: got 'system=None'; the values of axis/system are MeBNS, Plain"),
    ],
)
def test_a_reference_is_one_that_there_is(given: str, told: str) -> None:
    results = of(made_up_study(FOUR, 2))
    assert questions(results, ["axis/system=MeBNS"]) == [Question("system", "MeBNS")]
    with pytest.raises(DataError, match=told):
        questions(results, [given])


def test_pairs_are_of_the_same_graph_split_and_seed_whatever_the_order_of_the_runs() -> None:
    frame = made_up_study(TWO, 10, better_by(0.01))
    (one,) = compared(frame)
    mixed = pd.concat([frame[::2], frame[1::2][::-1]])
    mixed = pd.concat([mixed[mixed["axis/system"] == "Plain"], mixed[mixed["axis/system"] == "MeBNS"]])
    (other,) = compared(mixed)
    arm, control = (frame.loc[frame["axis/system"] == name, "test/mrr"].to_numpy() for name in ("MeBNS", "Plain"))
    for found in (one, other):
        assert found.difference.mean == pytest.approx((arm - control).mean())
        assert found.difference.std == pytest.approx((arm - control).std(ddof=1))


def test_gaps_are_counted() -> None:
    frame = made_up_study(TWO, 10, better_by(0.03))
    frame.loc[frame["seed"].isin([2, 3]) & (frame["axis/system"] == "MeBNS"), ["status", "test/mrr"]] = ["failed", None]
    frame = frame[~((frame["seed"] == 5) & (frame["axis/system"] == "Plain"))]
    (one,) = compared(frame)
    assert (one.difference.pairs, one.planned) == (7, 10)


def test_a_clear_difference_is_called_to_its_side() -> None:
    (wins,) = compared(made_up_study(TWO, 8, better_by(0.05)))
    (loses,) = compared(made_up_study(TWO, 8, better_by(-0.05)))
    assert (wins.call, loses.call) == (WINS, LOSES)
    assert wins.corrected == wins.difference.p_value == 2**-7


def test_five_pairs_are_never_called() -> None:
    (one,) = compared(made_up_study(TWO, 5, better_by(0.3)))
    assert (one.call, one.tested, one.enough) == (LEVEL, False, 6)


def test_where_mean_and_ranks_disagree_nothing_is_called() -> None:
    frame = made_up_study(TWO, 14, better_by(0.02), shared=0, noise=0.001, base=0.9)
    frame.loc[(frame["seed"] == 0) & (frame["axis/system"] == "MeBNS"), "test/mrr"] = 0.1
    (one,) = compared(frame)
    assert one.difference.p_value <= 0.05
    assert one.difference.mean < 0 < one.difference.direction
    assert one.call == LEVEL


def test_graphs_that_go_to_both_sides_are_called_though_together_they_are_not() -> None:
    axes = {"graph": ["up", "down", "level"], "system": ["Plain", "MeBNS"]}
    sides = {"up": 0.05, "down": -0.05, "level": 0.0}
    (one,) = compared(made_up_study(axes, 10, lambda arm: sides[arm["graph"]] * (arm["system"] == "MeBNS")))
    assert one.call == LEVEL
    assert [part.call for part in one.parts] == [WINS, LOSES, LEVEL]


def test_single_graphs_are_not_called_where_nothing_differs() -> None:
    """One of ten graphs has p = 0.002 by itself: that is what chance gives."""
    axes = {"graph": list("abcdefghij"), "system": ["Plain", "MeBNS"]}
    (one,) = compared(made_up_study(axes, 10, generator_seed=8))
    assert min(part.difference.p_value for part in one.parts) < 0.002
    assert {part.call for part in one.parts} == {LEVEL}


def test_five_seeds_on_two_graphs_are_ten_pairs() -> None:
    (one,) = compared(made_up_study({**TWO, "graph": ["a", "b"]}, 5, better_by(0.05)))
    assert one.call == WINS
    assert [part.tested for part in one.parts] == [False, False]
    assert one.corrected == one.difference.p_value  # what can never be called is not corrected for


def calls(axes: Mapping[str, Sequence[str]], effect: Effect, studies: int, seeds: int = 10) -> float:
    """The share of made-up studies in which anything is called."""
    found = 0
    for number in range(studies):
        comparisons = compared(made_up_study(axes, seeds, effect, generator_seed=number))
        found += any(one.call != LEVEL for whole in comparisons for one in (whole, *whole.parts))
    return found / studies


def one_std(arm: Mapping[str, str]) -> float:
    """One standard deviation of the paired difference, where a run's own is 0.01."""
    return 0.01 * np.sqrt(2) * (arm["system"] == "MeBNS")


@pytest.fixture
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals call nothing, and most of the time goes into them."""
    monkeypatch.setattr(statistics, "RESAMPLES", 39)


@pytest.mark.usefixtures("_few_resamples")
def test_few_studies_without_effect_call_one_and_most_with_an_effect_do() -> None:
    assert calls(TWO, lambda arm: 0.0, 40) <= 0.15
    assert calls(TWO, one_std, 40) >= 0.6


@pytest.mark.slow
@pytest.mark.usefixtures("_few_resamples")
@pytest.mark.parametrize(
    "axes",
    [
        TWO,
        {"graph": ["a"], "sampler": ["uniform", "dns", "softmax"], "system": ["Plain", "MeBNS"]},
        {"graph": ["a", "b", "c"], "system": ["Plain", "MeBNS"]},
    ],
    ids=["two arms", "six arms", "three graphs"],
)
def test_of_a_thousand_studies_without_effect_few_call_one(axes: Mapping[str, Sequence[str]]) -> None:
    assert calls(axes, lambda arm: 0.0, 1000) <= 0.065


@pytest.mark.slow
@pytest.mark.usefixtures("_few_resamples")
def test_of_a_thousand_studies_with_one_standard_deviation_most_call_it() -> None:
    assert calls(TWO, one_std, 1000) >= 0.7


def test_arms_are_ranked_on_graphs_where_all_have_results() -> None:
    axes = {"graph": ["a", "b", "c"], "system": ["Plain", "MeBNS"], "sampler": ["uniform"]}
    frame = made_up_study(axes, 3, better_by(0.1))
    frame.loc[(frame["axis/graph"] == "b") & (frame["axis/system"] == "Plain"), ["status", "test/mrr"]] = [
        "failed",
        None,
    ]
    found = ranking(of(frame))
    assert found is not None
    assert (found.arms, found.left_out) == (["MeBNS", "Plain"], ["b"])
    assert found.ranks.average.tolist() == [1.0, 2.0]
    assert ranking(of(made_up_study(TWO, 3))) is None
