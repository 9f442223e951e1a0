"""What it costs a run to be looked at: the monitor and the record of its probe, as a share of an epoch's work.

    python benchmarks/inspection.py --root ../shared/data

Seconds are those of the processor, so that other programs on the machine count for little. Prints a table and, as the
last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from rich.table import Table

import mebns_pl as m
from mebns_pl.analysis.probe_history import NAME

HOOKS = ("on_train_batch_end", "on_train_epoch_end")


class Epochs(Callback):
    """Seconds of each epoch; validation is left out."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.since = time.process_time()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.seconds.append(time.process_time() - self.since)


def timed(callback: Callback, seconds: list[float]) -> Callback:
    """The callback, whose hooks add up what they take in each epoch."""

    def wrapped(hook, ends):
        def run(*given) -> None:
            since = time.process_time()
            hook(*given)
            seconds[-1] += time.process_time() - since
            if ends:
                seconds.append(0.0)

        return run

    for name in HOOKS:
        setattr(callback, name, wrapped(getattr(callback, name), name == HOOKS[-1]))
    return callback


def measure(system: str, root: str | None, epochs: int) -> dict[str, float]:
    """Shares of an epoch, medians over the epochs after the warm-up, and the record's size."""
    seed_everything(0, verbose=False)
    data = m.LinkDataModule(graph="cora", root=root, batch_size=1024, seed=0)
    predictor = partial(m.EncoderDecoder, encoder=partial(m.GCN, hidden_channels=256, num_layers=1))
    made = getattr(m, system)(data.spec, predictor, m.Sampler(num_candidates=8), partial(torch.optim.Adam, lr=0.01))
    parts: dict[str, list[float]] = {"monitor": [0.0], "record": [0.0]}
    clock = Epochs()
    watching = [timed(m.MigrationMonitor(), parts["monitor"]), timed(m.ProbeRecord(), parts["record"])]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[*watching, clock],
            logger=CSVLogger(folder),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            use_distributed_sampler=False,
        )
        trainer.fit(made, data)
        size = next(Path(folder).rglob(NAME)).stat().st_size
    first = epochs // 3
    whole = torch.tensor(clock.seconds)[first:]
    shares = {name: float((torch.tensor(took[:epochs])[first:] / whole).median()) for name, took in parts.items()}
    return {"epoch_seconds": float(whole.median()), **shares, "together": sum(shares.values()), "file_kib": size / 1024}


def main() -> None:
    """Measures both systems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="where the graph is")
    parser.add_argument("--epochs", type=int, default=30)
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    found = {system: measure(system, given.root, given.epochs) for system in ("Plain", "MeBNS")}
    table = Table(
        "system", "epoch", "monitor", "record", "together", "file", title="Cora, GCN + dot product, 8 candidates"
    )
    for system, row in found.items():
        shares = [f"{100 * row[name]:.1f} %" for name in ("monitor", "record", "together")]
        table.add_row(system, f"{1000 * row['epoch_seconds']:.0f} ms", *shares, f"{row['file_kib']:.0f} KiB")
    Console().print(table)
    print(json.dumps({system: {name: round(value, 4) for name, value in row.items()} for system, row in found.items()}))


if __name__ == "__main__":
    main()
