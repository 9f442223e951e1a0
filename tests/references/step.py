"""The whole MeBNS step as slowly and obviously as possible, and a tiny world to try it in.

Written from the method, not from the fast code: the message-passing graph is rebuilt from its edge list, each kind of
pair has a forward pass of its own, filter, selector, softmax and sums are Python loops, the lookahead is an unrolled
optimizer in textbook form, and the real updates are made by real optimizers on copies.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import logsigmoid
from torch.optim import SGD, Adam, AdamW, Optimizer

from mebns_pl import (
    GAT,
    GCN,
    NCN,
    SAGE,
    SEAL,
    EncoderDecoder,
    EqualWeighting,
    LinearGCN,
    LinkPredictor,
    LPFormer,
    MLPDecoder,
    ResidualMLPDecoder,
    SelfAdversarialWeighting,
    WeightNet,
)
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.distributed.group import AbstractGroup, SingleProcess
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, HigherEngine, clipped
from mebns_pl.mebns.filters.teacher import TeacherFilter
from mebns_pl.mebns.learner import Gradients, Learner
from mebns_pl.mebns.losses.abstract import AbstractLoss
from mebns_pl.mebns.losses.cross_entropy import BinaryCrossEntropy
from mebns_pl.mebns.losses.pairwise import BayesianPersonalizedRanking, MarginLoss
from mebns_pl.mebns.losses.softmax import SoftmaxCrossEntropy
from mebns_pl.mebns.starting_weights import StartingWeights
from mebns_pl.mebns.step import Meta, StepResult, Teacher, mebns_step, warm_up_step
from mebns_pl.mebns.umd_collector import MetaSet
from mebns_pl.mebns.weight_net import DEFAULT_INPUTS
from mebns_pl.models.predictor import Inputs
from mebns_pl.negatives.row_draws import fractions
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.negatives.selectors.hardest import HardestSelector
from mebns_pl.types import GraphSpec

Params = dict[str, Tensor]
MakeOptimizer = Callable[..., Optimizer]

# --- a tiny world ---------------------------------------------------------------------------------

OPTIMIZERS: dict[str, MakeOptimizer] = {
    "sgd": partial(SGD, lr=0.1),
    "momentum": partial(SGD, lr=0.02, momentum=0.9),
    # Adam divides rounding errors of gradients that are nearly 0 by eps: 1e-8 would make 1e-10 of them
    "adam": partial(Adam, lr=0.01, weight_decay=1e-2, eps=1e-6),
    "adamw": partial(AdamW, lr=0.01, weight_decay=0.1, eps=1e-6),
}
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "GCN": partial(GCN, hidden_channels=4, dropout=0.3),
    "GAT": partial(GAT, hidden_channels=4, heads=2, dropout=0.3),
    "SAGE": partial(SAGE, hidden_channels=4, dropout=0.3),
}
LOSSES: dict[str, AbstractLoss] = {
    "cross-entropy": BinaryCrossEntropy(),
    "softmax": SoftmaxCrossEntropy(),
    "pairwise": BayesianPersonalizedRanking(),
    "margin": MarginLoss(),
}
PREDICTORS: dict[str, Callable[[GraphSpec], LinkPredictor]] = {
    "LPFormer": partial(
        LPFormer,
        encoder=ENCODERS["GCN"],
        hidden_channels=6,
        attention_channels=4,
        place_channels=3,
        dropout=0.3,
    ),
    "NCN": partial(NCN, encoder=ENCODERS["GCN"], hidden_channels=6, dropout=0.3),
    "Refined-GAE": partial(
        EncoderDecoder,
        encoder=partial(LinearGCN, hidden_channels=4, embed_nodes=True, dropout=0.3),
        decoder=partial(ResidualMLPDecoder, dropout=0.3),
    ),
    "SEAL": partial(SEAL, num_pooled=10, hidden_channels=4, num_layers=2, dropout=0.3),
}
SEES_TARGETS = {"LPFormer"}
"""Predictors that leave each pair's own edge out of the whole graph by themselves."""


