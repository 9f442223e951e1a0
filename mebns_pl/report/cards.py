"""What runs are held against: chance and heuristics on the same edges, and the evaluation cards of single runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mebns_pl.metrics_json import NAME, load_metrics
from mebns_pl.report.results import Results
from mebns_pl.report.tables import MISSING, Table

MOST_CARDS = 6
"""Of more runs only the summary is shown: each one's card is in its ``metrics.json``."""
CHANCE = "chance"
_SHOWN = ("mrr", "hits@10", "auc")


@dataclass(frozen=True)
class RunCard:
    """The evaluation card of a run.

    Args:
        title: which run.
        table: the run beside its control, heuristics and chance.
        sentences: what to know of it, the recommendation last.
    """

    title: str
    table: Table
    sentences: list[str]


def beside(results: Results) -> pd.DataFrame:
    """Chance and heuristics on the runs' own splits.

    Args:
        results: the runs.

    Returns:
        Columns ``graph``, ``name`` and ``value``, of the metric that is reported: a row for each split. Empty where the
        metric is none of test, or no run has a card.
    """
    stage, _, metric = results.metric.partition("/")
    rows = []
    splits = results.frame.groupby(["graph", "split_seed"], sort=False) if stage == "test" else ()
    for (graph, _), runs in splits:
        card = next((found["card"] for _, found in _with_cards(results, runs)), None)  # the same in all of a split
        if card is not None:
            held = {**card["heuristics"], CHANCE: card["chance"]}
            rows += [(graph, name, values[metric]) for name, values in held.items() if metric in values]
    return pd.DataFrame(rows, columns=["graph", "name", "value"])


def cards_of(results: Results) -> list[RunCard]:
    """The cards of the runs, where they are few."""
    if len(results.frame) > MOST_CARDS:
        return []
    made = []
    for number, (row, found) in enumerate(_with_cards(results, results.frame)):
        card, own = found["card"], found["test"]["metrics"]
        interval = found["test"].get("intervals", {}).get("mrr")
        plain = {} if card.get("plain") is None else {"Plain, the control": card["plain"]}
        rows = {"this run": own, **plain, **card["heuristics"], CHANCE: card["chance"]}
        low_high = (
            "" if interval is None else f"; its MRR has a 95 % interval of {interval[0]:.3f} to {interval[1]:.3f}"
        )
        table = Table(
            f"card-{number}",
            f"The run beside chance and heuristics, on the same edges and negatives{low_high}.",
            [""],
            list(_SHOWN),
            [[name, *(_number(values, metric) for metric in _SHOWN)] for name, values in rows.items()],
        )
        title = f"{row['arm']}, {row['graph']}, seed {row['seed']}"
        made.append(RunCard(title, table, [*card["sentences"], card["recommendation"]]))
    return made


def _number(values: Mapping[str, float], metric: str) -> str:
    return f"{values[metric]:.3f}" if metric in values else MISSING


def _with_cards(results: Results, runs: pd.DataFrame) -> Iterator[tuple[pd.Series, dict[str, Any]]]:
    """Rows of the ``runs`` that have a card, with their ``metrics.json``."""
    for _, row in runs.iterrows():
        path = results.folder / str(row.get("folder")) / NAME
        if row["status"] == "done" and isinstance(row.get("folder"), str) and path.is_file():
            found = load_metrics(path)
            if "card" in found and "test" in found:
                yield row, found
