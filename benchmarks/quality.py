"""What arms of a study gain over one of them in test MRR, AUC and churn, by setting and over all (docs/quality.md).

    python benchmarks/quality.py docs/results/forms.csv --axis variant --reference plain
    python benchmarks/quality.py studies/forms --axis variant --reference plain --csv docs/results/forms.csv

Pairs are runs of the same graph, split and seed; a setting is a value of each other axis. Over all settings a pair is
the mean of its runs in all of them, so that pairs stay independent. In brackets 95 % intervals: of differences by the
studentized bootstrap, of relative gains over graphs by the hierarchical one. A study of a few graphs tells of those.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from _runs import head, line

from mebns_pl.report.statistics import holm, paired_difference, relative_gain
from mebns_pl.study.store import read_results

PAIR = ["axis/graph", "split_seed", "seed"]
VALUES = {"test/mrr": "MRR", "test/auc": "AUC", "churn": "churn"}
ALL = "all settings"
FORMS = Path(__file__).resolve().parent.parent / "docs" / "results" / "forms.csv"


def read(path: Path) -> pd.DataFrame:
    """Finished runs of a study's folder, or of a table that ``--csv`` has written."""
    if path.is_dir():
        frame = read_results(path)
        frame = frame[frame["status"] == "done"]
    else:
        frame = pd.read_csv(path)
    axes = [name for name in frame if name.startswith("axis/")]
    return frame[[*axes, "split_seed", "seed", *VALUES, "seconds", "commit"]].reset_index(drop=True)


def settings_of(frame: pd.DataFrame, axis: str) -> list[str]:
    """The other axes that vary."""
    axes = [name for name in frame if name.startswith("axis/") and name not in (axis, "axis/graph")]
    return [name for name in axes if frame[name].nunique() > 1]


def cells(frame: pd.DataFrame, axis: str, reference: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Arm, setting and pairs: a row each, with the columns ``<name>`` of the arm and ``<name> control``."""
    others = settings_of(frame, axis)
    numbers = [*VALUES, "seconds"]
    key = [*PAIR, *others]
    control = frame[frame[axis] == reference].set_index(key)[numbers].add_suffix(" control")
    for arm in [value for value in frame[axis].unique() if value != reference]:
        both = frame[frame[axis] == arm].set_index(key)[numbers].join(control, how="inner").reset_index()
        for setting, rows in both.groupby(others, sort=False) if others else []:
            yield arm, ", ".join(map(str, setting)), rows
        yield arm, ALL, both.groupby(PAIR, sort=False).mean(numeric_only=True).reset_index()


def difference(rows: pd.DataFrame, name: str, scale: float, digits: int) -> str:
    """Mean difference to the control with its interval."""
    found = paired_difference((scale * (rows[name] - rows[f"{name} control"])).dropna().to_numpy())
    return f"{found.mean:+.{digits}f} ({found.low:+.{digits}f}, {found.high:+.{digits}f})"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", default=FORMS, help="folder of a study, or a table of its runs")
    parser.add_argument("--axis", default="variant", help="whose values are compared")
    parser.add_argument("--reference", default="plain", help="with which of them")
    parser.add_argument("--csv", type=Path, help="also writes the runs into this table")
    parser.add_argument("--graphs", nargs="+", help="all unless told")
    given = parser.parse_args()
    frame = read(given.study)
    if given.csv:
        frame.to_csv(given.csv, index=False, float_format="%.6g")
    if given.graphs:
        frame = frame[frame["axis/graph"].isin(given.graphs)]
    axis = f"axis/{given.axis}"
    if axis not in frame or given.reference not in set(frame[axis]):
        parser.error(f"--axis, --reference: there is no {given.axis}={given.reference} in {given.study}")
    print(f"In points of a hundred, beside {given.reference}; churn as it is\n")
    head(given.axis, "setting", "pairs", "MRR", "relative gain, %", "AUC", "churn", "times its seconds")
    found = list(cells(frame, axis, given.reference))
    for arm, setting, rows in found:
        graphs = [(part["test/mrr"].to_numpy(), part["test/mrr control"].to_numpy())
                  for _, part in rows.groupby("axis/graph", sort=False)]  # fmt: skip
        gain = relative_gain(graphs)
        told = "-" if gain is None else f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f}, {100 * gain.high:+.1f})"
        slower = rows["seconds"].mean() / rows["seconds control"].mean()
        mrr, auc = (difference(rows, name, 100, 2) for name in ("test/mrr", "test/auc"))
        line(arm, setting, len(rows), mrr, told, auc, difference(rows, "churn", 1, 3), f"{slower:.1f}")
    single = [(arm, setting, rows) for arm, setting, rows in found if setting != ALL]
    by_graph = [(arm, setting, graph, part["test/mrr"] - part["test/mrr control"])
                for arm, setting, rows in single for graph, part in rows.groupby("axis/graph", sort=False)]  # fmt: skip
    print("\nCells, a graph in a setting, told apart by Wilcoxon's test, after Holm's correction over an arm's:\n")
    for arm in dict.fromkeys(one[0] for one in by_graph):
        own = [(f"{setting}, {graph}", gaps.to_numpy()) for name, setting, graph, gaps in by_graph if name == arm]
        corrected = holm(np.array([paired_difference(gaps).p_value for _, gaps in own]))
        apart = [(100 * gaps.mean(), cell) for (cell, gaps), p in zip(own, corrected, strict=True) if p <= 0.05]
        cells_told = ", ".join(f"{cell} {mean:+.1f}" for mean, cell in apart)
        print(f"- {arm}: {len(apart)} of {len(own)}" + (f" ({cells_told})" if apart else ""))


if __name__ == "__main__":
    main()
