"""Migration: hand-computed sequences, a slow loop, and a history that can be saved."""

from __future__ import annotations

import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mebns_pl.analysis.migration import MigrationTracker, churn, hard_set, nearest_scores, transition_rates

LOGITS = st.lists(st.integers(-6, 6), min_size=4, max_size=12)


def bools(text: str) -> Tensor:
    return torch.tensor([mark == "x" for mark in text])


# --- functions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "share", "expected"),
    [
        ([3, 1, 2, 0, -5], 0.2, "x...."),
        ([3, 1, 2, 0, -5], 0.21, "x.x.."),  # ceil
        ([3, 1, 2, 0, -5], 0.4, "x.x.."),
        ([1, 1, 1, 1, 1], 0.4, "xx..."),  # ties by place
        ([0, 1, 1, 0, 1], 0.4, ".xx.."),
        ([-3, -1, -2], 1.0, "xxx"),
    ],
)
def test_hard_set(scores: list[float], share: float, expected: str) -> None:
    assert torch.equal(hard_set(torch.tensor(scores).float(), share), bools(expected))


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [("xx..", "xx..", 0), ("xx..", "..xx", 1), ("xx..", ".xx.", 0.5), ("xxx.", "x.xx", 1 / 3)],
)
def test_churn(now: str, before: str, expected: float) -> None:
    assert float(churn(bools(now), bools(before))) == pytest.approx(expected)


def test_transition_rates() -> None:
    before = torch.tensor([0.9, 0.8, 0.7, 0.1, 0.2, 0.5])  # hard is above 0.5, so 0.5 itself is easy
    now = torch.tensor([0.9, 0.4, 0.3, 0.6, 0.2, 0.5])
    easy_to_hard, hard_to_easy = transition_rates(now, before, 0.5)
    assert float(easy_to_hard) == pytest.approx(1 / 3)
    assert float(hard_to_easy) == pytest.approx(2 / 3)


def test_transition_rates_of_nothing_are_nan() -> None:
    low, high = torch.tensor([0.1, 0.2]), torch.tensor([0.8, 0.9])
    rates = [float(rate) for rate in transition_rates(high, low, 0.5) + transition_rates(low, high, 0.5)]
    assert rates[0] == 1
    assert math.isnan(rates[1])
    assert math.isnan(rates[2])
    assert rates[3] == 1


@given(LOGITS, LOGITS)
def test_nearest_scores_are_nearest(scores: list[int], pool: list[int]) -> None:
    found = nearest_scores(torch.tensor(scores).float(), torch.tensor(pool).float())
    for score, place in zip(scores, found.tolist(), strict=True):
        assert abs(score - pool[place]) == min(abs(score - value) for value in pool)


def test_nearest_scores_between_two() -> None:
    pool = torch.tensor([5.0, -1.0, 2.0])
    assert nearest_scores(torch.tensor([-9.0, 0.4, 0.6, 4.0, 9.0]), pool).tolist() == [1, 1, 2, 0, 0]
    assert nearest_scores(torch.tensor([7.0]), torch.tensor([0.0])).tolist() == [0]
    assert nearest_scores(torch.tensor([]), pool).tolist() == []


# --- tracker --------------------------------------------------------------------------------------------------------

SEQUENCE = [[3.0, 2.0, -1.0, -2.0, -3.0], [3.0, -2.0, 2.0, -1.0, -3.0], [-1.0, -2.0, 2.0, 3.0, 1.0]]


def test_a_sequence_by_hand() -> None:
    tracker = MigrationTracker(share=0.4, threshold=0.5, lags=(1, 2))
    scalars = [tracker.update(torch.tensor(logits)) for logits in SEQUENCE]
    # Hard sets {0, 1}, {0, 2}, {2, 3}; above a probability of one half {0, 1}, {0, 2}, {2, 3, 4}
    assert scalars[0] == {"hard_score": 2.0}
    assert scalars[1] == pytest.approx(
        {"hard_score": 2.0, "churn@1": 0.5, "easy_to_hard": 1 / 3, "hard_to_easy": 1 / 2, "flips_mean": 2 / 5}
    )
    assert scalars[2] == pytest.approx(
        {
            "hard_score": 2.0,
            "churn@1": 0.5,
            "churn@2": 1.0,
            "easy_to_hard": 2 / 3,
            "hard_to_easy": 1 / 2,
            "flips_mean": 4 / 5,
        }
    )
    assert tracker.flips.tolist() == [1, 1, 1, 1, 0]
    assert tracker.churns == [0.5, 0.5]


