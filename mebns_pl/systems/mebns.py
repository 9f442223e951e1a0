"""The MeBNS system: teacher, student and weight net, manual optimisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, HigherEngine, check_optimizer
from mebns_pl.mebns.step import Learner, Meta, StepResult, Teacher, mebns_step
from mebns_pl.mebns.teacher_filter import TeacherFilter
from mebns_pl.mebns.weight_net import WeightNet
from mebns_pl.models.batching import PairScore
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.negatives.proposals.adaptive import AbstractAdaptiveProposal
from mebns_pl.negatives.selectors.abstract import AbstractSelector
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting
from mebns_pl.negatives.weightings.equal import EqualWeighting
from mebns_pl.systems.adaptive import adapted
from mebns_pl.systems.evaluation import refuse_batch_norm
from mebns_pl.systems.finite import refuse_non_finite
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.outputs import StepOutput, step_output
from mebns_pl.systems.schedulers import Configured, configured
from mebns_pl.systems.statistics import union_statistics, weight_statistics
from mebns_pl.systems.updates import Updates
from mebns_pl.types import GraphSpec, MetaSet, TrainBatch, to_device


@dataclass(frozen=True)
class Schedule:
    """When what happens, in epochs. The defaults are for a run of a hundred (docs/quality.md).

    Args:
        warmup: for so many epochs the student takes the sampler's negatives unfiltered and unweighted, while the
            teacher learns; 0 or more.
        teacher: for so many epochs the teacher learns, then it is frozen (cheaper); None never freezes it.
        student_from_teacher: whether the student takes the teacher's weights over at the end of the warm-up, where
            there is one.
        lr_scheduler: makes a scheduler of the student's learning rate, stepped after each epoch (one that watches a
            metric: after each validation), or None.
        teacher_lr_scheduler: makes the teacher's; it stands still while the teacher is frozen.
        weight_net_lr_scheduler: makes the weight net's; it stands still during warm-up.

    Raises:
        ValueError: an epoch out of its range.

    Example:
        >>> Schedule(warmup=10, teacher=10).student_from_teacher
        True
    """

    warmup: int = 20
    teacher: int | None = 20
    student_from_teacher: bool = True
    lr_scheduler: LRSchedulerCallable | None = None
    teacher_lr_scheduler: LRSchedulerCallable | None = None
    weight_net_lr_scheduler: LRSchedulerCallable | None = None

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise ValueError(f"schedule.warmup: expected 0 or more epochs, got {self.warmup}")
        if self.teacher is not None and self.teacher < 1:
            raise ValueError(f"schedule.teacher: expected 1 or more epochs or null, got {self.teacher}")


class MeBNS(AbstractLinkSystem):
    """Trains a student on negatives that a teacher filters and a weight net weights (WSDM 2024, 2312.04815).

    A plug-in round any proposal (of the data module), selector and predictor: with the same ones :class:`Plain` is its
    control. Teacher and student are two predictors of one class with weights of their own.

    Args:
        spec: the graph's size, given by the data module.
        predictor: makes a predictor; called twice.
        selector: picks among the candidates that the filter keeps; the first by default.
        optimizer: makes the student's optimizer: SGD, Adam or AdamW.
        teacher_optimizer: makes the teacher's, of any kind.
        weight_net: makes the meta learner.
        weight_net_optimizer: makes its optimizer: SGD, Adam or AdamW.
        teacher_filter: which candidates stay.
        engine: how the hypergradient is computed.
        schedule: warm-up and freezing.
        updates: accumulation over batches, and clipping of the student's gradient (in the lookahead, too).
        adaptive_proposal: makes a proposal that learns with the student, whose candidates stand in place of the data
            module's; or None.
        weighting: weights of the negatives, which the weight net's multiply; equal by default.

    Raises:
        ValueError: an optimizer that the bilevel step cannot look through, or a BatchNorm layer.

    Example:
        >>> system = MeBNS(GraphSpec(num_nodes=3))
        >>> system.teacher is system.student
        False
    """

    def __init__(
        self,
        spec: GraphSpec,
        predictor: Callable[[GraphSpec], LinkPredictor] = EncoderDecoder,
        selector: AbstractSelector | None = None,
        optimizer: OptimizerCallable = Adam,
        teacher_optimizer: OptimizerCallable = Adam,
        weight_net: Callable[[], WeightNet] = WeightNet,
        weight_net_optimizer: OptimizerCallable = Adam,
        teacher_filter: TeacherFilter | None = None,
        engine: AbstractEngine | None = None,
        schedule: Schedule = Schedule(),
        updates: Updates = Updates(),
        adaptive_proposal: Callable[[GraphSpec], AbstractAdaptiveProposal] | None = None,
        weighting: AbstractNegativeWeighting | None = None,
    ) -> None:
        # The student first: its initial weights are those of Plain with the same seed
        super().__init__(predictor(spec), updates)
        self.teacher = predictor(spec)
        refuse_batch_norm(self.teacher)
        self.weight_net: nn.Module = weight_net()
        self.selector = selector or FirstSelector()
        self.optimizer_factories = (optimizer, teacher_optimizer, weight_net_optimizer)
        self.teacher_filter = teacher_filter or TeacherFilter()
        self.engine = engine or HigherEngine()
        self.schedule = schedule
        self.weighting = weighting or EqualWeighting()
        self._frozen_score: PairScore | None = None
        # After the learners, whose initial weights so do not depend on it
        self.adaptive_proposal = None if adaptive_proposal is None else adaptive_proposal(spec)

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
        teaches = self.schedule.teacher is None or epoch < self.schedule.teacher
        return [student, *([teacher] * teaches), *([weight_net] * (epoch >= self.schedule.warmup))]

    def setup(self, stage: str) -> None:
        """Tells the data module to set meta edges apart and to draw structure-enhanced negatives for the teacher."""
        super().setup(stage)
        self.data.learns_meta, self.data.teacher_epochs = True, self.schedule.teacher
        self._frozen_score = None
        epochs, warmup = self.trainer.max_epochs, self.schedule.warmup
        if stage == "fit" and epochs is not None and 0 <= epochs <= warmup:
            rank_zero_warn(
                f"schedule.warmup: {warmup}, but the run has {epochs} epochs: all of it is warm-up, in which MeBNS "
                "trains like the sampler alone. Set model.schedule.warmup lower, or trainer.max_epochs higher."
            )

    def teardown(self, stage: str) -> None:
        """Leaves the data module as it was, for a plain system to use."""
        super().teardown(stage)
        self.data.learns_meta, self.data.teacher_epochs = False, None
        self._frozen_score = None

    def on_train_epoch_start(self) -> None:
        """Collects the meta set when it is due; the student takes the teacher's weights over where it shall."""
        data, epochs_in = self.data, self.current_epoch - self.schedule.warmup
        if epochs_in == 0 < self.schedule.warmup and self.schedule.student_from_teacher:
            self.student.load_state_dict(self.teacher.state_dict())
        due = epochs_in >= 0 and epochs_in % data.collector.refresh_epochs == 0
        if due:
            meta_set = data.refresh_meta_set(self.teacher_score, self.device, self.current_epoch, self.group.spread)
            for name, count in meta_set.counts.items():
                self.log_mean(f"meta/{name}", float(count))
            self.log_mean("meta/uncertainty", meta_set.std.mean())

    def teacher_score(self, graph: Graph, pairs: Tensor, key: Key) -> Tensor:
        """One stochastic pass of the teacher, without gradient: logits ``(m,)``."""
        return self.batching.stochastic_scores(self.teacher, self._placed(graph), pairs, key)

    @property
    def gate(self) -> tuple[LinkPredictor, TeacherFilter]:
        """The teacher and its filter."""
        return self.teacher, self.teacher_filter

    def training_step(self, batch: TrainBatch, batch_idx: int) -> StepOutput:
        """Filter, pick, weight, learn."""
        student, teacher, weight_net = self.learners((self.student, self.teacher, self.weight_net))
        key = self.key.at(batch.epoch, batch.step)
        batch, update_proposal = adapted(self, batch, key)
        warm = batch.epoch < self.schedule.warmup
        learns = self.schedule.teacher is None or batch.epoch < self.schedule.teacher
        result = mebns_step(
            student,
            self.selector,
            batch,
            self.graph,
            key,
            self.group,
            teacher=Teacher(
                teacher, None if warm else self.teacher_filter, learns, None if learns else self.frozen_score()
            ),
            meta=None if warm else self.meta(weight_net, key),
            gradient_clip_norm=self.updates.gradient_clip_norm,
            weighting=self.weighting,
        )
        refuse_non_finite(self, batch, result)
        update_proposal()
        self.learn(
            {
                "student": result.unclipped_student_grads,
                "teacher": result.teacher_grads,
                "weight_net": result.weight_net_grads,
                "student_tables": result.student_tables or None,
                "teacher_tables": result.teacher_tables or None,
            },
            {
                # The student's step alone goes through Lightning, which counts global steps by it
                "student": (self.all_optimizers()[0], student.params()),
                "teacher": (teacher.optimizer, teacher.params()),
                "weight_net": (weight_net.optimizer, weight_net.params()),
                "student_tables": student.table_part(),
                "teacher_tables": teacher.table_part(),
            },
        )
        self.log_step(batch, result)
        return step_output(batch, result)

    def frozen_score(self) -> PairScore | None:
        """The frozen teacher's logits of any pairs, its embeddings made once; None where it needs more than those."""
        if self._frozen_score is None and isinstance(self.teacher, EncoderDecoder):
            self._frozen_score = self.logits_of(self.teacher)
        return self._frozen_score

    def meta(self, weight_net: Learner, key: Key) -> Meta:
        """The upper level of a step."""
        batch = self.meta_batch(key)
        share = self.group.share(batch.pairs.shape[1])
        inputs = self.data.meta_inputs(batch, share, key.child("meta/neighbors"))
        moved = None if inputs is None else to_device(inputs, self.device)
        return Meta(weight_net, self.engine, batch, moved)

    def meta_batch(self, key: Key) -> MetaSet:
        """The union batch's meta pairs, the same on all ranks."""
        data = self.data
        assert data.meta_set is not None
        drawn = data.meta_set.draw(data.collector.batch_size, key.child("meta").generator())
        return to_device(drawn, self.device)  # a checkpoint brings it back on the CPU

    def log_step(self, batch: TrainBatch, result: StepResult) -> None:
        """Losses, and how the filter and the weights behave."""
        for name, loss in result.losses.items():
            self.log_mean(f"train/{name}_loss", loss)
        filtered, weights = union_statistics(batch, result.negatives, self.group)
        for name, value in filtered.items():
            self.log_mean(f"filter/{name}", value)
        if batch.epoch >= self.schedule.warmup:
            for name, value in weight_statistics(weights).items():
                self.log_mean(f"weights/{name}", value)

    def replicated(self) -> dict[str, Tensor]:
        """The meta set, too."""
        meta_set = self.data.meta_set
        found = {} if meta_set is None else {f"meta set, {name}": getattr(meta_set, name) for name in _META_TENSORS}
        return super().replicated() | found


_META_TENSORS = ("pairs", "labels", "mean", "std")
