"""The MeBNS step, defined once: one batch -> the gradients of teacher, student and weight net.

``mebns_step`` is a pure function: it reads modules and optimizer states, writes nothing, and draws no random number
that its key does not name. The slow obvious version in the tests, data parallelism, resume and the cheap engines are
equality tests against it.

Order (method: section 6). One pass of the teacher and one of the student over the batch serve filter, selector,
losses and lookahead:

1. teacher: hardness of all candidates, and its own loss on STD data
2. picks: filter by hardness and the student's logits, then the selector on these
3. inner: the student's loss with weights w(phi); lookahead theta'(phi)
4. outer: phi moves down the hypergradient of the loss on the meta batch at theta'
5. real: the student's gradient with w(phi_new)

Each stage is a function; the plain step is picks and real, the warm-up's is teacher, picks and real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from mebns_pl.data.train_batch import StepPairs, TrainBatch
from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, BilevelProblem, updated
from mebns_pl.mebns.filters.abstract import AbstractFilter
from mebns_pl.mebns.learner import Gradients, Learner
from mebns_pl.mebns.losses.abstract import AbstractLoss, Counts, at_least_single
from mebns_pl.mebns.losses.cross_entropy import BinaryCrossEntropy
from mebns_pl.mebns.starting_weights import StartingWeights
from mebns_pl.mebns.weight_inputs import Facts, standardised
from mebns_pl.mebns.weight_net import WeightNet
from mebns_pl.models.predictor import Inputs, LinkPredictor
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks

Predictor = Learner[LinkPredictor]


@dataclass(frozen=True)
class Scene:
    """What every stage of a step looks at.

    Args:
        batch: this rank's slice of the union batch.
        pairs: its pairs as one list.
        inputs: theirs, for any predictor of the step, without a pass's key.
        graph: the whole training graph.
        key: names every draw of this step.
        group: the ranks.
    """

    batch: TrainBatch
    pairs: StepPairs
    inputs: Inputs
    graph: Graph
    key: Key
    group: AbstractGroup

    @staticmethod
    def of(predictor: LinkPredictor, batch: TrainBatch, graph: Graph, key: Key, group: AbstractGroup) -> Scene:
        """Prepares the pairs' inputs, where loader workers have not; the union's positives pass no messages."""
        pairs = StepPairs(batch)
        inputs = batch.inputs
        if inputs is None:
            inputs = predictor.prepare(graph.without(batch.union_positives), pairs.pairs, pairs.names)
        return Scene(batch, pairs, inputs, graph, key, group)


@dataclass(frozen=True)
class Teacher:
    """The teacher in a step.

    Args:
        learner: the predictor and its optimizer.
        learns: whether this step trains it; a frozen teacher scores without dropout.
        score: pairs ``(2, m)`` -> logits ``(m,)`` of a frozen teacher that has looked at the whole graph once for many
            steps; None where it looks at what this step encodes.
    """

    learner: Predictor
    learns: bool
    score: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Meta:
    """The upper level of the bilevel step.

    Args:
        weight_net: the meta learner: ``(n, F)`` features -> ``(n,)`` outputs.
        engine: computes the hypergradient.
        loss: what the student is to be good at there: each edge of the union's meta batch against all its non-edges.
        inputs: makes those of this rank's q edges, then of every non-edge; where the engine is not due nobody asks.
        shape: q and n, how many those are.
        counts: of the union's meta batch.
        previous: the student of the last epoch, where the weight net asks for it.
    """

    weight_net: Learner[WeightNet]
    engine: AbstractEngine
    loss: AbstractLoss
    inputs: Callable[[], Inputs]
    shape: tuple[int, int]
    counts: Counts
    previous: Callable[[Tensor], Tensor] | None = None

    @staticmethod
    def of(
        weight_net: Learner[WeightNet],
        engine: AbstractEngine,
        edges: Tensor,
        others: Tensor,
        loss: AbstractLoss,
        prepare: Callable[[Tensor, Tensor], Inputs],
        group: AbstractGroup,
        previous: Callable[[Tensor], Tensor] | None = None,
    ) -> Meta:
        """Takes this rank's share of a meta batch.

        Args:
            weight_net: as in the class.
            engine: as in the class.
            edges: ``(2, p)`` int64, of the union's meta batch, the same on all ranks; on any device.
            others: ``(2, n)`` int64, its non-edges.
            loss: as in the class.
            prepare: makes the student's inputs of pairs, without the edges ``(2, p)`` in message passing; on the
                weight net's device.
            group: the ranks.
            previous: as in the class.
        """
        num_edges, num_others, share = edges.shape[1], others.shape[1], group.share(edges.shape[1])
        sizes, device = (num_edges, num_edges * num_others, num_edges), next(iter(weight_net.params())).device
        counts = Counts(*(torch.full((), float(size), device=device) for size in sizes))  # a fill waits for nothing
        inputs = cache(lambda: prepare(torch.cat([edges[:, share], others], dim=1), edges))
        return Meta(weight_net, engine, loss, inputs, (share.stop - share.start, num_others), counts, previous)


@dataclass(frozen=True)
class Picked:
    """The negatives that the student learns from, with its logits of them; the losses' graph is kept.

    Args:
        columns: ``(b, M)`` int64, which candidates were picked.
        mask: ``(b, M)`` bool.
        places: ``(b M,)`` int64, where they stand in the step's list of pairs.
        positive: ``(b,)`` logits of the positives.
        negative: ``(b, M)`` logits of the negatives.
        counts: of the union batch.
        function: the loss.
    """

    columns: Tensor
    mask: Tensor
    places: Tensor
    positive: Tensor
    negative: Tensor
    counts: Counts
    function: AbstractLoss

    def loss(self, weights: Tensor) -> Tensor:
        """``()`` this rank's share of the student's loss, with weights ``(b M,)``."""
        return self.function.share(self.positive, self.negative, weights.view(self.mask.shape), self.counts)


class Negatives(NamedTuple):
    """What the student learned from, for logs and inspection; detached.

    Args:
        pairs: ``(2, b M)`` int64.
        mask: ``(b M,)`` bool.
        logits: ``(b M,)`` the student's.
        weights: ``(b M,)`` mean 1 over the union batch.
        starting: ``(b M,)`` those before the weight net, mean 1 a row times the sampler's own.
        hardness: ``(b M,)`` the teacher's logits, or None without teacher.
        candidate_hardness: ``(b, K)`` the teacher's logits of all candidates, or None without teacher.
        kept: ``(b, K)`` bool, candidates that were there to pick from.
        columns: ``(b, M)`` int64, which candidates were picked.
    """

    pairs: Tensor
    mask: Tensor
    logits: Tensor
    weights: Tensor
    starting: Tensor
    hardness: Tensor | None
    candidate_hardness: Tensor | None
    kept: Tensor
    columns: Tensor


@dataclass(frozen=True)
class StepResult:
    """What a step has found, the same on every rank but for the negatives.

    Args:
        learned: the gradients over the union batch of those who learn: ``student``, ``teacher``, ``weight_net``.
        negatives: this rank's picks.
    """

    learned: dict[str, Gradients]
    negatives: Negatives


def plain_step(
    student: Predictor,
    sampler: Sampler,
    loss: AbstractLoss,
    batch: TrainBatch,
    graph: Graph,
    key: Key,
    group: AbstractGroup,
) -> StepResult:
    """The step of a sampler alone: picks, and the student's gradient.

    Args:
        student: the predictor to train.
        sampler: picks and weights negatives among the batch's candidates.
        loss: what the student learns by.
        batch: this rank's slice of the union batch.
        graph: the whole training graph; the union's positives are left out of message passing here. Not encoded where
            the batch's inputs were made ahead, on graphs of their own.
        key: names every draw of this step.
        group: the ranks.
    """
    scene = Scene.of(student.module, batch, graph, key, group)
    picked = pick(scene, look(scene, student.module), sampler.selector, batch.candidate_mask, loss)
    weights = own_weights(sampler, picked)
    return StepResult({"student": real(scene, student, picked, weights)}, _told(scene, picked, weights, weights))


def warm_up_step(
    student: Predictor,
    teacher: Teacher,
    sampler: Sampler,
    loss: AbstractLoss,
    batch: TrainBatch,
    graph: Graph,
    key: Key,
    group: AbstractGroup,
) -> StepResult:
    """As :func:`plain_step`, while the teacher learns beside the student."""
    scene = Scene.of(student.module, batch, graph, key, group)
    hardness, learned = judge(scene, teacher)
    picked = pick(scene, look(scene, student.module), sampler.selector, batch.candidate_mask, loss)
    weights = own_weights(sampler, picked)
    learned["student"] = real(scene, student, picked, weights)
    return StepResult(learned, _told(scene, picked, weights, weights, hardness))


def mebns_step(
    student: Predictor,
    teacher: Teacher,
    band: AbstractFilter,
    starting: StartingWeights,
    meta: Meta | None,
    sampler: Sampler,
    loss: AbstractLoss,
    batch: TrainBatch,
    graph: Graph,
    key: Key,
    group: AbstractGroup,
    gradient_clip_norm: float | None = None,
) -> StepResult:
    """One training step: gradients for every learner, from their present state.

    Args:
        student: the predictor to train.
        teacher: judges candidates and learns on STD data.
        band: the filter: which candidates stay.
        starting: which of those the student learns from, and what they weigh at first.
        meta: weights the negatives; None leaves that to the sampler, a control.
        sampler: picks among the candidates that stay, and gives their starting weights: the weight net's scores are
            added to their logarithm, so that a weight net that gives all the same leaves them in proportion.
        loss: what the student learns by.
        batch: this rank's slice of the union batch.
        graph: as in :func:`plain_step`.
        key: names every draw of this step.
        group: the ranks.
        gradient_clip_norm: joint 2-norm to which the lookahead clips the student's gradient, as the real step does.

    Returns:
        Gradients and logs; nothing that was passed in has changed.
    """
    scene = Scene.of(student.module, batch, graph, key, group)
    hardness, learned = judge(scene, teacher)
    seen = look(scene, student.module)
    rows, filter_key = scene.pairs.rows, key.child("filter")
    kept = band.keep(hardness, batch.candidate_mask, seen.scores, rows, filter_key)
    picked, before = take(scene, seen, sampler, starting, kept, band.most(scene.pairs.num_candidates), loss)
    weights = before
    if meta is not None:
        problem = inner(scene, student, meta, picked, hardness, before, gradient_clip_norm)
        weights, moved = outer(scene, meta, problem)
        learned |= moved
    learned["student"] = real(scene, student, picked, weights)
    return StepResult(learned, _told(scene, picked, weights, before, hardness, kept))


# What the stages share: sums over the union batch, of which each rank has its part


def negative_weights(scores: Tensor, mask: Tensor, num_negatives: Tensor, group: AbstractGroup) -> Tensor:
    """``n- softmax(scores)`` over all negatives of the union batch: weights with mean 1, differentiated through.

    Args:
        scores: ``(n,)``, the weight net's.
        mask: ``(n,)`` bool, False gives weight 0.
        num_negatives: ``()``, n- over all ranks.
        group: the ranks.

    Returns:
        ``(n,)``, 0 or more; all 0 where the union batch has no negative.
    """
    scores = at_least_single(scores)
    masked = scores.masked_fill(~mask, -torch.inf)
    # A softmax does not mind its shift; the floor serves a share without negatives, which has no maximum
    floor = scores.new_full((1,), -1e30)
    top = group.max(torch.cat([masked.detach(), floor]).max())
    powers = (masked - top).exp()
    # The largest power is 1, so the bound acts only where there is no negative at all
    return num_negatives * powers / group.sum(powers.sum()).clamp(min=0.5)


def union(found: Gradients, group: AbstractGroup) -> Gradients:
    """The sums over ranks, of a rank's shares."""
    tables = found.tables if found.parted else [group.sum_rows(table) for table in found.tables]
    return Gradients(group.sum(found.loss), group.sum_all(found.dense), tables, found.parted)


