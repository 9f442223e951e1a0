"""How a MeBNS step on sampled neighbourhoods grows with the graph: power-law graphs with features, two sizes.

Each size runs in a process of its own, and they step in turns, ten steps each, so that whatever else the machine does
slows both alike. A keyed random graph is made, written to a file with its features, and read from there as any graph
is: from 64 MB of edges on it is memory-mapped, as the features are. A MeBNS system trains on it through the Trainer,
with the bilevel step on and batches made by a loader worker. Printed are the seconds of set-up and of a meta set, the
median time of a step, its quartiles and its processor time, and the highest memory of the process with its worker
(proportional set size: shared pages count once). The last line is JSON.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --batch-size 512 --fan-out 10 --steps 50
    python benchmarks/scaling.py --sizes 100000,1000000 10000000,100000000
    python benchmarks/scaling.py --learned       # no features: embedding tables, trained row by row
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _runs import QUIET, quieten
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor
from torch.optim import Adam

import mebns_pl as m
from mebns_pl.datasets.files import read_graph
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.readers.mapped import with_mapped_features
from mebns_pl.graph.row_lists import Pairs, lower_first, pairs_of_rows, sorted_rows
from mebns_pl.keys import permutation

NUM_FEATURES = 128
META_EDGES = 20_000
DRAWS = 2**22
EXPONENT = 2.5
WARM_STEPS = 10
SET_UP = ("graph_s", "setup_s", "first_steps_and_meta_set_s")
TURN = 10


def drawn_ends(names: Tensor, size: int, key: m.Key) -> Tensor:
    """``(2, size)`` ends of edges, drawn by weights that follow a power law, of nodes with ``names`` ``(N,)``."""
    # Node i has weight (i + 1) ** (-1 / (EXPONENT - 1)), drawn by the inverse of its distribution function
    power = (EXPONENT - 1) / (EXPONENT - 2)
    more = torch.rand(2, size, generator=key.generator(), dtype=torch.float64)
    return names[(len(names) * more**power).long().clamp_(max=len(names) - 1)]


def write_features(path: Path, num_nodes: int, key: m.Key) -> None:
    """``(num_nodes, NUM_FEATURES)`` normal numbers, written piece by piece."""
    generator = key.numpy()
    x = np.lib.format.open_memmap(path, "w+", np.float32, (num_nodes, NUM_FEATURES))
    for start in range(0, num_nodes, 10_000):
        x[start : start + 10_000] = generator.standard_normal(x[start : start + 10_000].shape, dtype=np.float32)
    x.flush()


def power_law_edges(num_nodes: int, num_edges: int, key: m.Key) -> Tensor:
    """``(2, num_edges)`` undirected edges of a Chung-Lu graph whose degrees follow a power law, sorted."""
    names = permutation(num_nodes, key.child("names"))  # a node's number tells nothing of its degree
    draws, edges = num_edges, torch.empty(2, 0, dtype=torch.int64)

    def blocks() -> Iterator[Pairs]:
        for number, start in enumerate(range(0, draws, DRAWS)):
            source, target = drawn_ends(names, min(DRAWS, draws - start), key.child(number)).numpy()
            yield source, target

    while edges.shape[1] < num_edges:
        draws += draws // 10
        edges = pairs_of_rows(*sorted_rows(lambda: lower_first(blocks()), num_nodes, np.int32))
    chosen = permutation(edges.shape[1], key.child("choice"))[:num_edges].numpy()
    chosen.sort()
    return edges.index_select(1, torch.from_numpy(chosen))


def make_graph(num_nodes: int, num_edges: int, folder: Path, features: bool) -> LoadedGraph:
    """The graph as it is read from a file, its features on disk."""
    key = m.Key(0, "scaling")
    edges = power_law_edges(num_nodes, num_edges, key.child("edges"))
    np.savez(folder / "edges.npz", edges=edges.numpy().astype(np.int32).T, num_nodes=num_nodes)
    del edges
    graph = read_graph(folder / "edges.npz")
    if not features:
        return graph
    write_features(folder / "x.npy", num_nodes, key.child("features"))
    return with_mapped_features(graph, folder / "x.npy")


class Clock(Callback):
    """Takes turns with the other sizes, and times the steps of a turn but its first, waiting for batches included.

    Args:
        size: what it is called.
        turn: this process's place in a round.
        turns: number of processes.
        steps: how many there are in all.
        barrier: where they meet between turns.
    """

    def __init__(self, size: str, turn: int, turns: int, steps: int, barrier: Any) -> None:
        self.size, self.turn, self.turns, self.steps, self.barrier = size, turn, turns, steps, barrier
        self.done = 0
        self.last = (0.0, 0.0)
        self.walls: list[float] = []
        self.used: list[float] = []
        self.began = self.began_processor = 0.0

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter(), time.process_time()
        place = self.done % TURN
        if self.done >= WARM_STEPS and place > 0:
            self.walls.append(now[0] - self.last[0])
            self.used.append(now[1] - self.last[1])
        self.last = now
        self.done += 1
        if self.done == WARM_STEPS:
            self.began, self.began_processor = now
            say(self.size, f"meta set and first steps, {now[1]:,.0f} s of processor time so far")
            self._wait(self.turn)
        elif self.done > WARM_STEPS and self.done % TURN == 0:
            self._wait(self.turns - (self.turn if self.done == self.steps else 0))

    def _wait(self, times: int) -> None:
        for _ in range(times):
            self.barrier.wait()


class Memory(threading.Thread):
    """The highest memory of this process and its children together, looked at twice a second, or less: in 5 % of it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.own_peak = 0

    def run(self) -> None:
        while True:
            began = time.perf_counter()
            self.look()
            time.sleep(max(0.5, 20 * (time.perf_counter() - began)))

    def look(self) -> None:
        """Takes what there is at present into account."""
        found = [_proportional_set_size(process) for process in _family()]
        self.peak = max(self.peak, sum(whole for whole, _ in found))
        self.own_peak = max(self.own_peak, sum(whole - of_files for whole, of_files in found))


