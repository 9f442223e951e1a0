"""Tables of docs/results.md, from the committed runs in docs/results/recipes.csv.

The runs are those of configs/study/recipes.yaml: every recipe of configs/sampler, plain and inside MeBNS, where nothing
but the configuration changes. `mebns sweep` makes them anew, and `mebns report` tells of them.

    python benchmarks/sampler_table.py --graphs cora
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from statistics import mean

import yaml
from _runs import gain, head, line, parser_of, read, told

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "docs" / "results" / "recipes.csv"
RECIPES = yaml.safe_load((REPOSITORY / "configs" / "study" / "recipes.yaml").read_text())["axes"]["sampler"]
KINDS = ("Plain", "MeBNS")
HEADINGS = ("recipe", "", "test MRR", "AUC", "churn@1", "MRR - plain (95 % interval)", "held-out drawn", "s/epoch")


def name_of(row: dict[str, str]) -> tuple[str, str, str, int, int]:
    """What a row is a row of."""
    return row["graph"], row["recipe"], row["kind"], int(row["seed"]), int(row["epochs"])


def main() -> None:
    """Prints the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--graphs", nargs="+", default=["cora", "usair"])
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args()
    cells = product(args.seeds, args.graphs, args.recipes, args.kinds)
    wanted = [(graph, recipe, kind, seed) for seed, graph, recipe, kind in cells]
    report([row for row in read(RESULTS) if int(row["epochs"]) == args.epochs], wanted)


def report(rows: list[dict[str, str]], wanted: list[tuple[str, str, str, int]]) -> None:
    """Prints a Markdown table for each graph; the difference is to the plain recipe, paired by seed."""
    by_cell = {name_of(row)[:4]: row for row in rows}
    summary = {}
    for graph in dict.fromkeys(cell[0] for cell in wanted):
        print(f"\n### {graph}\n")
        head(*HEADINGS)
        for recipe, kind in dict.fromkeys((cell[1], cell[2]) for cell in wanted):
            seeds = [s for g, r, k, s in wanted if (g, r, k) == (graph, recipe, kind) and (g, r, k, s) in by_cell]
            if not seeds:
                line(recipe, kind, "not run", *[""] * (len(HEADINGS) - 3))
                continue

            def column(name: str, of: str = kind, graph=graph, recipe=recipe, seeds=seeds) -> list[float]:
                cells = [by_cell.get((graph, recipe, of, s), {}) for s in seeds]
                return [float(cell.get(name) or "nan") for cell in cells]

            difference = gain(column("test_mrr"), column("test_mrr", of="Plain")) if kind != "Plain" else ""
            summary[f"{graph}/{recipe}/{kind}"] = round(mean(column("test_mrr")), 4)
            held_out, seconds = mean(column("held_out_share")), mean(column("seconds_per_epoch"))
            values = (told(column(name)) for name in ("test_mrr", "test_auc", "churn@1"))
            line(recipe, kind, *values, difference, f"{100 * held_out:.2f} %", f"{seconds:.2f}")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