@dataclass(frozen=True)
class Setting:
    """Everything that a run of steps is made of.

    Args:
        encoder: a name of ``ENCODERS``, or of ``PREDICTORS`` that are more than an encoder with a decoder.
        optimizer: a name of ``OPTIMIZERS``, for all three learners.
        features: ``dense``, ``sparse`` or ``none``.
        selector: ``hardest`` or ``first``.
        num_negatives: M of the selector.
        most: the most that the student learns from in a row, behind the filter.
        floor: of the starting weights.
        loss: a name of ``LOSSES``, the student's.
        meta_loss: the weight net's.
        inputs: the weight net's.
        drop_easy: of the filter; None for no filter.
        drop_top: of the filter.
        missing: of the filter.
        alone: of the filter.
        learns: whether the teacher does.
        meta: whether there is a weight net.
        clip: norm, or None.
        temperature: of self-adversarial weights; None for equal ones.
        empty: whether no anchor of the batches has a legal candidate.
    """

    encoder: str = "GCN"
    optimizer: str = "adam"
    features: str = "dense"
    selector: str = "hardest"
    num_negatives: int = 2
    most: int = 8
    floor: float = 0.5
    loss: str = "cross-entropy"
    meta_loss: str = "cross-entropy"
    inputs: tuple[str, ...] = DEFAULT_INPUTS
    drop_easy: float | None = 0.3
    drop_top: float = 0.0
    missing: float | None = None
    alone: bool = False
    learns: bool = True
    meta: bool = True
    clip: float | None = None
    empty: bool = False
    temperature: float | None = None


NUM_NODES = 24


def make_edges() -> Tensor:
    """``(2, n)``: a ring of 23 nodes with chords; node 23 has no edge."""
    generator = torch.Generator().manual_seed(3)
    ring = torch.arange(23)
    source = torch.randint(23, (20,), generator=generator)
    chords = torch.stack([source, (source + torch.randint(2, 21, (20,), generator=generator)) % 23])
    edges = torch.cat([torch.stack([ring, (ring + 1) % 23]), chords], dim=1)
    return torch.unique(torch.stack([edges.min(0).values, edges.max(0).values]), dim=1)


def make_features(kind: str) -> Tensor | Features | None:
    """Float64 node features with a column that is zero everywhere."""
    if kind == "none":
        return None
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(NUM_NODES, 6, generator=generator, dtype=torch.float64)
    x[:, 2] = 0
    if kind == "dense":
        return x
    return Features.of((x * (x > 0.3)).to_sparse_coo())


@cache
def make_graph(features: str) -> Graph:
    """The world's graph."""
    return Graph.from_edges(make_edges(), NUM_NODES, make_features(features))


def make_batch(step: int, size: int = 5, empty: bool = False, num_teacher: int = 2) -> TrainBatch:
    """A batch with masked candidates, the third anchor without a legal one."""
    key = Key(11, "world/batch", step=step)
    generator = key.generator()
    graph = make_graph("none")
    edges, known = make_edges(), KnownEdges(graph)
    positives = edges[:, torch.randperm(edges.shape[1], generator=generator)[:size]]
    turned = torch.rand(size, generator=generator) < 0.5
    positives = torch.where(turned, positives.flip(0), positives)
    candidates = torch.randint(NUM_NODES, (size, 5), generator=generator)
    teacher_negatives = torch.randint(NUM_NODES, (size, num_teacher), generator=generator)
    mask = ~known.mask(positives[0][:, None], candidates)
    mask[2] = False
    if empty:
        mask[:] = False
    teacher_mask = ~known.mask(positives[0][:, None], teacher_negatives)
    return TrainBatch(positives, candidates, mask, teacher_negatives, teacher_mask, positives, 0, 0, step)


