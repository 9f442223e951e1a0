"""Compares the protocols' numbers with the published ones, side by side; the last line is one JSON object.

    python benchmarks/protocols.py --root DATA          # two minutes
    python benchmarks/protocols.py --root DATA --seal   # the SEAL protocol on eight graphs, too
    python benchmarks/protocols.py --root DATA --gcn 5  # HeaRT's GCN on CiteSeer, five seeds, too

All metrics are in percent. Published: HeaRT (NeurIPS 2023) for CiteSeer, PubMed and ogbl-ddi, SEAL (NeurIPS 2018)
for the eight graphs. `as_released_overlap` is the share of the released CiteSeer negatives that the generator makes
again, as sets for each edge and end; the lower of validation and test. PubMed's hard negatives are made in a process of
their own, whose peak memory is told.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from _runs import parser_of, peak_gb, told
from rich.console import Console
from torch import Tensor

from mebns_pl.datasets.catalog import load_graph
from mebns_pl.datasets.official_splits import load_official_split
from mebns_pl.evaluation.heart_released import HeartReleasedGenerator
from mebns_pl.evaluation.negatives import HeartNegatives
from mebns_pl.evaluation.protocols import RandomParting, UniformComparison
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import AbstractPairMeasure
from mebns_pl.graph.measures.katz import Katz
from mebns_pl.graph.measures.neighbors import AdamicAdar, CommonNeighbors, ResourceAllocation
from mebns_pl.keys import Key
from mebns_pl.metrics.functional import auc, hits_above, mean_reciprocal_rank, ranks, ranks_shared
from mebns_pl.terminal import text_table

MEASURES: dict[str, AbstractPairMeasure] = {"cn": CommonNeighbors(), "aa": AdamicAdar(), "ra": ResourceAllocation()}
RELEASED = {"cn": 8.42, "aa": 10.82, "ra": 10.84}
EXISTING = {
    "citeseer": {"cn": 28.34, "aa": 29.37, "ra": 27.61},
    "pubmed": {"cn": 14.02, "aa": 16.66, "ra": 15.63},
}
EXISTING_AUC = {"citeseer": {"cn": 67.49, "aa": 67.49, "ra": 67.48}, "pubmed": {"cn": 63.90, "aa": 63.90, "ra": 63.90}}
DDI = {"cn": 17.73, "aa": 18.61}
# AUC of CN, AA, RA, Katz with their standard deviations over ten splits
SEAL = {
    "usair": ((93.80, 95.06, 95.77, 92.88), (1.2, 1.0, 0.9, 1.4)),
    "ns": ((94.42, 94.45, 94.45, 94.85), (1.0, 0.9, 0.9, 1.1)),
    "pb": ((92.04, 92.36, 92.46, 92.92), (0.35, 0.35, 0.35, 0.35)),
    "yeast": ((89.37, 89.43, 89.45, 92.24), (0.6, 0.6, 0.6, 0.6)),
    "celegans": ((85.13, 86.95, 87.49, 86.34), (1.6, 1.4, 1.4, 1.9)),
    "power": ((58.80, 58.79, 58.79, 65.39), (0.9, 0.9, 0.9, 1.6)),
    "router": ((56.43, 56.43, 56.43, 38.62), (0.5, 0.5, 0.5, 1.4)),
    "ecoli": ((93.71, 95.36, 95.95, 93.50), (0.4, 0.4, 0.4, 0.4)),
}
SEAL_MEASURES = {**MEASURES, "katz": Katz(beta=0.001)}
SEAL_SPLITS = 10


def released(root: str) -> dict[str, float]:
    """MRR on CiteSeer's released hard negatives."""
    parts = load_official_split("citeseer", root)
    graph = Graph.from_edges(parts.train, parts.num_nodes)
    found = {}
    for name, measure in MEASURES.items():
        negative = measure.pairs(graph, *parts.test_hard.flatten(1)).view(parts.test_hard.shape[1:])
        found[name] = percent(mean_reciprocal_rank(ranks(measure.pairs(graph, *parts.test), negative)))
    return found