# 1. Teacher


def judge(scene: Scene, teacher: Teacher) -> tuple[Tensor, dict[str, Gradients]]:
    """Hardness ``(b, K)`` of the candidates, and where the teacher learns its gradients on STD data."""
    pairs, key = scene.pairs, scene.key.child("teacher") if teacher.learns else None
    shape = pairs.size, pairs.num_candidates
    if teacher.score is not None:
        with torch.no_grad():
            return at_least_single(teacher.score(pairs.pairs[:, pairs.candidates])).view(shape), {}
    inputs = scene.inputs.with_key(key)
    with torch.set_grad_enabled(teacher.learns):
        score = teacher.learner.module.scorer(inputs.graph, key)
    with torch.no_grad():
        hardness = at_least_single(score(inputs.select(pairs.candidates))).view(shape)
    if not teacher.learns:
        return hardness, {}
    mask = scene.batch.teacher_mask
    places = torch.arange(pairs.pairs.shape[1], device=mask.device)
    logits = score(inputs.select(torch.cat([places[pairs.positives], places[pairs.teacher]])))
    positive, negative = logits[: pairs.size], logits[pairs.size :].view(mask.shape)
    counts = Counts.of(mask, scene.group)
    loss = BinaryCrossEntropy().share(positive, negative, mask.to(at_least_single(logits).dtype), counts)
    return hardness, {"teacher": union(teacher.learner.gradients(loss), scene.group)}


