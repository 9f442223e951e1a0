"""Tables of a report, and how they are written in Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from mebns_pl.report.comparisons import Comparison, Ranking
from mebns_pl.report.results import AXIS, Results
from mebns_pl.report.words import heading, p_text, percent, seeds_needed, signed

MISSING = "-"


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Args:
        name: short, for labels.
        caption: what it shows; a sentence or two.
        words: headings of the first columns, of words.
        numbers: headings of the others, of numbers: flush right.
        rows: a text a column.
    """

    name: str
    caption: str
    words: list[str]
    numbers: list[str]
    rows: list[list[str]]


def tables(
    results: Results,
    comparisons: Sequence[Comparison],
    ranking: Ranking | None,
    missing: pd.DataFrame,
    notes: pd.DataFrame,
    beside: pd.DataFrame,
) -> list[Table]:
    """All tables that have rows.

    Args:
        results: the runs.
        comparisons: of their arms.
        ranking: of their arms.
        missing: by :func:`~mebns_pl.report.results.gaps`.
        notes: by :func:`~mebns_pl.report.results.run_notes`.
        beside: by :func:`~mebns_pl.report.cards.beside`.
    """
    found = [_means(results, beside), _differences(comparisons), _gains(comparisons), _ranks(ranking), _cost(results)]
    found += [_gaps(missing), _notes(notes)]
    return [table for table in found if table.rows]


def _means(results: Results, beside: pd.DataFrame) -> Table:
    rows = []
    for arm, runs in _by_arm(results):
        rows.append([*arm, *(_mean(runs[runs["graph"] == graph]["value"]) for graph in results.graphs)])
    caption = f"{heading(results.metric)}: mean ± standard deviation over runs. (n of m): the other runs are gaps."
    if len(beside):
        caption += " Below, on the same edges and negatives: the heuristic with the best mean, by name, and chance."
        means = {graph: own.groupby("name", sort=False)["value"].mean() for graph, own in beside.groupby("graph")}
        best = {graph: own.drop("chance").idxmax() for graph, own in means.items() if len(own) > 1}
        blank = [""] * (max(len(results.varied), 1) - 1)
        rows.append(
            ["best heuristic", *blank, *(_named_mean(beside, graph, best.get(graph)) for graph in results.graphs)]
        )
        rows.append(
            ["chance", *blank, *(_named_mean(beside, graph, "chance", named=False) for graph in results.graphs)]
        )
    return Table("means", caption, results.varied or ["arm"], results.graphs, rows)


def _named_mean(beside: pd.DataFrame, graph: str, name: str | None, named: bool = True) -> str:
    values = beside[(beside["graph"] == graph) & (beside["name"] == name)]["value"]
    return f"{_mean(values)}{f' {name}' if named and len(values) else ''}"


def _mean(values: pd.Series, digits: int = 3) -> str:
    there = values.dropna()
    if there.empty:
        return MISSING
    spread = f" ± {there.std(ddof=1):.{digits}f}" if len(there) > 1 else ""
    gap = f" ({len(there)} of {len(values)})" if len(there) < len(values) else ""
    return f"{there.mean():.{digits}f}{spread}{gap}"


def _by_arm(results: Results) -> Iterable[tuple[list[str], pd.DataFrame]]:
    varied = [AXIS + axis for axis in results.varied]
    for _, runs in results.frame.groupby("arm", sort=False):
        yield [str(value) for value in runs.iloc[0][varied]] or ["all runs"], runs


def _differences(comparisons: Sequence[Comparison]) -> Table:
    rows = []
    for one in [row for whole in comparisons for row in (whole, *whole.parts)]:
        found = one.difference
        gap = f"{found.pairs} of {one.planned}" if found.pairs < one.planned else str(found.pairs)
        interval = f"{signed(found.low)} to {signed(found.high)}" if math.isfinite(found.low) else MISSING
        spread = f"{found.std:.4f}" if math.isfinite(found.std) else MISSING
        p_value = p_text(found.p_value) if found.pairs else MISSING
        graph = f"all {len(one.graphs)}" if one.parts else one.graphs[0]
        names = [f"{one.value} - {one.question.reference}", one.setting or MISSING, graph, one.call]
        numbers = [gap, signed(found.mean), interval, spread, p_value, p_text(one.corrected), seeds_needed(one)]
        rows.append([*names, *numbers])
    caption = (
        "Paired differences, same graph, split and seed: mean, its 95 % interval (studentized bootstrap; Student's for "
        "fewer than five pairs), standard deviation, p of Wilcoxon's signed-rank test, and after Holm's correction "
        "(-: too few pairs to reach 0.05 among so many comparisons), how many seeds on each graph tell a difference "
        "of that size with power 0.8."
    )
    words = ["difference", "setting", "graph", "verdict"]
    return Table("differences", caption, words, ["pairs", "mean", "interval", "std", "p", "Holm", "seeds"], rows)


