"""How long the pool of pairs to predict takes, how much memory, and what share of held-out links it holds.

    python benchmarks/prediction.py --root DATA                 # PubMed: 1.9e8 pairs; a minute or two
    python benchmarks/prediction.py --root DATA --graph cora --epochs 20

A GCN with a dot product is trained for a few epochs first, so that nearest neighbours of its embeddings mean something.
Each pool is built twice: on all known edges, which is what prediction scores, and on the training graph, with the
embeddings of the training graph, which tells the coverage. `pool_seconds` is the time of the first, `coverage_seconds`
that of the second; `peak_gb` is the largest memory of the whole process, training included. The last line is one JSON
object.
"""

from __future__ import annotations

import json
import time
from functools import partial

import torch
from _runs import QUIET, parser_of, peak_gb, quieten
from lightning.pytorch import Trainer
from rich.console import Console

import mebns_pl as m
from mebns_pl.pools.abstract import AbstractPool, AllowedPairs, PoolRequest
from mebns_pl.terminal import text_table

POOLS: dict[str, AbstractPool] = {
    "two-hop": m.TwoHopPool(),
    "PageRank": m.PageRankPool(),
    "nearest": m.NearestPool(),
}


def main() -> None:
    """The benchmark."""
    parser = parser_of(__doc__)
    parser.add_argument("--graph", default="pubmed")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of training before")
    options = parser.parse_args()
    quieten()
    torch.manual_seed(0)

    data = m.LinkDataModule(graph=options.graph, root=options.root, batch_size=8192)
    predictor = partial(m.EncoderDecoder, encoder=partial(m.GCN, num_layers=1), decoder=m.DotDecoder)
    system = m.Plain(data.spec, predictor, optimizer=partial(torch.optim.Adam, lr=0.01))
    Trainer(max_epochs=options.epochs, limit_val_batches=0, enable_checkpointing=False, **QUIET).fit(system, data)

    full, train = data.full_graph, data.train_graph
    held_out = torch.cat([data.split.val, data.split.test], dim=1)
    allowed = AllowedPairs.all(full.num_nodes)
    # Compiling and reading the cache is not the pool's cost
    path = m.Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), 3)
    for pool in (POOLS["two-hop"], POOLS["PageRank"]):
        pool.parts(PoolRequest(path, AllowedPairs.all(3), lambda graph: None))

    rows = []
    union, either = [], torch.zeros(held_out.shape[1], dtype=torch.bool)
    for name, pool in POOLS.items():
        start = time.perf_counter()
        (part,) = pool.parts(PoolRequest(full, allowed, system.embed))
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        (found,) = pool.holds(PoolRequest(train, allowed, system.embed), held_out)
        rows.append((name, len(part.keys), seconds, time.perf_counter() - start, float(found.float().mean())))
        union.append(part.keys)
        either |= found
    start = time.perf_counter()
    size = len(torch.unique(torch.cat(union)))
    seconds = sum(row[2] for row in rows) + time.perf_counter() - start
    coverage_seconds = sum(row[3] for row in rows)
    rows.append(("together", size, seconds, coverage_seconds, float(either.float().mean())))
    shown = (
        (name, f"{pairs:,}", f"{took:.1f}", f"{again:.1f}", f"{coverage:.3f}")
        for name, pairs, took, again, coverage in rows
    )
    table = text_table(["pool"], ["pairs", "seconds", "seconds for coverage", "coverage"], shown)
    console = Console()
    missing = full.num_nodes * (full.num_nodes - 1) // 2 - data.loaded.num_edges
    console.print(f"{options.graph}: {missing:,} missing pairs, {held_out.shape[1]:,} held-out edges")
    console.print(table)
    result = {
        "pool_seconds": round(seconds, 2),
        "coverage_seconds": round(coverage_seconds, 2),
        "peak_gb": round(peak_gb(), 2),
        "pairs": size,
        "coverage": round(rows[-1][4], 4),
        "pools": {row[0]: {"pairs": row[1], "seconds": round(row[2], 2), "coverage": round(row[4], 4)} for row in rows},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
