"""The verdict in plain words, with its numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mebns_pl.report.comparisons import LEVEL, LOSES, WINS, Comparison, Question, num_tests
from mebns_pl.report.results import Results
from mebns_pl.report.statistics import ALPHA, fewest_pairs
from mebns_pl.terminal import metric_heading

CALLS = (WINS, LOSES, LEVEL)
MANY_SEEDS = 10_000
SIX = fewest_pairs(ALPHA)
TOO_FEW = "with fewer than six pairs no Wilcoxon test can reach 0.05"


@dataclass(frozen=True)
class Line:
    """What became of one arm.

    Args:
        call: WINS, LOSES or LEVEL.
        lead: the verdict.
        detail: its numbers.
        by_graph: where it wins, loses or cannot be told apart; empty for a single graph.
    """

    call: str
    lead: str
    detail: str
    by_graph: str


@dataclass(frozen=True)
class Verdict:
    """The answer to one question.

    Args:
        title: the question.
        summary: the answer in one sentence.
        lines: an arm each.
    """

    title: str
    summary: str
    lines: list[Line]


def verdicts(results: Results, asked: Sequence[Question], comparisons: Sequence[Comparison]) -> list[Verdict]:
    """The verdict on every question.

    Args:
        results: the runs.
        asked: the questions.
        comparisons: by :func:`~mebns_pl.report.comparisons.compare`.
    """
    tests = num_tests(comparisons)
    return [
        _verdict(results, question, [c for c in comparisons if c.question == question], tests) for question in asked
    ]


def _verdict(results: Results, question: Question, comparisons: Sequence[Comparison], tests: int) -> Verdict:
    values = list(dict.fromkeys(one.value for one in comparisons))
    names = values[0] if len(values) == 1 else "the others"
    counts = Counter(one.call for one in comparisons)
    if not comparisons:
        summary = (
            f"No arm has a control: none differs from one with {question.axis} {question.reference} in that alone."
        )
    elif len(comparisons) == 1:
        summary = f"In {heading(results.metric)} {_lead(comparisons[0])}."
    else:
        summary = (
            f"In {heading(results.metric)}, of {len(comparisons)} comparisons {counts[WINS]} are won, "
            f"{counts[LOSES]} lost, and in {counts[LEVEL]} the two cannot be told apart."
        )
    parts = Counter(part.call for one in comparisons for part in one.parts)
    if parts[WINS] or parts[LOSES]:
        summary += f" On single graphs, {parts[WINS]} of {parts.total()} are won and {parts[LOSES]} lost."
    lines = [Line(one.call, _lead(one), detail(one, tests), _by_graph(one)) for one in comparisons]
    return Verdict(f"{question.axis}: {names} against {question.reference}", summary, lines)


def _by_graph(one: Comparison) -> str:
    if not one.parts:
        return ""
    if all(part.call == LEVEL for part in one.parts):
        enough = any(part.tested for part in one.parts)
        return "No graph by itself can be called." if enough else "No graph by itself has pairs enough for a test."
    graphs = {call: [graph for part in one.parts if part.call == call for graph in part.graphs] for call in CALLS}
    told = "; ".join(f"{call} on {', '.join(names)}" for call, names in graphs.items() if names)
    return f"Graph by graph: {told}."


def _lead(one: Comparison) -> str:
    place = f"over {len(one.graphs)} graphs together" if one.parts else f"on {one.graphs[0]}"
    name = f"{one.value} ({one.setting})" if one.setting else one.value
    verb = {WINS: "wins over", LOSES: "loses to", LEVEL: "cannot be told apart from"}[one.call]
    return f"{name} {verb} {one.question.reference} {place}"


def detail(one: Comparison, tests: int) -> str:
    """The numbers of a comparison, why it is not called where it is not, and how many seeds it would take.

    Args:
        one: the comparison.
        tests: how many there are in the report, by :func:`~mebns_pl.report.comparisons.num_tests`.
    """
    found = one.difference
    pairs = f"{found.pairs} pair{'s' * (found.pairs != 1)}"
    gap = f" of {one.planned} (the others have gaps)" if found.pairs < one.planned else ""
    if found.pairs == 0:
        return f"No pairs{gap}: there are no seeds with which both have finished."
    told = [f"Mean difference {signed(found.mean)}{_interval(found.low, found.high)} over {pairs}{gap}"]
    if one.gain is not None:
        told[0] += f", relative gain {percent(one.gain.mean)}"
    if one.tested:
        told[0] += f"; Wilcoxon's p {p_told(found.p_value)}"
        if tests > 1:
            told[0] += f", after Holm's correction {p_text(one.corrected)}"
    if one.call == LEVEL:
        told += _why_level(one, tests, pairs)
    return ". ".join(text[0].upper() + text[1:] for text in told) + "."


def _why_level(one: Comparison, tests: int, pairs: str) -> list[str]:
    found, told = one.difference, []
    if found.pairs < SIX:
        told.append(TOO_FEW)
    elif not one.tested:
        told.append(f"with {pairs} no test can reach {ALPHA} among {tests} tests; with {one.enough} one could")
    elif found.low * found.high > 0:
        told.append("the interval by itself is clear of 0, the test is not")
    if one.needed is not None:
        each = " on each graph" if one.parts else ""
        seeds = seeds_needed(one).replace(">", "more than")
        told.append(f"to tell a difference of this size four times in five takes {seeds} seeds{each}")
    if one.told is not None:
        told.append(f"the {pairs} here would tell one of {one.told:.4f} as often")
    return told


def seeds_needed(one: Comparison) -> str:
    """How many seeds on each graph tell a difference of this size with a power of 0.8; a dash where no number would."""
    if one.needed is None:
        return "-"
    seeds = math.ceil(one.needed / len(one.graphs))
    return f"{seeds:,}" if seeds <= MANY_SEEDS else f"> {MANY_SEEDS:,}"


def heading(metric: str) -> str:
    """How people write a metric of a stage: ``test MRR``.

    Example:
        >>> heading("test/hits@10")
        'test Hits@10'
    """
    stage, _, name = metric.partition("/")
    return f"{stage} {metric_heading(name)}"


def signed(value: float) -> str:
    """A difference of metrics: ``+0.0123``; a dash where there is none."""
    return f"{value:+.4f}" if math.isfinite(value) else "-"


def percent(value: float) -> str:
    """A relative gain: ``+1.2 %``."""
    return f"{100 * value:+.1f} %" if math.isfinite(value) else "-"


def p_text(value: float) -> str:
    """A p-value to two digits; a dash where there was no test."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


def p_told(value: float) -> str:
    """A p-value in a sentence: ``= 0.031``, ``< 0.0001``."""
    text = p_text(value)
    return text if text.startswith("<") else f"= {text}"


def _interval(low: float, high: float) -> str:
    return f" (95 % interval {signed(low)} to {signed(high)})" if math.isfinite(low) else ""
