"""The plain system: one predictor, one sampler. What MeBNS is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.optim import Adam

from mebns_pl.data.needs import Needs
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.mebns.learner import Learner
from mebns_pl.mebns.losses.abstract import AbstractLoss
from mebns_pl.mebns.losses.cross_entropy import BinaryCrossEntropy
from mebns_pl.mebns.step import StepResult, plain_step
from mebns_pl.models.batching import AbstractBatching, FullGraph
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.systems.adaptive import adapted
from mebns_pl.systems.finite import refuse_non_finite
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.outputs import StepOutput, step_output
from mebns_pl.systems.schedulers import Configured, configured
from mebns_pl.systems.updates import Updates
from mebns_pl.types import GraphSpec


class Plain(AbstractLinkSystem):
    """Trains a predictor against a sampler's negatives.

    Args:
        spec: the graph's size, given by the data module.
        predictor: makes the predictor.
        sampler: the negatives; one uniform non-edge an edge by default.
        optimizer: makes the optimizer.
        loss: what it learns by; binary cross-entropy by default.
        updates: accumulation over batches, and clipping.
        lr_scheduler: makes a scheduler of the learning rate, stepped after each epoch (one that watches a metric:
            after each validation), or None.
        batching: which part of the graph a step works on: :class:`FullGraph` by default, or :class:`NeighborSampling`
            for graphs that do not fit the device.
        equal_data: whether the meta edges stay out of the losses, as MeBNS leaves them out: a control that learns from
            the same edges. They are message passing in both.

    Example:
        >>> system = Plain(GraphSpec(num_nodes=3))
        >>> type(system.student).__name__
        'EncoderDecoder'
    """

    def __init__(
        self,
        spec: GraphSpec,
        predictor: Callable[[GraphSpec], LinkPredictor] = EncoderDecoder,
        sampler: Sampler | None = None,
        optimizer: OptimizerCallable = Adam,
        loss: AbstractLoss | None = None,
        updates: Updates = Updates(),
        lr_scheduler: LRSchedulerCallable | None = None,
        batching: AbstractBatching | None = None,
        equal_data: bool = False,
    ) -> None:
        batching = batching or FullGraph()
        super().__init__(batching.make(predictor, spec), sampler, updates, batching)
        self.optimizer = optimizer
        self.equal_data = equal_data
        self.loss = loss or BinaryCrossEntropy()
        self.lr_scheduler = lr_scheduler
        self.build_proposal(spec)

    @property
    def needs(self) -> Needs:
        """Meta edges set apart, where the data shall be MeBNS's."""
        return replace(super().needs, meta_edges=self.equal_data)

    def configure_optimizers(self) -> Configured:
        """The student's optimizer, and one of its tables where they are trained row by row."""
        optimizers, tables = self.make_optimizers([self.optimizer], [self.student])
        optimizers, schedulers = configured(optimizers, {"lr_scheduler": self.lr_scheduler})
        return optimizers + tables, schedulers

    def training_step(self, batch: TrainBatch, batch_idx: int) -> StepOutput:
        """Candidates, picks, loss, update."""
        batch, result, update_proposal = self.step(batch)
        refuse_non_finite(self, batch, result)
        update_proposal()
        self.learn(self.learners(), result.learned)
        self.log_mean("train/student_loss", result.learned["student"].loss)
        return step_output(batch, result.negatives)

    def step(self, batch: TrainBatch) -> tuple[TrainBatch, StepResult, Callable[[], None]]:
        """See :meth:`AbstractLinkSystem.step`."""
        key = self.key.at(batch.epoch, batch.step)
        batch, update_proposal = adapted(self, batch, key)
        student = self.learners()["student"]
        result = plain_step(student, self.sampler, self.loss, batch, self.graph, key, self.group)
        return batch, result, update_proposal

    def learners(self) -> dict[str, Learner[Any]]:
        """The student."""
        return {"student": self.learner(self.student, 0, 1)}
