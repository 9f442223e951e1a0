"""A report: from the rows of a study to a verdict in words, tables and figures, as Markdown, LaTeX or one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mebns_pl.analysis.collapse import oracle
from mebns_pl.errors import DataError
from mebns_pl.files import write_atomically
from mebns_pl.report.cards import RunCard, beside, cards_of
from mebns_pl.report.comparisons import Comparison, Question, Ranking, compare, questions, ranking
from mebns_pl.report.figures import cost_figure, curve_figure, forest_figure, rank_figure
from mebns_pl.report.results import SEEDS, Results, curves, gaps, results_of, run_notes
from mebns_pl.report.tables import Table, latex, latex_text, markdown, markdown_text, tables
from mebns_pl.report.words import TOO_FEW, Verdict, heading, verdicts

PAGE = Path(__file__).with_name("page.html.j2")
HOW = (
    "A comparison is called by the Wilcoxon signed-rank test on paired runs (same graph, split, seed) at 0.05, after "
    f"Holm's correction over all comparisons of the report that have pairs enough; {TOO_FEW}. One graph of several is "
    "called only where its comparison differs on some graph at all (Fisher's combination of the graphs' tests, in "
    "the same correction). Intervals are for each comparison by itself."
)


@dataclass(frozen=True)
class Figure:
    """A figure of a report.

    Args:
        name: short, the same in every report.
        heading: over it; empty where that of its section does.
        caption: what it shows.
        figure: Plotly's.
    """

    name: str
    heading: str
    caption: str
    figure: go.Figure


@dataclass(frozen=True)
class Report:
    """All that a report tells.

    Args:
        title: of what it is.
        results: the runs.
        verdicts: a question each.
        remarks: what to keep in mind, sentences.
        tables: those with rows.
        questions: what is compared with what.
        comparisons: their answers, in numbers.
        ranking: of the arms over graphs; None where there is none.
        cards: of single runs, where they are few.
    """

    title: str
    results: Results
    verdicts: list[Verdict]
    remarks: list[str]
    tables: list[Table]
    questions: list[Question]
    comparisons: list[Comparison]
    ranking: Ranking | None
    cards: list[RunCard]


def build_report(frame: pd.DataFrame, folder: Path, metric: str = "test/mrr", references: Sequence[str] = ()) -> Report:
    """Makes a report of runs. It only reads: nothing is chosen by the metric that it tells.

    Args:
        frame: a row a run, see :func:`~mebns_pl.report.results.results_of`.
        folder: of the study.
        metric: what is compared, larger is better.
        references: see :func:`~mebns_pl.report.comparisons.questions`.

    Raises:
        DataError: no finished runs, no such metric or reference, a file of another version.
    """
    results = results_of(frame, metric, folder)
    asked = questions(results, references)
    comparisons = compare(results, asked)
    ranked, missing, notes = ranking(results), gaps(results), run_notes(results)
    return Report(
        title=folder.resolve().name,
        results=results,
        verdicts=verdicts(results, asked, comparisons),
        remarks=_remarks(results, comparisons, missing, notes),
        tables=tables(results, comparisons, ranked, missing, notes, beside(results)),
        questions=asked,
        comparisons=comparisons,
        ranking=ranked,
        cards=cards_of(results),
    )


def _remarks(
    results: Results, comparisons: Sequence[Comparison], missing: pd.DataFrame, notes: pd.DataFrame
) -> list[str]:
    frame = results.frame
    runs = int(frame["value"].notna().sum())
    arms, graphs = len(results.arms), len(results.graphs)
    told = [f"{runs} runs with {heading(results.metric)}: {_count(arms, 'arm')} on {_count(graphs, 'graph')}."]
    if constant := ", ".join(f"{axis} {value}" for axis, value in results.constant.items()):
        told.append(f"The same in all runs: {constant}.")
    if len(missing):
        told.append(
            f"{_count(int(missing['runs'].sum()), 'run')} missing or without result, listed as gaps; pairs are counted."
        )
    if not comparisons:
        told.append("There is one arm alone, or none has a control: nothing is compared.")
    elif all(one.difference.pairs < 6 for one in comparisons):
        told.append(f"No comparison here has six pairs: {TOO_FEW}, whatever the numbers. More seeds are needed.")
    by_run = frame.groupby(["arm", "graph"])
    splits, pairs = by_run["split_seed"].nunique(), by_run[SEEDS].apply(lambda seeds: len(seeds.drop_duplicates()))
    if (splits == 1).all() and (pairs > 1).any():
        told.append("All runs of a graph share one split: what is told here holds for that split, others may differ.")
    elif (splits < pairs).any():
        told.append("Several seeds share a split: their pairs are not independent, and intervals may be too short.")
    if results.metric.startswith("val/"):
        told.append("This is a metric of validation, by which epochs and settings are chosen: it flatters.")
    if oracles := int(notes.loc[notes["code"] == oracle().code, "runs"].sum()):
        told.append(
            f"{_count(oracles, 'run')} had held-out edges left out of the negatives (data.oracle, see the notes): for "
            "analysis alone, no honest results."
        )
    for name in ("version", "commit", "machine"):
        values = sorted({str(value) for value in frame.get(name, []) if value and not pd.isna(value)})
        if len(values) > 1:
            told.append(f"Runs are of {len(values)} {name}s: {', '.join(values)}.")
    return told


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _figures(report: Report) -> list[Figure]:
    results, found = report.results, []
    for number, question in enumerate(report.questions):
        own = [one for one in report.comparisons if one.question == question]
        if any(one.difference.pairs for one in own):
            title = f"{question.axis} against {question.reference}" if len(report.questions) > 1 else ""
            caption = (
                "Mean difference and its 95 % interval. Blue up: wins; orange down: loses; grey: cannot be told apart."
            )
            found.append(Figure(f"differences-{number}", title, caption, forest_figure(own, results.metric)))
    if report.ranking is not None:
        caption = "Critical-difference picture: arms joined by a bar are not told apart (Nemenyi, 0.05)."
        found.append(Figure("ranks", "", caption, rank_figure(report.ranking)))
    points = curves(results)
    if len(points):
        caption = "Mean over runs; the band goes from the worst to the best run. Click on a name to hide it."
        found.append(Figure("curves", "", caption, curve_figure(results, points)))
    cost = cost_figure(results)
    if cost is not None:
        caption = "Mean over runs, ± standard deviation. Left is cheaper, up is better."
        found.append(Figure("cost", "", caption, cost))
    return found


def as_markdown(report: Report) -> str:
    """The report in Markdown, without figures."""
    told = [f"# {markdown_text(report.title)}"]
    for verdict in report.verdicts:
        told += [f"## {markdown_text(verdict.title)}", f"**{markdown_text(verdict.summary)}**"]
        for line in verdict.lines:
            told.append(f"- **{markdown_text(line.lead)}.** {markdown_text(f'{line.detail} {line.by_graph}')}")
    told += ["\n".join(f"- {markdown_text(remark)}" for remark in report.remarks), markdown_text(HOW), "## Tables"]
    for table in report.tables:
        told += [markdown_text(table.caption), markdown(table)]
    for card in report.cards:
        told += [f"## {markdown_text(card.title)}", markdown_text(card.table.caption), markdown(card.table)]
        told.append("\n".join(f"- {markdown_text(sentence)}" for sentence in card.sentences))
    return "\n\n".join(told) + "\n"


def as_latex(report: Report) -> str:
    """The report's tables in LaTeX, the verdict before them as text; to be put into a document that has booktabs."""
    told = ["% \\usepackage{booktabs}"]
    for verdict in report.verdicts:
        told.append(f"\\paragraph{{{latex_text(verdict.title)}}} {latex_text(verdict.summary)}")
    return "\n\n".join([*told, *map(latex, [*report.tables, *(card.table for card in report.cards)])]) + "\n"


