"""What enclosing subgraphs cost: against a pipeline on PyG and SciPy, and on random graphs of three sizes.

    python benchmarks/subgraphs.py --root DATA   # two minutes on two cores

Both sides cut out the subgraphs of pairs (half of them edges), label the nodes and put 32 pairs into each batch. The
baseline is SEAL as it is usually written with PyG: `k_hop_subgraph`, labels by SciPy's `shortest_path`,
`Batch.from_data_list`, in as many processes as there are cores (ours has as many threads), on fewer pairs. That the two
agree is checked first. Peak memory is what a process that makes all batches needs above what it held before; the
baseline's is that of one process. Prints two tables and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from _runs import parser_of
from rich.console import Console
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import k_hop_subgraph

from mebns_pl.datasets.catalog import load_graph
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.subgraph import Subgraphs, enclosing_subgraphs
from mebns_pl.progress import num_threads
from mebns_pl.terminal import text_table

BATCH = 32
CASES = (("pubmed", 2), ("ecoli", 1))
SIZES = (10_000, 100_000, 1_000_000)
MEAN_DEGREE, SIZE_HOPS = 8, 2


def draw_pairs(graph: Graph, count: int, seed: int) -> Tensor:
    """``(2, count)``: edges and random pairs of different nodes in turn."""
    generator = torch.Generator().manual_seed(seed)
    edges = graph.edge_index[:, torch.randint(graph.num_edges, (count // 2,), generator=generator)]
    source = torch.randint(graph.num_nodes, (count // 2,), generator=generator)
    shift = torch.randint(1, graph.num_nodes, (count // 2,), generator=generator)
    others = torch.stack([source, (source + shift) % graph.num_nodes])
    return torch.stack([edges, others], dim=2).flatten(1)


def random_graph(num_nodes: int) -> Graph:
    """Random ends, so that degrees are Poisson with the same mean at every size."""
    generator = torch.Generator().manual_seed(num_nodes)
    edges = torch.randint(num_nodes, (2, num_nodes * MEAN_DEGREE // 2), generator=generator)
    return Graph.from_edges(edges[:, edges[0] != edges[1]], num_nodes)


def usual_labels(adjacency: csr_matrix, source: int, target: int) -> Tensor:
    """Double-radius labels by two shortest-path searches on the adjacency without one of the ends."""

    def distances(root: int, without: int) -> np.ndarray:
        rest = [*range(without), *range(without + 1, adjacency.shape[0])]
        position = root - int(root > without)
        found = shortest_path(adjacency[rest, :][:, rest], directed=False, unweighted=True, indices=position)
        return np.insert(found, without, 0)

    to_source, to_target = distances(source, target), distances(target, source)
    total = to_source + to_target
    total[~np.isfinite(total)] = 0
    half, rest = total // 2, total % 2
    labels = 1 + np.minimum(to_source, to_target) + half * (half + rest - 1)
    labels[total == 0] = 0
    labels[[source, target]] = 1
    return torch.from_numpy(labels).long()


def usual_data(graph: Graph, source: int, target: int, num_hops: int) -> Data:
    """One pair's subgraph."""
    nodes, edge_index, mapping, _ = k_hop_subgraph(
        [source, target], num_hops, graph.edge_index, relabel_nodes=True, num_nodes=graph.num_nodes
    )
    source, target = mapping.tolist()
    between = (edge_index[0] == source) & (edge_index[1] == target)
    between |= (edge_index[0] == target) & (edge_index[1] == source)
    edge_index = edge_index[:, ~between]
    ones = np.ones(edge_index.shape[1], dtype=np.int8)
    adjacency = csr_matrix((ones, edge_index.numpy()), shape=(len(nodes), len(nodes)))
    labels = usual_labels(adjacency, source, target)
    return Data(edge_index=edge_index, z=labels, node_id=nodes, num_nodes=len(nodes))


def usual_batches(graph: Graph, pairs: Tensor, num_hops: int) -> None:
    """All pairs, 32 a batch."""
    for block in pairs.split(BATCH, dim=1):
        Batch.from_data_list([usual_data(graph, source, target, num_hops) for source, target in block.t().tolist()])


def our_batch(graph: Graph, pairs: Tensor, num_hops: int) -> Subgraphs:
    """One batch with all that PyG's has, in the calling thread."""
    batch = enclosing_subgraphs(graph, pairs, num_hops, threads=1)
    assert batch.edge_index.shape == (2, batch.indices.numel())
    assert batch.batch.numel() == batch.nodes.numel() == batch.labels.numel()
    return batch


def our_batches(graph: Graph, pairs: Tensor, num_hops: int) -> None:
    """The same with ours, in as many threads as there are cores."""
    with ThreadPoolExecutor(num_threads()) as pool:
        for _ in pool.map(lambda block: our_batch(graph, block, num_hops), pairs.split(BATCH, dim=1)):
            pass


def assert_agreement(graph: Graph, pairs: Tensor, num_hops: int) -> None:
    """Both ways give the same nodes, labels and number of edges."""

    def key(nodes: Tensor, labels: Tensor) -> list[tuple[int, int]]:
        return sorted(zip(nodes.tolist(), labels.tolist(), strict=True))

    made: Subgraphs = enclosing_subgraphs(graph, pairs, num_hops)
    for i, (source, target) in enumerate(pairs.t().tolist()):
        one, other = made.select(torch.tensor([i])), usual_data(graph, source, target, num_hops)
        assert key(one.nodes, one.labels) == key(other.node_id, other.z)
        assert one.indices.numel() == other.edge_index.shape[1]


