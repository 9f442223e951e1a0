"""Whether cheap hypergradients and a frozen teacher cost quality: MeBNS(DNS) with each, over seeds.

Resumable: each finished run is a row of docs/results/engines.csv, and rows that are there are not run again. The epoch
is chosen on validation MRR.

    python benchmarks/engines.py --root ../shared/data --jobs 2
    python benchmarks/engines.py --report      # only the table, from the CSV
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev

from _runs import append, begin, read

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "engines.csv"
FIELDS = ("graph", "system", "seed", "epochs", "val_mrr", "test_mrr", "test_auc")
GRAPHS = {"cora": (1024, 100), "pubmed": (8192, 50)}  # batch size, epochs
SYSTEMS = ("exact", "cheap", "frozen_exact", "frozen_cheap")


def run(graph: str, system: str, seed: int, root: str | None) -> dict[str, str | float]:
    """Trains one configuration and returns its row."""
    import torch
    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint

    import mebns_pl as m

    begin()
    seed_everything(seed, verbose=False)
    batch_size, epochs = GRAPHS[graph]
    split = m.SplitFractions(meta=0.05)
    data = m.LinkDataModule(graph=graph, root=root, num_candidates=8, batch_size=batch_size, seed=seed, split=split)
    encoder = partial(m.GCN, hidden_channels=256, num_layers=1)
    adam = partial(torch.optim.Adam, lr=0.01)
    module = m.MeBNS(
        data.spec,
        partial(m.EncoderDecoder, encoder=encoder, decoder=m.DotDecoder),
        m.HardestSelector(1),
        adam,
        adam,
        weight_net=partial(m.WeightNet, max_score=0.3),  # wide, so that what an engine gets wrong can be seen
        weight_net_optimizer=partial(torch.optim.Adam, lr=0.001),
        teacher_filter=m.TeacherFilter(drop_easy=0.5, drop_top=0.0),
        engine=m.Every(4, m.LastBlock(["encoder.biases"])) if system.endswith("cheap") else m.HigherEngine(),
        schedule=m.Schedule(
            warmup=5, teacher=epochs // 5 if system.startswith("frozen") else None, student_from_teacher=False
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, monitor="val/mrr", mode="max", filename="best")
        trainer = Trainer(
            max_epochs=epochs, check_val_every_n_epoch=5, accelerator="cpu", callbacks=[best], logger=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, data)
        metrics = trainer.test(module, data, ckpt_path=best.best_model_path, verbose=False)[0]
    found = (float(best.best_model_score), metrics["test/mrr"], metrics["test/auc"])
    return dict(zip(FIELDS, (graph, system, seed, epochs, *(round(value, 6) for value in found)), strict=True))


def report(rows: list[dict[str, str]]) -> None:
    """Prints a Markdown table; a cheap system's gap is given in standard deviations of the exact one."""
    print("| graph | system | seeds | test MRR | AUC | gap to exact, in its std |\n|---|---|---|---|---|---|")
    for graph in GRAPHS:
        exact: list[float] = []
        for system in SYSTEMS:
            own = [row for row in rows if (row["graph"], row["system"]) == (graph, system)]
            values, areas = ([float(row[name]) for row in own] for name in ("test_mrr", "test_auc"))
            if len(values) < 2:
                print(f"| {graph} | {system} | {len(values)} | not run | | |")
                continue
            exact = exact or values
            gap = (mean(values) - mean(exact)) / stdev(exact)
            cells = [f"{mean(v):.4f} ± {stdev(v):.4f}" for v in (values, areas)]
            print(f"| {graph} | {system} | {len(values)} | {cells[0]} | {cells[1]} | {gap:+.2f} |")


def main() -> None:
    """Runs what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=None, help="folder with planetoid/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true", help="print the table only")
    args = parser.parse_args()
    done = {(row["graph"], row["system"], int(row["seed"])) for row in read(RESULTS)}
    cells = [] if args.report else [c for c in product(GRAPHS, SYSTEMS, range(args.seeds)) if c not in done]
    with ProcessPoolExecutor(args.jobs) as pool:
        for future in as_completed([pool.submit(run, *cell, args.root) for cell in cells]):
            append(RESULTS, [future.result()], FIELDS)
    report(read(RESULTS))


if __name__ == "__main__":
    main()
