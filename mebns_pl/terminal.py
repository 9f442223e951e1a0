"""Tables for the terminal: of metrics, of predicted links and where they come from, of loss landscapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mebns_pl.escaping import visible
from mebns_pl.pools.built import PoolReport


def say(text: str) -> None:
    """Prints a line in which names of files or graphs may stand; they are no markup."""
    Console().print(Text("\n".join(map(visible, text.split("\n")))), soft_wrap=True)


def text_table(left: Sequence[str], right: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of texts.

    Args:
        left: headings of the first columns, of words.
        right: headings of the others, of numbers: flush right.
        rows: a text a column.

    Example:
        >>> text_table(["metric"], ["value"], [("MRR", "0.50")]).row_count
        1
    """
    table = Table(*left)
    for heading in right:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table


def metric_heading(metric: str) -> str:
    """How people write a metric: ``Hits@10``, ``MRR``."""
    return metric.capitalize() if metric.startswith("hits") else metric.upper()


def metric_table(rows: dict[str, dict[str, float]], columns: Sequence[str]) -> Table:
    """A table of metrics in [0, 1], shown in percent.

    Args:
        rows: metrics by name of the row.
        columns: which metrics, in which order.
    """
    values = ((name, *(f"{100 * metrics[column]:.2f}" for column in columns)) for name, metrics in rows.items())
    return text_table([""], [metric_heading(column) for column in columns], values)


def card_table(rows: dict[str, dict[str, float]], columns: Sequence[str], intervals: Mapping[str, str]) -> Table:
    """A table of metrics in percent, with the MRR's interval behind it where there is one.

    Args:
        rows: metrics in [0, 1] by name of the row; one that a row lacks stays empty.
        columns: which metrics, in which order, the MRR first.
        intervals: of the MRR, by name of the row.
    """
    values = (
        (name, *(f"{100 * metrics[column]:.2f}" if column in metrics else "" for column in columns))
        for name, metrics in rows.items()
    )
    headings = [metric_heading(column) for column in columns]
    cells = ((name, mrr, intervals.get(name, ""), *others) for name, mrr, *others in values)
    return text_table([""], [headings[0], "95 % interval", *headings[1:]], cells)


def link_table(links: pd.DataFrame) -> Table:
    """A table of predicted links.

    Args:
        links: with columns ``rank``, ``source``, ``target`` and ``probability``, or else ``score``; and ``why``, if it
            is told.
    """
    value, why = "probability" if "probability" in links else "score", [name for name in ("why",) if name in links]
    rows = (
        (f"{row.rank}", f"{row.source}", f"{row.target}", *(getattr(row, name) for name in why), f"{number:.3f}")
        for row, number in zip(links.itertuples(), links[value], strict=True)
    )
    table = text_table(["rank", "source", "target", *why], [value], rows)
    table.columns[0].justify = "right"
    return table


def reliability_table(reliability: pd.DataFrame) -> Table:
    """A table of probabilities and of what came of them.

    Args:
        reliability: of a calibration, see :func:`~mebns_pl.prediction.calibration.reliability`.
    """
    rows = (
        (f"{low:.1%} to {high:.1%}", f"{told:.2%}", f"{found:.2%}", f"{edges:,}")
        for low, high, told, found, edges in reliability.itertuples(index=False)
    )
    return text_table(["probability"], ["mean", "were edges", "test edges"], rows)


def pool_table(report: PoolReport) -> Table:
    """A table of what was scored, and what share of held-out edges it would have found.

    Args:
        report: of the pool.
    """
    rows = (
        (f"{row.pool}", f"{row.pairs:,}", "-" if pd.isna(row.coverage) else f"{row.coverage:.1%}")
        for row in report.table.itertuples()
    )
    return text_table(["pool"], ["pairs", f"coverage of {report.held_out:,} held-out edges"], rows)


def landscape_table(rows: pd.DataFrame) -> Table:
    """A table of loss landscapes.

    Args:
        rows: with columns ``name``, ``loss``, ``top_eigenvalue``, ``trace``, ``trace_error``.
    """
    headings = ("loss", "top eigenvalue", "Hessian trace \u00b1 standard error")
    values = (
        (row.name, f"{row.loss:.4f}", f"{row.top_eigenvalue:.4g}", f"{row.trace:.4g} \u00b1 {row.trace_error:.2g}")
        for row in rows.itertuples()
    )
    table = text_table(["student"], headings, values)
    table.columns[0].overflow = "fold"
    return table