# 2. Picks


@dataclass(frozen=True)
class Seen:
    """The student's pass over the batch.

    Args:
        inputs: of all pairs, with the pass's key.
        score: inputs -> logits, the graph encoded.
        scores: what filters and selectors may ask of the candidates.
    """

    inputs: Inputs
    score: Callable[[Inputs], Tensor]
    scores: CandidateScores


def look(scene: Scene, student: LinkPredictor) -> Seen:
    """The student's pass; what is asked of it is computed when it is asked for, once."""
    key, pairs = scene.key.child("student"), scene.pairs
    inputs = scene.inputs.with_key(key)
    score = student.scorer(inputs.graph, key)
    shape = pairs.size, pairs.num_candidates

    @torch.no_grad()
    def logits(part: slice) -> Tensor:
        return score(inputs.select(part))

    scores = CandidateScores(
        candidates=cache(lambda: logits(pairs.candidates).view(shape)),
        positives=cache(lambda: logits(pairs.positives)),
        pairs=pairs.pairs[:, pairs.candidates].view(2, *shape),
        graph=scene.graph,
    )
    return Seen(inputs, score, scores)


def pick(scene: Scene, seen: Seen, selector: AbstractSelector, mask: Tensor, loss: AbstractLoss) -> Picked:
    """The selector's choice among the candidates ``(b, K)`` of ``mask``."""
    picks = selector.select(mask, seen.scores, scene.pairs.rows, scene.key.child("selector"))
    return _picked(scene, seen, picks, loss)


