"""Backbones against their published numbers: the table of docs/backbones.md, from docs/results/backbones.csv.

The runs are those of configs/study/backbones.yaml: SEAL on the graphs of its paper, SEAL and NCN on CiteSeer with
HeaRT's released negatives. Hops, learning rates, numbers of epochs and proposals were settled in a few trials on one
split, by validation. `mebns sweep` makes the runs anew.

    python benchmarks/backbones.py
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from _runs import head, line, parser_of, read, told

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "backbones.csv"


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    Args:
        model: "seal" or "ncn".
        graph: a name of the catalogue.
        seeds: number of seeds, each with a split of its own where the protocol draws splits.
        published: mean and standard deviation, in percent: of AUC, on citeseer of MRR.
    """

    model: str
    graph: str
    seeds: int
    published: tuple[float, float]

    @property
    def name(self) -> str:
        """``model/graph``."""
        return f"{self.model}/{self.graph}"

    @property
    def metric(self) -> str:
        """What it is judged by."""
        return "mrr" if self.graph == "citeseer" else "auc"


CELLS = (
    Cell("seal", "ns", 5, (98.85, 0.47)),
    Cell("seal", "power", 5, (87.61, 1.57)),
    Cell("seal", "usair", 5, (96.62, 0.72)),
    Cell("seal", "celegans", 5, (90.30, 1.35)),
    Cell("seal", "router", 5, (96.38, 1.45)),
    Cell("ncn", "citeseer", 3, (28.65, 1.21)),
    Cell("seal", "citeseer", 3, (13.16, 1.66)),
    Cell("seal", "yeast", 2, (97.91, 0.52)),
    Cell("seal", "pb", 1, (94.72, 0.46)),
    Cell("seal", "ecoli", 1, (97.64, 0.22)),
)


def main() -> None:
    """Prints the table."""
    parser_of(__doc__).parse_args()
    report(read(RESULTS), list(CELLS))


def report(rows: list[dict[str, str]], cells: list[Cell]) -> None:
    """Prints a Markdown table beside the published numbers.

    Reached is a mean that is above the published one less two of its deviations (AUC), or less one (MRR); it is said
    only where all seeds are there.
    """
    import numpy as np

    head("model", "graph", "metric", "seeds", "test", "published", "reached", "s/epoch", "peak GB")
    summary = {}
    for cell in cells:
        own = [row for row in rows if (row["model"], row["graph"]) == (cell.model, cell.graph)]
        if not own:
            line(cell.model, cell.graph, cell.metric, f"0 of {cell.seeds}", "not run", *[""] * 4)
            continue
        values = 100 * np.array([float(row["test"]) for row in own])
        mean, deviation = cell.published
        reached = values.mean() >= mean - (1 if cell.metric == "mrr" else 2) * deviation
        seconds = np.mean([float(row["seconds_per_epoch"]) for row in own])
        peak = max(float(row["peak_gb"]) for row in own)
        verdict = ("yes" if reached else "no") if len(own) >= cell.seeds else ""
        line(
            cell.model, cell.graph, cell.metric, f"{len(own)} of {cell.seeds}", told(values, 2),
            f"{mean:.2f} ± {deviation:.2f}", verdict, f"{seconds:.1f}", f"{peak:.2f}",
        )  # fmt: skip
        summary[cell.name] = round(float(values.mean()), 2)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
