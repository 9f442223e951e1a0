"""The MeBNS system: teacher, student and weight net, manual optimisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, HigherEngine, check_optimizer
from mebns_pl.mebns.step import Learner, Meta, StepResult, Teacher, mebns_step
from mebns_pl.mebns.teacher_filter import TeacherFilter
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.models.weight_net import WeightNet
from mebns_pl.negatives.selectors.abstract import AbstractSelector
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.systems.evaluation import AbstractLinkSystem, refuse_batch_norm
from mebns_pl.systems.outputs import StepOutput, step_output
from mebns_pl.types import GraphSpec, MetaSet, TrainBatch, to_device


@dataclass(frozen=True)
class Schedule:
    """When what happens, in epochs.

    Args:
        warmup: for so many epochs the student takes the sampler's negatives unfiltered and unweighted, while the
            teacher learns; 0 or more.
        teacher: for so many epochs the teacher learns, then it is frozen (cheaper); None never freezes it.
    """

    warmup: int = 5
    teacher: int | None = None

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
        gradient_clip_norm: joint 2-norm to clip the student's gradient to (in the lookahead too), or None.

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
        gradient_clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            predictor(spec)
        )  # the student first: its initial weights are those of Plain with the same seed
        self.teacher = predictor(spec)
        refuse_batch_norm(self.teacher)
        self.weight_net: nn.Module = weight_net()
        self.selector = selector or FirstSelector()
        self.optimizer_factories = (optimizer, teacher_optimizer, weight_net_optimizer)
        self.teacher_filter = teacher_filter or TeacherFilter()
        self.engine = engine or HigherEngine()
        self.schedule = schedule
        self.gradient_clip_norm = gradient_clip_norm

    def configure_optimizers(self) -> list[Optimizer]:
        """Student's, teacher's, weight net's; then those of the tables that are trained row by row."""
        optimizers = self.make_optimizers(self.optimizer_factories, (self.student, self.teacher, self.weight_net))
        check_optimizer(optimizers[0], "optimizer")
        check_optimizer(optimizers[2], "weight_net_optimizer")
        self.engine.check(self.student)
        return optimizers

    def setup(self, stage: str) -> None:
        """Tells the data module to set meta edges apart and to draw structure-enhanced negatives for the teacher."""
        super().setup(stage)
        self.data.learns_meta = True

    def teardown(self, stage: str) -> None:
        """Leaves the data module as it was, for a plain system to use."""
        super().teardown(stage)
        self.data.learns_meta = False

    def on_train_epoch_start(self) -> None:
        """Collects the meta set when it is due."""
        data, epochs_in = self.data, self.current_epoch - self.schedule.warmup
        due = epochs_in >= 0 and epochs_in % data.collector.refresh_epochs == 0
        if due:
            meta_set = data.refresh_meta_set(self.teacher_score, self.device, self.current_epoch)
            for name, count in meta_set.counts.items():
                self.log(f"meta/{name}", float(count), on_step=False, on_epoch=True, batch_size=1)
            self.log("meta/uncertainty", meta_set.std.mean(), on_step=False, on_epoch=True, batch_size=1)

    def teacher_score(self, graph: Graph, pairs: Tensor, key: Key) -> Tensor:
        """One stochastic pass of the teacher, without gradient: logits ``(m,)``."""
        return self.batching.stochastic_scores(self.teacher, graph, pairs, key)

    @property
    def gate(self) -> tuple[LinkPredictor, TeacherFilter]:
        """The teacher and its filter."""
        return self.teacher, self.teacher_filter

    def training_step(self, batch: TrainBatch, batch_idx: int) -> StepOutput:
        """Filter, pick, weight, learn."""
        student, teacher, weight_net = self.learners((self.student, self.teacher, self.weight_net))
        key = self.key.at(batch.epoch, batch.step)
        warm = batch.epoch < self.schedule.warmup
        learns = self.schedule.teacher is None or batch.epoch < self.schedule.teacher
        result = mebns_step(
            student,
            self.selector,
            batch,
            self.graph,
            key,
            self.group,
            teacher=Teacher(teacher, None if warm else self.teacher_filter, learns),
            meta=None if warm else self.meta(weight_net, key),
            gradient_clip_norm=self.gradient_clip_norm,
        )
        # The student's step alone goes through Lightning, which counts global steps by it
        self.apply_gradients(self.all_optimizers()[0], student.params(), result.student_grads)
        self.apply_tables(student, result.student_tables)
        if result.teacher_grads is not None:
            self.apply_gradients(teacher.optimizer, teacher.params(), result.teacher_grads)
            self.apply_tables(teacher, result.teacher_tables)
        if result.weight_net_grads is not None:
            self.apply_gradients(weight_net.optimizer, weight_net.params(), result.weight_net_grads)
        self.log_step(batch, result)
        return step_output(batch, result)

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
            self.log_mean(f"train/{name}_loss", loss, prog_bar=name == "student")
        negatives = result.negatives
        assert negatives.hardness is not None
        self.log_mean("filter/kept_share", negatives.kept.sum() / batch.candidate_mask.sum().clamp(min=1))
        self.log_mean(
            "filter/hardness", (negatives.hardness * negatives.mask).sum() / negatives.mask.sum().clamp(min=1)
        )
        if batch.epoch >= self.schedule.warmup:
            for name, value in weight_statistics(negatives.weights[negatives.mask]).items():
                self.log_mean(f"weights/{name}", value)


def weight_statistics(weights: Tensor) -> dict[str, Tensor]:
    """How unequal the weights are.

    Args:
        weights: ``(n,)``, 0 or more, with a positive sum.

    Returns:
        ``entropy``: of the normalised weights over log n, 1 when all are equal; ``top_tenth``: share of the total that
        the highest tenth holds, 0.1 when all are equal.
    """
    share = weights / weights.sum()
    entropy = -torch.special.xlogy(share, share).sum() / torch.tensor(max(len(share), 2)).log()
    return {"entropy": entropy, "top_tenth": share.topk(-(-len(share) // 10)).values.sum()}
