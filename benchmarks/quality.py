"""What arms of a study gain over one of them in MRR, AUC and churn, by setting and over all (docs/quality.md).

    python benchmarks/quality.py docs/results/forms.csv --axis variant --reference plain
    python benchmarks/quality.py studies/forms --axis variant --reference plain --csv docs/results/forms.csv

Pairs are runs of the same graph, split and seed; a setting is a value of each other axis. Over several settings, all of
them or those that share a value, a pair is the mean of its runs in them, so that pairs stay independent. In brackets
95 % intervals: of differences by the studentized bootstrap, of relative gains over graphs by the hierarchical one. A
study of a few graphs tells of those. Of seconds it is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
from _runs import head, line, told

from mebns_pl.report.statistics import ALPHA, holm, least_p, paired_difference, relative_gain, signed_rank
from mebns_pl.study.store import read_results

PAIR = ["axis/graph", "split_seed", "seed"]
VALUES = {"mrr": "MRR", "auc": "AUC", "churn": "churn"}
ALL = "all settings"
Cell = tuple[str, str, bool, pd.DataFrame]
"""Arm, setting, whether it is one setting, and pairs: a row each, with ``<name>`` of the arm and ``<name> control``."""
FORMS = Path(__file__).resolve().parent.parent / "docs" / "results" / "forms.csv"
KEPT = [*(f"{stage}/{name}" for stage in ("val", "test") for name in ("mrr", "auc")), "churn", "seconds", "commit"]


def read(path: Path) -> pd.DataFrame:
    """Finished runs of a study's folder, or of a table that ``--csv`` has written."""
    if path.is_dir():
        frame = read_results(path)
        frame = frame[frame["status"] == "done"]
    else:
        names = {name: str for name in pd.read_csv(path, nrows=0) if name.startswith("axis/")}  # of values, not numbers
        frame = pd.read_csv(path, dtype=names)
    axes = [name for name in frame if name.startswith("axis/")]
    return frame[[*axes, "split_seed", "seed", *(name for name in KEPT if name in frame)]].reset_index(drop=True)


def settings_of(frame: pd.DataFrame, axis: str) -> list[str]:
    """The other axes that vary."""
    axes = [name for name in frame if name.startswith("axis/") and name not in (axis, "axis/graph")]
    return [name for name in axes if frame[name].nunique() > 1]


def cells(frame: pd.DataFrame, axis: str, reference: str) -> Iterator[Cell]:
    """Each arm in each setting, in all that share a value, and in all."""
    others = settings_of(frame, axis)
    numbers = [*VALUES, "seconds"]
    key = [*PAIR, *others]
    control = frame[frame[axis] == reference].set_index(key)[numbers].add_suffix(" control")
    for arm in [value for value in frame[axis].unique() if value != reference]:
        both = frame[frame[axis] == arm].set_index(key)[numbers].join(control, how="inner").reset_index()
        for setting, rows in both.groupby(others, sort=False) if others else []:
            yield arm, ", ".join(map(str, setting)), True, rows
        for name in others if len(others) > 1 else []:
            for value, rows in both.groupby(name, sort=False):
                yield arm, f"all of {value}", False, mean_pairs(rows)
        yield arm, ALL, not others, mean_pairs(both)


def mean_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a pair, the mean of its runs; pairs that lack a run, as in a study that is not at its end, are left out."""
    grouped = rows.groupby(PAIR, sort=False)
    sizes = grouped.size()
    whole = sizes.groupby("axis/graph").transform("max") == sizes
    return grouped.mean(numeric_only=True)[whole].reset_index()


def difference(rows: pd.DataFrame, name: str, scale: float, digits: int) -> str:
    """Mean difference to the control with its interval."""
    found = paired_difference((scale * (rows[name] - rows[f"{name} control"])).dropna().to_numpy())
    return f"{found.mean:+.{digits}f} ({found.low:+.{digits}f}, {found.high:+.{digits}f})"


def options(arguments: list[str] | None = None) -> tuple[argparse.Namespace, pd.DataFrame, str]:
    """What was asked for, the runs, and the column that is compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", default=FORMS, help="folder of a study, or a table of its runs")
    parser.add_argument("--axis", default="variant", help="whose values are compared")
    parser.add_argument("--reference", default="plain", help="with which of them")
    parser.add_argument("--csv", type=Path, help="also writes the runs into this table")
    parser.add_argument("--stage", choices=("test", "val"), default="test", help="whose MRR and AUC")
    parser.add_argument("--graphs", nargs="+", help="all unless told")
    given = parser.parse_args(arguments)
    frame = read(given.study)
    if given.csv:
        frame.to_csv(given.csv, index=False, float_format="%.6g")
    if given.graphs:
        frame = frame[frame["axis/graph"].isin(given.graphs)]
    frame = frame.rename(columns={f"{given.stage}/{name}": name for name in ("mrr", "auc")})
    axis = f"axis/{given.axis}"
    if "mrr" not in frame:
        parser.error(f"--stage: {given.study} has no {given.stage}/mrr")
    if axis not in frame or given.reference not in set(frame[axis]):
        parser.error(f"--axis, --reference: there is no {given.axis}={given.reference} in {given.study}")
    return given, frame, axis