def make_meta(step: int, size: int = 3) -> MetaSet:
    """``size`` edges and as many non-edges."""
    generator = Key(12, "world/meta", step=step).generator()
    edges = make_edges()
    positives = edges[:, torch.randperm(edges.shape[1], generator=generator)[:size]]
    known = KnownEdges(make_graph("none"))
    anchors = torch.randint(NUM_NODES, (size,), generator=generator)
    others = known.legal_node(anchors, torch.randint(10, (size,), generator=generator))
    labels = torch.cat([torch.ones(size), torch.zeros(size)])
    zeros = torch.zeros(2 * size)
    return MetaSet(torch.cat([positives, torch.stack([anchors, others])], dim=1), labels, zeros, zeros, {})


@dataclass
class State:
    """The three learners; ``copy.deepcopy`` copies modules and optimizers together."""

    student: Learner
    teacher: Learner
    weight_net: Learner
    names: tuple[str, ...] = field(default=("student", "teacher", "weight_net"))

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter, buffer and optimizer state tensor, by name."""
        found: dict[str, Tensor] = {}
        for name in self.names:
            learner: Learner = getattr(self, name)
            for key, value in learner.module.state_dict().items():
                found[f"{name}.{key}"] = value
            for place, param in enumerate(learner.module.parameters()):
                for key, value in learner.optimizer.state.get(param, {}).items():
                    if isinstance(value, Tensor):
                        found[f"{name}.optimizer.{place}.{key}"] = value
        return found


def make_predictor(encoder: str, spec: GraphSpec) -> LinkPredictor:
    """A whole predictor, or an encoder with an MLP decoder, float64."""
    if encoder in PREDICTORS:
        return PREDICTORS[encoder](spec).double()
    return EncoderDecoder(spec, ENCODERS[encoder], partial(MLPDecoder, hidden_channels=6, dropout=0.3)).double()


def make_state(setting: Setting, **options: float) -> State:
    """Learners with weights that depend on nothing but this function; ``options`` go to the student's optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        spec = make_graph(setting.features).spec
        student, teacher = make_predictor(setting.encoder, spec), make_predictor(setting.encoder, spec)
        weight_net = WeightNet(setting.inputs, hidden_channels=3, max_score=0.3).double()
        nn.init.normal_(weight_net.last.weight)
        for module in (student, teacher):
            for name, param in module.named_parameters():  # so that no layer is near zero or dead
                if "bias" in name:
                    nn.init.normal_(param, mean=0.2, std=0.2)
                else:
                    param.data *= 1.5
    make = OPTIMIZERS[setting.optimizer]
    return State(
        Learner(student, make(student.parameters(), **options)),
        Learner(teacher, make(teacher.parameters())),
        Learner(weight_net, make(weight_net.parameters())),
    )


def prepared(student: LinkPredictor, graph: Graph) -> Callable[[torch.Tensor, torch.Tensor], Inputs]:
    """The inputs of meta pairs on the whole graph without the meta batch's edges."""
    return lambda pairs, left_out: student.prepare(graph.without(left_out), pairs)


# --- the fast step, applied -----------------------------------------------------------------------


def fast_gradients(
    state: State, setting: Setting, batch: TrainBatch, meta_batch: MetaSet, key: Key,
    engine: AbstractEngine | None = None, group: AbstractGroup | None = None,
) -> StepResult:  # fmt: skip
    """Calls ``mebns_step`` as the setting says, or ``warm_up_step`` where it has neither filter nor weight net."""
    kinds = {"hardest": HardestSelector, "first": FirstSelector}
    weighting = EqualWeighting() if setting.temperature is None else SelfAdversarialWeighting(setting.temperature)
    sampler = Sampler(selector=kinds[setting.selector](setting.num_negatives), weighting=weighting)
    teacher, group = Teacher(state.teacher, setting.learns), group or SingleProcess()
    graph = make_graph(setting.features)
    rest = sampler, LOSSES[setting.loss], batch, graph, key, group
    if setting.drop_easy is None and not setting.meta:
        return warm_up_step(state.student, teacher, *rest)
    band = TeacherFilter(setting.drop_easy or 0.0, setting.drop_top, setting.missing, setting.alone)
    starting, meta_loss = StartingWeights(setting.most, setting.floor), LOSSES[setting.meta_loss]
    meta = None
    if setting.meta:
        edges, others = meta_batch.pairs.chunk(2, dim=1)
        prepare = prepared(state.student.module, graph)
        meta = Meta.of(state.weight_net, engine or HigherEngine(), edges, others, meta_loss, prepare, group)
    return mebns_step(state.student, teacher, band, starting, meta, *rest, gradient_clip_norm=setting.clip)