def slow_history(
    epochs: list[list[int]], share: float, threshold: float, lags: tuple[int, ...]
) -> list[dict[str, float]]:
    """The scalars from Python sets, from the definitions of the method."""
    hards: list[set[int]] = []
    above: list[set[int]] = []
    flips: dict[int, int] = {}
    told = []
    for logits in epochs:
        order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
        hards.append(set(order[: math.ceil(share * len(logits))]))
        above.append({i for i, logit in enumerate(logits) if 1 / (1 + math.exp(-logit)) > threshold})
        scalars = {"hard_score": float(min(logits[i] for i in hards[-1]))}
        for lag in lags:
            if len(hards) > lag:
                scalars[f"churn@{lag}"] = 1 - len(hards[-1] & hards[-1 - lag]) / len(hards[-1])
        if len(hards) > 1:
            for i in hards[-1] ^ hards[-2]:
                flips[i] = flips.get(i, 0) + 1
            scalars["flips_mean"] = sum(flips.values()) / len(logits)
            easy = set(range(len(logits))) - above[-2]
            if easy:
                scalars["easy_to_hard"] = len(above[-1] & easy) / len(easy)
            if above[-2]:
                scalars["hard_to_easy"] = len(above[-2] - above[-1]) / len(above[-2])
        told.append(scalars)
    return told


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(3, 15),
    epochs=st.integers(1, 9),
    share=st.sampled_from([0.1, 0.2, 0.5, 0.9]),
    threshold=st.sampled_from([0.2, 0.5, 0.8]),
    lags=st.sampled_from([(1,), (1, 2, 5), (3, 1), (2,)]),
)
def test_tracker_equals_a_slow_loop(
    seed: int, size: int, epochs: int, share: float, threshold: float, lags: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    history = [torch.randint(-4, 5, (size,), generator=generator).tolist() for _ in range(epochs)]
    tracker = MigrationTracker(share, threshold, lags)
    for logits, expected in zip(history, slow_history(history, share, threshold, lags), strict=True):
        assert tracker.update(torch.tensor(logits)) == pytest.approx(expected)


def test_state_round_trip() -> None:
    """Stopped anywhere, saved, and taken up again by another tracker: nothing is lost."""
    generator = torch.Generator().manual_seed(0)
    history = [torch.randn(20, generator=generator) for _ in range(8)]
    whole = MigrationTracker(lags=(1, 3))
    expected = [whole.update(logits) for logits in history]
    for stop in range(9):
        first, second = MigrationTracker(lags=(1, 3)), MigrationTracker(lags=(1, 3))
        found = [first.update(logits) for logits in history[:stop]]
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        found += [second.update(logits) for logits in history[stop:]]
        assert found == expected
        assert second.late_churn() == whole.late_churn()


def test_state_is_a_copy() -> None:
    tracker = MigrationTracker(lags=(1,))
    for logits in SEQUENCE:
        tracker.update(torch.tensor(logits))
    state = tracker.state_dict()
    before = [list(state["churns"]), state["flips"].tolist(), len(state["hard_sets"])]
    tracker.update(torch.tensor(SEQUENCE[0]))
    assert [state["churns"], state["flips"].tolist(), len(state["hard_sets"])] == before


def test_only_the_history_that_is_needed_is_kept() -> None:
    tracker = MigrationTracker(lags=(1, 3))
    for _ in range(10):
        tracker.update(torch.randn(20))
    assert len(tracker.hard_sets) == 3
    assert len(tracker.churns) == 9


def test_late_churn_is_that_of_the_second_half() -> None:
    tracker = MigrationTracker()
    assert math.isnan(tracker.late_churn())
    for churns, expected in (([0.4], 0.4), ([0.9, 0.1], 0.1), ([0.9, 0.2, 0.4], 0.3), ([0.9, 0.9, 0.1, 0.3], 0.2)):
        tracker.churns = churns
        assert tracker.late_churn() == pytest.approx(expected)


def test_half_precision_logits_are_taken() -> None:
    one, other = MigrationTracker(), MigrationTracker()
    for logits in SEQUENCE:
        assert one.update(torch.tensor(logits).half()) == other.update(torch.tensor(logits))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, r"share: expected a number in \(0, 1\), got 0.0"),
        ({"share": 1.0}, "share"),
        ({"threshold": 1.0}, r"threshold: expected a number in \(0, 1\), got 1.0"),
        ({"lags": ()}, r"lags: expected epochs of 1 or more, got \(\)"),
        ({"lags": (1, 0)}, r"lags: .* got \(1, 0\)"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MigrationTracker(**options)
