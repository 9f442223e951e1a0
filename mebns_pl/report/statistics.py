"""What paired numbers say: arrays in, numbers out, and nothing known of studies, arms or graphs.

Sources: Wilcoxon (1945); Holm (1979), over the tests that can be significant at all (Tarone 1990); the studentized
bootstrap and the expanded percentiles (Efron and Tibshirani 1993, ch. 12; Hesterberg, 1411.5279); ranks over data sets
(Friedman 1937, Nemenyi 1963, as Demšar, JMLR 2006).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from scipy.optimize import brentq

ALPHA = 0.05
POWER = 0.8
RESAMPLES = 4999
FEWEST_FOR_BOOTSTRAP = 5
LEAST_ERROR = 0.25
"""A resample's standard error counts as this share of the sample's at least: a few equal values have next to none."""
MANY = 1000
"""From here on the normal distribution serves in place of Student's, to count the pairs that are needed."""
# A Wilcoxon test needs this many times the pairs of a t-test, where differences are normal
EFFICIENCY = math.pi / 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Paired differences in short.

    Args:
        pairs: how many.
        mean: of the differences; NaN without pairs.
        std: of the differences, with n - 1; NaN with fewer than two.
        low: lower end of the 95 % interval of the mean; NaN with fewer than two.
        high: its upper end.
        p_value: of the two-sided Wilcoxon signed-rank test; 1 where all differences are 0, NaN without pairs.
        direction: 1 or -1 as the ranks lean, 0 if they do not.
    """

    pairs: int
    mean: float
    std: float
    low: float
    high: float
    p_value: float
    direction: int


def paired_difference(differences: Floats, seed: int = 0) -> Difference:
    """Mean, interval and test of paired differences.

    The interval is that of the studentized bootstrap: at 5 to 10 pairs it holds the true mean in 94 to 96 % of normal
    samples and 91 to 95 % of exponential ones. Student's has 95 and 88 to 91 %; BCa and percentiles have 85 to 91 and
    79 to 87 %. With fewer than five pairs it is Student's.

    Args:
        differences: ``(n,)`` float64, finite.
        seed: of the resamples.

    Example:
        >>> paired_difference(np.array([0.01, 0.02, 0.015, 0.005, 0.03, 0.025])).p_value
        0.03125
    """
    n = len(differences)
    if n == 0:
        return Difference(0, math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    mean, std = float(differences.mean()), float(differences.std(ddof=1)) if n > 1 else math.nan
    low, high = mean_interval(differences, seed)
    ranks = scipy.stats.rankdata(np.abs(differences[differences != 0]))
    lean = float((ranks * np.sign(differences[differences != 0])).sum())
    return Difference(n, mean, std, low, high, signed_rank(differences), int(np.sign(lean)))


def signed_rank(differences: Floats) -> float:
    """SciPy's p-value of the two-sided Wilcoxon signed-rank test, and 1 where no pair differs."""
    return float(scipy.stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def mean_interval(values: Floats, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean, by the studentized bootstrap; Student's for fewer than five, NaN for one.

    Args:
        values: ``(n,)`` float64, finite.
        seed: of the resamples.
    """
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(n)
    if error == 0:
        return float(mean), float(mean)
    if n < FEWEST_FOR_BOOTSTRAP:
        low, high = scipy.stats.t.ppf([ALPHA / 2, 1 - ALPHA / 2], n - 1)
    else:
        drawn = values[np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))]
        errors = np.maximum(drawn.std(axis=1, ddof=1) / math.sqrt(n), LEAST_ERROR * error)
        studentized = (drawn.mean(axis=1) - mean) / errors
        low, high = np.quantile(studentized, [ALPHA / 2, 1 - ALPHA / 2], method="inverted_cdf")
    return float(mean - high * error), float(mean - low * error)


def fewest_pairs(level: float = ALPHA) -> int:
    """With fewer pairs than this no Wilcoxon test comes down to a level: n pairs have 2^n arrangements of signs.

    Example:
        >>> fewest_pairs(0.05)
        6
    """
    return math.ceil(1 - math.log2(level))


def least_p(pairs: Sequence[int]) -> Floats:
    """The smallest p-value that Wilcoxon tests of so many pairs can have.

    Args:
        pairs: of each test.

    Returns:
        ``(len(pairs),)`` float64; 1 without pairs.
    """
    return np.minimum(2.0 ** (1 - np.asarray(pairs, dtype=np.float64)), 1.0)


def any_differs(p_values: Floats) -> float:
    """Fisher's combination: p-value that none of some independent samples differs, to whichever side.

    Args:
        p_values: of each sample, ``(m,)`` in (0, 1], at least one.
    """
    return float(scipy.stats.combine_pvalues(p_values, method="fisher").pvalue)


def within_reach(least: Floats) -> NDArray[np.bool_]:
    """Which of a study's tests can be significant at all, after a correction for how many they are (Tarone 1990).

    The others can never be called, whatever the numbers: they need not be corrected for. Only what counts of pairs
    allow is looked at, never outcomes, so that nothing is picked.

    Args:
        least: the smallest p-value that each test can have, ``(m,)``.

    Returns:
        ``(m,)`` bool.

    Example:
        >>> within_reach(least_p([20, 5, 5])).tolist()
        [True, False, False]
    """
    masks = (least <= ALPHA / count for count in range(1, len(least) + 1))
    return next((mask for count, mask in enumerate(masks, 1) if mask.sum() <= count), least < 0)


def holm(p_values: Floats) -> Floats:
    """P-values corrected by Holm's step-down method: that any of a true hypothesis is at most x, has probability x.

    Args:
        p_values: ``(m,)`` in [0, 1].

    Returns:
        ``(m,)`` float64 in [0, 1], each at least as large as it was.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def power(effect: float, pairs: float, level: float = ALPHA) -> float:
    """How often a two-sided Wilcoxon test of normal differences finds an effect, nearly.

    Args:
        effect: mean difference over the standard deviation of the differences, not 0.
        pairs: how many; the test counts as a t-test with pi / 3 times fewer.
        level: of the test.
    """
    n = pairs / EFFICIENCY
    bound = scipy.stats.t.ppf(1 - level / 2, n - 1)
    return float(scipy.stats.ncf.sf(bound**2, 1, n - 1, n * effect**2))  # the square of a noncentral t


def pairs_needed(mean: float, std: float, level: float = ALPHA) -> int | None:
    """How many pairs tell a difference of that size with a power of 0.8.

    Args:
        mean: of the differences.
        std: of the differences.
        level: of the test.

    Returns:
        The number, at least :func:`fewest_pairs`; None where no number would do or the spread is not known.

    Example:
        >>> pairs_needed(mean=0.01, std=0.01), pairs_needed(mean=0.001, std=0.01)
        (11, 824)
    """
    if not (math.isfinite(mean) and math.isfinite(std)) or mean == 0:
        return None
    least = fewest_pairs(level)
    if std == 0:
        return least
    normal = float(scipy.stats.norm.ppf(1 - level / 2) + scipy.stats.norm.ppf(POWER)) * std / abs(mean)
    count = max(least, math.ceil(normal**2 * EFFICIENCY))  # too few by some pairs where they are few
    while count < MANY and power(mean / std, count, level) < POWER:
        count += 1
    return count


def smallest_told(std: float, pairs: int, level: float = ALPHA) -> float | None:
    """The mean difference that so many pairs find with a power of 0.8.

    Args:
        std: of the differences.
        pairs: how many.
        level: of the test.

    Returns:
        A positive number; None where there are too few pairs for any.
    """
    if pairs < fewest_pairs(level) or not math.isfinite(std):
        return None
    return std * _smallest_effect(pairs, level)


@functools.cache
def _smallest_effect(pairs: int, level: float) -> float:
    """The mean over the standard deviation that so many pairs find with a power of 0.8."""
    return float(brentq(lambda effect: power(effect, pairs, level) - POWER, 1e-6, 30.0))


@dataclass(frozen=True)
class Gain:
    """A relative gain over graphs: 0.05 is five percent more.

    Args:
        mean: geometric mean over graphs of mean by arm / mean by control, less 1.
        low: lower end of its 95 % interval; NaN where there is none.
        high: its upper end.
        graphs: how many.
    """

    mean: float
    low: float
    high: float
    graphs: int


def relative_gain(pairs: Sequence[tuple[Floats, Floats]], seed: int = 0) -> Gain | None:
    """Relative gain with an interval by hierarchical bootstrap: graphs are drawn, then pairs within each graph drawn.

    Percentiles are expanded for few graphs (or, of a single graph, few pairs), which else make intervals too short.

    Args:
        pairs: of each graph the values of the arm and of the control, ``(n,)`` each, in the same order.
        seed: of the resamples.

    Returns:
        The gain; None where there is no graph, or a mean of 0.
    """
    pairs = [(arm, control) for arm, control in pairs if len(arm)]
    if not pairs or any(arm.mean() <= 0 or control.mean() <= 0 for arm, control in pairs):
        return None
    mean = float(np.mean([math.log(arm.mean() / control.mean()) for arm, control in pairs]))
    generator = np.random.default_rng(seed)
    graphs = generator.integers(len(pairs), size=(RESAMPLES, len(pairs)))
    logs = np.empty(graphs.shape)
    for number, (arm, control) in enumerate(pairs):
        chosen = graphs == number
        drawn = generator.integers(len(arm), size=(int(chosen.sum()), len(arm)))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs[chosen] = np.log(arm[drawn].mean(axis=1) / control[drawn].mean(axis=1))
    units = len(pairs) if len(pairs) > 1 else len(pairs[0][0])
    drawn_means = logs.mean(axis=1)
    if units < 2 or not np.isfinite(drawn_means).all():
        return Gain(math.expm1(mean), math.nan, math.nan, len(pairs))
    tail = scipy.stats.norm.cdf(-math.sqrt(units / (units - 1)) * scipy.stats.t.ppf(1 - ALPHA / 2, units - 1))
    low, high = np.quantile(drawn_means, [tail, 1 - tail])
    return Gain(math.expm1(mean), math.expm1(low), math.expm1(high), len(pairs))


@dataclass(frozen=True)
class Ranks:
    """Arms by their average rank over graphs.

    Args:
        average: ``(k,)`` average ranks, 1 the best.
        critical: Nemenyi's critical difference: average ranks less far apart are not told apart at 0.05.
        p_value: Friedman's, that all arms are alike; NaN for fewer than three arms.
        graphs: how many were ranked on.
    """

    average: Floats
    critical: float
    p_value: float
    graphs: int


def average_ranks(values: Floats) -> Ranks:
    """Ranks arms on each graph.

    Args:
        values: ``(N, k)`` float64, a row a graph and a column an arm, N and k at least 2; larger is better.

    Example:
        >>> average_ranks(np.array([[0.3, 0.2, 0.1], [0.5, 0.4, 0.4]])).average.tolist()
        [1.0, 2.25, 2.75]
    """
    graphs, arms = values.shape
    average = scipy.stats.rankdata(-values, axis=1).mean(axis=0)
    spread = math.sqrt(arms * (arms + 1) / (12 * graphs))
    critical = float(scipy.stats.studentized_range.ppf(1 - ALPHA, arms, np.inf)) * spread
    alike = arms < 3 or (values == values[:, :1]).all()
    p_value = math.nan if alike else float(scipy.stats.friedmanchisquare(*values.T).pvalue)
    return Ranks(average, critical, p_value, graphs)


def not_told_apart(average: Floats, critical: float) -> list[tuple[float, float]]:
    """The bars of a critical-difference picture: from best to worst rank of each largest group within ``critical``.

    Args:
        average: ``(k,)`` average ranks.
        critical: how far apart ranks of one group are at most.

    Returns:
        Best and worst rank of each group of two or more, none within another.

    Example:
        >>> not_told_apart(np.array([1.0, 1.5, 3.0]), critical=1.0)
        [(1.0, 1.5)]
    """
    ranks = np.sort(average)
    bars: list[tuple[float, float]] = []
    for first, best in enumerate(ranks):
        last = int(np.searchsorted(ranks, best + critical, side="right")) - 1
        if last > first and (not bars or ranks[last] > bars[-1][1]):
            bars.append((float(best), float(ranks[last])))
    return bars