def apply(learner: Learner, found: Gradients | None, clip: float | None = None) -> None:
    """Moves a learner by its real optimizer."""
    if found is None:
        return
    for param, grad in zip(learner.module.parameters(), clipped(found.dense, clip), strict=True):
        param.grad = grad
    learner.optimizer.step()
    learner.optimizer.zero_grad()


def fast_step(
    state: State, setting: Setting, batch: TrainBatch, meta_batch: MetaSet, key: Key, engine: AbstractEngine
) -> None:
    """One step with ``mebns_step``, in place."""
    result = fast_gradients(state, setting, batch, meta_batch, key, engine)
    apply_all(state, setting, result)


def apply_all(state: State, setting: Setting, result: StepResult) -> None:
    """Moves all who learned in a step."""
    apply(state.student, result.learned["student"], setting.clip)
    apply(state.teacher, result.learned.get("teacher"))
    apply(state.weight_net, result.learned.get("weight_net"))


# --- the slow step --------------------------------------------------------------------------------


def graph_without(setting: Setting, pairs: Tensor) -> Graph:
    """A graph rebuilt from the edges that are not among ``pairs``; a mask for predictors that look at these, too."""
    if setting.encoder in SEES_TARGETS:
        return make_graph(setting.features).without(pairs)
    gone = {frozenset(pair) for pair in pairs.t().tolist()}
    left = [pair for pair in make_edges().t().tolist() if frozenset(pair) not in gone]
    return Graph.from_edges(torch.tensor(left).t(), NUM_NODES, make_features(setting.features))


def pass_of(
    module: nn.Module, params: Params, graph: Graph, batch: TrainBatch, nodes: Tensor, first: int, key: Key | None
) -> list[list[Tensor]]:
    """The logits of each anchor with its ``nodes`` ``(b, k)``, in a forward pass of their own.

    A pair is named after its place among the ``1 + K + T`` of its row of the union batch; these begin at ``first``.
    """
    width = 1 + batch.candidates.shape[1] + batch.teacher_negatives.shape[1]
    sources, targets, names = [], [], []
    for row in range(nodes.shape[0]):
        for column in range(nodes.shape[1]):
            sources.append(int(batch.positives[0, row]))
            targets.append(int(nodes[row, column]))
            names.append((batch.first_row + row) * width + first + column)
    inputs = module.prepare(graph, torch.tensor([sources, targets]), torch.tensor(names), key)
    logits = iter(functional_call(module, params, (inputs,)))
    return [[next(logits) for _ in range(nodes.shape[1])] for _ in range(nodes.shape[0])]


def positive_pass(module: nn.Module, params: Params, graph: Graph, batch: TrainBatch, key: Key | None) -> list[Tensor]:
    """The logits of the positives."""
    return [row[0] for row in pass_of(module, params, graph, batch, batch.positives[1][:, None], 0, key)]


def candidate_pass(
    module: nn.Module, params: Params, graph: Graph, batch: TrainBatch, key: Key | None
) -> list[list[Tensor]]:
    """The logits of each anchor's candidates."""
    return pass_of(module, params, graph, batch, batch.candidates, 1, key)


def teacher_pass(
    module: nn.Module, params: Params, graph: Graph, batch: TrainBatch, key: Key | None
) -> list[list[Tensor]]:
    """The logits of each anchor's teacher negatives."""
    return pass_of(module, params, graph, batch, batch.teacher_negatives, 1 + batch.candidates.shape[1], key)


