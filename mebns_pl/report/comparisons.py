"""Which arms are compared with which, and what comes of it: wins, loses, or cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mebns_pl.errors import DataError
from mebns_pl.report.results import AXIS, SEEDS, Results
from mebns_pl.report.statistics import (
    ALPHA,
    Difference,
    Floats,
    Gain,
    Ranks,
    any_differs,
    average_ranks,
    fewest_pairs,
    holm,
    least_p,
    paired_difference,
    pairs_needed,
    relative_gain,
    smallest_told,
    within_reach,
)

WINS, LOSES, LEVEL = "wins", "loses", "cannot be told apart"
Values = dict[tuple[str, int, int], float]
"""By graph, seed of the split and seed of the weights."""
CONTROLS = {"system": ("plain",), "sampler": ("uniform", "rns")}
"""Of these axes the values, in lower case, that others are compared with unless another reference is given."""


@dataclass(frozen=True)
class Question:
    """Values of one axis against one of them, all else equal.

    Args:
        axis: its name.
        reference: the value that the others are compared with.
    """

    axis: str
    reference: str


@dataclass(frozen=True)
class Comparison:
    """An arm against its control, on one graph or over several.

    Args:
        question: what is asked.
        value: of the question's axis, the arm's.
        setting: the values of the other axes that vary, those of both arms.
        graphs: on which.
        planned: pairs that there would be without gaps.
        difference: arm less control, over the pairs.
        gain: relative gain; None where it cannot be told.
        parts: of several graphs, the comparison on each.
        tested: whether there are pairs enough for a test among so many to reach 0.05 at all.
        corrected: p-value after correction for the other tests of the report; NaN if not tested.
        call: WINS, LOSES or LEVEL.
        enough: fewest pairs that a test needs among so many.
        needed: pairs that tell a difference of this size with a power of 0.8; None where no number would do.
        told: the smallest difference that these pairs tell with that power; None where they are too few for any.
    """

    question: Question
    value: str
    setting: str
    graphs: tuple[str, ...]
    planned: int
    difference: Difference
    gain: Gain | None
    parts: tuple[Comparison, ...] = ()
    tested: bool = False
    corrected: float = math.nan
    call: str = LEVEL
    enough: int = 0
    needed: int | None = None
    told: float | None = None


def questions(results: Results, references: Sequence[str] = ()) -> list[Question]:
    """What is compared with what.

    Args:
        results: the runs.
        references: each ``axis/<name>=<value>``; without any, systems are compared with Plain and samplers with
            uniform negatives, and, where neither varies, the first axis that does with its first value.

    Raises:
        DataError: no such axis, or no such value of it.

    Returns:
        The questions; none for runs of a single arm.
    """
    if references:
        return [_question(results, given) for given in references]
    found = []
    for axis in results.varied:
        values = results.frame[AXIS + axis].unique()
        controls = [value for value in values if value.lower() in CONTROLS.get(axis, ())]
        if axis in CONTROLS:
            found.append(Question(axis, (controls or list(values))[0]))
    others = [Question(axis, results.frame[AXIS + axis].iloc[0]) for axis in results.varied]
    # Systems first, whatever the order of the axes: it is what a study of MeBNS asks
    return sorted(found, key=lambda question: list(CONTROLS).index(question.axis)) or others[:1]


def _question(results: Results, given: str) -> Question:
    axis, _, value = given.removeprefix(AXIS).partition("=")
    if axis not in results.varied:
        allowed = ", ".join(AXIS + name for name in results.varied) or "none, all runs are of one arm"
        raise DataError(f"reference: got {given!r}; the axes that vary are {allowed} (give AXIS=VALUE)")
    values = list(results.frame[AXIS + axis].unique())
    if value not in values:
        raise DataError(f"reference: got {given!r}; the values of {AXIS}{axis} are {', '.join(values)}")
    return Question(axis, value)


def compare(results: Results, asked: Sequence[Question]) -> list[Comparison]:
    """Compares every arm with its control, over all graphs and on each.

    Comparisons are called by Wilcoxon tests, corrected by Holm's method so that of studies in which nothing differs at
    most one in twenty calls anything. Over several graphs there are two tests of each comparison, both in the one
    family of the whole report: Wilcoxon's over all pairs, which calls the comparison, and Fisher's combination of the
    graphs' own. Where the latter is significant, graphs are called by their own tests, corrected for each other.

    Args:
        results: the runs.
        asked: by :func:`questions`.

    Returns:
        By question and arm.
    """
    return _called([one for question in asked for one in _of_question(results, question)])


def _of_question(results: Results, question: Question) -> list[Comparison]:
    frame, others = results.frame, [AXIS + axis for axis in results.varied if axis != question.axis]
    settings = map(", ".join, frame[others].to_numpy()) if others else [""] * len(frame)
    keys = zip(frame["graph"], *(frame[name] for name in SEEDS), strict=True)
    arms: dict[tuple[str, str], Values] = {}
    for arm, key, value in zip(
        zip(frame[AXIS + question.axis], settings, strict=True), keys, frame["value"].tolist(), strict=True
    ):
        arms.setdefault(arm, {})[key] = value
    found = []
    for (value, setting), arm_values in arms.items():
        control = arms.get((question.reference, setting))
        if value == question.reference or control is None:
            continue
        graphs = [graph for graph in results.graphs if any(key[0] == graph for key in (*arm_values, *control))]
        parts = [_one(question, value, setting, [graph], arm_values, control) for graph in graphs]
        several = len(parts) > 1
        found.append(_one(question, value, setting, graphs, arm_values, control, parts) if several else parts[0])
    return found


def _one(
    question: Question,
    value: str,
    setting: str,
    graphs: Sequence[str],
    arm: Values,
    control: Values,
    parts: Sequence[Comparison] = (),
) -> Comparison:
    """A comparison that is not called yet, from the values of both arms by graph and seeds, NaN for a gap."""
    planned, numbers = 0, []
    for graph in graphs:
        keys = [key for key in dict.fromkeys((*arm, *control)) if key[0] == graph]
        pairs = np.array([(arm.get(key, math.nan), control.get(key, math.nan)) for key in keys]).reshape(-1, 2)
        planned += len(pairs)
        whole = pairs[np.isfinite(pairs).all(axis=1)]
        numbers.append((whole[:, 0], whole[:, 1]))
    return Comparison(
        question,
        value,
        setting,
        tuple(graphs),
        planned,
        difference=paired_difference(np.concatenate([one - other for one, other in numbers])),
        gain=relative_gain(numbers),
        parts=tuple(parts),
    )


def num_tests(comparisons: Sequence[Comparison]) -> int:
    """How many tests are corrected for each other: Wilcoxon's of each comparison, and over several graphs Fisher's."""
    return len(comparisons) + len(_over_graphs(comparisons))


def _over_graphs(comparisons: Sequence[Comparison]) -> list[int]:
    """Places of the comparisons that have a Fisher's combination, too: those over graphs of which any has pairs."""
    return [number for number, one in enumerate(comparisons) if any(part.difference.pairs for part in one.parts)]


