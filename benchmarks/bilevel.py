"""What the bilevel step costs on Cora: MeBNS epochs over plain ones; plain steps with sparse and with dense features.

    python benchmarks/bilevel.py --root ../shared/data

Epochs are timed with everything in them (drawing candidates, refreshing the meta set, all three updates) but
evaluation;
the best of several blocks is taken, plain and MeBNS in turn. Prints a table and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from dataclasses import replace
from functools import partial

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from rich.console import Console
from rich.table import Table

import mebns_pl as m
from mebns_pl.mebns.group import SingleProcess
from mebns_pl.mebns.step import Learner, mebns_step


class EpochClock(Callback):
    """Wall-clock seconds of every epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_start(self, trainer, pl_module) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._start)
        self._start = now


def make_data(root: str | None) -> m.LinkDataModule:
    """Cora with eight uniform candidates an anchor."""
    return m.LinkDataModule(graph="cora", root=root, num_candidates=8, batch_size=1024)


def make_predictor(spec: m.GraphSpec) -> m.EncoderDecoder:
    """One GCN layer of 256 with a dot product, as in configs/experiment."""
    return m.EncoderDecoder(spec, partial(m.GCN, hidden_channels=256, num_layers=1), m.DotDecoder)


def epoch_seconds(system: str, root: str | None, epochs: int) -> float:
    """Mean seconds of an epoch, the first two left out."""
    seed_everything(0, verbose=False)
    data, clock = make_data(root), EpochClock()
    adam = partial(torch.optim.Adam, lr=0.01)
    selector = m.HardestSelector(1)
    if system == "plain":
        module = m.Plain(data.spec, make_predictor, selector, adam)
    else:
        engine = {"higher": m.HigherEngine, "directional": m.DirectionalEngine}[system]()
        module = m.MeBNS(data.spec, make_predictor, selector, adam, adam, engine=engine, schedule=m.Schedule(warmup=0))
    trainer = Trainer(
        max_epochs=epochs + 2, accelerator="cpu", limit_val_batches=0, logger=False, callbacks=[clock],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    return sum(clock.seconds[2:]) / epochs


def step_curve(root: str | None, dense: bool, steps: int) -> tuple[list[float], float]:
    """Losses of a plain run of ``steps`` steps, and its seconds a step."""
    data = make_data(root)
    if dense:
        loaded = data.loaded
        data.__dict__["loaded"] = replace(loaded, x=loaded.x.to_dense())
    data.setup("fit")
    batches = data.train_dataloader().dataset
    torch.manual_seed(0)
    student = make_predictor(data.spec)
    learner = Learner(student, torch.optim.Adam(student.parameters(), lr=0.01))
    losses, start = [], 0.0
    for step in range(steps + 3):
        if step == 3:
            start = time.perf_counter()
        batch = batches[divmod(step, len(batches))]
        key = m.Key(0, "benchmark").at(batch.epoch, batch.step)
        result = mebns_step(learner, m.FirstSelector(1), batch, data.train_graph, key, SingleProcess())
        for param, grad in zip(learner.params(), result.student_grads, strict=True):
            param.grad = grad
        learner.optimizer.step()
        losses.append(float(result.losses["student"]))
    return losses, (time.perf_counter() - start) / steps


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=None, help="folder with planetoid/Cora/raw")
    parser.add_argument("--epochs", type=int, default=10, help="of a block; a multiple of the meta refresh")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    systems = ("plain", "higher", "directional")
    blocks = {name: [] for name in systems}
    curves: dict[bool, list[float]] = {}
    steps: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(args.repeats):
        for name in systems:
            blocks[name].append(epoch_seconds(name, args.root, args.epochs))
        for dense in (False, True):
            curves[dense], seconds = step_curve(args.root, dense, steps=30)
            steps[dense].append(seconds)
    torch.testing.assert_close(curves[False], curves[True], rtol=1e-3, atol=1e-4)
    epoch = {name: min(seconds) for name, seconds in blocks.items()}

    table = Table("Cora, GCN 1 x 256, dot product, DNS of 8", title=f"{torch.get_num_threads()} threads")
    table.add_column("ms", justify="right")
    table.add_column("ratio", justify="right")
    table.add_row("plain epoch", f"{1e3 * epoch['plain']:.0f}", "1")
    for name in ("higher", "directional"):
        table.add_row(f"MeBNS epoch, {name} engine", f"{1e3 * epoch[name]:.0f}", f"{epoch[name] / epoch['plain']:.2f}")
    dense, sparse = min(steps[True]), min(steps[False])
    table.add_row("plain step, dense features", f"{1e3 * dense:.1f}", "1")
    table.add_row("plain step, sparse features", f"{1e3 * sparse:.1f}", f"{dense / sparse:.2f} x faster")
    Console().print(table)
    result = {
        "mebns_over_plain_epoch": epoch["higher"] / epoch["plain"],
        "directional_over_plain_epoch": epoch["directional"] / epoch["plain"],
        "sparse_speedup": dense / sparse,
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