def existing(name: str, root: str) -> tuple[dict[str, float], dict[str, float]]:
    """MRR and AUC on the fixed split with shared negatives."""
    parts = load_official_split(name, root)
    graph = Graph.from_edges(parts.train, parts.num_nodes)
    mrr, area = {}, {}
    for key, measure in MEASURES.items():
        positive, negative = measure.pairs(graph, *parts.test), measure.pairs(graph, *parts.test_negatives)
        mrr[key] = percent(mean_reciprocal_rank(ranks_shared(positive, negative)))
        area[key] = percent(auc(positive, negative))
    return mrr, area


def ddi(root: str) -> tuple[dict[str, float], float]:
    """Hits@20 on ogbl-ddi by the benchmark's rule, and the seconds that CN, AA and RA of all test pairs take."""
    parts = load_official_split("ogbl-ddi", root)
    graph = Graph.from_edges(parts.train, parts.num_nodes)
    MEASURES["cn"].pairs(graph, *parts.test[:, :1])  # compiles
    start, scores = time.perf_counter(), {}
    for name, measure in MEASURES.items():
        scores[name] = measure.pairs(graph, *parts.test), measure.pairs(graph, *parts.test_negatives)
    seconds = time.perf_counter() - start
    return {name: percent(hits_above(*scores[name], 20)) for name in DDI}, round(seconds, 2)


def as_released(root: str) -> tuple[float, float, float]:
    """Overlap with CiteSeer's released negatives in validation and test, and the seconds that making them takes."""
    parts, loaded = load_official_split("citeseer", root), load_graph("citeseer", root)
    graph = Graph.from_edges(parts.train, loaded.num_nodes, loaded.x)
    start = time.perf_counter()
    val, test = HeartReleasedGenerator(eps=1e-7).generate(graph, parts.val, parts.test)
    seconds = time.perf_counter() - start
    return overlap(val, parts.val_hard), overlap(test, parts.test_hard), round(seconds, 1)


def overlap(made: Tensor, given: Tensor) -> float:
    """Share of the given pairs that were made, as sets for each row and end, in percent."""
    half, common, total = given.shape[2] // 2, 0, 0
    for row in range(given.shape[1]):
        for nodes in (slice(0, half), slice(half, None)):
            one, other = ({tuple(p) for p in pairs[:, row, nodes].t().tolist()} for pairs in (made, given))
            common, total = common + len(one & other), total + len(other)
    return round(100 * common / total, 3)


def pubmed_heart(root: str) -> tuple[float, float]:
    """Seconds and peak memory in GB of making PubMed's hard negatives: 6,648 edges, 500 each."""
    parts, loaded = load_official_split("pubmed", root), load_graph("pubmed", root)
    graph = Graph.from_edges(parts.train, loaded.num_nodes, loaded.x)
    start = time.perf_counter()
    known = torch.cat([parts.train, parts.val], dim=1)
    HeartNegatives().generate(parts.val, graph, known, Key(0, "val"))
    HeartNegatives().generate(parts.test, graph, torch.cat([known, parts.test], dim=1), Key(0, "test"))
    seconds = time.perf_counter() - start
    return round(seconds, 1), round(peak_gb(), 2)