def filtered(
    hardness: list[float],
    mask: list[bool],
    drop_easy: float,
    drop_top: float,
    missing: float = math.inf,
    others: list[float] | None = None,
) -> list[bool]:
    """Drops the very hardest of a row's legal candidates, no more than are missing edges if a candidate is one with the
    probability ``missing``; then, one by one, the easiest of the rest, until one stays. With a second opinion a
    candidate's place is the better of two."""

    def ranking(values: list[float]) -> list[int]:
        return sorted(
            (column for column in range(len(mask)) if mask[column]), key=lambda column: (-values[column], column)
        )

    legal = ranking(hardness)
    top = math.floor(drop_top * len(legal) + 1e-6)
    if missing < math.inf:
        top = min(top, round(missing * len(legal)))
    kept = legal[top:]
    for _ in range(math.floor(drop_easy * len(legal) + 1e-6)):
        if len(kept) > 1:
            second = ranking(others) if others is not None else legal
            places = {column: (min(legal.index(column), second.index(column)), legal.index(column)) for column in kept}
            kept.remove(max(kept, key=lambda column: places[column]))
    return [column in kept for column in range(len(mask))]


def missing_probability(setting: Setting, anchor: int) -> float:
    """That a non-edge of an anchor is a missing edge; infinite where the filter does not ask."""
    if setting.missing is None:
        return math.inf
    graph = make_graph(setting.features)
    degree = sum(1 for end in graph.indices[graph.indptr[anchor] : graph.indptr[anchor + 1]])
    return min(1.0, setting.missing * degree / max(graph.num_nodes - 1 - degree, 1))


def picked(kind: str, num_negatives: int, scores: list[float], mask: list[bool]) -> list[int]:
    """The columns that a selector picks of one row."""
    legal = [column for column in range(len(mask)) if mask[column]]
    if kind == "hardest":
        legal = sorted(legal, key=lambda column: (-scores[column], column))
    return legal[:num_negatives]


Row = tuple[Tensor, list[Tensor], list[Tensor | float]]
"""An edge's logit, its negatives' logits and their weights."""


def loss_of(kind: str, rows: list[Row]) -> Tensor:
    """The loss of a whole batch, a pair at a time."""
    num_negatives = max(sum(len(negatives) for _, negatives, _ in rows), 1)
    num_rows = max(sum(bool(negatives) for _, negatives, _ in rows), 1)
    total = torch.zeros((), dtype=torch.float64)
    for positive, negatives, weights in rows:
        if kind == "cross-entropy":
            total = total - 0.5 * logsigmoid(positive) / len(rows)
        others = torch.zeros((), dtype=torch.float64)
        for negative, weight in zip(negatives, weights, strict=True):
            if kind == "cross-entropy":
                total = total - 0.5 * weight * logsigmoid(-negative) / num_negatives
            elif kind == "pairwise":
                total = total - weight * logsigmoid(positive - negative) / num_negatives
            elif kind == "margin":
                total = total + weight * torch.relu(1 - positive + negative) / num_negatives
            others = others + weight * negative.exp()
        if kind == "softmax" and negatives:
            total = total - (positive.exp() / (positive.exp() + others)).log() / num_rows
    return total


def loss_of_one(kind: str, positive: float, negative: float) -> float:
    """What a negative costs by itself."""
    if kind == "margin":
        return max(0.0, 1 - positive + negative)
    return math.log1p(math.exp(negative if kind == "cross-entropy" else negative - positive))


def starting_weights(setting: Setting, scores: list[float], kept: list[int]) -> dict[int, float]:
    """Column -> weight of a row's candidates that stay: the sampler's shares, softened."""
    chosen = picked(setting.selector, setting.num_negatives, scores, [column in kept for column in range(len(scores))])
    chosen = kept if setting.selector == "first" else chosen  # any may be the first
    share = {column: (column in chosen) / len(chosen) for column in kept}
    return {column: (1 - setting.floor) * len(kept) * share[column] + setting.floor for column in kept}


def drawn_by_priority(weights: dict[int, float], most: int, uniforms: list[float]) -> dict[int, float]:
    """The ``most`` of highest priority, with their weights by the threshold, mean 1."""
    priority = {column: weight / (1 - uniforms[column]) for column, weight in weights.items()}
    order = sorted(priority, key=lambda column: (-priority[column], column))
    threshold = priority[order[most]] if len(order) > most else 0.0
    found = {column: max(weights[column], threshold) for column in order[:most]}
    return {column: weight * len(found) / sum(found.values()) for column, weight in found.items()}


