"""What a training step of each predictor costs beside GCN + MLP of the same width.

    python benchmarks/predictors.py --root DATA

One thread, seconds of the processor, the predictors in turn, the best of several rounds; uniform negatives, one an
edge. Prints a table of the steps, with the share of `prepare` in them (common neighbours, paths, nodes near both ends).
"""

from __future__ import annotations

import json
import time
from functools import partial

import torch
from _runs import begin, head, line, parser_of

import mebns_pl as m
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.all_pairs import all_pairs_step
from mebns_pl.mebns.learner import Learner
from mebns_pl.mebns.step import plain_step

WIDTH = 256
WITH_FEATURES = "StructureMLP, features"
GCN = partial(m.GCN, hidden_channels=WIDTH, num_layers=2)
LINEAR = partial(m.LinearGCN, hidden_channels=WIDTH, num_layers=2, embed_nodes=True)
PREDICTORS = {
    "GCN + MLP": partial(
        m.EncoderDecoder, encoder=GCN, decoder=partial(m.MLPDecoder, hidden_channels=WIDTH, num_layers=3)
    ),
    "Refined-GAE": partial(m.EncoderDecoder, encoder=LINEAR, decoder=partial(m.ResidualMLPDecoder, num_layers=3)),
    "NCN": partial(m.NCN, encoder=GCN, hidden_channels=WIDTH),
    "LPFormer": partial(m.LPFormer, encoder=GCN, hidden_channels=WIDTH),
    "structure": partial(m.StructurePredictor, encoder=GCN, hidden_channels=WIDTH),
    "StructureMLP": m.StructureMLP,
    WITH_FEATURES: partial(m.StructureMLP, features=True),
}
AUTO_ENCODER = "auto-encoder"
KEY = m.Key(0, "benchmarks/predictors")


def seconds_of(work) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def step_seconds(graph: str, root: str | None, rounds: int) -> dict[str, tuple[float, float]]:
    """By predictor: seconds of a step, its gradient included, and those of its `prepare`."""
    data = m.LinkDataModule(graph=graph, root=root, batch_size=1024)
    sampler, works, prepares = m.Sampler(num_candidates=1), {}, {}
    batch = data.train_steps(m.Plain(data.spec, sampler=sampler).needs)[0, 0]
    hidden = data.train_graph.without(batch.union_positives)
    pairs = torch.cat([batch.positives, torch.stack([batch.positives[0], batch.candidates[:, 0]])], dim=1)

    def step(learner: Learner) -> None:
        plain_step(learner, sampler, m.BinaryCrossEntropy(), batch, data.train_graph, KEY, SingleProcess())

    def all_pairs(learner: Learner) -> None:
        all_pairs_step(learner, True, batch, data.train_graph, KEY, SingleProcess())

    for name, make in PREDICTORS.items():
        if name == WITH_FEATURES and data.spec.num_features == 0:
            continue
        predictor = make(data.spec)
        learner = Learner(predictor, torch.optim.Adam(predictor.parameters()))
        works[name], prepares[name] = partial(step, learner), partial(predictor.prepare, hidden, pairs)
    auto_encoder = m.EncoderDecoder(data.spec, GCN, m.DotDecoder)
    learner = Learner(auto_encoder, torch.optim.Adam(auto_encoder.parameters()))
    works[AUTO_ENCODER], prepares[AUTO_ENCODER] = partial(all_pairs, learner), lambda: None
    best = {name: (float("inf"), float("inf")) for name in works}
    for _ in range(rounds + 1):  # the first compiles
        best = {
            name: (min(best[name][0], seconds_of(works[name])), min(best[name][1], seconds_of(prepares[name])))
            for name in works
        }
    return best


def main() -> None:
    """Prints the table, and as the last line the ratios to GCN + MLP."""
    parser = parser_of(__doc__)
    parser.add_argument("--graphs", nargs="+", default=["air_routes", "cora", "yeast", "ecoli"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    begin()
    head("graph", "predictor", "ms a step", "times GCN + MLP", "share of prepare, %")
    summary = {}
    for graph in args.graphs:
        found = step_seconds(graph, args.root, args.rounds)
        for name, (seconds, prepare) in found.items():
            ratio = seconds / found["GCN + MLP"][0]
            line(graph, name, f"{1000 * seconds:.1f}", f"{ratio:.2f}", f"{100 * prepare / seconds:.0f}")
            summary[f"{graph}/{name}"] = round(ratio, 2)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
