"""What configs/reproduce reaches beside what is published: the table of docs/backbones.md.

    python benchmarks/backbones.py                                          # runs kept in docs/results/reproduced.csv
    python benchmarks/backbones.py studies/reproduce_seal studies/reproduce_heart --csv docs/results/reproduced.csv

Hops, learning rates, epochs and proposals were settled in a few trials on one split or two, by validation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from _runs import head, line, told

from mebns_pl.study.store import read_results

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "reproduced.csv"
COLUMNS = ["split_seed", "seed", "test/mrr", "test/auc", "seconds", "peak_memory_mib", "commit"]
PUBLISHED = {
    ("reproduce_seal", "usair"): (96.62, 0.72),
    ("reproduce_seal", "ns"): (98.85, 0.47),
    ("reproduce_seal", "pb"): (94.72, 0.46),
    ("reproduce_seal", "yeast"): (97.91, 0.52),
    ("reproduce_seal", "celegans"): (90.30, 1.35),
    ("reproduce_seal", "power"): (87.61, 1.57),
    ("reproduce_seal", "router"): (96.38, 1.45),
    ("reproduce_seal", "ecoli"): (97.64, 0.22),
    ("reproduce_heart", "citeseer, SEAL"): (13.16, 1.66),
    ("reproduce_heart", "citeseer, NCN"): (28.65, 1.21),
}
"""Mean and standard deviation in percent: AUC (1802.09691) and MRR (2306.10453)."""
METRICS = {"reproduce_seal": "test/auc", "reproduce_heart": "test/mrr"}


def read(folders: list[Path]) -> pd.DataFrame:
    """Finished runs of the folders of studies."""
    frames = []
    for folder in folders:
        frame = read_results(folder)
        name = next((study for study in METRICS if study in (folder / "study.yaml").read_text()), folder.name)
        done = frame[frame["status"] == "done"]
        frames.append(done[COLUMNS].assign(study=name, run=done["axis/run"]))
    return pd.concat(frames, ignore_index=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="*", help=f"their folders; {RESULTS.name} unless told")
    parser.add_argument("--csv", type=Path, help="also writes the runs into this table")
    given = parser.parse_args()
    frame = read(given.studies) if given.studies else pd.read_csv(RESULTS)
    if given.csv:
        frame.to_csv(given.csv, index=False, float_format="%.6g")
    head("study", "run", "metric", "seeds", "here", "published", "difference", "seconds a run", "peak GB")
    for (study, run), rows in frame.groupby(["study", "run"], sort=False):
        metric = METRICS[study]
        values = 100 * rows[metric].to_numpy()
        mean, deviation = PUBLISHED.get((study, run), (None, None))
        published, gap = ("", "") if mean is None else (f"{mean:.2f} ± {deviation:.2f}", f"{values.mean() - mean:+.2f}")
        name = metric.removeprefix("test/").upper()
        peak = rows["peak_memory_mib"].max() / 1024
        seconds = f"{rows['seconds'].median():.0f}"
        line(study, run, name, len(rows), told(values, 2), published, gap, seconds, f"{peak:.2f}")


if __name__ == "__main__":
    main()