def standardised(columns: list[list[float]]) -> list[Tensor]:
    """Rows of numbers from columns, each column with mean 0 and standard deviation 1; 0 where it is constant."""
    told = []
    for column in columns:
        mean = sum(column) / max(len(column), 1)
        deviation = (sum((value - mean) ** 2 for value in column) / max(len(column), 1)) ** 0.5
        told.append([(value - mean) / deviation if deviation > 1e-9 else 0.0 for value in column])
    return [torch.tensor(row, dtype=torch.float64) for row in zip(*told, strict=True)]


def row_weights(scores: list[float], temperature: float | None) -> list[float]:
    """Weights of one row's negatives before the weight net's: mean 1."""
    if temperature is None:
        return [1.0] * len(scores)
    powers = [math.exp(score / temperature) for score in scores]
    return [len(powers) * power / sum(powers) for power in powers]


def softmax_weights(
    weight_net: WeightNet, params: Params, features: list[Tensor], base: Sequence[float] | None = None
) -> list[Tensor]:
    """``n softmax`` of the weight net's centered and bounded outputs, one feature row at a time, times the weights
    there were."""
    base = [1.0] * len(features) if base is None else base
    outputs = [functional_call(weight_net, params, (row[None],))[0] for row in features]
    mean, bound = sum(outputs) / max(len(outputs), 1), weight_net.max_score
    powers = [
        weight * (bound * torch.tanh((output - mean) / bound)).exp()
        for weight, output in zip(base, outputs, strict=True)
    ]
    return [len(powers) * power / torch.stack(powers).sum() for power in powers]


def unrolled(optimizer: Optimizer, params: Params, grads: list[Tensor]) -> Params:
    """One update in textbook form, differentiable in the gradients."""
    (group,) = optimizer.param_groups
    ahead = {}
    for (name, param), grad in zip(params.items(), grads, strict=True):
        state = optimizer.state.get(param, {})
        value = param.detach()
        if isinstance(optimizer, SGD):
            velocity = grad + group["weight_decay"] * value
            if group["momentum"] and state.get("momentum_buffer") is not None:
                velocity = group["momentum"] * state["momentum_buffer"] + velocity
            ahead[name] = value - group["lr"] * velocity
            continue
        beta1, beta2 = group["betas"]
        time = int(state["step"]) + 1 if state else 1
        if isinstance(optimizer, AdamW):
            value = value - group["lr"] * group["weight_decay"] * value
        else:
            grad = grad + group["weight_decay"] * value
        first = (1 - beta1) * grad + (beta1 * state["exp_avg"] if state else 0)
        second = (1 - beta2) * grad**2 + (beta2 * state["exp_avg_sq"] if state else 0)
        # The root of 0 has an infinite slope, which stands times zero in that of g / (|g| + eps)
        root = torch.where(second > 0, (second / (1 - beta2**time)).clamp(min=1e-300).sqrt(), 0.0)
        ahead[name] = value - group["lr"] * first / (1 - beta1**time) / (root + group["eps"])
    return ahead


def clipped_by_hand(grads: list[Tensor], clip: float | None) -> list[Tensor]:
    """Gradients scaled down to a joint norm of ``clip``, as ``clip_grad_norm_`` does."""
    if clip is None:
        return grads
    norm = sum((grad**2).sum() for grad in grads) ** 0.5
    return grads if float(norm.detach()) <= clip else [grad * clip / (norm + 1e-6) for grad in grads]


@dataclass
class Slow:
    """What the slow step knows after its picks.

    Args:
        loss_at: (student's parameters, weights) -> the student's loss.
        features: the weight net's input, a row for each negative.
        base: weights of the negatives before the weight net's.
        meta_loss_at: student's parameters -> loss on the meta batch.
    """

    loss_at: Callable[[Params, Sequence[Tensor | float]], Tensor]
    features: list[Tensor]
    base: list[float]
    meta_loss_at: Callable[[Params], Tensor]