def main() -> None:
    """Prints the table."""
    given, frame, axis = options()
    found = list(cells(frame, axis, given.reference))
    print({"test": "Test", "val": "Validation"}[given.stage], end=" ")
    means(frame, axis)
    gains(found, given.axis, given.reference)
    apart(found)
    commits = frame["commit"].dropna().astype(str).str[:7].value_counts(sort=False)
    if len(commits):
        print("\nRuns by commit:", ", ".join(f"{count} of {name}" for name, count in commits.items()))


def means(frame: pd.DataFrame, axis: str) -> None:
    """Prints MRR by setting, arm and graph, over seeds."""
    others = settings_of(frame, axis)
    print("MRR in percent, mean and standard deviation over seeds\n")
    graphs = list(frame["axis/graph"].unique())
    head(*(name.removeprefix("axis/") for name in [*others, axis]), *graphs)
    for names, rows in frame.groupby([*others, axis], sort=False):
        values = [100 * rows.loc[rows["axis/graph"] == graph, "mrr"].to_numpy() for graph in graphs]
        line(*map(str, names), *(told(own, 1) if len(own) else "-" for own in values))


def gains(found: list[Cell], axis: str, reference: str) -> None:
    """Prints what each arm gains over the reference, by setting and over several."""
    print(f"\nIn points of a hundred, beside {reference}; churn as it is\n")
    head(axis, "setting", "pairs", "MRR", "relative gain, %", "AUC", "churn", "times its seconds")
    for arm, setting, _, rows in found:
        graphs = [(part["mrr"].to_numpy(), part["mrr control"].to_numpy())
                  for _, part in rows.groupby("axis/graph", sort=False)]  # fmt: skip
        gain = relative_gain(graphs)
        relative = "-" if gain is None else f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f}, {100 * gain.high:+.1f})"
        slower = (rows["seconds"] / rows["seconds control"]).median()
        mrr, auc = (difference(rows, name, 100, 2) for name in ("mrr", "auc"))
        line(arm, setting, len(rows), mrr, relative, auc, difference(rows, "churn", 1, 3), f"{slower:.1f}")


def apart(found: list[Cell]) -> None:
    """Prints which single cells, a graph in a setting, are told apart after Holm's correction over an arm's.

    By Wilcoxon's test where its smallest p-value survives the correction, else by Student's.
    """
    print("\nCells, a graph in a setting, that are told apart (Holm over an arm's)\n")
    gaps: dict[str, dict[str, np.ndarray]] = {}
    for arm, setting, alone, rows in found:
        for graph, part in rows.groupby("axis/graph", sort=False) if alone else []:
            own = 100 * (part["mrr"] - part["mrr control"]).to_numpy()
            gaps.setdefault(arm, {})[str(graph) if setting == ALL else f"{graph}, {setting}"] = own
    for arm, own in gaps.items():
        ranks = len(own) * least_p([len(values) for values in own.values()]).max() <= ALPHA
        p_values = [signed_rank(values) if ranks else student(values) for values in own.values()]
        corrected = holm(np.array(p_values))
        cells_told = [f"{cell} {values.mean():+.1f}"
                      for (cell, values), p in zip(own.items(), corrected, strict=True) if p <= ALPHA]  # fmt: skip
        print(f"- {arm}: {len(cells_told)} of {len(own)} by {'Wilcoxon' if ranks else 'Student'}'s test", end="")
        print(f" ({'; '.join(cells_told)})" if cells_told else "")


def student(values: np.ndarray) -> float:
    """P-value of Student's paired test; 1 where no pair differs, or there is one."""
    spread = len(values) > 1 and values.any()
    return float(scipy.stats.ttest_1samp(values, 0).pvalue) if spread else 1.0


if __name__ == "__main__":
    main()
