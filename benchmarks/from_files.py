"""A large graph from files: reading, starting again, evaluation and prediction, in seconds and memory.

Edges of a power-law graph are written as Parquet shards (two columns of numbers) or as one `.npz`, a tenth of them in
both directions and a twentieth twice, with 128 features a node in an `.npy` file. Each stage then runs in a process of
its own: two starts up to the first step of training, of which the second finds what the first has kept; validation
against random negatives; the best links of chosen nodes; and the first steps of MeBNS with the meta set that they need.
Memory is that of the process with its children; "own" leaves pages of files out, which the system takes back where it
needs them. The last line is JSON.

    python benchmarks/from_files.py                                              # 10^5 nodes, half a minute
    python benchmarks/from_files.py --nodes 10000000 --edges 100000000 --folder /large/disk
    python benchmarks/from_files.py --format npz --stages start again
    python benchmarks/from_files.py --folder /large/disk --keep --stages predict # files that are there are taken
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from _runs import QUIET, quieten
from lightning.pytorch import Callback, Trainer, seed_everything
from scaling import DRAWS, Memory, drawn_ends, write_features
from torch.optim import Adam

import mebns_pl as m
from mebns_pl.keys import permutation

STAGES = ("start", "again", "validate", "predict", "mebns")
BATCH = 1024


def write_graph(folder: Path, kind: str, num_nodes: int, num_edges: int) -> None:
    """``edges.parquet/`` or ``edges.npz``, and ``x.npy``; each node stands in an edge: features have a row of each."""
    key = m.Key(0, "from files")
    names = permutation(num_nodes, key.child("names"))

    def blocks() -> Iterator[np.ndarray]:
        yield permutation(num_nodes, key.child("every"))[: num_nodes // 2 * 2].view(2, -1).numpy()
        for number, start in enumerate(range(0, num_edges - num_nodes // 2, DRAWS)):
            size = min(DRAWS, num_edges - num_nodes // 2 - start)
            ends = drawn_ends(names, size, key.child(number)).numpy()
            yield ends
            yield ends[::-1, : size // 10]
            yield ends[:, -(size // 20) :]

    if kind == "parquet":
        (folder / "edges.parquet").mkdir()
        for number, (source, target) in enumerate(blocks()):
            path = folder / "edges.parquet" / f"part-{number:05}.parquet"
            pa.parquet.write_table(pa.table({"source": source, "target": target}), path)
    else:
        np.savez(folder / "edges.npz", edges=np.concatenate([part.T.astype(np.int32) for part in blocks()]))
    write_features(folder / "x.npy", num_nodes, key.child("features"))


class Laps:
    """Seconds and memory of the parts of a stage."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.memory.start()
        self.found: dict[str, dict[str, float]] = {}

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Measures what is within."""
        self.memory.peak = self.memory.own_peak = 0
        began, used = time.perf_counter(), time.process_time()
        yield
        seconds, processor = time.perf_counter() - began, time.process_time() - used
        self.memory.look()
        self.found[name] = {
            "s": seconds,
            "processor_s": processor,
            "peak_gb": self.memory.peak / 1e9,
            "own_gb": self.memory.own_peak / 1e9,
        }
        shown = ", ".join(f"{unit} {value:,.2f}" for unit, value in self.found[name].items())
        print(f"{name:>24}: {shown}", flush=True)


class Until(Callback):
    """Notes when the first step has been taken."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        trainer.should_stop = True


def data_of(options: argparse.Namespace, folder: Path) -> m.LinkDataModule:
    """As in docs/minibatch.md, 2,000 validation edges."""
    held_out = min(0.05, 2_000 / options.edges)
    return m.LinkDataModule(
        str(folder / f"edges.{options.format}"),
        nodes=str(folder / "x.npy"),
        split=m.SplitFractions(val=held_out, test=held_out, meta=min(0.1, 20_000 / options.edges)),
        structure=m.WalkProposal(length=3),
        eval_negatives=m.RandomNegatives(100),
        batch_size=BATCH,
        num_workers=1,
    )


def trainer_of(*callbacks: Callback) -> Trainer:
    """One that says nothing."""
    options = QUIET | {"limit_val_batches": 1.0, "callbacks": list(callbacks)}
    return Trainer(accelerator="cpu", devices=1, max_epochs=1, enable_checkpointing=False, **options)


