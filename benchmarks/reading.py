"""What reading an edge list costs: all checks included, against pandas, which reads and factorises the same file.

    python benchmarks/reading.py                    # half a minute
    python benchmarks/reading.py --quoted           # every name in quotes

The file has random edges between nodes with text names. Ours gives a whole graph: every name and line checked, nodes
in order, self-loops and repeated edges dropped. The baseline is `read_csv` with all fields as text, then `factorize`
with sorted names. That the two agree is checked first. Both are timed in turn. Peak memory is what a fresh process
needs above what it held before. Prints a table and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from mebns_pl.datasets.files import read_edge_list


def write_edges(path: Path, num_edges: int, num_nodes: int, quoted: bool) -> None:
    """Random ends; loops and repeated edges are among them."""
    ends = np.random.default_rng(0).integers(num_nodes, size=(num_edges, 2)).tolist()
    quote = '"' * quoted
    lines = (f"{quote}node {source}{quote},{quote}node {target}{quote}\n" for source, target in ends)
    path.write_text("source,target\n" + "".join(lines), encoding="utf-8")


def usual(path: Path) -> tuple[np.ndarray, pd.Index]:
    """Numbers of the ends of all lines, sources and then targets, and the sorted names."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return pd.factorize(pd.concat([frame["source"], frame["target"]]), sort=True)


def assert_agreement(path: Path) -> None:
    """Both ways give the same names and the same edges."""
    graph, (numbers, names) = read_edge_list(path), usual(path)
    low, high = np.sort(numbers.reshape(2, -1), axis=0)
    kept = low < high
    assert graph.node_names == list(names)
    assert np.array_equal(graph.edges.numpy(), np.unique(np.stack([low[kept], high[kept]]), axis=1))


def seconds(read: Callable[[Path], object], path: Path) -> float:
    """Wall-clock seconds of one reading."""
    start = time.perf_counter()
    read(path)
    return time.perf_counter() - start


def resident() -> float:
    """MiB of this process's memory at present."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_memory(read: Callable[[Path], object], path: Path, small: Path) -> float:
    """MiB that reading adds at its peak, read every 2 ms; for a fresh process."""
    read(small)  # code is loaded, too
    before = peak = resident()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(read, path)
        while not done.done():
            peak = max(peak, resident())
            time.sleep(0.002)
        done.result()
    return peak - before


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=500_000)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quoted", action="store_true", help="put every name in quotes")
    args = parser.parse_args()

    readers = {"pandas": usual, "mebns_pl": read_edge_list}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder, "edges.csv"), Path(folder, "small.csv")
        write_edges(path, args.edges, args.nodes, args.quoted)
        write_edges(small, 100, 50, args.quoted)
        assert_agreement(path)
        rounds = [{name: seconds(read, path) for name, read in readers.items()} for _ in range(args.rounds)]
        with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as fresh:
            peaks = {name: fresh.submit(peak_memory, read, path, small).result() for name, read in readers.items()}

    median = {name: statistics.median(times[name] for times in rounds) for name in readers}
    table = Table("reader", title=f"{args.edges:,} edges of {args.nodes:,} names, median of {args.rounds}")
    for column in ("seconds", "peak MiB"):
        table.add_column(column, justify="right")
    for name in readers:
        table.add_row(name, f"{median[name]:.2f}", f"{peaks[name]:.0f}")
    Console().print(table)
    result = {"time_ratio": median["mebns_pl"] / median["pandas"], "peak_ratio": peaks["mebns_pl"] / peaks["pandas"]}
    print(json.dumps({name: round(value, 2) for name, value in result.items()}))


if __name__ == "__main__":
    main()