def params_of(module: nn.Module) -> Params:
    """The live parameters."""
    return dict(module.named_parameters())


def prepare(state: State, setting: Setting, batch: TrainBatch, meta_batch: MetaSet, key: Key) -> Slow:
    """Teacher's scores, filter, selector; reads ``state`` only."""
    graph = graph_without(setting, batch.union_positives)
    teacher, student = state.teacher.module, state.student.module
    teacher_key, student_key = key.child("teacher") if setting.learns else None, key.child("student")
    with torch.no_grad():
        hardness = candidate_pass(teacher, params_of(teacher), graph, batch, teacher_key)
        scores = candidate_pass(student, params_of(student), graph, batch, student_key)
    picks: list[tuple[int, int]] = []
    base: list[float] = []
    warm_up = setting.drop_easy is None and not setting.meta
    legal_only, rows = setting.drop_easy or 0.0, torch.arange(batch.positives.shape[1]) + batch.first_row
    uniforms = fractions(key.child("selector").child("drawn"), rows, batch.candidates.shape[1])
    most_kept = max(
        sum(filtered([0.0] * size, [True] * size, legal_only, setting.drop_top if setting.missing is None else 0.0))
        for size in range(1, batch.candidates.shape[1] + 1)
    )
    for row in range(batch.positives.shape[1]):
        mask = batch.candidate_mask[row].tolist()
        values = [float(score) for score in scores[row]]
        if setting.drop_easy is not None:
            missing = missing_probability(setting, int(batch.candidate_anchors[row]))
            others = None if setting.alone else values
            easy, top = setting.drop_easy, setting.drop_top
            mask = filtered([float(h) for h in hardness[row]], mask, easy, top, missing, others)
        if warm_up:
            columns = picked(setting.selector, setting.num_negatives, values, mask)
            before = dict.fromkeys(columns, 1.0)
        else:
            before = starting_weights(setting, values, [column for column in range(len(mask)) if mask[column]])
            if before and most_kept > setting.most:
                before = drawn_by_priority(before, setting.most, uniforms[row].tolist())
        picks += [(row, column) for column in before]
        adversarial = row_weights([values[column] for column in before], setting.temperature)
        base += [one * other for one, other in zip(before.values(), adversarial, strict=True)]

    def loss_at(params: Params, weights: Sequence[Tensor | float]) -> Tensor:
        logits = candidate_pass(student, params, graph, batch, student_key)
        positive = positive_pass(student, params, graph, batch, student_key)
        rows: list[Row] = [(logit, [], []) for logit in positive]
        for (row, column), weight in zip(picks, weights, strict=True):
            rows[row][1].append(logits[row][column])
            rows[row][2].append(weight)
        return loss_of(setting.loss, rows)

    with torch.no_grad():
        edges = positive_pass(student, params_of(student), graph, batch, student_key)
    degree = [0] * NUM_NODES
    for one, other in make_edges().t().tolist():
        degree[one], degree[other] = degree[one] + 1, degree[other] + 1
    told: dict[str, list[float]] = {name: [] for name in setting.inputs}
    for row, column in picks:
        score, edge, others = float(scores[row][column]), float(edges[row]), [c for r, c in picks if r == row]
        higher = sum(float(scores[row][other]) > score for other in others)
        found = {
            "loss": loss_of_one(setting.loss, edge, score),
            "hardness": float(hardness[row][column]),
            "rank": higher / max(len(others) - 1, 1),
            "gap": score - edge,
            "log_degree": math.log1p(degree[int(batch.candidates[row, column])]),
        }
        for name in setting.inputs:
            told[name].append(found[name])
    features = standardised(list(told.values()))
    labels = meta_batch.labels.tolist()
    meta_positives = torch.tensor(
        [pair for pair, label in zip(meta_batch.pairs.t().tolist(), labels, strict=True) if label == 1]
    )
    meta_graph = graph_without(setting, meta_positives.t())

    def meta_loss_at(params: Params) -> Tensor:
        logits = functional_call(student, params, (student.prepare(meta_graph, meta_batch.pairs),))
        positive = [logit for logit, label in zip(logits, labels, strict=True) if label == 1]
        negative = [logit for logit, label in zip(logits, labels, strict=True) if label == 0]
        return loss_of(setting.meta_loss, [(logit, negative, [1.0] * len(negative)) for logit in positive])

    return Slow(loss_at, features, base, meta_loss_at)


