"""Tables of docs/quality.md, from the committed runs in docs/results/quality.csv.

The runs are those of configs/study/quality.yaml (validation alone) and quality_winners.yaml; `mebns sweep` makes them
anew, and `mebns report` tells of them.

    python benchmarks/quality.py factors
    python benchmarks/quality.py winners --graphs cora usair
"""

from __future__ import annotations

from itertools import product
from math import nan
from pathlib import Path

import yaml
from _runs import gain, head, line, parser_of, read, told

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "docs" / "results" / "quality.csv"
STUDIES = REPOSITORY / "configs" / "study"
CONTROL = "plain, DNS of 8"


def variants_of(part: str) -> list[str]:
    """Rows of a part's table, in the order of its study."""
    if part == "winners":
        samplers = yaml.safe_load((STUDIES / "quality_winners.yaml").read_text())["axes"]["negatives"]
        return [f"{kind}{sampler}" for sampler in samplers for kind in ("plain, ", "MeBNS round ")]
    names = list(yaml.safe_load((STUDIES / "quality.yaml").read_text())["axes"]["variant"])
    together = [name for name in names if name.startswith("together")]
    return [CONTROL, *together] if part == "together" else [name for name in names if name not in together]


def main() -> None:
    """Prints a table."""
    parser = parser_of(__doc__)
    parser.add_argument("part", choices=("factors", "together", "winners"))
    parser.add_argument("--graphs", nargs="+", help="those of the part unless told")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args()
    graphs = args.graphs or ["cora", "citeseer", *(["usair", "yeast"] if args.part == "winners" else [])]
    rows = [row for row in read(RESULTS) if int(row["epochs"]) == args.epochs and int(row["seed"]) in args.seeds]
    if args.part == "winners":
        report_test(rows, graphs, variants_of(args.part))
    else:
        report(rows, graphs, variants_of(args.part), churn=args.part == "together")


def column(rows: list[dict[str, str]], graph: str, variant: str, name: str) -> list[float]:
    """One number for each seed of any row, NaN where this variant has none."""
    chosen = [row for row in rows if (row["graph"], row["variant"]) == (graph, variant)]
    by_seed = {row["seed"]: float(row[name] or "nan") for row in chosen}
    return [by_seed.get(seed, nan) for seed in sorted({row["seed"] for row in rows})]


def report(rows: list[dict[str, str]], graphs: list[str], variants: list[str], churn: bool) -> None:
    """Prints a Markdown table: validation only, so that what is chosen by it has not seen the test edges."""
    names = {"val_mrr": "val MRR", **({"churn@1": "churn@1"} if churn else {})}
    columns = [column for name in names.values() for column in (name, "- DNS")]
    head("variant", *(f"{graph}: {column}" for graph in graphs for column in columns))
    for variant in variants:
        cells = []
        for graph, name in product(graphs, names):
            own, control = (column(rows, graph, which, name) for which in (variant, CONTROL))
            cells += [told(own), gain(own, control) if variant != CONTROL else ""]
        line(variant, *cells)


def report_test(rows: list[dict[str, str]], graphs: list[str], variants: list[str]) -> None:
    """Prints a Markdown table: each sampler alone and inside MeBNS, in test."""
    names = {"test_mrr": "test MRR", "test_auc": "AUC", "churn@1": "churn@1", "val_mrr": "val MRR"}
    head("graph", "negatives", *names.values(), *(f"{name} - plain" for name in names.values()))
    for graph, variant in product(graphs, variants):
        values = {name: column(rows, graph, variant, name) for name in names}
        control = variant.replace("MeBNS round ", "plain, ")
        gains = [gain(own, column(rows, graph, control, name)) for name, own in values.items()]
        line(graph, variant, *map(told, values.values()), *(gains if variant != control else [""] * len(names)))


if __name__ == "__main__":
    main()
