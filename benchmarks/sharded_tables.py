"""What a rank holds of an embedding table whose rows are parted among ranks, and what a step's rows cost.

    python benchmarks/sharded_tables.py --rows 4000000 --ranks 1 2 4

Each step looks 20,000 random rows up, learns from them, and moves them by SparseAdam, as neighbour batches do with a
table. Ranks are processes of one machine that talk by gloo. Prints a table and, as the last line, one JSON object.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from _runs import head, line, parser_of, peak_gb
from torch import nn
from torch.optim import SparseAdam

from mebns_pl.distributed.row_shards import RowShards

WARM_UP = 2


def work(rank: int, size: int, rows: int, channels: int, batch: int, steps: int, folder: str) -> None:
    """One rank: its memory before and with the table, and seconds of a step."""
    torch.set_num_threads(1)
    if size > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    before = peak_gb()
    shards = RowShards(rows, rank, size)
    table = nn.Parameter(shards.begin(channels, std=channels**-0.5, seed=0))
    optimizer = SparseAdam([table], lr=0.01)
    generator = torch.Generator().manual_seed(rank)
    seconds = []
    for _ in range(WARM_UP + steps):
        nodes = torch.randint(rows, (batch // size,), generator=generator)
        start = time.perf_counter()
        found = shards.lookup(table, nodes)
        (table.grad,) = torch.autograd.grad((found**2).sum(), [table])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    median = sorted(seconds[WARM_UP:])[steps // 2]
    Path(folder, f"{rank}.json").write_text(json.dumps({"gb": peak_gb() - before, "seconds": median}))
    if size > 1:
        torch.distributed.destroy_process_group()


def measure(size: int, rows: int, channels: int, batch: int, steps: int) -> dict[str, float]:
    """The worst rank's memory, and the slowest one's step."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (size, rows, channels, batch, steps, folder), nprocs=size)  # type: ignore[attr-defined]
        found = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    return {name: max(rank[name] for rank in found) for name in ("gb", "seconds")}


def main() -> None:
    """The command."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000, help="N, of the table (4,000,000)")
    parser.add_argument("--channels", type=int, default=64, help="C (64)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], help="numbers of ranks (1 2 4)")
    parser.add_argument("--batch", type=int, default=20_000, help="rows that a step looks up, on all ranks together")
    parser.add_argument("--steps", type=int, default=10, help="that are measured (10)")
    given = parser.parse_args()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    whole = 3 * 4 * given.rows * given.channels / 2**30
    print(f"{given.rows:,} rows of {given.channels}, with Adam's moments {whole:.2f} GiB")
    head("ranks", "GiB a rank", "seconds a step", numbers=True)
    found = {}
    for size in given.ranks:
        found[size] = measure(size, given.rows, given.channels, given.batch, given.steps)
        line(size, f"{found[size]['gb']:.2f}", f"{found[size]['seconds']:.3f}")
    print(json.dumps({"rows": given.rows, "channels": given.channels, "gib_whole": whole, "ranks": found}))


if __name__ == "__main__":
    main()
