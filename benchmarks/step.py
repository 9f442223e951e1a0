"""What a MeBNS step costs beside a plain one, and where the time goes.

    python benchmarks/step.py --root DATA          # whole epochs and cosines: minutes on one core
    python benchmarks/step.py --root DATA --all    # and the parts of a step, its memory, PyG's loop, evaluation

Everything is measured in one run, the alternatives in turn, and of several epochs the best is taken. All systems have
the same graph, candidates (K = 8), decoder and batch; MeBNS stands with the method's defaults round the sampler it is
compared with, and so learns from several weighted negatives an edge. It is held against that sampler with its own one
negative; the epoch of the sampler with as many negatives as MeBNS's is given beside.
Prints tables and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import torch
from _runs import begin
from lightning.pytorch import Callback, Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity
from torch_geometric.nn import GCNConv
from torch_geometric.utils import negative_sampling, to_undirected
from torchmetrics.retrieval import RetrievalMRR

import mebns_pl as m
from mebns_pl.data.needs import Needs, TeacherNegatives
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.bilevel import AbstractEngine, BilevelProblem
from mebns_pl.mebns.learner import Gradients, Learner
from mebns_pl.mebns.step import Meta, StepResult, Teacher, mebns_step, plain_step
from mebns_pl.metrics.functional import auc, mean_reciprocal_rank, ranks

BATCH_SIZE = {"cora": 1024, "pubmed": 8192}
NUM_CANDIDATES = 8
MOST = min(m.StartingWeights().num_negatives, m.TeacherFilter().most(NUM_CANDIDATES))  # negatives of MeBNS's student
SAMPLERS = {
    "DNS": m.Sampler(num_candidates=NUM_CANDIDATES, selector=m.HardestSelector(1)),
    "uniform": m.Sampler(num_candidates=NUM_CANDIDATES, selector=m.FirstSelector(1)),
    "several": m.Sampler(num_candidates=NUM_CANDIDATES, selector=m.HardestSelector(MOST)),
}
CHEAP = {"dot": m.Every(4, m.LastBlock(["encoder.biases"])), "MLP": m.Every(4, m.LastBlock(["decoder"]))}
THINNED = m.Every(4, m.DirectionalEngine())
DECODERS = {"dot": m.DotDecoder, "MLP": partial(m.MLPDecoder, hidden_channels=256, num_layers=3)}
CASES = ("pubmed-dot", "cora-dot", "cora-MLP")
ALL_CASES = (*CASES, "pubmed-MLP")
FROZEN = m.OwnLearning(epochs=1)
LEARNING = m.OwnLearning(epochs=None)


def make_data(graph: str, root: str | None) -> m.LinkDataModule:
    """A graph with its batch size."""
    return m.LinkDataModule(graph=graph, root=root, batch_size=BATCH_SIZE[graph])


def make_predictor(spec: m.GraphSpec, decoder: str = "dot") -> m.EncoderDecoder:
    """One GCN layer of 256 with a decoder, as in configs/model/gcn_dot.yaml and gcn_mlp.yaml."""
    return m.EncoderDecoder(spec, partial(m.GCN, hidden_channels=256, num_layers=1), DECODERS[decoder])


adam = partial(torch.optim.Adam, lr=0.01)


# --- whole epochs -----------------------------------------------------------------------------------------------------


class EpochClock(Callback):
    """CPU seconds of every epoch's steps, and of what goes before the first: the meta set.

    Of one thread they are what a clock would show on an idle core, and a busy machine disturbs them little.
    """

    def __init__(self) -> None:
        self.before: list[float] = []
        self.steps: list[float] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self._start = time.process_time()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if len(self.before) == len(self.steps):
            self._first = time.process_time()
            self.before.append(self._first - self._start)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.steps.append(time.process_time() - self._start - self.before[-1])


def epoch_seconds(
    system: str | tuple[m.OwnLearning, AbstractEngine], decoder: str, data: m.LinkDataModule, epochs: int
) -> float:
    """CPU seconds of an epoch with everything in it but evaluation: the best of some after the first, and its share of
    the meta set, which is collected every few epochs.

    Args:
        system: a name of ``SAMPLERS``; or a teacher and an engine, round DNS.
        decoder: a name of ``DECODERS``.
        data: the data.
        epochs: how many are looked at.
    """
    seed_everything(0, verbose=False)
    clock = EpochClock()
    predictor = partial(make_predictor, decoder=decoder)
    if isinstance(system, str):
        module = m.Plain(data.spec, predictor, SAMPLERS[system], adam)
    else:
        teaching, engine = system
        module = m.MeBNS(
            data.spec, predictor, SAMPLERS["DNS"], adam, adam, engine=engine, teaching=teaching,
            schedule=m.Schedule(warmup=0),
        )  # fmt: skip
    trainer = Trainer(
        max_epochs=epochs + 1, accelerator="cpu", limit_val_batches=0, logger=False, callbacks=[clock],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    return min(clock.steps[1:]) + clock.before[0] / m.UMDCollector().refresh_epochs


def systems_of(decoder: str) -> dict[str, str | tuple[m.OwnLearning, AbstractEngine]]:
    """What is measured, by name; the first is what the others are held against."""
    engines = {
        "Higher": m.HigherEngine(), "Directional": m.DirectionalEngine(),
        "every 4th": THINNED, "every 4th, part": CHEAP[decoder],
    }  # fmt: skip
    learning = {name: (LEARNING, engine) for name, engine in engines.items()}
    frozen = {f"{name}, frozen": (FROZEN, engine) for name, engine in engines.items()}
    return {"plain": "DNS", f"plain, {MOST} negatives": "several", **learning, **frozen}


def epoch_ratios(graph: str, root: str | None, decoders: list[str], epochs: int) -> list[dict[str, float | str]]:
    """A row for each decoder: seconds of the plain epoch, and the others' as multiples of it."""
    data, rows = make_data(graph, root), []
    for decoder in decoders:
        systems = systems_of(decoder)
        seconds = {name: epoch_seconds(system, decoder, data, epochs) for name, system in systems.items()}
        # Once more, at the end: the machine may have changed
        plain = min(seconds["plain"], epoch_seconds("DNS", decoder, data, epochs))
        ratios = {name: value / plain for name, value in seconds.items() if name != "plain"}
        rows.append({"graph": graph, "decoder": decoder, "seconds": plain, **ratios})
    return rows


