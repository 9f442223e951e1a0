"""The MeBNS step, defined once: one batch -> the gradients of teacher, student and weight net.

``mebns_step`` is a pure function: it reads modules and optimizer states, writes nothing, and draws no random number
that its key does not name. The slow obvious version in the tests, data parallelism, resume and the cheap engines are
equality tests against it.

Order (method: section 6). One pass of the teacher and one of the student over the batch serve filter, selector,
losses and lookahead:

1. teacher: hardness of all candidates, and its own loss on STD data
2. picks: filter by hardness, then the selector on the student's logits
3. inner: the student's loss with weights w(phi); lookahead theta'(phi)
4. outer: phi moves down the hypergradient of the loss on the meta batch at theta'
5. real: the student's gradient with w(phi_new)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from mebns_pl.data.step_pairs import StepPairs
from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, BilevelProblem, Hypergradient, clipped, updated
from mebns_pl.mebns.losses import (
    at_least_single,
    balanced_loss,
    negative_losses,
    negative_weights,
    positive_losses,
)
from mebns_pl.mebns.teacher_filter import TeacherFilter
from mebns_pl.models.predictor import LinkPredictor, PairInputs
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting
from mebns_pl.negatives.weightings.equal import EqualWeighting
from mebns_pl.types import Inputs, MetaSet, TrainBatch

_EQUAL = EqualWeighting()


@dataclass(frozen=True)
class Learner:
    """A module and the optimizers that move it.

    Args:
        module: the module.
        optimizer: moves its parameters.
        tables: moves its embedding tables, of which a step meets a few rows, where they are not among ``optimizer``'s
            parameters; else None.
    """

    module: nn.Module
    optimizer: Optimizer
    tables: Optimizer | None = None

    def params(self) -> list[nn.Parameter]:
        """The parameters that ``optimizer`` moves, in the module's order."""
        moved = {id(param) for group in self.optimizer.param_groups for param in group["params"]}
        return [param for param in self.module.parameters() if id(param) in moved]

    def table_part(self) -> tuple[Optimizer, list[nn.Parameter]]:
        """``tables`` with what it moves; the optimizer of the rest, with nothing, where there is none."""
        return self.tables or self.optimizer, self.table_params()

    def table_params(self) -> list[nn.Parameter]:
        """The embedding tables that ``tables`` moves."""
        return [] if self.tables is None else [p for group in self.tables.param_groups for p in group["params"]]


@dataclass(frozen=True)
class Meta:
    """The upper level of the bilevel step.

    Args:
        weight_net: the meta learner: ``(n, 2)`` features (student's loss, teacher's logit) -> ``(n,)`` scores.
        engine: computes the hypergradient.
        batch: the union batch's meta pairs, the same on all ranks.
        inputs: the inputs of this rank's share of them, where they were made ahead; or None.
    """

    weight_net: Learner
    engine: AbstractEngine
    batch: MetaSet
    inputs: Inputs | None = None


@dataclass(frozen=True)
class Teacher:
    """The teacher with its filter.

    Args:
        predictor: the teacher, a predictor and its optimizer.
        filter: which candidates stay, or None to keep all (warm-up).
        learns: whether this step trains it; a frozen teacher scores without dropout.
        score: pairs ``(2, m)`` -> logits ``(m,)`` of a frozen teacher that has looked at the whole graph once for many
            steps; None where it looks at what this step encodes.
    """

    predictor: Learner
    filter: TeacherFilter | None
    learns: bool
    score: Callable[[Tensor], Tensor] | None = None


