"""What is reported on: the runs of a study, or folders of single runs, in one checked shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mebns_pl.errors import DataError
from mebns_pl.metrics_json import NAME, load_metrics

AXIS = "axis/"
GRAPH = f"{AXIS}graph"
SEEDS = ["split_seed", "seed"]
NEEDED = ["run", "status", "config", *SEEDS]
ABSENT = "-"
"""How an axis is told of a run that has no such option."""


@dataclass(frozen=True)
class Results:
    """Runs and what they came to.

    Args:
        frame: a row a run, as the study's results, and three columns more: ``graph``, ``arm`` (the values of the axes
            that vary, the graph aside), and ``value`` (of the metric; NaN for a run without).
        axes: names of all axes but the graph.
        metric: what is compared, e.g. ``test/mrr``; larger is better.
        folder: that the runs' folders are named from.
    """

    frame: pd.DataFrame
    axes: tuple[str, ...]
    metric: str
    folder: Path

    @property
    def varied(self) -> list[str]:
        """The axes of more than one value."""
        return [axis for axis in self.axes if self.frame[AXIS + axis].nunique() > 1]

    @property
    def constant(self) -> dict[str, str]:
        """The axes of one value, with it."""
        return {axis: self.frame[AXIS + axis].iloc[0] for axis in self.axes if axis not in self.varied}

    @property
    def graphs(self) -> list[str]:
        """In the order of the runs."""
        return list(self.frame["graph"].unique())

    @property
    def arms(self) -> list[str]:
        """In the order of the runs."""
        return list(self.frame["arm"].unique())


def results_of(frame: pd.DataFrame, metric: str, folder: Path) -> Results:
    """Checks the rows of a study.

    Args:
        frame: a row a run; columns ``run``, ``status``, ``split_seed``, ``seed``, ``axis/<name>``, ``val/<metric>``,
            ``test/<metric>`` and more.
        metric: a column of metrics.
        folder: of the study, that ``folder`` of each row is relative to.

    Raises:
        DataError: a column is missing; no run has finished; no such metric; two rows of the same arm, graph and seeds.
    """
    missing = [column for column in NEEDED if column not in frame]
    if missing:
        raise DataError(f"{folder}: results of another version: no column {', '.join(missing)}")
    counts = frame["status"].value_counts()
    done = frame["status"] == "done"
    if not done.any():
        told = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no runs"
        raise DataError(f"{folder}: no finished runs to report on ({told})")
    known = [name for name in frame if name.startswith(("test/", "val/")) and frame.loc[done, name].notna().any()]
    if metric not in known:
        raise DataError(f"metric: got {metric!r}; the finished runs of {folder} have {', '.join(known) or 'none'}")
    frame = frame.reset_index(drop=True)
    if GRAPH not in frame:  # an axis may be named as the option is
        frame = frame.rename(columns={f"{AXIS}data.graph": GRAPH})
    axes = tuple(name.removeprefix(AXIS) for name in frame if name.startswith(AXIS) and name != GRAPH)
    for name in [AXIS + axis for axis in axes]:
        frame[name] = frame[name].map(_named)
    frame["graph"] = frame[GRAPH].map(_named) if GRAPH in frame else frame["config"].map(_graph_of)
    varied = [AXIS + axis for axis in axes if frame[AXIS + axis].nunique() > 1]
    frame["arm"] = frame[varied].agg(", ".join, axis=1) if varied else "all runs"
    frame["value"] = pd.to_numeric(frame[metric], errors="coerce").where(done.to_numpy())
    twice = frame[frame.duplicated(["graph", "arm", *SEEDS], keep=False)]
    if len(twice):
        one = twice.iloc[0]
        same = twice[(twice[["graph", "arm", *SEEDS]] == one[["graph", "arm", *SEEDS]]).all(axis=1)]
        runs = " and ".join(map(str, same["run"]))
        raise DataError(
            f"{folder}: runs {runs} are of the same arm ({one['arm']}), graph ({one['graph']}) and seeds "
            f"({one['split_seed']}, {one['seed']}); give one of each"
        )
    return Results(frame, axes, metric, folder)


def _named(value: Any) -> str:
    return ABSENT if value is None or value is pd.NA or value != value else str(value)


def _graph_of(config: Any) -> str:
    """The graph of a study that has no such axis, from the options of a run."""
    try:
        return Path(json.loads(config)["data.graph"]).stem
    except (ValueError, KeyError, TypeError):
        return "the graph"


def gaps(results: Results) -> pd.DataFrame:
    """Runs that are missing from tables and pairs, and why.

    Args:
        results: the runs.

    Returns:
        A row for each arm, graph and reason, columns ``arm``, ``graph``, ``seeds`` (as ``split/weights``), ``runs``
        (how many) and ``reason``. A run that other arms have on the same graph and this one has not is a gap, too.
    """
    frame = results.frame
    found = frame[frame["value"].isna()]
    rows = [
        (row["arm"], row["graph"], f"{row['split_seed']}/{row['seed']}", _reason(row, results.metric))
        for _, row in found.iterrows()
    ]
    there = set(frame[["arm", "graph", *SEEDS]].itertuples(index=False, name=None))
    for graph, split, seed in frame[["graph", *SEEDS]].drop_duplicates().itertuples(index=False, name=None):
        absent = [arm for arm in results.arms if (arm, graph, split, seed) not in there]
        rows += [(arm, graph, f"{split}/{seed}", "no such run") for arm in absent]
    table = pd.DataFrame(rows, columns=["arm", "graph", "seeds", "reason"])
    grouped = table.groupby(["arm", "graph", "reason"], sort=False, as_index=False)
    return grouped.agg(seeds=("seeds", ", ".join), runs=("seeds", "size"))


def _reason(row: pd.Series, metric: str) -> str:
    if row["status"] == "done":
        return f"finished without {metric}"
    error = row.get("error")
    return f"{row['status']}: {' '.join(error.split())}" if isinstance(error, str) and error else str(row["status"])


def run_notes(results: Results) -> pd.DataFrame:
    """What the runs were warned of.

    Args:
        results: the runs.

    Returns:
        Columns ``code``, ``text`` (of the first), ``arm``, ``graph``, ``runs`` (how many).
    """
    rows = []
    for _, row in results.frame.iterrows():
        rows += [(note["code"], note["text"], row["arm"], row["graph"]) for note in _notes(row.get("notes"))]
    table = pd.DataFrame(rows, columns=["code", "text", "arm", "graph"])
    grouped = table.groupby(["code", "arm", "graph"], sort=False, as_index=False)
    return grouped.agg(text=("text", "first"), runs=("text", "size"))


def _notes(text: Any) -> list[dict[str, str]]:
    try:
        notes = json.loads(text) if isinstance(text, str) and text else []
    except ValueError:
        notes = [{"code": "unreadable", "text": text}]
    return [{"code": str(note.get("code", "")), "text": str(note.get("text", ""))} for note in notes]


def curves(results: Results) -> pd.DataFrame:
    """Validation over training, of the runs whose folders hold it.

    Args:
        results: the runs.

    Returns:
        Columns ``arm``, ``graph``, ``epoch``, ``mean``, ``low`` and ``high`` (of the runs at that epoch), ``runs``.
    """
    name = f"val/{results.metric.partition('/')[2]}"
    rows: list[tuple[str, str, float, float]] = []
    frame = results.frame[results.frame["status"] == "done"]
    for folder, arm, graph in zip(frame.get("folder", []), frame["arm"], frame["graph"], strict=False):
        path = results.folder / str(folder) / NAME
        if not isinstance(folder, str) or not path.is_file():
            continue
        curve = load_metrics(path).get("fit", {}).get("curves") or {}
        points = zip(curve.get("epoch", []), curve.get(name, []), strict=False)
        rows += [(arm, graph, epoch, value) for epoch, value in points if value is not None]
    table = pd.DataFrame(rows, columns=["arm", "graph", "epoch", "value"])
    grouped = table.groupby(["graph", "arm", "epoch"], sort=False, as_index=False)["value"]
    return grouped.agg(mean="mean", low="min", high="max", runs="size")
