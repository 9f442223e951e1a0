"""The MeBNS system: teacher, student and weight net, manual optimisation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Adam, Optimizer

from mebns_pl.data.needs import Needs, TeacherNegatives
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.datasets.prepared import forget, prepared
from mebns_pl.evaluation.negative_cache import describe, digest
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.row_sets import common_neighbors
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, HigherEngine, check_optimizer
from mebns_pl.mebns.filters.abstract import AbstractFilter
from mebns_pl.mebns.filters.teacher import TeacherFilter
from mebns_pl.mebns.learner import Gradients, Learner
from mebns_pl.mebns.lengths import Length, check_length, epochs_of
from mebns_pl.mebns.losses.abstract import AbstractLoss
from mebns_pl.mebns.losses.cross_entropy import BinaryCrossEntropy
from mebns_pl.mebns.starting_weights import StartingWeights
from mebns_pl.mebns.std_generator import StdGenerator
from mebns_pl.mebns.step import Meta, StepResult, Teacher, mebns_step, warm_up_step
from mebns_pl.mebns.teachings.abstract import AbstractTeaching
from mebns_pl.mebns.teachings.learning import OwnLearning
from mebns_pl.mebns.umd_collector import MetaSet, UMDCollector
from mebns_pl.mebns.weight_net import WeightNet
from mebns_pl.models.batching import AbstractBatching, FullGraph, PairScore
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.layers import parted_of
from mebns_pl.models.predictor import Inputs, LinkPredictor
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.systems.adaptive import adapted
from mebns_pl.systems.checkpoint_io import CheckpointError
from mebns_pl.systems.evaluation import refuse_batch_norm
from mebns_pl.systems.finite import refuse_non_finite
from mebns_pl.systems.identity import describe_system
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.outputs import StepOutput, step_output
from mebns_pl.systems.schedulers import Configured, configured
from mebns_pl.systems.scoring import Gate
from mebns_pl.systems.statistics import steadiness, union_statistics, weight_statistics
from mebns_pl.systems.trainer_options import all_warm_up
from mebns_pl.systems.updates import Updates
from mebns_pl.types import GraphSpec, to_device

NUM_DRAWN = 20_000
"""Candidates that a filter is fitted to."""


@dataclass(frozen=True)
class Schedule:
    """When what happens.

    Args:
        warmup: for so long the student takes the sampler's negatives unfiltered and unweighted, and learns just as
            :class:`Plain` would, while the teacher learns: epochs, or a share of the run. (The masks of a decoder's
            dropout are other ones, as they are numbered with the teacher's pairs.)
        student_from_teacher: whether the student takes the teacher's weights over at the end of the warm-up, where
            there is one.
        lr_scheduler: makes a scheduler of the student's learning rate, stepped after each epoch (one that watches a
            metric: after each validation), or None.
        teacher_lr_scheduler: makes the teacher's; it stands still while the teacher is frozen.
        weight_net_lr_scheduler: makes the weight net's; it stands still during warm-up.

    Raises:
        ValueError: a length out of its range.

    Example:
        >>> Schedule(warmup=10).student_from_teacher
        False
    """

    warmup: Length = 0.2
    student_from_teacher: bool = False
    lr_scheduler: LRSchedulerCallable | None = None
    teacher_lr_scheduler: LRSchedulerCallable | None = None
    weight_net_lr_scheduler: LRSchedulerCallable | None = None

    def __post_init__(self) -> None:
        check_length(0, **{"schedule.warmup": self.warmup})


class MeBNS(AbstractLinkSystem):
    """Trains a student on negatives that a teacher filters and a weight net weights (WSDM 2024, 2312.04815).

    A plug-in round any sampler and any predictor: with the same ones :class:`Plain` is its
    control. Teacher and student are two predictors of one class with weights of their own.

    Args:
        spec: the graph's size, given by the data module.
        predictor: makes a predictor; called twice.
        sampler: the negatives: the filter goes between its proposal and its selector, and its weights are what the
            weight net's multiply; one uniform non-edge an edge by default.
        optimizer: makes the student's optimizer: SGD, Adam or AdamW.
        teacher_optimizer: makes the teacher's, of any kind.
        weight_net: makes the meta learner.
        weight_net_optimizer: makes its optimizer: SGD, Adam or AdamW.
        std_generator: mixes structural non-edges into the teacher's negatives.
        teaching: where the teacher's weights come from; it learns for a fifth of the run by default, and is frozen.
        filter: which candidates stay; TeacherFilter() by default.
        starting_weights: which of those the student learns from, and what they weigh before the weight net.
        collector: makes the meta set.
        engine: how the hypergradient is computed.
        loss: what the student learns by; binary cross-entropy by default.
        meta_loss: what the weight net learns by, each edge of a meta batch against all its non-edges; binary
            cross-entropy by default.
        schedule: warm-up, and learning-rate schedulers.
        updates: accumulation over batches, and clipping of the student's gradient (in the lookahead, too).
        batching: which part of the graph a step works on.

    Raises:
        ValueError: an optimizer that the bilevel step cannot look through, or a BatchNorm layer.

    Example:
        >>> system = MeBNS(GraphSpec(num_nodes=3))
        >>> system.teacher is system.student
        False
    """

    num_learners = 3

    def __init__(
        self,
        spec: GraphSpec,
        predictor: Callable[[GraphSpec], LinkPredictor] = EncoderDecoder,
        sampler: Sampler | None = None,
        optimizer: OptimizerCallable = Adam,
        teacher_optimizer: OptimizerCallable = Adam,
        weight_net: Callable[[], WeightNet] = WeightNet,
        weight_net_optimizer: OptimizerCallable = Adam,
        std_generator: StdGenerator = StdGenerator(),
        teaching: AbstractTeaching | None = None,
        filter: AbstractFilter | None = None,
        starting_weights: StartingWeights | None = None,
        collector: UMDCollector | None = None,
        engine: AbstractEngine | None = None,
        loss: AbstractLoss | None = None,
        meta_loss: AbstractLoss | None = None,
        schedule: Schedule = Schedule(),
        updates: Updates = Updates(),
        batching: AbstractBatching | None = None,
    ) -> None:
        # The student first: its initial weights are those of Plain with the same seed
        batching = batching or FullGraph()
        super().__init__(batching.make(predictor, spec), sampler, updates, batching)
        self.teacher = batching.make(predictor, spec)
        refuse_batch_norm(self.teacher)
        self.weight_net = weight_net()
        asks = "change" in self.weight_net.inputs
        self.previous = copy.deepcopy(self.student).requires_grad_(False) if asks else None
        self.optimizer_factories = (optimizer, teacher_optimizer, weight_net_optimizer)
        self.std_generator = std_generator
        self.filter = filter or TeacherFilter()
        self.starting_weights = starting_weights or StartingWeights()
        self.collector = collector or UMDCollector()
        self.engine = engine or HigherEngine()
        self.loss, self.meta_loss = loss or BinaryCrossEntropy(), meta_loss or BinaryCrossEntropy()
        self.teaching = teaching or OwnLearning()
        self.schedule = schedule
        self.num_epochs: int | None = None  # of the run, as it was begun: lengths are shares of it
        self.meta_set: MetaSet | None = None
        self._kept_passes: list[str] = []
        self._frozen_score: PairScore | None = None
        self._previous_score: PairScore | None = None
        self.build_proposal(spec)

    def configure_optimizers(self) -> Configured:
        """Student's, teacher's, weight net's; then those of the tables that are trained row by row."""
        modules = (self.student, self.teacher, self.weight_net)
        optimizers, tables = self.make_optimizers(self.optimizer_factories, modules)
        check_optimizer(optimizers[0], "optimizer")
        check_optimizer(optimizers[2], "weight_net_optimizer")
        self.engine.check(self.student)
        names = ("lr_scheduler", "teacher_lr_scheduler", "weight_net_lr_scheduler")
        makers = {f"schedule.{name}": getattr(self.schedule, name) for name in names}
        optimizers, schedulers = configured(optimizers, makers)
        return optimizers + tables, schedulers

    def learned(self) -> list[Optimizer]:
        """The student's optimizer; the teacher's unless it is frozen; the weight net's after warm-up."""
        epoch, (student, teacher, weight_net) = self.current_epoch, super().learned()[:3]
        return [student, *([teacher] * self.teacher_learns(epoch)), *([weight_net] * (epoch >= self.warmup))]

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Asked for before any set-up: from here on shares are those of this fit's own length.

        A trainer that goes on where it has ended keeps the length that it began with, as one from a checkpoint does.
        """
        if self._fitting and not self.current_epoch:
            self.num_epochs = None  # a checkpoint's takes its place
        return super().configure_callbacks()

    @property
    def warmup(self) -> int:
        """Epochs of warm-up."""
        return self.epochs_of(self.schedule.warmup)

    def epochs_of(self, length: Length) -> int:
        """How many epochs a length is in this run."""
        return epochs_of(length, self.run_length)

    @property
    def run_length(self) -> int:
        """Epochs of the fit as it was begun; 100 where there is no trainer yet, or it names no number."""
        if self.num_epochs is not None:
            return self.num_epochs
        epochs = None if self._trainer is None else self.trainer.max_epochs
        length = epochs if epochs is not None and epochs > 0 else 100
        if self._fitting:
            self.num_epochs = length
        return length

    @property
    def _fitting(self) -> bool:
        return self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING

    def teacher_learns(self, epoch: int) -> bool:
        """Whether the teacher learns in an epoch."""
        last = self.teacher_epochs
        return last is None or epoch < last

    @property
    def teacher_epochs(self) -> int | None:
        """For so many epochs the teacher learns; of a share of a short run one at least."""
        length = self.teaching.learns_for
        return None if length is None else max(self.epochs_of(length), int(length > 0))

    @property
    def needs(self) -> Needs:
        """As a plain system's, meta edges set apart, and structure-enhanced negatives while the teacher learns."""
        std = self.std_generator
        teacher = TeacherNegatives(std.structure_ratio, std.num_negatives, self.teacher_epochs)
        return replace(super().needs, meta_edges=True, teacher=teacher)

    def setup(self, stage: str) -> None:
        """Lets go what a run before has kept of its graph."""
        super().setup(stage)
        self._frozen_score = self._previous_score = None

    def on_train_start(self) -> None:
        """Warns of a run that is, or may be, all warm-up; its length is known now, also where it goes on."""
        super().on_train_start()
        warmup, share = self.warmup, isinstance(self.schedule.warmup, float)
        if why := all_warm_up(self.trainer, warmup, self.updates.accumulate):
            rank_zero_warn(
                f"schedule.warmup: {warmup}{f' of {self.run_length} epochs' if share else ''}, but {why}, in "
                "which MeBNS trains like the sampler alone. Set model.schedule.warmup to a lower number of epochs, or "
                "let the run be longer."
            )

    def teardown(self, stage: str) -> None:
        """Lets the graph go."""
        super().teardown(stage)
        self._frozen_score = self._previous_score = None

    def on_train_epoch_start(self) -> None:
        """Collects the meta set when it is due; the student takes the teacher's weights over where it shall."""
        replaced = self.teaching.begin(self.teacher, self.student, self.current_epoch, self.run_length)
        if replaced:
            self._frozen_score = None
        epochs_in = self.current_epoch - self.warmup
        if epochs_in == 0 < self.warmup and self.schedule.student_from_teacher:
            self.student.load_state_dict(self.teacher.state_dict())
        if epochs_in >= 0 and (self.meta_set is None or epochs_in % self.collector.refresh_epochs == 0):
            self.prepare_meta()
        elif self.filter.learns and replaced and epochs_in > 0:
            self.teach_filter()

    def prepare_meta(self) -> None:
        """Fits the filter, if it learns, and collects the meta set."""
        if self.filter.learns:
            self.teach_filter()
        self.meta_set = self.collected()
        for name, count in self.meta_set.counts.items():
            self.log_mean(f"meta/{name}", float(count))
        self.log_mean("meta/uncertainty", self.meta_set.std.mean())

    def on_train_epoch_end(self) -> None:
        """Keeps the student as it is now, where the weight net looks at what changes."""
        super().on_train_epoch_end()
        if self.previous is not None:
            self.previous.load_state_dict(self.student.state_dict())
            self._previous_score = None

    def collected(self) -> MetaSet:
        """The meta set of the present teacher; the same on all ranks."""
        data = self.data
        key = data.key.child("meta").at(self.current_epoch)
        collector = self.collector
        negatives = data.enhanced(self.sampler.static, collector.structure_ratio, collector.proposal)
        pairs, labels = data.meta_pool(negatives, collector.negatives_per_positive, key)
        graph = self.batching.resident(data.train_graph.without(data.split.meta), self.device)
        pool = pairs.to(self.device), labels.to(self.device)
        kept = data.kept_as and not parted_of(self.teacher)  # ranks look parted tables up together
        score = self.kept_teacher_score if kept else self.teacher_score
        past, self._kept_passes = self._kept_passes, []
        found = collector.collect(score, graph, *pool, key.child("passes"), self.group.spread)
        for name in past:
            forget(name)
        return to_device(found, "cpu")  # a few are taken to the device in each step

    def teach_filter(self) -> None:
        """Fits the filter to meta edges, which the teacher has not seen, against candidates as they are drawn.

        All take the first rank's logits, so that they learn the same to the last bit, on whatever hardware.
        """
        data = self.data
        hidden, others = data.split.meta, data.training_candidates(self.sampler.static, NUM_DRAWN)
        evidence: list[Tensor] = []
        for graph, pairs in ((data.train_graph.without(hidden), hidden), (data.train_graph, others)):
            (logits,) = self.group.spread(partial(self._teacher_logits, graph, pairs), 1)
            common = common_neighbors(graph, pairs).sizes.to(logits.device)
            evidence.append(torch.stack([logits.double(), common.double()], dim=1))
        self.filter.learn(*evidence)

    @torch.no_grad()
    def _teacher_logits(self, graph: Graph, pairs: Tensor, _: int) -> Tensor:
        score = self.batching.scorer(self.teacher, self._placed(graph), self.device, pairs.flatten)
        return score(pairs.to(self.device))

    def teacher_score(self, graph: Graph, pairs: Tensor, key: Key) -> Tensor:
        """One stochastic pass of the teacher, without gradient: logits ``(m,)``."""
        return self.batching.stochastic_scores(self.teacher, self._placed(graph), pairs, key)

    def kept_teacher_score(self, graph: Graph, pairs: Tensor, key: Key) -> Tensor:
        """The same in float64, kept on disk until the next meta set: on large graphs a pass takes minutes.

        A run that is ended meanwhile, and started again, finds the passes that were whole.
        """
        weights = [value.cpu() for value in self.teacher.state_dict().values()]
        ways = [self.collector.edge_drop, self.collector.feature_mask, repr(describe_system(self))]
        made_of = digest([describe(ways), describe(self.batching), pairs.cpu(), *weights])
        asked = ["pass", self.data.kept_as, tuple(key), made_of]
        found, name = prepared(
            asked,
            lambda: {"logits": self.teacher_score(graph, pairs, key).double().cpu()},
            f"{self.data.loaded.name}, a pass of the teacher over {pairs.shape[1]:,} pairs",
        )
        self._kept_passes.append(name)
        return found["logits"].to(self.device)

    @property
    def gate(self) -> Gate:
        """The teacher and its filter."""
        drawn = partial(self.data.training_candidates, self.sampler.static)
        return Gate(self.filter, partial(self.logits_of, self.teacher), lambda n: drawn(n).to(self.device))

    def training_step(self, batch: TrainBatch, batch_idx: int) -> StepOutput:
        """Filter, pick, weight, learn."""
        batch, result, update_proposal = self.step(batch)
        refuse_non_finite(self, batch, result)
        update_proposal()
        self.learn(self.learners(), result.learned)
        self.log_step(batch, result)
        return step_output(batch, result.negatives)

    def step(self, batch: TrainBatch) -> tuple[TrainBatch, StepResult, Callable[[], None]]:
        """See :meth:`AbstractLinkSystem.step`."""
        student, teacher, weight_net = self.learners().values()
        key, group, graph = self.key.at(batch.epoch, batch.step), self.group, self.graph
        learns = self.teacher_learns(batch.epoch)
        batch, update_proposal = adapted(self, batch, key)
        judge = Teacher(teacher, learns, None if learns else self.frozen_score())
        if batch.epoch < self.warmup:
            result = warm_up_step(student, judge, self.sampler, self.loss, batch, graph, key, group)
        else:
            meta, clip = self.meta(weight_net, key), self.updates.gradient_clip_norm
            result = mebns_step(
                student,
                judge,
                self.filter,
                self.starting_weights,
                meta,
                self.sampler,
                self.loss,
                batch,
                graph,
                key,
                group,
                clip,
            )
        return batch, result, update_proposal

    def learners(self) -> dict[str, Learner[Any]]:
        """Student, teacher, weight net."""
        modules = {"student": self.student, "teacher": self.teacher, "weight_net": self.weight_net}
        return {name: self.learner(module, place, 3) for place, (name, module) in enumerate(modules.items())}

    def learn(self, learners: Mapping[str, Learner[Any]], learned: Mapping[str, Gradients]) -> Collection[str]:
        """The teacher may follow the student, wherever that has moved."""
        if "weight_net" in learned:
            steady = steadiness(learners["weight_net"].optimizer, learned["weight_net"].dense)
            if steady is not None:
                self.log_mean("weights/signal", steady)
        moved = super().learn(learners, learned)
        if "student" in moved:
            self.teaching.follow(self.teacher, self.student)
        return moved

    def frozen_score(self) -> PairScore | None:
        """The frozen teacher's logits of any pairs, its embeddings made once; None where it needs more than those."""
        if self._frozen_score is None and self.teacher.decodes and self.teaching.still:
            self._frozen_score = self.logits_of(self.teacher)
        return self._frozen_score

    def meta(self, weight_net: Learner[WeightNet], key: Key) -> Meta:
        """The upper level of a step: the union batch's meta pairs, the same on all ranks."""
        if self.meta_set is None:  # a run that goes on within an epoch, its warm-up shorter than before
            self.prepare_meta()
        assert self.meta_set is not None
        drawn = self.meta_set.draw(self.collector.batch_size, key.child("meta").generator())
        if self._previous_score is None and self.previous is not None:
            self._previous_score = self.logits_of(self.previous)  # encodes once an epoch
        neighbors = key.child("meta/neighbors")

        def prepare(pairs: Tensor, left_out: Tensor) -> Inputs:
            return self.batching.of_few(self.student, self.data.train_graph, self.graph, pairs, left_out, neighbors)

        loss, previous = self.meta_loss, self._previous_score
        return Meta.of(weight_net, self.engine, drawn.edges, drawn.others, loss, prepare, self.group, previous)

    def log_step(self, batch: TrainBatch, result: StepResult) -> None:
        """Losses, and how the filter and the weights behave."""
        for name, found in result.learned.items():
            self.log_mean(f"train/{'meta' if name == 'weight_net' else name}_loss", found.loss)
        filtered, weights, starting = union_statistics(batch, result.negatives, self.group)
        for name, value in filtered.items():
            self.log_mean(f"filter/{name}", value)
        if batch.epoch >= self.warmup:
            for name, value in weight_statistics(weights, starting).items():
                self.log_mean(f"weights/{name}", value)

    # The meta set depends on a teacher of the past, so checkpoints hold it

    def replicated(self) -> dict[str, Tensor]:
        """The meta set, too."""
        found = {} if self.meta_set is None else vars(self.meta_set)
        tensors = {f"meta set, {name}": value for name, value in found.items() if isinstance(value, Tensor)}
        return super().replicated() | tensors

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The meta set, too, and the length of the run that shares of it are taken of."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["num_epochs"] = self.num_epochs
        checkpoint["meta_set"] = None if self.meta_set is None else dict(vars(self.meta_set))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes both back."""
        super().on_load_checkpoint(checkpoint)
        if self._fitting:
            self.num_epochs = checkpoint["num_epochs"]
        self.meta_set = None if checkpoint["meta_set"] is None else self._taken_back(checkpoint["meta_set"])

    def _taken_back(self, found: dict[str, Any]) -> MetaSet:
        """The meta set of a checkpoint.

        Raises:
            CheckpointError: it is none.
        """
        num_nodes = self.data.spec.num_nodes if self._trainer is not None else None
        try:
            taken = MetaSet(**found)
            taken.check(num_nodes)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"checkpoint: its meta set is damaged: {error}") from error
        return taken