class Negatives(NamedTuple):
    """What the student learned from, for logs and inspection; detached.

    Args:
        pairs: ``(2, b M)`` int64.
        mask: ``(b M,)`` bool.
        logits: ``(b M,)`` the student's.
        weights: ``(b M,)`` mean 1 over the union batch.
        hardness: ``(b M,)`` the teacher's logits, or None without teacher.
        candidate_hardness: ``(b, K)`` the teacher's logits of all candidates, or None without teacher.
        kept: ``(b, K)`` bool, candidates that were there to pick from.
        columns: ``(b, M)`` int64, which candidates were picked.
    """

    pairs: Tensor
    mask: Tensor
    logits: Tensor
    weights: Tensor
    hardness: Tensor | None
    candidate_hardness: Tensor | None
    kept: Tensor
    columns: Tensor


@dataclass(frozen=True)
class StepResult:
    """Gradients over the union batch, the same on every rank, and what to log.

    Args:
        student_grads: one tensor a parameter, clipped.
        unclipped_student_grads: the same before clipping: what steps that are accumulated add up.
        teacher_grads: one tensor a parameter, or None where the teacher did not learn.
        weight_net_grads: one tensor a parameter, or None where the weight net does not learn.
        losses: ``student``, ``teacher``, ``meta``: ``()`` tensors over the union batch.
        negatives: this rank's picks.
        student_tables: one sparse tensor of the batch's rows for each of the student's tables, never clipped.
        teacher_tables: likewise the teacher's; empty where it did not learn.
    """

    student_grads: list[Tensor]
    unclipped_student_grads: list[Tensor]
    teacher_grads: list[Tensor] | None
    weight_net_grads: list[Tensor] | None
    losses: dict[str, Tensor]
    negatives: Negatives
    student_tables: list[Tensor]
    teacher_tables: list[Tensor]