def take(
    scene: Scene,
    seen: Seen,
    sampler: Sampler,
    starting: StartingWeights,
    kept: Tensor,
    most: int,
    loss: AbstractLoss,
) -> tuple[Picked, Tensor]:
    """The candidates that the student learns from, and their weights ``(b M,)`` before the weight net.

    Args:
        scene: the batch.
        seen: the student's pass.
        sampler: its selector and its weighting make the weights.
        starting: how.
        kept: ``(b, K)`` bool, candidates that the filter keeps.
        most: the most that it can keep in a row.
        loss: what the student learns by.
    """
    rows, key = scene.pairs.rows, scene.key.child("selector")
    shares = starting.of(sampler.selector, kept, seen.scores, rows, key)
    picks, weights = starting.picks(shares, kept, most, rows, key)
    picked = _picked(scene, seen, picks, loss)
    return picked, weights.flatten().to(at_least_single(picked.negative).dtype) * own_weights(sampler, picked)


def _picked(scene: Scene, seen: Seen, picks: Picks, loss: AbstractLoss) -> Picked:
    pairs, (columns, mask) = scene.pairs, picks
    places = pairs.picked(columns)
    logits = seen.score(seen.inputs.select(torch.cat([torch.arange(pairs.size, device=places.device), places])))
    positive, negative = logits[: pairs.size], logits[pairs.size :].view(mask.shape)
    return Picked(columns, mask, places, positive, negative, Counts.of(mask, scene.group), loss)


