"""Compares samplers, plain and inside MeBNS: trains every configuration on every graph and seed, and writes
docs/results/*.

Resumable: each finished run is one row of a CSV file, and rows that are there are not run again. The model, learning
    rate, number of
epochs, split and evaluation negatives are equal for all; the epoch is chosen on validation MRR.

    python benchmarks/compare_samplers.py --root ../shared/data --jobs 2
    python benchmarks/compare_samplers.py --report      # only the tables, from the CSV
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from itertools import product
from pathlib import Path

from _runs import append, begin, read

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "samplers.csv"
METHODS = ("uniform", "dns", "mebns_uniform", "mebns_dns")
PROPOSALS = ("uniform", "half_ppr")
HEADINGS = ("candidates", "method", "test MRR", "Hits@10", "AUC", "churn@1", "MRR - control (95 % interval)",
            "held-out drawn", "s/epoch")  # fmt: skip
FIELDS = ("graph", "proposal", "method", "seed", "epochs", "best_epoch", "val_mrr", "test_mrr", "test_hits@10",
          "test_auc", "churn@1", "held_out_share", "seconds_per_epoch")  # fmt: skip


def run(graph: str, proposal: str, method: str, seed: int, root: str, epochs: int) -> dict[str, str | float]:
    """Trains one configuration and returns its row."""
    import torch
    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint

    import mebns_pl as m

    begin()
    seed_everything(seed, verbose=False)
    candidates: m.UniformProposal | m.MixtureProposal = m.UniformProposal()
    if proposal == "half_ppr":
        nearest = m.ProximityProposal(m.PersonalizedPageRank(), top=50)
        candidates = m.MixtureProposal([m.UniformProposal(), nearest], [0.5, 0.5])
    data = m.LinkDataModule(graph=graph, root=root, proposal=candidates, num_candidates=8, batch_size=1024, seed=seed)
    predictor = partial(
        m.EncoderDecoder, encoder=partial(m.GCN, hidden_channels=256, num_layers=1), decoder=m.DotDecoder
    )
    adam = partial(torch.optim.Adam, lr=0.01)
    selector = m.HardestSelector(1) if method.endswith("dns") else m.FirstSelector(1)
    if method.startswith("mebns"):
        slow_adam = partial(torch.optim.Adam, lr=0.001)
        system = m.MeBNS(data.spec, predictor, selector, adam, adam, weight_net_optimizer=slow_adam)
    else:
        system = m.Plain(data.spec, predictor, selector, adam)
    monitor = m.MigrationMonitor()
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, monitor="val/mrr", mode="max", filename="best")
        trainer = Trainer(
            max_epochs=epochs, check_val_every_n_epoch=5, accelerator="cpu", callbacks=[best, monitor], logger=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
        )  # fmt: skip
        start = time.perf_counter()
        trainer.fit(system, data)
        seconds = time.perf_counter() - start
        best_epoch = torch.load(best.best_model_path, weights_only=True)["epoch"] + 1
        metrics = trainer.test(system, data, ckpt_path=best.best_model_path, verbose=False)[0]
    return {
        "graph": graph, "proposal": proposal, "method": method, "seed": seed, "epochs": epochs, "best_epoch":
        best_epoch, "val_mrr": float(best.best_model_score), "test_mrr": metrics["test/mrr"], "test_hits@10":
        metrics["test/hits@10"], "test_auc": metrics["test/auc"], "churn@1": monitor.tracker.late_churn(),
        "held_out_share": held_out_share(data), "seconds_per_epoch": seconds / epochs,
    }  # fmt: skip


def held_out_share(data) -> float:
    """Share of the candidates of one epoch that were held-out edges: known only now, after training, for analysis."""
    import torch

    from mebns_pl.graph.csr import Graph
    from mebns_pl.graph.known_edges import KnownEdges

    held_out = KnownEdges(Graph.from_edges(torch.cat([data.split.val, data.split.test], dim=1), data.loaded.num_nodes))
    steps = data.train_dataloader().dataset
    hits = total = 0
    for step in range(len(steps)):
        batch = steps[(0, step)]
        anchors = batch.positives[0][:, None].expand_as(batch.candidates)[batch.candidate_mask]
        hits += int(held_out.mask(anchors, batch.candidates[batch.candidate_mask]).sum())
        total += len(anchors)
    return hits / total


def main() -> None:
    """Runs what is missing, then prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", nargs="+", default=["cora", "citeseer"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--root", default=None, help="folder with planetoid/<Name>/raw")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true", help="print the tables only")
    args = parser.parse_args()
    done = {(r["graph"], r["proposal"], r["method"], int(r["seed"])) for r in read(RESULTS)}
    cells = product(range(args.seeds), args.graphs, PROPOSALS, METHODS)
    wanted = [(graph, proposal, method, seed) for seed, graph, proposal, method in cells]
    missing = [] if args.report else [cell for cell in wanted if cell not in done]
    with ProcessPoolExecutor(args.jobs) as pool:
        for future in as_completed([pool.submit(run, *cell, args.root, args.epochs) for cell in missing]):
            append(RESULTS, [future.result()], FIELDS)
    report(read(RESULTS), [cell for cell in wanted])


def report(rows: list[dict[str, str]], wanted: list[tuple[str, str, str, int]]) -> None:
    """Prints a Markdown table for each graph; the difference is to the plain sampler of the same candidates, paired
    by seed.
    """
    import numpy as np
    from scipy import stats

    by_cell = {(r["graph"], r["proposal"], r["method"], int(r["seed"])): r for r in rows}
    summary = {}
    for graph in dict.fromkeys(cell[0] for cell in wanted):
        print(f"\n### {graph}\n")
        print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
        for proposal, method in product(PROPOSALS, METHODS):
            seeds = [
                s for g, p, mth, s in wanted if (g, p, mth) == (graph, proposal, method) and (g, p, mth, s) in by_cell
            ]
            if not seeds:
                print(f"| {proposal} | {method} | not run |{' |' * (len(HEADINGS) - 3)}")
                continue

            def column(name: str, of: str = method, graph=graph, proposal=proposal, seeds=seeds) -> np.ndarray:
                return np.array([float(by_cell[graph, proposal, of, s][name]) for s in seeds])

            def cell(name: str, column=column) -> str:
                values = column(name)
                return f"{values.mean():.3f} ± {values.std(ddof=1) if len(values) > 1 else float('nan'):.3f}"

            control = "dns" if method.endswith("dns") else "uniform"
            difference = ""
            if control != method and len(seeds) > 1:
                gap = column("test_mrr") - column("test_mrr", of=control)
                half = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5
                difference = f"{gap.mean():+.3f} ({gap.mean() - half:+.3f}, {gap.mean() + half:+.3f})"
            summary[f"{graph}/{proposal}/{method}"] = round(float(column("test_mrr").mean()), 4)
            measured = [cell(name) for name in ("test_mrr", "test_hits@10", "test_auc", "churn@1")]
            held_out, seconds = column("held_out_share").mean(), column("seconds_per_epoch").mean()
            row = [proposal, method, *measured, difference, f"{100 * held_out:.2f} %", f"{seconds:.2f}"]
            print(f"| {' | '.join(row)} |")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