# --- single steps -----------------------------------------------------------------------------------------------------


class Bench:
    """One batch of a graph, and learners that have made a step.

    Args:
        graph: a name of ``BATCH_SIZE``.
        root: the data folder.
        decoder: a name of ``DECODERS``.
        device: where the step runs.
    """

    def __init__(self, graph: str, root: str | None, decoder: str, device: str = "cpu") -> None:
        self.data = make_data(graph, root)
        # Both samplers draw the same candidates; what a learning teacher learns from is drawn always
        std = m.StdGenerator()
        teacher = TeacherNegatives(std.structure_ratio, std.num_negatives, epochs=None)
        self.batches = self.data.train_steps(Needs(SAMPLERS["DNS"], meta_edges=True, teacher=teacher))
        self.graph = self.data.train_graph.to(device)
        self.device = device
        torch.manual_seed(0)
        modules = [make_predictor(self.data.spec, decoder), make_predictor(self.data.spec, decoder), m.WeightNet()]
        modules = [module.to(device) for module in modules]
        self.student, self.teacher, self.weight_net = (
            Learner(module, torch.optim.Adam(module.parameters(), lr=lr))
            for module, lr in zip(modules, (0.01, 0.01, 0.001), strict=True)
        )
        self.step(engine=m.HigherEngine(), apply=True)
        self.frozen = m.FullGraph().scorer(self.teacher.module, self.graph, device)

    def meta(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Meta edges, and as many random pairs."""
        generator = torch.Generator().manual_seed(number)
        half = m.UMDCollector().batch_size // 2
        edges = self.data.split.meta
        positives = edges[:, torch.randint(edges.shape[1], (half,), generator=generator)]
        negatives = torch.randint(self.graph.num_nodes, (2, half), generator=generator)
        return positives.to(self.device), negatives.to(self.device)

    def step(
        self, number: int = 0, sampler: str = "DNS", engine: AbstractEngine | None = None, teacher: bool = True,
        learns: bool = True, apply: bool = False, masks: str = "",
    ) -> StepResult:  # fmt: skip
        """One step; ``masks`` names other dropout masks."""
        epoch, place = divmod(number, len(self.batches))
        batch = self.drawn(epoch, place)
        key = m.Key(0, "benchmark" + masks).at(epoch, place)
        rest = SAMPLERS[sampler], m.BinaryCrossEntropy(), batch, self.graph, key, SingleProcess()
        if teacher:
            judge = Teacher(self.teacher, learns, None if learns else self.frozen)
            meta = None
            if engine is not None:
                graph, student = self.graph, self.student.module
                meta = Meta.of(
                    self.weight_net, engine, *self.meta(number), m.BinaryCrossEntropy(),
                    lambda pairs, gone: m.FullGraph().of_few(student, graph, graph, pairs, gone, key), SingleProcess(),
                )  # fmt: skip
            result = mebns_step(self.student, judge, m.TeacherFilter(), m.StartingWeights(), meta, *rest)
        else:
            result = plain_step(self.student, *rest)
        if apply:
            for name, found in result.learned.items():
                move(getattr(self, name), found)
        return result

    def drawn(self, epoch: int, place: int):
        """A batch on the device; the last one drawn is kept."""
        if getattr(self, "_drawn", (None, None))[0] != (epoch, place):
            batch = self.data.transfer_batch_to_device(self.batches[epoch, place], torch.device(self.device), 0)
            self._drawn = ((epoch, place), batch)
        return self._drawn[1]


def move(learner: Learner, found: Gradients) -> None:
    """One update."""
    for param, grad in zip(learner.params(), found.dense, strict=True):
        param.grad = grad
    learner.optimizer.step()
    learner.optimizer.zero_grad()


def seconds_of(action: Callable[[], object], repeats: int = 10) -> float:
    """The best of several calls, after two to warm up."""
    for _ in range(2):
        action()
    best = float("inf")
    for _ in range(repeats):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


PARTS: dict[str, tuple[str, dict[str, object]]] = {
    "plain step, uniform": ("student's pass and gradient", {"teacher": False, "sampler": "uniform"}),
    "plain step, DNS": ("+ student's scores of all candidates", {"teacher": False}),
    "DNS behind a frozen teacher": ("+ teacher's scores of all candidates", {"learns": False}),
    "DNS behind a learning teacher": ("+ teacher's pass and gradient", {}),
    "+ LastBlock": ("+ meta step, decoder or biases only", {"engine": m.LastBlock(["decoder", "encoder.biases"])}),
    "+ DirectionalEngine": ("+ meta step, exact", {"engine": m.DirectionalEngine()}),
    "+ HigherEngine": ("+ meta step, exact", {"engine": m.HigherEngine()}),
}


def profile(graph: str, root: str | None, decoder: str, device: str) -> list[tuple[str, str, float]]:
    """Milliseconds of steps with more and more parts."""
    bench = Bench(graph, root, decoder, device)
    return [(name, part, 1e3 * seconds_of(partial(bench.step, **call))) for name, (part, call) in PARTS.items()]


def peak_bytes(action: Callable[[], object]) -> int:
    """The most that was allocated at one time beyond what was there, by torch's own record."""
    action()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as record:
        action()
    now = peak = 0
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


class Watch(AbstractEngine):
    """Takes the hypergradient of one engine, and its cosine with that of another.

    Args:
        used: moves the weight net.
        other: is compared.
    """

    def __init__(self, used: AbstractEngine, other: AbstractEngine) -> None:
        self.used, self.other, self.cosines = used, other, []

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        """The used one's."""
        result = self.used.hypergradient(problem)
        self.cosines.append(cosine(result, self.other.hypergradient(problem)))
        return result


def cosine(first: Gradients, second: Gradients) -> float:
    """Of the two flat vectors."""
    a, b = (torch.cat([t.flatten() for t in found.dense]).double() for found in (first, second))
    return float(cosine_similarity(a, b, dim=0))


def median_cosines(
    graph: str, root: str | None, decoder: str, cheap: AbstractEngine, steps: int
) -> tuple[float, float]:
    """Cheap against exact, and exact against exact with other dropout masks, over a training run."""
    bench = Bench(graph, root, decoder)
    watch, noise = Watch(m.HigherEngine(), cheap), []
    for number in range(steps):
        other = bench.step(number, engine=m.HigherEngine(), masks="/other").learned["weight_net"]
        result = bench.step(number, engine=watch, apply=True)
        noise.append(cosine(result.learned["weight_net"], other))
    return float(torch.tensor(watch.cosines).median()), float(torch.tensor(noise).median())


# --- evaluation -------------------------------------------------------------------------------------------------------


def ranking_speedup(rows: int = 2000, columns: int = 500) -> float:
    """Mean reciprocal rank of ``rows`` positives among ``columns`` negatives each, against torchmetrics."""
    generator = torch.Generator().manual_seed(0)
    positive = torch.rand(rows, generator=generator) + 0.5  # torchmetrics leaves scores of 0 and below out
    negative = torch.rand(rows, columns, generator=generator) + 0.5
    scores = torch.cat([positive[:, None], negative], dim=1).flatten()
    target = torch.zeros(rows, columns + 1, dtype=torch.bool)
    target[:, 0] = True
    indexes = torch.arange(rows).repeat_interleave(columns + 1)

    def ours() -> torch.Tensor:
        return mean_reciprocal_rank(ranks(positive, negative))

    def theirs() -> torch.Tensor:
        return RetrievalMRR()(scores, target.flatten(), indexes)

    torch.testing.assert_close(ours().double(), theirs().double(), rtol=1e-4, atol=0)
    return seconds_of(theirs, 2) / seconds_of(ours)


def evaluation_over_products(root: str | None) -> float:
    """Cora's test pairs through a predictor with an MLP of three layers, over the MLP's bare matrix products."""
    bench = Bench("cora", root, "MLP")
    batches = bench.data.test_dataloader().dataset
    pairs = torch.cat([batches[i].negatives.flatten(1) for i in range(len(batches))], dim=1)
    predictor = bench.student.module
    weights = [layer.weight.detach().t() for layer in (*predictor.decoder.hidden, predictor.decoder.last)]

    def evaluate() -> torch.Tensor:
        with torch.no_grad():
            return predictor(predictor.prepare(bench.graph, pairs))

    def products() -> None:
        for start in range(0, pairs.shape[1], 1024):
            h = torch.empty(min(1024, pairs.shape[1] - start), 256)
            for weight in weights:
                h = h @ weight

    return seconds_of(evaluate, 3) / seconds_of(products, 3)


# --- the plain step beside PyG's example ------------------------------------------------------------------------------


class PyGNet(torch.nn.Module):
    """Two GCN layers and a dot product, as in PyG's example of link prediction, 128 wide."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.first, self.second = GCNConv(in_channels, 128), GCNConv(128, 128)

    def score(self, x: torch.Tensor, edge_index: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """``(M,)``."""
        z = self.second(self.first(x, edge_index).relu(), edge_index)
        return (z[pairs[0]] * z[pairs[1]]).sum(dim=1)


def pyg_epochs(data: m.LinkDataModule, epochs: int, seed: int) -> tuple[float, float]:
    """Dense features, fresh negatives by PyG in each step: (best seconds of an epoch, test AUC)."""
    torch.manual_seed(seed)
    x, edges = data.loaded.x.to_dense(), data.split.observed
    edge_index, net, best = to_undirected(edges), PyGNet(x.shape[1]), float("inf")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(epochs):
        start = time.perf_counter()
        for places in torch.randperm(edges.shape[1]).split(data.batch_size):
            optimizer.zero_grad()
            negatives = negative_sampling(edge_index, len(x), len(places), method="sparse")
            logits = net.score(x, edge_index, torch.cat([edges[:, places], negatives], dim=1))
            label = torch.cat([torch.ones(len(places)), torch.zeros(negatives.shape[1])])
            binary_cross_entropy_with_logits(logits, label).backward()
            optimizer.step()
        best = min(best, time.perf_counter() - start)
    with torch.no_grad():
        return best, test_auc(data, lambda pairs: net.score(x, edge_index, pairs))


def own_epochs(data: m.LinkDataModule, epochs: int, seed: int) -> tuple[float, float]:
    """The same model, batch size and number of negatives with plain steps, drawing included."""
    torch.manual_seed(seed)
    sampler = m.Sampler(num_candidates=1)
    batches, best = data.train_steps(Needs(sampler)), float("inf")
    encoder = partial(m.GCN, hidden_channels=128, num_layers=2, dropout=0.0)
    student = m.EncoderDecoder(data.spec, encoder, m.DotDecoder)
    learner = Learner(student, torch.optim.Adam(student.parameters(), lr=0.01))
    for epoch in range(epochs):
        start = time.perf_counter()
        for step in range(len(batches)):
            key = m.Key(seed, "benchmark").at(epoch, step)
            batch = batches[epoch, step]
            result = plain_step(learner, sampler, m.BinaryCrossEntropy(), batch, data.train_graph, key, SingleProcess())
            move(learner, result.learned["student"])
        best = min(best, time.perf_counter() - start)
    with torch.no_grad():
        return best, test_auc(data, lambda pairs: student(student.prepare(data.train_graph, pairs)))


def test_auc(data: m.LinkDataModule, score: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Test edges against as many uniform non-edges."""
    chunks = data.test_dataloader().dataset
    positives, negatives = (
        torch.cat([getattr(chunks[i], name) for i in range(len(chunks))], dim=1)
        for name in ("positives", "random_negatives")
    )
    return float(auc(score(positives), score(negatives)))


def beside_pyg(root: str | None, epochs: int = 100, seeds: int = 3) -> dict[str, list[float]]:
    """Seconds of an epoch and test AUC of both loops, by seed."""
    found: dict[str, list[float]] = {"own_seconds": [], "own_auc": [], "pyg_seconds": [], "pyg_auc": []}
    for seed in range(seeds):
        data = m.LinkDataModule(
            graph="cora", root=root, batch_size=1024, seed=seed, eval_negatives=m.RandomNegatives(1)
        )
        for name, loop in (("own", own_epochs), ("pyg", pyg_epochs)):
            seconds, value = loop(data, epochs, seed)
            found[f"{name}_seconds"].append(seconds)
            found[f"{name}_auc"].append(value)
    return found


# --- all of it --------------------------------------------------------------------------------------------------------


def table_of(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """Text left, figures right."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if rows and rows[0][number][:1].isdigit() else "left")
    for row in rows:
        table.add_row(*row)
    return table


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=None, help="folder with planetoid/")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2, help="of which the best is taken, after one to warm up")
    parser.add_argument("--steps", type=int, default=10, help="of which the median cosine is taken")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=ALL_CASES, help="graphs with decoders")
    parser.add_argument("--parts", action="store_true", help="the parts of a step only, on the GPU too where one is")
    parser.add_argument("--all", action="store_true", help="everything there is to measure")
    args = parser.parse_args()
    begin(threads=args.threads)
    console = Console()
    console.width = max(console.width, 160)
    cases = [case.split("-") for case in args.cases]
    result: dict[str, object] = {}

    if args.parts or args.all:
        print_parts(console, cases, args.root)
    if not args.parts:
        result |= print_ratios(console, cases, args.root, args.epochs)
        result |= print_cosines(console, cases, args.root, args.steps)
    if args.all:
        result |= print_memory(console, args.root) | print_loops(console, args.root)
        over_products = evaluation_over_products(args.root)
        result |= {"ranking_speedup": ranking_speedup(), "evaluation_over_products": over_products}
    print(json.dumps(rounded(result)))


def rounded(value: object) -> object:
    """Numbers with three digits, in dictionaries of dictionaries."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return round(float(value), 3)


def print_parts(console: Console, cases: list[list[str]], root: str | None) -> None:
    """A table for each case and device."""
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        for graph, decoder in cases:
            parts = profile(graph, root, decoder, device)
            plain = parts[0][2]
            rows = [[name, what, f"{ms:.1f}", f"{ms / plain:.2f}"] for name, what, ms in parts]
            title = f"One step: {graph}, {decoder}, {device}, {torch.get_num_threads()} threads"
            console.print(table_of(title, ["step", "what it has", "ms", "ratio"], rows))


def print_ratios(console: Console, cases: list[list[str]], root: str | None, epochs: int) -> dict[str, object]:
    """Whole epochs over the plain one."""
    rows = [row for graph, decoder in cases for row in epoch_ratios(graph, root, [decoder], epochs)]
    names = [name for name in systems_of("dot") if name != "plain"]
    cells = [
        [*(str(row[n]) for n in ("graph", "decoder")), f"{1e3 * row['seconds']:.0f}", *(f"{row[n]:.2f}" for n in names)]
        for row in rows
    ]
    console.print(table_of("Epoch / plain epoch", ["graph", "decoder", "plain, CPU ms", *names], cells))
    return {f"{row['graph']}, {row['decoder']}": {n: row[n] for n in ("seconds", *names)} for row in rows}


def print_cosines(console: Console, cases: list[list[str]], root: str | None, steps: int) -> dict[str, object]:
    """Of hypergradients."""
    found = {
        f"{graph}, {decoder}": median_cosines(graph, root, decoder, CHEAP[decoder].engine, steps)
        for graph, decoder in cases
    }
    rows = [[name, f"{cheap:.3f}", f"{noise:.3f}"] for name, (cheap, noise) in found.items()]
    title = f"Cosine of hypergradients, median of {steps} steps"
    console.print(table_of(title, ["case", "part and exact", "exact and exact, other dropout masks"], rows))
    return {"cheap_cosine": {name: cheap for name, (cheap, _) in found.items()}}


def print_memory(console: Console, root: str | None) -> dict[str, object]:
    """Peak memory of single steps."""
    bench = Bench("cora", root, "dot")
    memory = {name: peak_bytes(partial(bench.step, **PARTS[name][1])) for name in PARTS}
    base = memory["plain step, DNS"]
    rows = [[name, f"{size / 2**20:.0f}", f"{size / base:.2f}"] for name, size in memory.items()]
    console.print(table_of("Peak memory of one step, Cora, dot product", ["step", "MiB", "ratio"], rows))
    return {"memory_over_plain": max(memory["+ HigherEngine"], memory["+ DirectionalEngine"]) / base}


def print_loops(console: Console, root: str | None) -> dict[str, object]:
    """Plain training beside PyG's loop."""
    loops, rows = beside_pyg(root), []
    for name in ("own", "pyg"):
        area = torch.tensor(loops[f"{name}_auc"])
        rows.append([name, f"{1e3 * min(loops[f'{name}_seconds']):.1f}", f"{area.mean():.4f} ± {area.std():.4f}"])
    console.print(table_of("Epoch of plain training on Cora, 2 x GCN 128", ["loop", "ms", "test AUC"], rows))
    return {"plain_over_pyg_loop_speedup": min(loops["pyg_seconds"]) / min(loops["own_seconds"])}


if __name__ == "__main__":
    main()
