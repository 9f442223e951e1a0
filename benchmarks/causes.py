"""Tables and figure of docs/migration.md, from the committed runs of configs/study/causes.yaml.

Why negatives migrate: late churn (the share of the hard set that is new since the epoch before, mean over the second
half of training) by graph, number of candidates and what becomes of them, with held-out edges among the candidates and,
by an oracle and for analysis alone, without.

    python benchmarks/causes.py                       # tables and docs/figures/causes.png, of docs/results/causes.csv
    python benchmarks/causes.py --study studies/causes   # that file anew, of a study that was swept
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from _runs import gain, head, line, parser_of, told

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "causes.csv"
FIGURE = ROOT / "docs" / "figures" / "causes.png"
KEY = ["graph", "candidates", "held out", "negatives"]
THERE, LEFT_OUT = "among them", "left out"
PAIRS = (("teacher's filter", "plain"), ("teacher's filter", "random veto"), ("MeBNS", "teacher's filter"))


def main() -> None:
    """Prints the tables and draws the figure."""
    parser = parser_of(__doc__)
    parser.add_argument("--study", type=Path, help="folder of a swept study, whose finished runs replace the file")
    args = parser.parse_args()
    if args.study is not None:
        gathered(args.study).to_csv(RESULTS, index=False, float_format="%.6g")
    rows = pd.read_csv(RESULTS)
    report(rows)
    draw(rows)


def gathered(study: Path) -> pd.DataFrame:
    """The finished runs of a study: of each graph and number of candidates the seeds of which no run is missing."""
    from mebns_pl.metrics_json import NAME, load_metrics
    from mebns_pl.study.store import read_results

    found = []
    for _, run in read_results(study).query("status == 'done'").iterrows():
        fit = load_metrics(study / run["folder"] / NAME)["fit"]
        found.append(
            {name: run[f"axis/{name}"] for name in KEY}
            | {"seed": run["seed"], "epochs": fit["epochs"], "churn": fit["churn"], "late_churn": fit["late_churn"]}
            | {"val_mrr": fit["val"]["mrr"], "held_out_share": fit["diagnosis"]["held_out/candidates"]}
        )
    rows = pd.DataFrame(found)
    whole = rows.groupby(["graph", "candidates", "seed"])["epochs"].transform("size")
    return rows[whole == rows.groupby(["held out", "negatives"]).ngroups]


def values(rows: pd.DataFrame, *cell: object) -> pd.Series:
    """Late churn by seed, of one cell, in [0, 1]."""
    return rows[(rows[KEY] == list(cell)).all(axis=1)].set_index("seed")["late_churn"]


def paired(own: pd.Series, control: pd.Series) -> str:
    """Mean difference in points over the seeds that both have, with its interval."""
    own, control = own.align(control, join="inner")
    return gain(100 * own.to_numpy(), 100 * control.to_numpy(), digits=1)


def report(rows: pd.DataFrame) -> None:
    """Prints Markdown tables: late churn in %, with and without held-out edges, and differences paired by seed."""
    arms, cells = rows["negatives"].unique(), rows[["graph", "candidates"]].drop_duplicates().to_numpy().tolist()
    print(f"{len(rows)} runs\n")
    head("graph", "candidates", "seeds", *(f"{arm}, and with the oracle" for arm in arms))
    for cell in cells:
        found = {arm: [values(rows, *cell, held, arm) for held in (THERE, LEFT_OUT)] for arm in arms}
        line(*cell, len(found["plain"][0]), *(", ".join(told(100 * one, 1) for one in both) for both in found.values()))
    print()
    head("graph", "candidates", "plain: among them - left out", *(f"{arm} - {other}" for arm, other in PAIRS))
    for cell in cells:
        oracle = paired(*(values(rows, *cell, held, "plain") for held in (THERE, LEFT_OUT)))
        line(*cell, oracle, *(paired(*(values(rows, *cell, THERE, arm) for arm in pair)) for pair in PAIRS))
    print()
    head("graph", "held-out edges among the candidates, %", *(f"best validation MRR, {arm}" for arm in arms))
    for graph, part in rows[rows["held out"] == THERE].groupby("graph", sort=False):
        mrr = (part[part["negatives"] == arm] for arm in arms)
        line(graph, f"{100 * part['held_out_share'].mean():.2f}", *(told(one["val_mrr"]) for one in mrr))


def draw(rows: pd.DataFrame) -> None:
    """Draws the figure: a panel a graph, a colour for what becomes of the candidates, broken lines for the oracle."""
    from matplotlib.figure import Figure

    from mebns_pl.analysis.figures import BLUE, GREEN, ORANGE, VERMILION

    graphs, arms = rows["graph"].unique(), rows["negatives"].unique()
    figure = Figure(figsize=(7.6, 3.3), layout="constrained")
    panels = figure.subplots(1, len(graphs), sharey=True, sharex=True)
    for axes, graph in zip(panels, graphs, strict=True):
        for arm, color, marker in zip(arms, (VERMILION, ORANGE, BLUE, GREEN), "os^D", strict=True):
            for held, style in ((THERE, "-"), (LEFT_OUT, ":")):
                counts = sorted(rows["candidates"].unique())
                runs = [100 * values(rows, graph, count, held, arm) for count in counts]
                middle = np.array([run.mean() for run in runs])
                ends = np.abs(np.array([[run.min(), run.max()] for run in runs]).T - middle)
                # One entry a colour; what the lines mean is said below
                label = arm if held == THERE else None
                axes.errorbar(counts, middle, ends, color=color, linestyle=style, marker=marker, markersize=4,
                              linewidth=1.4, elinewidth=0.8, label=label)  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set(title=graph, xlabel="candidates", ylim=(0, None))
        axes.set_xticks(counts, [str(count) for count in counts])
    panels[0].set_ylabel("new in the hard set, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(arms), frameon=False)
    figure.supxlabel("whole lines: held-out edges among the candidates; dotted: left out by an oracle; bars: all seeds",
                     fontsize=8)  # fmt: skip
    figure.savefig(FIGURE, dpi=120)


if __name__ == "__main__":
    main()
