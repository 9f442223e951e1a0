"""How many negatives a second each recipe draws, beside PyG's samplers and a naive loop; and what DNS adds to a step.

    python benchmarks/samplers.py --root DATA

Seconds are processor time, summed over threads, so that other work on the machine counts little; torch has one thread.
The alternatives take turns, and of several rounds the best counts. Tables, then as the last line one JSON object:
`uniform_over_structured_speedup` (candidates a second of exactly masked uniform draws over those of PyG's
structured_negative_sampling, for the same anchors) and `dns_over_plain_step` (a training step with the hardest of K = 8
over one with K = 1, candidates drawn in both), each the worse of the graphs.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import partial

import torch
from _runs import begin, head, line, parser_of
from sampler_table import RECIPES, REPOSITORY
from torch import Tensor
from torch_geometric.utils import negative_sampling, structured_negative_sampling

import mebns_pl as m
from mebns_pl.data.needs import Needs
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.learner import Learner
from mebns_pl.mebns.step import plain_step
from mebns_pl.systems.adaptive import adapted

LONG = 5
NAIVE = 4096
"""Anchors that the naive loop is given."""


def best_seconds(alternatives: dict[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """The best time of each, taken in turn; every call gets the number of its round.

    The first round counts only for those that take longer than ``LONG`` seconds, which are called once.
    """
    best = dict.fromkeys(alternatives, float("inf"))
    for number in range(rounds + 1):
        for name, work in alternatives.items():
            if LONG < best[name] < float("inf"):
                continue
            start = time.process_time()
            work(number)
            seconds = time.process_time() - start
            if number or seconds > LONG:
                best[name] = min(best[name], seconds)
    return best


def build(recipe: str, kind: str, graph: str, root: str | None, *options: str):
    """The system and the data module of a stack of configuration files, as the command line makes them."""
    from lightning.pytorch import LightningModule

    from mebns_pl import LinkDataModule
    from mebns_pl.cli.main import MeBNSCLI
    from mebns_pl.families import import_all

    import_all()  # options name classes, which are looked for among those that have been imported
    files = ("base", f"data/{graph}", "model/gcn_dot", f"sampler/{recipe}")
    args = [part for name in files for part in ("-c", str(REPOSITORY / "configs" / f"{name}.yaml"))]
    args += [f"--model={kind}", "--trainer.logger=false", "--trainer.accelerator=cpu", *options]
    if root is not None:
        args += [f"--data.root={root}"]
    made = MeBNSCLI(
        model_class=LightningModule, datamodule_class=LinkDataModule, subclass_mode_model=True,
        seed_everything_default=0, auto_configure_optimizers=False, save_config_callback=None, run=False, args=args,
    )  # fmt: skip
    return made.model, made.datamodule


# --- uniform draws ----------------------------------------------------------------------------------------------------


def uniform_samplers(data: m.LinkDataModule) -> dict[str, tuple[int, Callable[[int], object]]]:
    """Name -> how many negatives a call draws, and the call: one for each directed edge, its source the anchor."""
    graph, known = data.train_graph, data.known
    edge_index, anchors, num_nodes = graph.edge_index, graph.edge_index[0], graph.num_nodes
    proposal = m.UniformProposal()
    proposal.setup(graph, known)
    neighbors = [set(row.tolist()) for row in graph.indices.split(graph.indptr.diff().tolist())]
    some = anchors[torch.randperm(len(anchors), generator=torch.Generator().manual_seed(0))[:NAIVE]].tolist()

    def ours(number: int) -> tuple[Tensor, Tensor]:
        drawn = proposal.propose(anchors, 1, m.Key(number, "benchmark"))
        return drawn, ~known.mask(anchors[:, None], drawn)

    def naive(number: int) -> list[int]:
        draw = random.Random(number)
        found = []
        for anchor in some:
            node = draw.randrange(num_nodes)
            while node == anchor or node in neighbors[anchor]:
                node = draw.randrange(num_nodes)
            found.append(node)
        return found

    return {
        "UniformProposal, exact mask": (len(anchors), ours),
        "PyG structured_negative_sampling": (
            len(anchors), lambda _: structured_negative_sampling(edge_index, num_nodes, contains_neg_self_loops=False)
        ),
        "PyG negative_sampling (free pairs)": (len(anchors), lambda _: negative_sampling(edge_index, num_nodes)),
        "naive loop": (len(some), naive),
    }  # fmt: skip


# --- recipes ----------------------------------------------------------------------------------------------------------


class Recipe:
    """A recipe's sampling apart from the student's learning: candidates, mask, scores if asked for, picks, update."""

    def __init__(self, recipe: str, graph: str, root: str | None) -> None:
        self.system, data = build(recipe, "Plain", graph, root)
        self.steps = data.train_steps(self.system.needs)
        self.graph = self.system._graph = data.train_graph
        self.system.group = SingleProcess()
        if self.system.proposal is not None:
            self.system.proposal.start(self.graph, data.known, m.Key(0, "benchmark"))
        self.picks = self.candidates = 0

    def sample(self, number: int) -> None:
        """One batch of negatives, as a step draws them; the encoder's pass for the scores is in it."""
        batch = self.steps[0, number % len(self.steps)]
        batch, update = adapted(self.system, batch, m.Key(number, "benchmark"))
        anchors, student = batch.positives[0], self.system.student
        asked: dict[str, Callable[[Tensor], Tensor]] = {}

        def logits(nodes: Tensor) -> Tensor:
            if not asked:
                graph = self.graph.without(batch.union_positives)
                score = student.scorer(graph)
                asked["score"] = lambda pairs: score(student.prepare(graph, pairs))
            pairs = torch.stack([anchors[:, None].expand_as(nodes), nodes]).flatten(1)
            return asked["score"](pairs).view(nodes.shape)

        scores = m.CandidateScores(
            lambda: logits(batch.candidates),
            lambda: logits(batch.positives[1][:, None])[:, 0],
            torch.stack([anchors[:, None].expand_as(batch.candidates), batch.candidates]),
            self.graph,
        )
        with torch.no_grad():
            picks = self.system.sampler.selector.select(
                batch.candidate_mask, scores, torch.arange(len(anchors)), m.Key(number, "benchmark")
            )
            self.system.sampler.weighting.weights(torch.zeros(picks.mask.shape), picks.mask)
        update()
        self.candidates, self.picks = batch.candidates.numel(), int(picks.mask.sum())


