"""What a step that encodes the whole graph costs: CPU seconds and memory, by edges, for plain and both engines.

    python benchmarks/full_graph.py --edges 10000 100000 1000000

Random power-law graphs of ten edges a node with 64 features, a two-layer GCN of 128 with a dot product, batches of
1,024 positives. CPU seconds of one thread (not wall-clock time: other work on the machine hardly shows). Prints a table
and, as the last line, one JSON object.
"""

from __future__ import annotations

import json
import time

import torch
from _runs import begin, parser_of, peak_gb
from rich.console import Console
from torch.optim import Adam

import mebns_pl as m
from mebns_pl.data.needs import Needs
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.learner import Learner
from mebns_pl.mebns.step import Meta, Teacher, mebns_step, plain_step
from mebns_pl.terminal import text_table


def power_law(num_edges: int) -> LoadedGraph:
    """Ends drawn with probability falling as a power of the node's number."""
    key, nodes = m.Key(0, "full_graph"), max(100, num_edges // 10)
    ends = (torch.rand(2, num_edges, generator=key.generator(), dtype=torch.float64) ** 2 * nodes).long()
    ends = ends[:, ends[0] != ends[1]]
    edges = torch.unique(torch.stack([ends.min(0).values, ends.max(0).values]), dim=1)
    x = torch.randn(nodes, 64, generator=key.child("x").generator())
    return LoadedGraph("power law", edges, range(nodes), x)


def predictor(spec: m.GraphSpec) -> m.EncoderDecoder:
    """The model of the benchmark."""
    return m.EncoderDecoder(spec, lambda s: m.GCN(s, hidden_channels=128, num_layers=2), m.DotDecoder)


def learner(module: torch.nn.Module) -> Learner:
    """With Adam."""
    return Learner(module, Adam(module.parameters()))


def measure(loaded: LoadedGraph, kind: str, steps: int) -> float:
    """CPU seconds of a step; the first is left out."""
    data = m.LinkDataModule(batch_size=1024, split=m.SplitFractions(0.01, 0.01, 0.01))
    data.loaded = loaded
    sampler = m.Sampler(num_candidates=8, selector=m.HardestSelector(1))
    student, teacher, net = learner(predictor(data.spec)), learner(predictor(data.spec)), learner(m.WeightNet())
    meta_edges = data.split.meta[:, :256]
    others = data.split.train[:, :256].roll(1, dims=1)
    others[1] = others[1].flip(0)
    engine = {"higher": m.HigherEngine(), "directional": m.DirectionalEngine()}.get(kind)
    loss = m.BinaryCrossEntropy()
    batches, seconds = data.train_steps(Needs(sampler)), []
    for step in range(steps + 1):
        batch, start = batches[0, step], time.process_time()
        rest = sampler, loss, batch, data.train_graph, m.Key(0, "step", 0, step), SingleProcess()
        if engine is None:
            plain_step(student, *rest)
        else:
            judge, graph = Teacher(teacher, learns=False), data.train_graph
            meta = Meta.of(
                net, engine, meta_edges, others, loss,
                lambda pairs, left_out, graph=graph: student.module.prepare(graph.without(left_out), pairs),
                SingleProcess(),
            )  # fmt: skip
            mebns_step(student, judge, m.TeacherFilter(), m.StartingWeights(), meta, *rest)
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def main() -> None:
    """Measures and prints."""
    parser = parser_of(__doc__)
    parser.add_argument("--edges", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    begin()
    kinds = ("plain", "higher", "directional")
    found: dict[int, dict[str, float]] = {}
    for edges in options.edges:
        loaded = power_law(edges)
        row = {kind: round(measure(loaded, kind, options.steps), 4) for kind in kinds}
        found[loaded.num_edges] = {**row, "peak_gb": round(peak_gb(), 2)}
    rows = [(f"{edges:,}", *(f"{value:.3g}" for value in row.values())) for edges, row in found.items()]
    Console().print("CPU seconds a step", text_table(["edges"], [*kinds, "peak GB"], rows))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