def seal(name: str, root: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the AUC over ten random splits: a tenth for test, scored on all other edges."""
    loaded, found = load_graph(name, root), []
    for seed in range(SEAL_SPLITS):
        key = Key(seed, "data")
        parts = RandomParting().part(loaded, root, key.child("split"))
        graph = Graph.from_edges(torch.cat([parts.train, parts.val], dim=1), loaded.num_nodes)
        batch = UniformComparison().compare("test", parts, graph, key.child("test"))
        found.append(
            [
                100 * auc(measure.pairs(graph, *batch.positives), measure.pairs(graph, *batch.random_negatives))
                for measure in SEAL_MEASURES.values()
            ]
        )
    values = torch.tensor(found)
    return values.mean(0).tolist(), values.std(0).tolist()


def gcn(root: str, seed: int) -> float:
    """Test MRR of HeaRT's GCN on CiteSeer, trained as configs/reproduce/heart_citeseer_gcn.yaml says."""
    from mebns_pl.cli import main as cli

    config = Path(__file__).resolve().parent.parent / "configs" / "reproduce" / "heart_citeseer_gcn.yaml"
    with tempfile.TemporaryDirectory() as folder:
        args = ["-c", str(config), f"--data.root={root}", f"--seed_everything={seed}", f"--checkpoint.dirpath={folder}"]
        args += ["--trainer.logger=false", "--trainer.enable_progress_bar=false"]
        cli.main(["fit", *args])
        run = cli.main(["test", *args, f"--ckpt_path={folder}/best.ckpt"])
    return percent(run.trainer.callback_metrics["test/mrr"])


def percent(value: Tensor) -> float:
    """In percent with three decimals."""
    return round(100 * float(value), 3)


def main() -> None:
    """Runs all, prints the comparison, and the JSON object last."""
    parser = parser_of(__doc__)
    default = os.environ.get("MEBNS_DATA") or str(Path(__file__).resolve().parent.parent.parent / "shared" / "data")
    parser.set_defaults(root=default)
    parser.add_argument("--seal", action="store_true", help="the SEAL protocol, too")
    parser.add_argument("--gcn", type=int, default=0, metavar="SEEDS", help="train HeaRT's GCN so many times, too")
    options = parser.parse_args()
    root = options.root
    rows: list[tuple[str, ...]] = []

    def compare(protocol: str, graph: str, metric: str, found: dict[str, float], published: dict[str, float]) -> None:
        rows.extend(
            (protocol, graph, metric, name, f"{value:.2f}", f"{published[name]:.2f}") for name, value in found.items()
        )

    on_released, on_existing, (on_ddi, ddi_seconds) = released(root), {}, ddi(root)
    compare("HeaRT, released", "citeseer", "MRR", on_released, RELEASED)
    for graph, published in EXISTING.items():
        on_existing[graph], area = existing(graph, root)
        compare("existing", graph, "MRR", on_existing[graph], published)
        compare("existing", graph, "AUC", area, EXISTING_AUC[graph])
    compare("OGB", "ogbl-ddi", "Hits@20", on_ddi, DDI)
    val, test, released_seconds = as_released(root)
    for stage, value in (("val", val), ("test", test)):
        rows.append(("HeaRT, as released", "citeseer", f"overlap, {stage}", "", f"{value:.2f}", "100"))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds, peak = pool.submit(pubmed_heart, root).result()
    if options.seal:
        for graph, (published, deviations) in SEAL.items():
            means, stds = seal(graph, root)
            for name, mean, std, value, deviation in zip(
                SEAL_MEASURES, means, stds, published, deviations, strict=True
            ):
                outside = "" if abs(mean - value) <= 2 * deviation else " (!)"
                ours = f"{mean:.2f} ± {std:.2f}{outside}"
                rows.append(("SEAL", graph, "AUC", name, ours, f"{value:.2f} ± {deviation:.2f}"))
    if options.gcn:
        ours = told([gcn(root, seed) for seed in range(options.gcn)], 2)
        rows.append(("HeaRT, released", "citeseer", "MRR", "GCN", ours, "21.09 ± 0.88"))
    console = Console()
    console.print(text_table(["protocol", "graph", "metric", "measure"], ["ours", "published"], rows))
    console.print(f"CN, AA, RA of all pairs of ogbl-ddi: {ddi_seconds} s; CiteSeer as released: {released_seconds} s")
    console.print(f"PubMed, 6,648 edges x 500 hard negatives: {seconds} s, {peak} GB at most")
    result = {
        "citeseer_released_mrr": on_released, "existing_mrr": on_existing, "ddi_hits20": on_ddi,
        "as_released_overlap": min(val, test), "pubmed_heart_seconds": seconds, "pubmed_heart_peak_gb": peak,
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