def _gains(comparisons: Sequence[Comparison]) -> Table:
    rows = []
    for one in comparisons:
        if one.parts:
            gain = one.gain
            interval = MISSING
            if gain is not None and math.isfinite(gain.low):
                interval = f"{percent(gain.low)} to {percent(gain.high)}"
            names = [f"{one.value} - {one.question.reference}", one.setting or MISSING]
            rows.append([*names, str(len(one.graphs)), MISSING if gain is None else percent(gain.mean), interval])
    caption = (
        "Relative gain over graphs: geometric mean of the ratios of means, with a 95 % interval by hierarchical "
        "bootstrap over graphs and the pairs within. It speaks of graphs like these; of fewer than five it says little."
    )
    return Table("gains", caption, ["difference", "setting"], ["graphs", "gain", "interval"], rows)


def _ranks(ranking: Ranking | None) -> Table:
    if ranking is None:
        return Table("ranks", "", [], [], [])
    ranks = ranking.ranks
    rows = [[arm, f"{rank:.2f}"] for arm, rank in zip(ranking.arms, ranks.average, strict=True)]
    friedman = (
        f" Friedman's test that all are alike: p = {p_text(ranks.p_value)}." if math.isfinite(ranks.p_value) else ""
    )
    left_out = f" Left out for gaps: {', '.join(ranking.left_out)}." if ranking.left_out else ""
    caption = (
        f"Average rank over {ranks.graphs} graphs, 1 the best. Ranks less than {ranks.critical:.2f} apart are not told "
        f"apart (Nemenyi, 0.05).{friedman}{left_out}"
    )
    return Table("ranks", caption, ["arm"], ["average rank"], rows)


def _cost(results: Results) -> Table:
    columns = {"seconds": ("seconds", 1), "peak_memory_mib": ("peak MiB", 0), "epochs": ("epochs", 0)}
    columns |= {"best_epoch": ("best epoch", 0), "churn": ("churn", 3), "unevenness": ("unevenness", 3)}
    done = results.frame[results.frame["status"] == "done"]
    there = [name for name in columns if name in done and pd.to_numeric(done[name], errors="coerce").notna().any()]
    rows = []
    for (arm, graph), runs in done.groupby(["arm", "graph"], sort=False):
        cells = []
        for name in there:
            mean = pd.to_numeric(runs[name], errors="coerce").mean()
            cells.append(f"{mean:,.{columns[name][1]}f}" if math.isfinite(mean) else MISSING)
        rows.append([str(arm), str(graph), *cells])
    headings = [columns[name][0] for name in there]
    return Table(
        "cost", "What a run costs and how it went, means over finished runs.", ["arm", "graph"], headings, rows
    )


def _gaps(missing: pd.DataFrame) -> Table:
    rows = [[row.arm, row.graph, row.reason, row.seeds, str(row.runs)] for row in missing.itertuples()]
    caption = "Gaps: runs that are in no mean and no pair. Seeds are those of the split / of the weights."
    return Table("gaps", caption, ["arm", "graph", "reason", "seeds"], ["runs"], rows)


def _notes(notes: pd.DataFrame) -> Table:
    rows = [[row.code, row.text, row.arm, row.graph, str(row.runs)] for row in notes.itertuples()]
    return Table("notes", "What runs were warned of.", ["code", "note of the first", "arm", "graph"], ["runs"], rows)


def markdown(table: Table) -> str:
    r"""A table in Markdown.

    Args:
        table: the table.

    Example:
        >>> print(markdown(Table("t", "", ["arm"], ["MRR"], [["a|b", "0.5"]])))
        | arm | MRR |
        |---|---:|
        | a\|b | 0.5 |
    """
    lines = [[*table.words, *table.numbers], *table.rows]
    told = ["| " + " | ".join(markdown_text(cell) for cell in line) + " |" for line in lines]
    told.insert(1, "|" + "---|" * len(table.words) + "---:|" * len(table.numbers))
    return "\n".join(told)


def markdown_text(text: str) -> str:
    r"""A text that Markdown shows as it is.

    Example:
        >>> markdown_text("<b> a_b|c")
        '&lt;b&gt; a\\_b\\|c'
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\`*_|[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def latex(table: Table) -> str:
    """A table in LaTeX, for the package booktabs.

    Args:
        table: the table.
    """
    frame = pd.DataFrame([[" ".join(cell.split()) for cell in row] for row in table.rows])
    frame.columns = [*table.words, *table.numbers]
    columns = "l" * len(table.words) + "r" * len(table.numbers)
    body = frame.to_latex(index=False, escape=True, column_format=columns).strip()
    caption = latex_text(table.caption)
    told = f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\label{{tab:{table.name}}}\n{body}\n\\end{{table}}"
    return told.replace("±", "$\\pm$").replace(" - ", " $-$ ")


def latex_text(text: str) -> str:
    r"""A text that LaTeX sets as it is.

    Example:
        >>> latex_text("a_b & 5 %")
        'a\\_b \\& 5 \\%'
    """
    signs = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    signs |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(signs.get(sign, sign) for sign in text)
