"""Backbones against their published numbers: SEAL on the graphs of its paper, SEAL and NCN on CiteSeer with HeaRT's
released negatives. Writes docs/results/backbones.csv.

Resumable: each finished run is one row, and rows that are there are not run again. The epoch is the best on validation
(AUC, or MRR for HeaRT's); hops, learning rates, numbers of epochs and proposals are those below. They were settled in a
few trials on one split, by validation.

    python benchmarks/backbones.py --root ../shared/data --jobs 1
    python benchmarks/backbones.py --only seal/usair ncn/citeseer     # some cells, of all seeds
    python benchmarks/backbones.py --report                           # only the table, from the CSV
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from _runs import begin, fill, head, line, parser_of, peak_gb, read, told, train

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "backbones.csv"
FIELDS = ("model", "graph", "seed", "metric", "test", "val", "best_epoch", "epochs", "num_hops", "num_pooled",
          "supervision", "seconds_per_epoch", "eval_seconds", "peak_gb")  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One row of the table: what is trained how, on which seeds, and the published number.

    Args:
        model: "seal" or "ncn".
        graph: a name of the catalogue.
        seeds: number of seeds, each with a split of its own where the protocol draws splits.
        published: mean and standard deviation, in percent: of AUC, on citeseer of MRR.
        epochs: of training.
        lr: Adam's learning rate.
        batch_size: positives of a step.
        num_hops: of SEAL's subgraphs.
        max_nodes_per_hop: of SEAL's subgraphs.
        supervision: share of the training edges that losses are computed on.
        structure: share of the negatives that are near their anchor in the training graph (least rank of PageRank,
            resource allocation and feature cosine, top 250), as HeaRT's own are; the others are uniform.
    """

    model: str
    graph: str
    seeds: int
    published: tuple[float, float]
    epochs: int = 20
    lr: float = 1e-3
    batch_size: int = 64
    num_hops: int = 1
    max_nodes_per_hop: int | None = None
    supervision: float = 1.0
    structure: float = 0.0

    @property
    def name(self) -> str:
        """``model/graph``."""
        return f"{self.model}/{self.graph}"

    @property
    def metric(self) -> str:
        """What it is judged by."""
        return "mrr" if self.graph == "citeseer" else "auc"


# The cheap ones first
CELLS = (
    Cell("seal", "ns", 5, (98.85, 0.47), num_hops=2, epochs=30),
    Cell("seal", "power", 5, (87.61, 1.57), num_hops=2, epochs=10),
    Cell("seal", "usair", 5, (96.62, 0.72)),
    Cell("seal", "celegans", 5, (90.30, 1.35), num_hops=2, epochs=40, lr=2e-4),
    Cell("seal", "router", 5, (96.38, 1.45), num_hops=2, epochs=10),
    Cell("ncn", "citeseer", 3, (28.65, 1.21), epochs=40, batch_size=384, structure=0.5),
    Cell("seal", "citeseer", 3, (13.16, 1.66), epochs=10, num_hops=1),
    Cell("seal", "yeast", 2, (97.91, 0.52), epochs=15, max_nodes_per_hop=100),
    Cell("seal", "pb", 1, (94.72, 0.46), epochs=15, max_nodes_per_hop=100),
    Cell("seal", "ecoli", 1, (97.64, 0.22), epochs=15, max_nodes_per_hop=100),
)  # fmt: skip


def run(cell: Cell, seed: int, root: str | None) -> list[dict[str, str | float]]:
    """Trains one configuration and returns its row."""
    import torch
    from lightning.pytorch import seed_everything

    import mebns_pl as m
    from mebns_pl.evaluation.protocols import OfficialParting, RandomParting, ReleasedComparison, UniformComparison
    from mebns_pl.models.seal import sortpool_size

    begin()
    seed_everything(seed, verbose=False)
    if cell.metric == "mrr":
        protocol = m.Protocol(OfficialParting(), ReleasedComparison())
    else:
        protocol = m.Protocol(RandomParting(val=0.05, test=0.10), UniformComparison(), val_in_test=True)
    proposal = m.UniformPairProposal()
    if cell.structure:
        measure = m.MinRank([m.PersonalizedPageRank(), m.ResourceAllocation(), m.FeatureCosine()])
        parts = [m.UniformProposal(), m.ProximityProposal(measure, top=250)]
        proposal = m.MixtureProposal(parts, [1 - cell.structure, cell.structure])
    data = m.LinkDataModule(
        graph=cell.graph, root=root, split=m.SplitFractions(meta=0.0, supervision=cell.supervision), seed=seed,
        protocol=protocol, batch_size=cell.batch_size,
    )  # fmt: skip
    num_pooled = 0
    if cell.model == "ncn":
        encoder = partial(m.GCN, hidden_channels=256, num_layers=1, dropout=0.3)
        predictor = partial(m.NCN, encoder=encoder, hidden_channels=256, dropout=0.5)
    else:
        num_pooled = sortpool_size(data.train_graph, data.split.train[:, :1000], cell.num_hops)
        predictor = partial(
            m.SEAL, num_hops=cell.num_hops, num_pooled=num_pooled, max_nodes_per_hop=cell.max_nodes_per_hop
        )
    sampler = m.Sampler(proposal, num_candidates=1)
    system = m.Plain(data.spec, predictor, sampler, partial(torch.optim.Adam, lr=cell.lr))
    found = train(system, data, cell.epochs, cell.metric, every=5 if cell.epochs % 5 == 0 else 2)
    chosen = {name: found[name] for name in ("val", "best_epoch", "seconds_per_epoch", "eval_seconds")}
    return [{
        "model": cell.model, "graph": cell.graph, "seed": seed, "metric": cell.metric,
        "test": found[f"test/{cell.metric}"], "epochs": cell.epochs, "num_hops": cell.num_hops if num_pooled else "",
        "num_pooled": num_pooled or "", "supervision": cell.supervision, "peak_gb": peak_gb(), **chosen,
    }]  # fmt: skip


def main() -> None:
    """Runs what is missing, then prints the table."""
    parser = parser_of(__doc__, fills=True)
    parser.add_argument("--only", nargs="+", default=None, help="cells such as seal/usair")
    args = parser.parse_args()
    names = [cell.name for cell in CELLS]
    if unknown := set(args.only or ()) - set(names):
        parser.error(f"--only: got {', '.join(sorted(unknown))}; allowed are {', '.join(names)}")
    cells = [cell for cell in CELLS if args.only is None or cell.name in args.only]
    done = {(r["model"], r["graph"], int(r["seed"])) for r in read(RESULTS)}
    wanted = [(cell, seed, args.root) for cell in cells for seed in range(cell.seeds)]
    missing = [] if args.report else [c for c in wanted if (c[0].model, c[0].graph, c[1]) not in done]
    fill(RESULTS, FIELDS, run, missing, args.jobs, fresh=True)
    report(read(RESULTS), cells)


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