def as_page(report: Report) -> str:
    """The report as one HTML page that needs neither server nor network."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    options = {"displayModeBar": False, "responsive": True}
    figures = _figures(report)
    drawn = {
        item.name: item.figure.to_html(
            full_html=False, include_plotlyjs=False, div_id=f"figure-{item.name}", config=options
        )
        for item in figures
    }
    return environment.from_string(PAGE.read_text("utf-8")).render(
        report=report,
        figures=figures,
        how=HOW,
        plotly=get_plotlyjs(),
        drawn=drawn,
        metric=heading(report.results.metric),
    )


FORMATS: Mapping[str, Callable[[Report], str]] = {"md": as_markdown, "tex": as_latex, "html": as_page}
"""How a report is written, by the ending of its file."""


def write_report(report: Report, folder: Path, formats: Sequence[str] = tuple(FORMATS)) -> list[Path]:
    """Writes a report.

    Args:
        report: the report.
        folder: where ``report.md``, ``report.tex``, ``report.html`` go; it is made.
        formats: of FORMATS.

    Returns:
        The files.

    Raises:
        DataError: no such format.
        OSError: a file cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise DataError(f"format: got {','.join(formats)!r}; allowed are {', '.join(FORMATS)}, by commas")
    paths = [folder / f"report.{name}" for name in dict.fromkeys(formats)]
    for path in paths:
        write_atomically(path, FORMATS[path.suffix[1:]](report))
    return paths