def _called(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """With the tests corrected for each other, and what follows from them."""
    several = _over_graphs(comparisons)
    p_values = np.array([one.difference.p_value for one in comparisons])
    least = least_p([one.difference.pairs for one in comparisons])
    own = [[part.difference for part in comparisons[number].parts if part.difference.pairs] for number in several]
    p_values = np.append(p_values, [any_differs(np.array([part.p_value for part in parts])) for parts in own])
    least = np.append(least, [any_differs(least_p([part.pairs for part in parts])) for parts in own])
    corrected = _corrected(p_values, least)
    gates = dict(zip(several, corrected[len(comparisons) :].tolist(), strict=True))
    level = ALPHA / max(len(p_values), 1)
    found = []
    for number, (one, p_value) in enumerate(zip(comparisons, corrected.tolist(), strict=False)):
        parts: list[Comparison] = []
        if one.parts:
            gate = gates.get(number, math.nan)
            alone = _corrected(
                np.array([part.difference.p_value for part in one.parts]),
                least_p([part.difference.pairs for part in one.parts]),
            )
            gated = np.maximum(alone, gate).tolist()  # NaN if either is
            parts = [_call(part, p, ALPHA / len(gated)) for part, p in zip(one.parts, gated, strict=True)]
        found.append(replace(_call(one, p_value, level), parts=tuple(parts)))
    return found


def _corrected(p_values: Floats, least: Floats) -> Floats:
    """By Holm's method, over the tests that can be significant at all; NaN for the others."""
    tested = within_reach(least)
    corrected = np.full(len(p_values), math.nan)
    corrected[tested] = holm(p_values[tested])
    return corrected


def _call(one: Comparison, corrected: float, level: float) -> Comparison:
    difference = one.difference
    # Where mean and ranks point to different sides there is nothing to call
    agree = difference.direction * difference.mean > 0
    return replace(
        one,
        tested=math.isfinite(corrected),
        corrected=corrected,
        call=(WINS if difference.direction > 0 else LOSES) if corrected <= ALPHA and agree else LEVEL,
        enough=fewest_pairs(level),
        needed=pairs_needed(difference.mean, difference.std, level),
        told=smallest_told(difference.std, difference.pairs, level),
    )


@dataclass(frozen=True)
class Ranking:
    """Arms by their average rank over graphs.

    Args:
        arms: by name, the best first.
        ranks: theirs, in the same order.
        left_out: graphs on which not every arm has a value, which are not ranked on.
    """

    arms: list[str]
    ranks: Ranks
    left_out: list[str]


def ranking(results: Results) -> Ranking | None:
    """Average ranks of the arms' means over the graphs on which all have some.

    Args:
        results: the runs.

    Returns:
        The ranking; None with fewer than two arms, or than two graphs to rank on.
    """
    means = results.frame.pivot_table("value", "graph", "arm", aggfunc="mean", dropna=False, sort=False)
    means = means.reindex(index=results.graphs, columns=results.arms)
    whole = means.dropna()
    if len(whole) < 2 or means.shape[1] < 2:
        return None
    ranks = average_ranks(whole.to_numpy())
    order = np.argsort(ranks.average, kind="stable")
    arms = [str(means.columns[position]) for position in order]
    left_out = [str(graph) for graph in means.index if graph not in whole.index]
    return Ranking(arms, replace(ranks, average=ranks.average[order]), left_out)
