"""The verdict's numbers against counts by hand, and its words at every turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from mebns_pl.analysis.probe_history import ProbeHistory, toy_history
from mebns_pl.analysis.verdict import (
    BAD,
    GOOD,
    LEVEL,
    UNKNOWN,
    Evidence,
    best_epoch,
    common_epochs,
    false_negatives,
    filtering,
    mean_churn,
    movement,
    share_interval,
    verdict,
    weights,
)


def random_history(moves: float, seed: int = 0, pairs: int = 400, epochs: int = 12) -> ProbeHistory:
    """Pairs of a random walk of the scores, whose steps have the standard deviation ``moves``."""
    generator = np.random.default_rng(seed)
    student = np.random.default_rng(7).standard_normal(pairs) + moves * generator.standard_normal((epochs, pairs))
    toy = toy_history()
    return replace(
        toy,
        setting=replace(toy.setting, share=0.2),
        pairs=np.stack([np.arange(pairs), np.arange(1, pairs + 1)]),
        epochs=np.arange(epochs),
        student=student.astype(np.float32),
        teacher=np.empty((0, pairs), np.float32),
        counts=np.zeros((epochs, 3, pairs), np.int32),
        weights=np.zeros((epochs, pairs), np.float32),
        held_out=np.zeros(pairs, np.int8),
        num_common=np.zeros(pairs, np.int64),
        common=np.full((pairs, 5), -1),
        nodes=np.arange(pairs + 1),
        degree=np.zeros(pairs + 1, np.int64),
        names=[str(node) for node in range(pairs + 1)],
    )


def slow_churn(history: ProbeHistory, epochs: list[int]) -> float:
    shares, before = [], None
    for epoch in epochs:
        row = history.student[list(history.epochs).index(epoch)]
        size = int(np.ceil(history.setting.share * len(row)))
        hard = set(np.argsort(-row, kind="stable")[:size].tolist())
        if before is not None:
            shares.append(len(hard - before) / len(hard))
        before = hard
    return float(np.mean(shares))


def test_churn_is_that_of_the_sets() -> None:
    history = random_history(0.3)
    for epochs in ([0, 1], list(range(12)), [2, 5, 11]):
        assert mean_churn(history, np.array(epochs)) == pytest.approx(slow_churn(history, epochs))


@pytest.mark.parametrize(
    ("own", "control", "call", "words"),
    [
        (0.1, 0.5, GOOD, "moved less than in the control"),
        (0.5, 0.1, BAD, "moved more than in the control"),
        (0.3, 0.3, LEVEL, "cannot be told"),
    ],
)
def test_movement(own: float, control: float, call: str, words: str) -> None:
    mine, other = random_history(own, 1), random_history(control, 2)
    found = movement(Evidence({}, mine), Evidence({}, other))
    assert found.call == call
    assert words in found.text
    for history in (mine, other):
        assert f"{100 * slow_churn(history, list(range(12))):.1f} %" in found.text


def test_movement_after_both_warm_ups_at_common_epochs() -> None:
    history = random_history(0.3)
    late = replace(history, setting=replace(history.setting, warmup=8))
    rare = replace(history, epochs=np.arange(0, 24, 2))
    assert common_epochs(late, history).tolist() == [8, 9, 10, 11]
    assert common_epochs(late, rare).tolist() == [8, 10]
    last = replace(history, setting=replace(history.setting, warmup=11))
    for mine, other, words in (
        (last, history, "fewer than two epochs"),
        (history, replace(history, pairs=history.pairs[:, ::-1]), "other pairs"),
        (history, replace(history, names=[name + "'" for name in history.names]), "other pairs"),
        (None, history, "this run has kept no probe"),
        (history, None, "the control has kept no probe"),
    ):
        found = movement(Evidence({}, mine), Evidence({}, other))
        assert found.call == UNKNOWN
        assert words in found.text


@pytest.mark.parametrize(("part", "whole"), [(0, 7), (7, 7), (3, 50), (500, 1000)])
def test_interval_of_a_share_is_wilsons(part: int, whole: int) -> None:
    expected = binomtest(part, whole).proportion_ci(method="wilson")
    assert share_interval(part, whole) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(
    ("crossing", "staying", "call", "words"),
    [
        (0.0, 0.3, GOOD, "fewer than by chance"),
        (0.8, 0.0, BAD, "mostly false negatives"),
        (0.2, 0.02, LEVEL, "times as frequent"),
        (0.5, 0.02, UNKNOWN, "mostly false negatives that cross cannot be told"),
        (0.1, 0.1, LEVEL, "as by chance"),
        (0.0, 0.0, UNKNOWN, "no held-out edge is watched"),
    ],
)
def test_what_crosses(crossing: float, staying: float, call: str, words: str) -> None:
    history = random_history(0.6, pairs=1000)
    crossed = history.crossings > 0
    assert 200 < crossed.sum() < 800
    held = np.zeros(1000, np.int8)
    for group, share in ((crossed, crossing), (~crossed, staying)):
        places = np.flatnonzero(group)
        held[places[: round(share * len(places))]] = 2
    found = false_negatives(replace(history, held_out=held))
    assert found.call == call
    assert words in found.text
    if held.any():
        assert f"of the {crossed.sum()} pairs that crossed {(held[crossed] > 0).sum()} are" in found.text
        assert f"{100 * (held > 0).mean():.1f} %" in found.text


def test_a_hard_set_that_stands_still() -> None:
    still = random_history(0.0)
    assert "Nothing crosses" in false_negatives(replace(still, held_out=np.ones(400, np.int8))).text


@pytest.mark.parametrize(
    ("learned", "call", "words"),
    [
        ({"weights/learned": 0.001, "held_out/weight": 0.5}, BAD, "next to nothing"),
        ({"weights/learned": 0.3, "held_out/weight": 0.5}, GOOD, "weigh 0.50 times"),
        ({"weights/learned": 0.3, "held_out/weight": 1.5}, BAD, "press on false negatives"),
        ({"weights/learned": 0.3, "held_out/weight": 1.0}, LEVEL, "not for false negatives"),
        ({"weights/learned": 0.3}, UNKNOWN, "cannot be told"),
        ({"weights/learned": 0.3, "weights/signal": 0.051, "weights/unevenness": 4.5e-4}, UNKNOWN, "4.5e-04; hyper"),
    ],
)
def test_weights(learned: dict[str, float], call: str, words: str) -> None:
    found = weights(learned)
    assert found.call == call
    assert words in found.text
    assert f"{100 * learned['weights/learned']:.1f} %" in found.text


@pytest.mark.parametrize(
    ("dropped", "top", "chance", "call", "words"),
    [
        (0.2, 0.3, 0.1, GOOD, "more often than chance"),
        (0.3, None, 0.1, GOOD, "more often than chance"),
        (0.2, 0.02, 0.1, BAD, "keeps false negatives"),
        (0.02, 0.1, 0.1, LEVEL, "no more often than chance"),
        (0.02, None, 0.1, LEVEL, "drops easy candidates alone"),
        (None, None, 0.1, UNKNOWN, "dropped nothing"),
        (0.0, None, 0.0, UNKNOWN, "there were none"),
    ],
)
def test_filter(dropped: float | None, top: float | None, chance: float, call: str, words: str) -> None:
    learned = {"held_out/candidates": chance, "num_candidates": 5000.0}
    if dropped is not None:
        learned |= {"held_out/dropped": dropped, "num_dropped": 1000.0}
    if top is not None:
        learned |= {"held_out/dropped_top": top, "num_dropped_top": 500.0}
    found = filtering(learned)
    assert found.call == call
    assert words in found.text


@pytest.mark.parametrize(
    ("fit", "call", "words"),
    [
        ({}, UNKNOWN, "nothing was validated"),
        ({"best_epoch": 3, "epochs": 50, "warmup_epochs": 10}, BAD, "within warm-up (10 epochs)"),
        ({"best_epoch": 30, "epochs": 50, "warmup_epochs": 10}, GOOD, "30 of 50, after warm-up"),
        ({"best_epoch": 49, "epochs": 50, "val": {"mrr": 0.2}}, LEVEL, "(validation MRR 20.0 %), at the very end"),
        ({"best_epoch": 30, "epochs": 50, "warmup_epochs": 0}, GOOD, "30 of 50."),
    ],
)
def test_best_epoch(fit: dict[str, object], call: str, words: str) -> None:
    found = best_epoch(fit)
    assert found.call == call
    assert words in found.text


def test_all_together() -> None:
    history = random_history(0.3)
    learned = {"weights/learned": 0.3, "held_out/candidates": 0.1, "num_candidates": 50.0}
    run = Evidence({"diagnosis": learned, "best_epoch": 3, "epochs": 12}, history)
    assert [found.topic for found in verdict(run, Evidence({}, history))] == [
        *("Movement", "What crosses", "Weights", "Filter", "Best epoch")
    ]
    assert [found.topic for found in verdict(Evidence({}, history))] == ["What crosses", "Best epoch"]
    assert [found.topic for found in verdict(Evidence({}))] == ["Best epoch"]


def test_an_oracle_is_called_one_first() -> None:
    first, *_ = verdict(Evidence({"oracle": True, "best_epoch": 3, "epochs": 12}, random_history(0.3)))
    assert (first.topic, first.call) == ("Oracle", BAD)
    assert first.text.startswith("No honest run")