def _family() -> list[str]:
    found = ["self"]
    for children in Path("/proc/self/task").glob("*/children"):
        found += children.read_text().split()
    return found


def _proportional_set_size(process: str) -> tuple[int, int]:
    """In bytes, and what of it is pages of files."""
    try:
        lines = Path("/proc", process, "smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0, 0
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss")}
    return sizes["Pss:"], sizes.get("Pss_File:", 0)


def say(size: str, what: str) -> None:
    """How far a size is, for people who wait."""
    print(f"{size}: {what}", file=sys.stderr, flush=True)


def run(size: str, options: argparse.Namespace, turn: int, barrier: Any, results: Any) -> None:
    """Trains on one graph, measures, and puts what it found into ``results``."""
    num_nodes, num_edges = map(int, size.split(","))
    multiprocessing.set_start_method("fork", force=True)  # loader workers share this process's memory
    torch.set_num_threads(1)
    quieten()
    seed_everything(0, verbose=False)
    memory = Memory()
    memory.start()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MEBNS_CACHE": folder, "MEBNS_LIMITS": "4"}  # what is kept of large graphs goes with the folder
        began = time.perf_counter()
        graph = make_graph(num_nodes, num_edges, Path(folder), not options.learned)
        made = time.perf_counter()
        say(size, f"graph made in {made - began:,.0f} s")
        walks = m.WalkProposal(length=3)
        data = m.LinkDataModule(
            split=m.SplitFractions(val=0.01, test=0.01, meta=META_EDGES / (0.98 * num_edges)),
            structure=walks,
            batch_size=options.batch_size,
            num_workers=1,
        )
        data.loaded = graph
        proposal = m.MixtureProposal([m.UniformProposal(), walks], [0.5, 0.5])
        proposal.setup(data.train_graph, data.known)
        assert data.fewest_candidates > 0
        ready = time.perf_counter()
        say(size, f"set up in {ready - made:,.0f} s")
        predictor = partial(m.EncoderDecoder, encoder=partial(m.GCN, hidden_channels=options.channels))
        adam: Any = partial(Adam, lr=0.001)
        system = m.MeBNS(
            data.spec,
            predictor,
            m.Sampler(proposal, options.candidates, m.HardestSelector()),
            adam,
            adam,
            collector=m.UMDCollector(num_passes=2, batch_size=128),
            schedule=m.Schedule(warmup=0),
            batching=m.NeighborSampling(fan_out=options.fan_out, num_hops=2),
        )
        clock = Clock(size, turn, len(options.sizes), WARM_STEPS + options.steps, barrier)
        trainer = Trainer(
            accelerator=options.accelerator,
            devices=1,
            max_epochs=1,
            limit_train_batches=WARM_STEPS + options.steps,
            limit_val_batches=0,
            enable_checkpointing=False,
            callbacks=[clock],
            **QUIET,
        )
        trainer.fit(system, data)
        batch = data.train_steps(system.needs)[0, 0]
    low, middle, high = statistics.quantiles(clock.walls, n=4)
    found = {
        "graph_s": made - began,
        "setup_s": ready - made,
        "first_steps_and_meta_set_s": clock.began - ready,
        "all_this_processor_s": clock.began_processor,
        "local_nodes": float(batch.inputs.graph.num_nodes),
        "local_edges": float(batch.inputs.graph.num_edges),
        "step_s": middle,
        "step_low_s": low,
        "step_high_s": high,
        "step_processor_s": statistics.median(clock.used),
        "peak_gb": memory.peak / 1e9,
        "peak_own_gb": memory.own_peak / 1e9,
    }
    results.put((turn, found))


def main() -> None:
    """Runs all sizes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["100000,1000000", "1000000,10000000"], help="nodes,edges")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--fan-out", type=int, default=5)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--learned", action="store_true", help="no features: learned embeddings")
    options = parser.parse_args()
    if options.steps % TURN:
        parser.error(f"--steps: expected a multiple of {TURN}, got {options.steps}")
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(len(options.sizes), timeout=4 * 3600), context.Queue()
    processes = [
        context.Process(target=run, args=(size, options, turn, barrier, queue))
        for turn, size in enumerate(options.sizes)
    ]
    for process in processes:
        process.start()
    found = dict(queue.get() for _ in processes)
    for process in processes:
        process.join()
    results = [found[turn] for turn in range(len(processes))]
    for size, result in zip(options.sizes, results, strict=True):
        print("{:>12} nodes {:>13} edges".format(*(f"{int(number):,}" for number in size.split(","))), end=": ")
        print(", ".join(f"{name} {value:,.3f}" for name, value in result.items()))
    first, last = results[0], results[-1]
    figures = {
        "step_ratio": last["step_s"] / first["step_s"],
        "processor_ratio": last["step_processor_s"] / first["step_processor_s"],
        "nodes_ratio": last["local_nodes"] / first["local_nodes"],
        "setup_processor_s": max(result["all_this_processor_s"] for result in results),
        "setup_s": max(sum(result[name] for name in SET_UP) for result in results),
        "peak_gb": max(result["peak_gb"] for result in results),
        "peak_own_gb": max(result["peak_own_gb"] for result in results),
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
