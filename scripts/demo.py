"""Trains on the embedded air routes: what fits the graph, and a GCN plain, with DNS and by MeBNS.

Compares them on held-out routes, and predicts new ones.

make demo        # or: python scripts/demo.py
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from lightning.pytorch import Callback
from rich.console import Console

from mebns_pl.callbacks.card import EvaluationCard
from mebns_pl.callbacks.results import ResultTable
from mebns_pl.cli.main import main
from mebns_pl.prediction.writer import PredictionWriter
from mebns_pl.terminal import link_table, metric_table

RUNS = {
    "auto, as mebns run": ["-c", "base", "-c", "data/air_routes", "-c", "run/own", "--model=Plain"],
    "GCN, plain, uniform": ["-c", "experiment/air_routes_gcn_plain"],
    "GCN, plain, DNS": ["-c", "experiment/air_routes_gcn_dns"],
    "GCN, MeBNS": ["-c", "experiment/air_routes_gcn_mebns"],
}
PREDICTIONS = Path("logs") / "air_routes_predictions.csv"


def run() -> None:
    """The demo."""
    start = time.perf_counter()
    console = Console()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    rows, folders = {}, {}
    for name, options in RUNS.items():
        console.rule(f"[bold]{name}", align="left")
        cli = main(["fit", *options, f"--predictions.path={PREDICTIONS}"])
        folders[name] = cli.trainer.log_dir
        # One table for all
        callbacks: list[Callback] = cli.trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [callback for callback in callbacks if not isinstance(callback, ResultTable)]
        card = next(callback for callback in callbacks if isinstance(callback, EvaluationCard))
        card.show = False
        best = cli.trainer.checkpoint_callback.best_model_path
        metrics = cli.trainer.test(cli.model, cli.datamodule, ckpt_path=best, verbose=False)[0]
        rows[name] = {metric.removeprefix("test/"): value for metric, value in metrics.items()}
    made = card.card
    assert made is not None
    best_heuristic = next(iter(made.heuristics))
    rows[f"{best_heuristic}, untrained"] = made.heuristics[best_heuristic]
    rows["chance"] = made.chance

    console.rule("[bold]Test: 301 held-out routes", align="left")
    console.print("In %. MRR, Hits: each route against its 500 hard non-routes; AUC: against random ones")
    console.print(metric_table(rows, ["mrr", "hits@10", "auc"]))
    console.print(f"MeBNS: {made.recommendation}", highlight=False)
    console.print("One seed of a small graph: differences of a few points are noise. README.md has ten seeds.\n")

    # The last of the runs, MeBNS, goes on to say what is missing
    cli.trainer.predict(cli.model, cli.datamodule, ckpt_path=best, return_predictions=False)
    writer = next(callback for callback in callbacks if isinstance(callback, PredictionWriter))
    assert writer.table is not None
    console.rule("[bold]New routes, as MeBNS predicts them", align="left")
    console.print(link_table(writer.table.head(10)))
    console.print(f"\n{len(writer.table)} predicted routes: {writer.path}")
    for name, folder in folders.items():
        console.print(f"TensorBoard logs, {name}: {folder}")
    console.print(f"What migrates in them: mebns explore {' '.join(map(str, folders.values()))}", soft_wrap=True)
    console.print(f"Open them with: tensorboard --logdir logs\nTook {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    run()