def slow_hypergradient(
    state: State, setting: Setting, slow: Slow, moves: Callable[[str], bool] = lambda name: True
) -> list[Tensor]:
    """The hypergradient through an unrolled update of the student's parameters whose name ``moves``."""
    student, net = state.student.module, state.weight_net.module
    phi = {name: param.detach().requires_grad_() for name, param in net.named_parameters()}
    theta = params_of(student)
    loss = slow.loss_at(theta, softmax_weights(net, phi, slow.features, slow.base))
    grads = torch.autograd.grad(loss, list(theta.values()), create_graph=True, materialize_grads=True)
    ahead = unrolled(state.student.optimizer, theta, clipped_by_hand(list(grads), setting.clip))
    ahead = {name: value if moves(name) else theta[name].detach() for name, value in ahead.items()}
    return list(torch.autograd.grad(slow.meta_loss_at(ahead), list(phi.values()), materialize_grads=True))


def real_step(student: Learner, slow: Slow, weights: Sequence[Tensor | float], clip: float | None) -> None:
    """The student's update by its real optimizer, in place; the loss is that of ``student``'s present parameters."""
    student.optimizer.zero_grad(set_to_none=True)
    params = params_of(student.module)
    slow.loss_at(params, weights).backward()
    for param in params.values():
        param.grad = torch.zeros_like(param) if param.grad is None else param.grad
    if clip is not None:
        nn.utils.clip_grad_norm_(params.values(), clip)
    student.optimizer.step()
    student.optimizer.zero_grad(set_to_none=True)


def meta_loss_after(state: State, setting: Setting, slow: Slow, phi: Params) -> float:
    """The meta loss after a step of the student's *real* optimizer with the weights of ``phi``."""
    student = copy.deepcopy(state.student)
    with torch.no_grad():
        weights = softmax_weights(state.weight_net.module, phi, slow.features, slow.base)
    real_step(student, slow, weights, setting.clip)
    with torch.no_grad():
        return float(slow.meta_loss_at(params_of(student.module)))


def slow_step(state: State, setting: Setting, batch: TrainBatch, meta_batch: MetaSet, key: Key) -> State:
    """One step of all learners; ``state`` is left alone."""
    slow = prepare(state, setting, batch, meta_batch, key)
    new = copy.deepcopy(state)

    weights: Sequence[Tensor | float] = slow.base
    if setting.meta:
        apply(new.weight_net, Gradients(torch.zeros(()), slow_hypergradient(state, setting, slow)))
        net = new.weight_net.module
        with torch.no_grad():
            weights = softmax_weights(net, params_of(net), slow.features, slow.base)
    real_step(new.student, slow, weights, setting.clip)

    if setting.learns:
        graph = graph_without(setting, batch.union_positives)
        teacher = new.teacher.module
        logits = teacher_pass(teacher, params_of(teacher), graph, batch, key.child("teacher"))
        positive = positive_pass(teacher, params_of(teacher), graph, batch, key.child("teacher"))
        negatives = [
            [logit for logit, legal in zip(row, mask, strict=True) if legal]
            for row, mask in zip(logits, batch.teacher_mask.tolist(), strict=True)
        ]
        rows: list[Row] = [(edge, row, [1.0] * len(row)) for edge, row in zip(positive, negatives, strict=True)]
        loss = loss_of("cross-entropy", rows)
        grads = torch.autograd.grad(loss, list(teacher.parameters()), materialize_grads=True)
        apply(new.teacher, Gradients(torch.zeros(()), list(grads)))
    return new