ADAM: Any = partial(Adam, lr=0.001)
PREDICTOR = partial(m.EncoderDecoder, encoder=partial(m.GCN, hidden_channels=64))
BATCHING = m.NeighborSampling(fan_out=5, num_hops=2)


def sampler_of() -> m.Sampler:
    """Half of the candidates from walks."""
    return m.Sampler(m.MixtureProposal([m.UniformProposal(), m.WalkProposal(length=3)], [0.5, 0.5]), 4)


def system_of(data: m.LinkDataModule) -> m.Plain:
    """A GCN of two layers, untrained."""
    return m.Plain(data.spec, PREDICTOR, sampler_of(), ADAM, batching=BATCHING)


def mebns_of(data: m.LinkDataModule) -> m.MeBNS:
    """The same in the method, all of whose parts work from the first step on."""
    collector, schedule = m.UMDCollector(num_passes=2, batch_size=128), m.Schedule(warmup=0)
    parts: Any = {"collector": collector, "schedule": schedule, "batching": BATCHING}
    return m.MeBNS(data.spec, PREDICTOR, sampler_of(), ADAM, ADAM, **parts)


def run(stage: str, options: argparse.Namespace, folder: Path, results: Any) -> None:
    """One stage, in a process of its own."""
    multiprocessing.set_start_method("fork", force=True)  # loader workers share this process's memory
    torch.set_num_threads(1)
    quieten()
    logging.getLogger("mebns_pl").setLevel(logging.INFO)
    seed_everything(0, verbose=False)
    laps = Laps()
    data = data_of(options, folder)
    with laps.lap(f"{stage}: read"):
        loaded = data.loaded
    print(f"{'':>26}{loaded.num_nodes:,} nodes, {loaded.num_edges:,} edges; {'; '.join(loaded.notes)}", flush=True)
    with laps.lap(f"{stage}: split"):
        _ = data.split
    with laps.lap(f"{stage}: training graph"):
        _ = data.train_graph
    system = system_of(data)
    if stage in ("start", "again"):
        with laps.lap(f"{stage}: first step"):
            data.val_dataloader = lambda: []  # type: ignore[method-assign]
            trainer_of(Until()).fit(system, data)
    elif stage == "mebns":
        with laps.lap("meta set and first steps"):
            data.val_dataloader = lambda: []  # type: ignore[method-assign]
            trainer_of(Until()).fit(mebns_of(data), data)
    elif stage == "validate":
        with laps.lap("negatives"):
            data.eval_set("val")
        with laps.lap("validate"):
            trainer_of().validate(system, data, verbose=False)
    else:
        with laps.lap("graph of all edges"):
            _ = data.full_graph
        names = [loaded.node_names[i * loaded.num_nodes // options.sources] for i in range(options.sources)]
        pairs = m.PredictionPairs(nodes=names, pool=m.PageRankPool(top=100))
        with laps.lap("predict"):
            table = m.predict_links(system, data, 100, pairs=pairs, trainer=trainer_of())
        print(f"{'':>26}{table.attrs['pool']}", flush=True)
    results.put(laps.found)


def main() -> None:
    """Runs all stages and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--format", choices=("parquet", "npz"), default="parquet")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--sources", type=int, default=100, help="nodes that links are predicted for")
    parser.add_argument("--folder", type=Path, default=None, help="where files and cache go")
    parser.add_argument("--keep", action="store_true", help="leaves them there")
    options = parser.parse_args()
    if options.keep and options.folder is None:
        parser.error("--keep goes with --folder")
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder if options.keep else Path(tempfile.mkdtemp(dir=options.folder))
    os.environ.setdefault("MEBNS_LIMITS", "3")  # for the .npz of 10^8 edges
    os.environ["MEBNS_CACHE"] = str(folder / "cache")
    context = multiprocessing.get_context("spawn")
    found: dict[str, dict[str, float]] = {}
    try:
        if not (folder / "x.npy").exists() or not (folder / f"edges.{options.format}").exists():
            began = time.perf_counter()
            write_graph(folder, options.format, options.nodes, options.edges)
            print(f"written in {time.perf_counter() - began:,.0f} s", flush=True)
        for stage in options.stages:
            queue = context.SimpleQueue()
            process = context.Process(target=run, args=(stage, options, folder, queue))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{stage}: ended with status {process.exitcode}")
            found |= queue.get()
    finally:
        if not options.keep:
            shutil.rmtree(folder)
    rounded = {name: {unit: round(value, 2) for unit, value in parts.items()} for name, parts in found.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