def resident() -> float:
    """MiB of this process's memory at present."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_memory(root: str | None, name: str, num_hops: int, count: int, ours: bool) -> float:
    """MiB that making all batches of ``count`` pairs adds at its peak, read every 2 ms; for a fresh process."""
    torch.set_num_threads(1)
    graph = load_case(root, name)
    work = our_batches if ours else usual_batches
    work(graph, draw_pairs(graph, 2, seed=1), num_hops)  # code is loaded, too
    pairs, before = draw_pairs(graph, count, seed=0), resident()
    peak = before
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work, graph, pairs, num_hops)
        while not done.done():
            peak = max(peak, resident())
            time.sleep(0.002)
        done.result()
    return peak - before


def usual_share(root: str | None, name: str, num_hops: int, pairs: Tensor) -> float:
    """Seconds of the baseline for its share of the pairs."""
    torch.set_num_threads(1)
    graph = load_case(root, name)
    usual_batches(graph, pairs[:, :2], num_hops)
    start = time.perf_counter()
    usual_batches(graph, pairs, num_hops)
    return time.perf_counter() - start


def load_case(root: str | None, name: str) -> Graph:
    """The whole graph; all its edges are observed."""
    loaded = load_graph(name, root)
    graph = Graph.from_edges(loaded.edges, loaded.num_nodes)
    assert graph.edge_index.shape[0] == 2  # made once, before anything is timed
    return graph


def seconds_a_pair(graph: Graph, pairs: Tensor, num_hops: int) -> float:
    """Wall-clock seconds of ours over the number of pairs."""
    start = time.perf_counter()
    our_batches(graph, pairs, num_hops)
    return (time.perf_counter() - start) / pairs.shape[1]


def compare(
    args: argparse.Namespace, name: str, num_hops: int, workers: ProcessPoolExecutor, fresh: ProcessPoolExecutor
) -> dict[str, float]:
    """Both on one graph, in turn, the median of the rounds."""
    graph = load_case(args.root, name)
    assert_agreement(graph, draw_pairs(graph, 50, seed=2), num_hops)
    ours, usual = [], []
    for seed in range(args.rounds):
        pairs = draw_pairs(graph, args.baseline_pairs, seed)
        shares = pairs.tensor_split(num_threads(), dim=1)
        running = [workers.submit(usual_share, args.root, name, num_hops, share) for share in shares]
        usual.append(max(share.result() for share in running) / args.baseline_pairs)
        ours.append(seconds_a_pair(graph, draw_pairs(graph, args.pairs, seed), num_hops))
    peaks = {
        f"{who}_peak": fresh.submit(peak_memory, args.root, name, num_hops, count, who == "ours").result()
        for who, count in (("usual", args.baseline_pairs), ("ours", args.pairs))
    }
    return {"usual": statistics.median(usual), "ours": statistics.median(ours), **peaks}


def cost_by_size(args: argparse.Namespace) -> dict[int, float]:
    """Seconds a pair on random graphs, new pairs in each round, the sizes in turn; the least of the rounds."""
    graphs = {num_nodes: random_graph(num_nodes) for num_nodes in SIZES}
    seconds: dict[int, list[float]] = {num_nodes: [] for num_nodes in SIZES}
    for seed in range(2 * args.rounds):
        for num_nodes, graph in graphs.items():
            seconds[num_nodes].append(seconds_a_pair(graph, draw_pairs(graph, args.pairs, seed), SIZE_HOPS))
    return {num_nodes: min(rounds) for num_nodes, rounds in seconds.items()}


def main() -> None:
    """Runs and prints."""
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, default=10_000, help="pairs of ours in a round")
    parser.add_argument("--baseline-pairs", type=int, default=200, help="pairs of the baseline in a round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)  # neither side has large products, and both have a thread or process for each core

    result, rows = {}, []
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(num_threads(), mp_context=spawn) as workers,
        ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as fresh,
    ):
        for name, num_hops in CASES:
            row = compare(args, name, num_hops, workers, fresh)
            result[f"{name}_{num_hops}hop_speedup"] = row["usual"] / row["ours"]
            rows.append((
                f"{name}, {num_hops}", f"{1 / row['usual']:,.0f}", f"{row['usual_peak']:.1f}",
                f"{1 / row['ours']:,.0f}", f"{row['ours_peak']:.1f}", f"{row['usual'] / row['ours']:.0f} x",
            ))  # fmt: skip
    console = Console()
    console.print(f"extraction, labels and batches of {BATCH} pairs on {num_threads()} cores")
    headings = ("pairs/s, PyG and SciPy", "peak MiB", "pairs/s, mebns_pl", "peak MiB", "speed-up")
    console.print(text_table(["graph, hops"], headings, rows))

    cost = cost_by_size(args)
    console.print(f"random graphs of mean degree {MEAN_DEGREE}, {SIZE_HOPS} hops")
    rows = [(f"{num_nodes:,}", f"{1e6 * seconds:.1f}") for num_nodes, seconds in cost.items()]
    console.print(text_table(["nodes"], ["µs a pair"], rows))
    result["pair_cost_ratio_1e6_over_1e4"] = cost[SIZES[-1]] / cost[SIZES[0]]
    print(json.dumps({name: round(value, 2) for name, value in result.items()}))


if __name__ == "__main__":
    main()