def mebns_step(
    student: Learner,
    selector: AbstractSelector,
    batch: TrainBatch,
    graph: Graph,
    key: Key,
    group: AbstractGroup,
    teacher: Teacher | None = None,
    meta: Meta | None = None,
    gradient_clip_norm: float | None = None,
    weighting: AbstractNegativeWeighting = _EQUAL,
) -> StepResult:
    """One training step: gradients for every learner, from their present state.

    Without ``teacher`` and ``meta`` it is the step of the plain system: a proposal's candidates, a selector, equal
    weights.

    Args:
        student: the predictor to train.
        selector: picks negatives among the candidates that the filter keeps.
        batch: this rank's slice of the union batch.
        graph: the whole training graph; the union's positives are left out of message passing here. Not looked at
            where the inputs of ``batch`` and ``meta`` were made ahead on graphs of their own.
        key: names every draw of this step.
        group: the ranks.
        teacher: filters candidates and learns on STD data; None keeps all candidates.
        meta: weights the negatives; None leaves it to ``weighting``. Needs ``teacher``.
        gradient_clip_norm: joint 2-norm to which the student's gradient is clipped, in the lookahead too.
        weighting: weights of the negatives by the student's logits. The weight net's scores are added to their
            logarithm, so that a weight net that gives all the same leaves them in proportion.

    Returns:
        Gradients and logs; nothing that was passed in has changed.
    """
    if meta is not None and teacher is None:
        raise ValueError("meta: the weight net reads the teacher's logits, so teacher must be given too")
    message_graph = _message_graph(batch, graph)
    pairs = StepPairs(batch)
    ones = torch.ones(pairs.size, device=batch.positives.device)
    num_positives = group.sum(ones.sum())
    predictor, student_key = _predictor(student), key.child("student")
    prepared = batch.inputs
    if prepared is None:
        prepared = predictor.prepare(message_graph, pairs.pairs, pairs.names)

    hardness, teacher_loss, teacher_grads = None, None, None
    teacher_tables: list[Tensor] = []
    kept = batch.candidate_mask
    if teacher is not None:
        hardness, teacher_loss, teacher_grads, teacher_tables = _teacher_pass(
            teacher, batch, pairs, prepared, message_graph, key.child("teacher"), num_positives, group
        )
        if teacher.filter is not None:
            kept = teacher.filter.keep(hardness, kept)

    inputs = prepared.with_key(student_key)
    score = predictor.scorer(message_graph, student_key)
    scores = _candidate_scores(score, inputs, pairs, graph)
    columns, picks_mask = selector.select(kept, scores, pairs.rows, key.child("selector"))
    picked, mask = pairs.picked(columns), picks_mask.flatten()
    num_negatives = group.sum(mask.sum().to(ones.dtype)).clamp(min=1)

    places = torch.arange(pairs.size, device=picked.device)
    logits = score(inputs.select(torch.cat([places, picked])))
    positive, negative = positive_losses(logits[: pairs.size]), negative_losses(logits[pairs.size :])

    def inner_loss(weights: Tensor) -> Tensor:
        return balanced_loss(positive, negative, weights, num_positives, num_negatives)

    picked_hardness = None if hardness is None else hardness.gather(1, columns).flatten()
    weights = weighting.weights(logits[pairs.size :].detach().view(columns.shape), picks_mask).flatten()
    log_weights, hypergradient = weights.log(), None
    if meta is not None:
        assert picked_hardness is not None
        features = torch.stack([negative.detach(), picked_hardness], dim=1)

        def weights_at(params: dict[str, Tensor]) -> Tensor:
            scores = functional_call(meta.weight_net.module, params, (features,))
            return negative_weights(scores + log_weights, mask, num_negatives, group)

        problem = BilevelProblem(
            student=student.module,
            optimizer=student.optimizer,
            gradient_clip_norm=gradient_clip_norm,
            inner_loss=inner_loss,
            outer_loss_at=_outer_loss(predictor, meta, graph, group),
            weights_at=weights_at,
            weight_params=dict(meta.weight_net.module.named_parameters()),
            group=group,
        )
        if meta.engine.due(batch.number):
            hypergradient = _union(meta.engine.hypergradient(problem), group)
        weights = _weights_after(meta.weight_net, hypergradient, problem)

    loss = inner_loss(weights)
    local, tables = _gradients(loss, student)
    grads = group.sum_all(local)
    meta_loss = None if hypergradient is None else hypergradient.outer_loss
    losses = {"student": loss, "teacher": teacher_loss, "meta": meta_loss}
    return StepResult(
        student_grads=clipped(grads, gradient_clip_norm),
        unclipped_student_grads=grads,
        teacher_grads=teacher_grads,
        weight_net_grads=None if hypergradient is None else list(hypergradient),
        losses={name: group.sum(value.detach()) for name, value in losses.items() if value is not None},
        negatives=Negatives(
            pairs=pairs.pairs[:, picked],
            mask=mask,
            logits=logits[pairs.size :].detach(),
            weights=weights.detach(),
            hardness=picked_hardness,
            candidate_hardness=hardness,
            kept=kept,
            columns=columns,
        ),
        student_tables=[group.sum_rows(table) for table in tables],
        teacher_tables=teacher_tables,
    )


def _message_graph(batch: TrainBatch, graph: Graph) -> Graph:
    """What the step encodes: the graph that the inputs bring along, or else the whole one without target edges."""
    if isinstance(batch.inputs, PairInputs):
        return batch.inputs.graph
    return graph.without(batch.union_positives)


def _predictor(learner: Learner) -> LinkPredictor:
    if not isinstance(learner.module, LinkPredictor):
        raise TypeError(f"student and teacher must be LinkPredictors, got {type(learner.module).__name__}")
    return learner.module


def _candidate_scores(
    score: Callable[[Inputs], Tensor], inputs: Inputs, pairs: StepPairs, graph: Graph
) -> CandidateScores:
    """What selectors may ask for."""

    def candidates() -> Tensor:
        with torch.no_grad():
            return score(inputs.select(pairs.candidates)).view(pairs.size, pairs.num_candidates)

    def positives() -> Tensor:
        with torch.no_grad():
            return score(inputs.select(pairs.positives))

    def degrees() -> Tensor:
        return graph.degree[pairs.pairs[1, pairs.candidates]].view(pairs.size, pairs.num_candidates)

    return CandidateScores(candidates, positives, degrees, graph.num_nodes)


