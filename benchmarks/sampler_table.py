"""Every recipe of configs/sampler, plain and inside MeBNS: trains what is missing, into docs/results/recipes.csv.

Nothing but the configuration changes: files of configs/ are stacked, with --model=Plain or --model=MeBNS. Encoder
(GCN), decoder, learning rate, batch size and epochs are equal for all, and the epoch is chosen on validation MRR
against HeaRT-style negatives. Resumable: each finished run is a row, and rows that are there are not run again. Runs
that are missing are marked in the tables that are printed at the end.

    python benchmarks/sampler_table.py --root ../shared/data --jobs 2
    python benchmarks/sampler_table.py --recipes dns --graphs cora --seeds 0      # a part of it
    python benchmarks/sampler_table.py --report                                   # only the tables, from the CSV
"""

from __future__ import annotations

import json
import tempfile
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from _runs import begin, fill, gain, head, line, parser_of, read, told, train

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "docs" / "results" / "recipes.csv"
RECIPES = ("rns", "pns", "structure", "sans", "dns", "dns_mn", "softmax", "ahns", "bns", "self_adversarial",
           "nscaching", "mcns", "kbgan")  # fmt: skip
KINDS = ("Plain", "MeBNS")
FIELDS = ("graph", "recipe", "kind", "seed", "epochs", "best_epoch", "val_mrr", "test_mrr", "test_hits@10", "test_auc",
          "churn@1", "held_out_share", "seconds_per_epoch")  # fmt: skip
HEADINGS = ("recipe", "", "test MRR", "AUC", "churn@1", "MRR - plain (95 % interval)", "held-out drawn", "s/epoch")


def build(recipe: str, kind: str, graph: str, root: str | None, *options: str):
    """The system and the data module of a stack of configuration files, as the command line makes them."""
    from lightning.pytorch import LightningModule

    from mebns_pl import LinkDataModule
    from mebns_pl.cli.main import MeBNSCLI

    files = ("base", f"data/{graph}", "model/gcn_dot", f"sampler/{recipe}")
    args = [part for name in files for part in ("-c", str(REPOSITORY / "configs" / f"{name}.yaml"))]
    args += [f"--model={kind}", "--trainer.logger=false", "--trainer.accelerator=cpu", *options]
    if root is not None:
        args += [f"--data.root={root}"]
    made = MeBNSCLI(
        model_class=LightningModule, datamodule_class=LinkDataModule, subclass_mode_model=True,
        seed_everything_default=0, auto_configure_optimizers=False, save_config_callback=None, run=False, args=args,
    )  # fmt: skip
    return made.model, made.datamodule


def run(
    graph: str, recipe: str, kind: str, seed: int, root: str | None, epochs: int, config: dict[str, Any] | None = None
) -> list[dict[str, str | float]]:
    """Trains one cell, with ``config`` stacked on its files, and returns its row."""
    import torch
    from lightning.pytorch import Callback

    import mebns_pl as m

    class HeldOut(Callback):
        """Counts, for analysis, how many of the negatives that were learned from are held-out edges."""

        def on_train_start(self, trainer, pl_module) -> None:
            split, num_nodes = trainer.datamodule.split, trainer.datamodule.loaded.num_nodes
            held_out = torch.cat([split.val, split.test], dim=1)
            self.held_out = m.KnownEdges(m.Graph.from_edges(held_out, num_nodes))
            self.hits = self.total = 0

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            source, target = outputs["picked"]
            self.hits += int(self.held_out.mask(source, target).sum())
            self.total += len(source)

        def on_fit_end(self, trainer, pl_module) -> None:
            self.churn = monitor.tracker.late_churn()  # the test loads the chosen epoch's state with its history

    begin()
    monitor, held_out = m.MigrationMonitor(), HeldOut()
    with tempfile.TemporaryDirectory() as folder:
        stacked = Path(folder) / "config.yaml"
        stacked.write_text(json.dumps(config or {}))  # JSON is YAML
        system, data = build(recipe, kind, graph, root, f"--seed_everything={seed}", "-c", str(stacked))
        found = train(system, data, epochs, every=min(5, epochs), callbacks=[monitor, held_out])
    tested = {name: found[name.replace("_", "/")] for name in ("test_mrr", "test_hits@10", "test_auc")}
    return [{
        "graph": graph, "recipe": recipe, "kind": kind, "seed": seed, "epochs": epochs, "val_mrr": found["val"],
        "best_epoch": found["best_epoch"], **tested, "churn@1": held_out.churn,
        "held_out_share": held_out.hits / max(held_out.total, 1), "seconds_per_epoch": found["seconds_per_epoch"],
    }]  # fmt: skip


def name_of(row: dict[str, str]) -> tuple[str, str, str, int, int]:
    """What a row is a row of."""
    return row["graph"], row["recipe"], row["kind"], int(row["seed"]), int(row["epochs"])


def main() -> None:
    """Runs what is missing, then prints the tables."""
    parser = parser_of(__doc__, fills=True)
    parser.add_argument("--graphs", nargs="+", default=["cora", "usair"])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    done = {name_of(row) for row in read(args.results) if row["churn@1"]}  # the last row of a cell counts
    cells = product(args.seeds, args.graphs, args.recipes, args.kinds)
    wanted = [(graph, recipe, kind, seed) for seed, graph, recipe, kind in cells]
    missing = [(*cell, args.root, args.epochs) for cell in wanted if (*cell, args.epochs) not in done]
    fill(args.results, FIELDS, run, [] if args.report else missing, args.jobs)
    report([row for row in read(args.results) if int(row["epochs"]) == args.epochs], wanted)


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
