"""Statistics of a report against SciPy, against slow and obvious twins, and against what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from mebns_pl.report import statistics
from mebns_pl.report.statistics import (
    ALPHA,
    POWER,
    any_differs,
    average_ranks,
    fewest_pairs,
    holm,
    least_p,
    mean_interval,
    not_told_apart,
    paired_difference,
    pairs_needed,
    power,
    relative_gain,
    signed_rank,
    smallest_told,
    within_reach,
)


def draws(*size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size)


# --- tests of differences ---


def signed_rank_by_counting(differences: np.ndarray) -> float:
    """The share of all assignments of signs whose rank sum is as far from its middle as the one found."""
    ranks = scipy.stats.rankdata(np.abs(differences))
    found = abs((ranks * np.sign(differences)).sum())
    all_signs = itertools.product([-1, 1], repeat=len(differences))
    sums = [abs(sum(r * s for r, s in zip(ranks, signs, strict=True))) for signs in all_signs]
    return float(np.mean([total >= found - 1e-9 for total in sums]))


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9])
def test_signed_rank_is_that_of_all_arrangements_of_signs(n: int) -> None:
    differences = draws(n) + 0.5
    assert signed_rank(differences) == pytest.approx(signed_rank_by_counting(differences))


@pytest.mark.parametrize("n", [10, 60])
def test_statistics_are_scipys_on_the_same_numbers(n: int) -> None:
    arm, control = draws(n, seed=1) + 0.4, draws(n, seed=2)
    found = paired_difference(arm - control)
    assert found.p_value == scipy.stats.wilcoxon(arm, control).pvalue
    assert found.std == pytest.approx(scipy.stats.tstd(arm - control))
    assert found.mean == pytest.approx(arm.mean() - control.mean())
    friedman = scipy.stats.friedmanchisquare(*draws(n, 4).T).pvalue
    assert average_ranks(draws(n, 4)).p_value == friedman


def test_no_pairs_and_no_differences_are_told() -> None:
    assert math.isnan(paired_difference(np.array([])).p_value)
    nothing = paired_difference(np.zeros(8))
    assert (nothing.p_value, nothing.direction, nothing.low, nothing.high) == (1.0, 0, 0.0, 0.0)


def test_fewer_than_six_pairs_never_reach_five_percent() -> None:
    for n in range(1, 9):
        smallest = signed_rank(np.arange(1.0, n + 1))
        assert smallest == pytest.approx(least_p([n])[0])
        assert (smallest <= ALPHA) == (n >= fewest_pairs())
    assert fewest_pairs(0.05 / 12) == 9


def holm_step_by_step(p_values: list[float]) -> list[float]:
    corrected, largest = [0.0] * len(p_values), 0.0
    for step, number in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[number] * (len(p_values) - step)))
        corrected[number] = largest
    return corrected


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_holm(count: int) -> None:
    p_values = np.random.default_rng(count).random(count).round(1) ** 3
    assert holm(p_values) == pytest.approx(holm_step_by_step(p_values.tolist()))


def within_reach_by_trying(least: list[float]) -> list[bool]:
    """With a correction for one test, for two, ...: the first that is enough for all tests that can pass it."""
    count = 1
    while sum(one <= ALPHA / count for one in least) > count:
        count += 1
    return [one <= ALPHA / count for one in least]


def test_tests_that_can_never_be_called_are_not_corrected_for() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        least = least_p(generator.integers(1, 15, size=generator.integers(1, 40)).tolist())
        mask = within_reach(least)
        assert mask.tolist() == within_reach_by_trying(least.tolist())
        assert (least[mask] <= ALPHA / max(mask.sum(), 1)).all()
    assert within_reach(least_p([])).tolist() == []


def test_fishers_combination_finds_what_goes_to_both_sides() -> None:
    up, down = signed_rank(np.arange(1.0, 9.0)), signed_rank(-np.arange(1.0, 9.0))
    assert any_differs(np.array([up, down])) == pytest.approx(
        scipy.stats.chi2.sf(-2 * math.log(up * down), 4), rel=1e-9
    )
    assert any_differs(np.array([up, down])) < 0.001


# --- intervals ---


def test_studentized_bootstrap_is_what_the_book_says() -> None:
    values, n = draws(6), 6
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(n)
    ratios = []
    for row in np.random.default_rng(3).integers(n, size=(statistics.RESAMPLES, n)):
        drawn = values[row]
        spread = drawn.std(ddof=1) / math.sqrt(n)
        gap = drawn.mean() - mean
        ratios.append(gap / max(spread, error / 4))
    ratios.sort()
    low, high = ratios[math.ceil(0.025 * len(ratios)) - 1], ratios[math.ceil(0.975 * len(ratios)) - 1]
    assert mean_interval(values, seed=3) == pytest.approx((mean - high * error, mean - low * error))


def test_intervals_repeat_and_move_with_the_numbers() -> None:
    values = draws(8)
    assert mean_interval(values) == mean_interval(values.copy())
    assert mean_interval(3 * values + 1) == pytest.approx([3 * end + 1 for end in mean_interval(values)])
    assert mean_interval(-values[:3]) == pytest.approx([-end for end in mean_interval(values[:3])[::-1]])


def test_one_run_that_collapsed_does_not_make_the_interval_endless() -> None:
    values = np.append(np.full(9, 0.01) + 1e-4 * draws(9), -0.3)
    low, high = mean_interval(values)
    assert low >= -0.5
    assert low <= values.mean() <= high


def test_few_pairs_have_students_interval_and_one_has_none() -> None:
    values = draws(4)
    t_test = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((t_test.low, t_test.high))
    assert np.isnan(mean_interval(values[:1])).all()
    assert mean_interval(np.full(6, 0.2)) == pytest.approx((0.2, 0.2))


def coverage(n: int, studies: int, skewed: bool) -> float:
    generator = np.random.default_rng(n)
    samples = generator.exponential(size=(studies, n)) - 1 if skewed else generator.normal(size=(studies, n))
    ends = np.array([mean_interval(sample) for sample in samples])
    return float(((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean())


def test_intervals_hold_the_mean_about_as_often_as_they_say() -> None:
    assert 0.9 <= coverage(6, 300, skewed=False) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("n", [5, 6, 8, 10])
def test_intervals_hold_the_mean_as_often_as_they_say(n: int, skewed: bool) -> None:
    assert (0.9 if skewed else 0.93) <= coverage(n, 2000, skewed) <= 0.97


# --- how many pairs ---


@pytest.mark.parametrize("effect", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("level", [0.05, 0.05 / 20])
def test_pairs_needed_are_the_fewest_with_that_power(effect: float, level: float) -> None:
    needed = pairs_needed(effect, 1.0, level)
    assert needed is not None
    # The normal distribution, from which the search begins, asks for a pair too many where levels are low
    assert power(effect, needed, level) >= POWER - 0.005
    assert needed == fewest_pairs(level) or power(effect, needed - 2, level) < POWER


def test_power_is_that_of_a_paired_t_test_with_fewer_pairs() -> None:
    """Cohen (1988): 34 pairs, an effect of 0.5, two-sided 0.05: 0.807."""
    assert power(0.5, 34 * math.pi / 3) == pytest.approx(0.807, abs=0.001)


def test_the_smallest_difference_told_needs_just_these_pairs() -> None:
    told = smallest_told(0.02, 15)
    assert told is not None
    assert pairs_needed(told, 0.02) == 15
    assert smallest_told(0.02, 5) is None
    assert smallest_told(0.0, 8) == 0.0


def test_where_no_number_would_do_none_is_told() -> None:
    assert pairs_needed(0.0, 0.1) is None
    assert pairs_needed(0.1, math.nan) is None
    assert pairs_needed(0.1, 0.0) == fewest_pairs()


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.4, 0.7, 1.0])
def test_wilcoxon_finds_an_effect_with_the_pairs_that_it_is_said_to_need(effect: float) -> None:
    needed = pairs_needed(effect, 1.0)
    assert needed is not None
    found = scipy.stats.wilcoxon(draws(4000, needed) + effect, axis=1).pvalue <= ALPHA
    assert found.mean() == pytest.approx(POWER, abs=0.04)


# --- over graphs ---


def test_relative_gain_is_the_geometric_mean_of_ratios() -> None:
    one, two = np.array([0.2, 0.4]), np.array([0.1, 0.3])
    gain = relative_gain([(2 * one, one), (0.5 * two, two)])
    assert gain is not None
    assert gain.mean == pytest.approx(0.0)
    assert gain.low <= -0.5 + 1e-9
    assert gain.high >= 1 - 1e-9
    even = relative_gain([(1.1 * one, one), (1.1 * two, two)])
    assert even is not None
    assert (even.low, even.high) == pytest.approx((0.1, 0.1))


def test_relative_gain_turned_round_is_the_inverse() -> None:
    pairs = [(np.exp(draws(6, seed=s)), np.exp(draws(6, seed=s + 9))) for s in range(5)]
    there, back = relative_gain(pairs), relative_gain([(control, arm) for arm, control in pairs])
    assert there is not None
    assert back is not None
    assert 1 + there.mean == pytest.approx(1 / (1 + back.mean))


def test_relative_gain_of_nothing_is_none() -> None:
    assert relative_gain([]) is None
    assert relative_gain([(np.array([]), np.array([]))]) is None
    assert relative_gain([(np.array([0.1]), np.array([0.0]))]) is None
    single = relative_gain([(np.array([0.2]), np.array([0.1]))])
    assert single is not None
    assert single.mean == pytest.approx(1.0)
    assert math.isnan(single.low)


@pytest.mark.slow
def test_gain_interval_holds_the_gain_of_all_graphs() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        pairs = []
        for effect in generator.normal(0.05, 0.05, size=8):
            control = 0.3 + generator.normal(0, 0.01, size=10)
            pairs.append((control * math.exp(effect) + generator.normal(0, 0.003, size=10), control))
        gain = relative_gain(pairs)
        assert gain is not None
        inside += gain.low <= math.expm1(0.05) <= gain.high
    assert 0.91 <= inside / 300 <= 0.99


def test_critical_difference_is_that_of_the_paper() -> None:
    """Demšar (2006), section 3.2.2: four algorithms on 14 data sets, 1.25."""
    assert average_ranks(draws(14, 4)).critical == pytest.approx(1.25, abs=0.005)


def test_average_ranks_share_ties() -> None:
    ranks = average_ranks(np.array([[0.3, 0.3, 0.1], [0.2, 0.5, 0.1]]))
    assert ranks.average.tolist() == [1.75, 1.25, 3.0]
    assert math.isnan(average_ranks(np.full((3, 3), 0.5)).p_value)
    assert math.isnan(average_ranks(draws(4, 2)).p_value)


def bars_of_all_pairs(average: np.ndarray, critical: float) -> set[tuple[float, float]]:
    close = {(a, b) for a in average for b in average if a < b and b - a <= critical}
    return {one for one in close if not any(o != one and o[0] <= one[0] and one[1] <= o[1] for o in close)}


@pytest.mark.parametrize("critical", [0.1, 1.0, 2.5, 9.0])
def test_bars_join_what_is_not_told_apart(critical: float) -> None:
    average = 1 + 5 * np.random.default_rng(5).random(9)
    assert set(not_told_apart(average, critical)) == bars_of_all_pairs(average, critical)