def _teacher_pass(
    teacher: Teacher,
    batch: TrainBatch,
    pairs: StepPairs,
    prepared: Inputs,
    graph: Graph,
    key: Key,
    num_positives: Tensor,
    group: AbstractGroup,
) -> tuple[Tensor, Tensor | None, list[Tensor] | None, list[Tensor]]:
    """Hardness ``(b, K)`` of the candidates, and where the teacher learns its loss on STD data with the gradients."""
    shape = pairs.size, pairs.num_candidates
    if teacher.score is not None:
        with torch.no_grad():
            return at_least_single(teacher.score(pairs.pairs[:, pairs.candidates])).view(shape), None, None, []
    pass_key = key if teacher.learns else None
    inputs = prepared.with_key(pass_key)
    with torch.set_grad_enabled(teacher.learns):
        score = _predictor(teacher.predictor).scorer(graph, pass_key)
    with torch.no_grad():
        hardness = at_least_single(score(inputs.select(pairs.candidates))).view(shape)
    if not teacher.learns:
        return hardness, None, None, []
    mask = batch.teacher_mask.flatten()
    places = torch.arange(pairs.pairs.shape[1], device=mask.device)
    logits = score(inputs.select(torch.cat([places[pairs.positives], places[pairs.teacher]])))
    positive, negative = positive_losses(logits[: pairs.size]), negative_losses(logits[pairs.size :])
    num_negatives = group.sum(mask.sum().to(num_positives.dtype)).clamp(min=1)
    loss = balanced_loss(positive, negative, mask.to(negative.dtype), num_positives, num_negatives)
    grads, tables = _gradients(loss, teacher.predictor)
    return hardness, loss, group.sum_all(grads), [group.sum_rows(table) for table in tables]


def _gradients(loss: Tensor, learner: Learner) -> tuple[list[Tensor], list[Tensor]]:
    """This rank's gradients of a learner's parameters and of its tables."""
    params = learner.params()
    grads = torch.autograd.grad(loss, [*params, *learner.table_params()], materialize_grads=True)
    return list(grads[: len(params)]), list(grads[len(params) :])


def _outer_loss(
    predictor: LinkPredictor, meta: Meta, graph: Graph, group: AbstractGroup
) -> Callable[[dict[str, Tensor]], Tensor]:
    """Parameters -> this rank's share of the balanced loss on the union meta batch, without dropout.

    The batch's own positives are left out of message passing.
    """
    batch, inputs = meta.batch, meta.inputs
    positive = batch.labels > 0.5
    share = group.share(batch.pairs.shape[1])
    own_positive, num_positives, num_negatives = positive[share], positive.sum(), (~positive).sum()
    if inputs is None:
        edges = torch.where(positive, batch.pairs, 0)  # a node with itself is no edge
        inputs = predictor.prepare(graph.without(edges), batch.pairs[:, share])

    def outer_loss(params: dict[str, Tensor]) -> Tensor:
        logits = functional_call(predictor, params, (inputs,))
        chosen = own_positive.to(logits.dtype)
        return balanced_loss(
            chosen * positive_losses(logits), negative_losses(logits), 1 - chosen, num_positives, num_negatives
        )

    return outer_loss


def _union(hypergradient: Hypergradient, group: AbstractGroup) -> Hypergradient:
    return Hypergradient(group.sum_all(hypergradient), hypergradient.outer_loss)


def _weights_after(weight_net: Learner, grads: Sequence[Tensor] | None, problem: BilevelProblem) -> Tensor:
    """The weights that the weight net gives after its update, or as it is where there is none."""
    with torch.no_grad():
        live = weight_net.params()
        moved = live if grads is None else updated(weight_net.optimizer, live, live, grads)
        return problem.weights_at(dict(zip(problem.weight_params, moved, strict=True)))
