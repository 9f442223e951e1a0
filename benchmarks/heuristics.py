"""Trained models of a study beside the best heuristic of each graph, on the same splits and negatives, paired.

    mebns sweep configs/study/auto.yaml
    python benchmarks/heuristics.py studies/auto

The best heuristic is the one with the highest mean over a graph's splits: chosen in test, to its favour.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from _runs import head, line

from mebns_pl.metrics_json import NAME, load_metrics
from mebns_pl.report.statistics import paired_difference
from mebns_pl.study.store import read_results


def runs_of(folder: Path, metric: str) -> Iterator[dict[str, object]]:
    """A row a finished run: graph, arm, ``trained``, seconds, and each heuristic by name."""
    results = read_results(folder)
    axes = [name for name in results if name.startswith("axis/") and name != "axis/graph"]
    for _, row in results[results["status"] == "done"].iterrows():
        found = load_metrics(folder / row["folder"] / NAME)
        heuristics = {name: values[metric] for name, values in found["card"]["heuristics"].items() if metric in values}
        yield {
            "graph": row["axis/graph"],
            "arm": ", ".join(str(row[name]) for name in axes if results[name].nunique() > 1),
            "seconds": row["seconds"],
            "trained": found["test"]["metrics"][metric],
            "heuristics": heuristics,
        }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", default=Path("studies/auto"), help="folder of a tested study")
    parser.add_argument("--metric", default="mrr")
    given = parser.parse_args()
    if not given.study.is_dir():
        print(f"{given.study}: not there; mebns sweep configs/study/auto.yaml makes it")
        return
    runs = pd.DataFrame(runs_of(given.study, given.metric))
    print(f"Test {given.metric} in percent; difference with its 95 % interval\n")
    head("graph", "arm", "splits", "trained", "best heuristic", "", "difference", "seconds a run")
    for (graph, arm), rows in runs.groupby(["graph", "arm"], sort=False):
        heuristics = 100 * pd.DataFrame(list(rows["heuristics"])).dropna(axis=1)
        best = heuristics.mean().idxmax()
        trained = 100 * rows["trained"].to_numpy(dtype=float)
        beyond = paired_difference(trained - heuristics[best].to_numpy())
        spread = f" ± {np.std(trained, ddof=1):.1f}" if len(trained) > 1 else ""
        told = f"{beyond.mean:+.1f} ({beyond.low:+.1f}, {beyond.high:+.1f})"
        mean = f"{heuristics[best].mean():.1f}"
        line(graph, arm, len(rows), f"{trained.mean():.1f}{spread}", best, mean, told, f"{rows['seconds'].mean():.0f}")


if __name__ == "__main__":
    main()