def own_weights(sampler: Sampler, picked: Picked) -> Tensor:
    """``(b M,)`` the sampler's own weights, mean 1 a row."""
    return sampler.weighting.weights(picked.negative.detach(), picked.mask).flatten()


# 3. Inner level


def inner(
    scene: Scene,
    student: Predictor,
    meta: Meta,
    picked: Picked,
    hardness: Tensor,
    weights: Tensor,
    gradient_clip_norm: float | None,
) -> BilevelProblem:
    """The student's loss as a function of the weight net, and the meta loss as a function of the student."""
    positive, negative = picked.positive.detach(), picked.negative.detach()
    facts = Facts(
        pairs=scene.pairs.pairs[:, picked.places],
        mask=picked.mask,
        losses=picked.function.negative(positive, negative),
        logits=at_least_single(negative),
        positives=at_least_single(positive),
        hardness=hardness.gather(1, picked.columns),
        graph=scene.graph,
        previous=meta.previous,
    )
    net = meta.weight_net.module
    features = standardised(net.inputs, facts, scene.group)
    log_weights, mask, count = weights.log(), picked.mask.flatten(), picked.counts.negatives

    def weights_at(params: dict[str, Tensor]) -> Tensor:
        scores = net.bounded(functional_call(net, params, (features,)), mask, count, scene.group)
        return negative_weights(scores + log_weights, mask, count, scene.group)

    return BilevelProblem(
        student=student,
        gradient_clip_norm=gradient_clip_norm,
        inner_loss=picked.loss,
        outer_loss_at=_meta_loss(student.module, meta),
        weights_at=weights_at,
        weight_params=dict(net.named_parameters()),
        group=scene.group,
    )


def _meta_loss(predictor: LinkPredictor, meta: Meta) -> Callable[[dict[str, Tensor]], Tensor]:
    """Parameters -> this rank's share of the loss on the union meta batch, without dropout."""
    rows = meta.shape[0]

    def loss(params: dict[str, Tensor]) -> Tensor:
        logits = functional_call(predictor, params, (meta.inputs(),))
        others = logits[rows:].expand(meta.shape)
        weights = torch.ones_like(others, dtype=at_least_single(others).dtype)
        return meta.loss.share(logits[:rows], others, weights, meta.counts)

    return loss


# 4. Outer level


def outer(scene: Scene, meta: Meta, problem: BilevelProblem) -> tuple[Tensor, dict[str, Gradients]]:
    """The weights ``(b M,)`` that the weight net gives after its update, and its gradients where one is due."""
    learned = {}
    with torch.no_grad():
        params: list[Tensor] = list(meta.weight_net.params())
    if meta.engine.due(scene.batch.number):
        learned["weight_net"] = union(meta.engine.hypergradient(problem), scene.group)
        with torch.no_grad():
            params = updated(meta.weight_net.optimizer, params, params, learned["weight_net"].dense)
    with torch.no_grad():
        return problem.weights_at(dict(zip(problem.weight_params, params, strict=True))), learned


# 5. Real


def real(scene: Scene, student: Predictor, picked: Picked, weights: Tensor) -> Gradients:
    """The student's gradients with weights ``(b M,)``."""
    return union(student.gradients(picked.loss(weights)), scene.group)


def _told(
    scene: Scene,
    picked: Picked,
    weights: Tensor,
    starting: Tensor,
    hardness: Tensor | None = None,
    kept: Tensor | None = None,
) -> Negatives:
    return Negatives(
        pairs=scene.pairs.pairs[:, picked.places],
        mask=picked.mask.flatten(),
        logits=picked.negative.detach().flatten(),
        weights=weights.detach(),
        starting=starting,
        hardness=None if hardness is None else hardness.gather(1, picked.columns).flatten(),
        candidate_hardness=hardness,
        kept=scene.batch.candidate_mask if kept is None else kept,
        columns=picked.columns,
    )
