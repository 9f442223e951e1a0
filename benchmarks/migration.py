"""Table and figure of docs/migration.md, from the committed runs in docs/results/migration.csv.

How negatives migrate under three samplers, plain and inside MeBNS: churn of a fixed probe by epochs, on Cora. Equal for
all methods of a seed: split, probe, proposal (uniform), candidates an anchor, predictor and its initial weights (their
digest is in the file), learning rate, number of epochs; no early stopping. MeBNS learns from fewer positives, since it
sets meta edges apart: DNS was run with all, and with the same. configs/study/migration.yaml is a study of the same
methods, but that there DNS with fewer edges learns from 98 % of them; `mebns sweep` runs it.

    python benchmarks/migration.py
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from _runs import gain, head, line, parser_of, read, told

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "migration.csv"
FIGURES = ROOT / "docs" / "figures"
METHODS = {
    "uniform": "uniform",
    "dns": "DNS",
    "dns_mn": "DNS(2, 8)",
    "dns_same_edges": "DNS, MeBNS's edges",
    "mebns_uniform": "MeBNS(uniform)",
    "mebns_dns": "MeBNS(DNS)",
    "mebns_dns_mn": "MeBNS(DNS(2, 8))",
}
PAIRS = (
    ("mebns_uniform", "uniform"),
    ("mebns_dns", "dns"),
    ("mebns_dns", "dns_same_edges"),
    ("mebns_dns_mn", "dns_mn"),
)
MEASURES = ("churn@1", "churn@5", "churn@10", "easy_to_hard", "hard_to_easy", "flips_mean", "picked_turned_easy",
            "unpicked_turned_easy")  # fmt: skip


def main() -> None:
    """Prints the table and draws the figure."""
    parser = parser_of(__doc__)
    parser.add_argument("--graph", default="cora")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args()
    wanted = [(args.graph, method, seed) for seed, method in product(range(args.seeds), METHODS)]
    rows = [r for r in read(RESULTS) if (r["graph"], r["method"], int(r["seed"])) in wanted]
    rows = [r for r in rows if int(r["epochs"]) == args.epochs]
    if not rows:
        parser.error(f"no run of {args.graph} with {args.epochs} epochs in {RESULTS}")
    check_controls(rows)
    report(rows, args.epochs)
    draw(rows, args.graph, args.epochs)


def check_controls(rows: list[dict[str, str]]) -> None:
    """Makes sure that the methods of a seed began from the same weights.

    Raises:
        ValueError: they did not.
    """
    for seed in {r["seed"] for r in rows}:
        starts = {r["initial_weights"] for r in rows if r["seed"] == seed}
        if len(starts) > 1:
            raise ValueError(f"seed {seed}: methods began from different weights: {', '.join(sorted(starts))}")


def series(rows: list[dict[str, str]], method: str, measure: str, epochs: int) -> np.ndarray:
    """``(seeds, epochs)``, NaN where nothing was measured."""
    seeds = sorted({int(r["seed"]) for r in rows if r["method"] == method})
    values = np.full((len(seeds), epochs), np.nan)
    for r in rows:
        if r["method"] == method and r[measure]:
            values[seeds.index(int(r["seed"])), int(r["epoch"])] = float(r[measure])
    return values


def report(rows: list[dict[str, str]], epochs: int) -> None:
    """Prints a Markdown table: means over the second half of training (MRR: its end, and the best), ± over seeds."""
    head("negatives", *MEASURES, "val MRR, best", "val MRR, end")
    for method, name in METHODS.items():
        if not any(r["method"] == method for r in rows):
            continue
        cells = []
        for measure in MEASURES:
            values = series(rows, method, measure, epochs)
            late = np.nanmean(values[:, epochs // 2 :], axis=1)
            cells.append(told(values[:, -1] if measure == "flips_mean" else late))
        mrr = series(rows, method, "val_mrr", epochs)
        cells += [told(np.nanmax(mrr, axis=1)), told(mrr[:, ~np.isnan(mrr).all(axis=0)][:, -1])]
        line(name, *cells)
    print()
    head("difference, paired by seed", "churn@1", "val MRR, best")
    for method, control in PAIRS:
        both = [
            (
                series(rows, name, "churn@1", epochs)[:, epochs // 2 :].mean(axis=1),
                np.nanmax(series(rows, name, "val_mrr", epochs), axis=1),
            )
            for name in (method, control)
        ]
        line(f"{METHODS[method]} - {METHODS[control]}", *map(gain, *both))


def draw(rows: list[dict[str, str]], graph: str, epochs: int) -> None:
    """Draws the figure of docs/migration.md."""
    from matplotlib.figure import Figure
    from scipy import stats

    from mebns_pl.analysis.figures import BLUE, GREEN, ORANGE, SKY

    FIGURES.mkdir(parents=True, exist_ok=True)
    # A colour a sampler; broken lines alone, whole lines inside MeBNS
    colors = dict(zip(METHODS, (GREEN, BLUE, ORANGE, SKY, GREEN, BLUE, ORANGE), strict=True))
    lines = dict(zip(METHODS, ("--", "--", "--", ":", "-", "-", "-"), strict=True))
    panels = {
        "churn@1": "new in the hard set\nsince the epoch before, %",
        "picked_turned_easy": "picked, hard, easy an\nepoch later, % (by tens)",
        "val_mrr": "validation MRR, %",
    }
    figure = Figure(figsize=(7.2, 7.6), layout="constrained")
    for place, (measure, label) in enumerate(panels.items()):
        axes = figure.add_subplot(3, 1, place + 1)
        for method, name in METHODS.items():
            values = 100 * series(rows, method, measure, epochs)
            if measure == "picked_turned_easy" and len(values):  # few picks an epoch are hard: too noisy to look at
                for first in range(0, epochs, 10):
                    values[:, first] = np.nanmean(values[:, first : first + 10], axis=1)
                    values[:, first + 1 : first + 10] = np.nan
            seen = ~np.isnan(values).all(axis=0) if len(values) else np.zeros(0, dtype=bool)
            if not seen.any():
                continue
            x, y = np.arange(epochs)[seen], values[:, seen]
            axes.plot(x, y.mean(axis=0), color=colors[method], linestyle=lines[method], linewidth=1.5, label=name)
            if len(y) > 1:
                half = stats.t.ppf(0.975, len(y) - 1) * y.std(axis=0, ddof=1) / len(y) ** 0.5
                low, high = y.mean(axis=0) - half, y.mean(axis=0) + half
                axes.fill_between(x, low, high, color=colors[method], alpha=0.12, linewidth=0)
        axes.axvspan(epochs // 2, epochs, color="0.95", zorder=0)
        # The first epochs, and that of the student's start from the teacher, leave the first panel at its top
        axes.set(ylabel=label, xlim=(0, epochs), ylim=(0, 12 if measure == "churn@1" else None))
        if place == 0:
            axes.legend(ncols=3, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.set_xlabel("epoch (second half shaded; bands: 95 % intervals of the mean over seeds)")
    figure.suptitle(f"{graph}: migration of negatives, and what it comes with")
    figure.savefig(FIGURES / "migration_churn.png", dpi=100)


if __name__ == "__main__":
    main()