# --- a training step --------------------------------------------------------------------------------------------------


def step_of(graph: str, root: str | None, num_candidates: int, selector: m.AbstractSelector) -> Callable[[int], None]:
    """A whole training step with its candidates drawn: data, forward, backward, optimizer."""
    system, data = build("rns", "Plain", graph, root)
    sampler = m.Sampler(num_candidates=num_candidates, selector=selector)
    steps, train_graph = data.train_steps(Needs(sampler)), data.train_graph
    optimizer = torch.optim.Adam(system.student.parameters(), lr=0.01)
    student = Learner(system.student, optimizer)

    def step(number: int) -> None:
        batch = steps[0, number % max(len(steps) - 1, 1)]
        result = plain_step(
            student, sampler, m.BinaryCrossEntropy(), batch, train_graph, m.Key(number, "benchmark"), SingleProcess()
        )
        for param, grad in zip(student.params(), result.learned["student"].dense, strict=True):
            param.grad = grad
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Measures and prints."""
    parser = parser_of(__doc__)
    parser.add_argument("--graphs", nargs="+", default=["pubmed", "ogbl-ddi"])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    begin()
    speedups, ratios = {}, {}
    for graph in args.graphs:
        _, data = build("rns", "Plain", graph, args.root)
        num_nodes, num_edges = data.train_graph.num_nodes, data.train_graph.num_edges // 2
        print(f"\n## {graph}: {num_nodes:,} nodes, {num_edges:,} training edges\n")

        samplers = uniform_samplers(data)
        seconds = best_seconds({name: call for name, (_, call) in samplers.items()}, args.rounds)
        rates = {name: size / seconds[name] for name, (size, _) in samplers.items()}
        head("one uniform negative for each directed edge", "negatives/s", numbers=True)
        for name, rate in rates.items():
            line(name, f"{rate:,.0f}")
        names = list(rates)
        speedups[graph] = rates[names[0]] / rates[names[1]]
        print(f"\nuniform over structured_negative_sampling: {speedups[graph]:.1f}x\n", flush=True)

        positives = f"recipe, {data.batch_size:,} positives a batch"
        head(positives, "candidates/s", "negatives/s", "ms a batch", numbers=True)
        for name in args.recipes:
            recipe = Recipe(name, graph, args.root)
            took = best_seconds({name: recipe.sample}, args.rounds)[name]
            line(name, f"{recipe.candidates / took:,.0f}", f"{recipe.picks / took:,.0f}", f"{1e3 * took:.1f}")

        make = partial(step_of, graph, args.root)
        sizes = {f"DNS, K = {size}": make(size, m.HardestSelector(1)) for size in (2, 8, 32)}
        steps = best_seconds({"plain, K = 1": make(1, m.FirstSelector(1)), **sizes}, 2 * args.rounds)
        print()
        head("a training step, GCN of 256, dot product", "ms", "over plain", numbers=True)
        for name, value in steps.items():
            line(name, f"{1e3 * value:.1f}", f"{value / steps['plain, K = 1']:.2f}")
        ratios[graph] = steps["DNS, K = 8"] / steps["plain, K = 1"]
    print(json.dumps({
        "uniform_over_structured_speedup": round(min(speedups.values()), 2),
        "dns_over_plain_step": round(max(ratios.values()), 2),
        "graphs": args.graphs,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
