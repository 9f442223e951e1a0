"""The plain system: one predictor, one sampler. What MeBNS is compared with."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.optim import Adam

from mebns_pl.mebns.step import mebns_step
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.negatives.proposals.adaptive import AbstractAdaptiveProposal
from mebns_pl.negatives.selectors.abstract import AbstractSelector
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting
from mebns_pl.negatives.weightings.equal import EqualWeighting
from mebns_pl.systems.adaptive import adapted
from mebns_pl.systems.finite import refuse_non_finite
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.outputs import StepOutput, step_output
from mebns_pl.systems.schedulers import Configured, configured
from mebns_pl.systems.updates import Updates
from mebns_pl.types import GraphSpec, TrainBatch


class Plain(AbstractLinkSystem):
    """Trains a predictor on binary cross-entropy against a sampler's negatives.

    Args:
        spec: the graph's size, given by the data module.
        predictor: makes the predictor.
        selector: picks negatives among the candidates; the first (that is, the proposal's own draw) by default.
        optimizer: makes the optimizer.
        updates: accumulation over batches, and clipping.
        adaptive_proposal: makes a proposal that learns with the student, whose candidates stand in place of the data
            module's; or None.
        weighting: weights of the negatives; equal by default.
        lr_scheduler: makes a scheduler of the learning rate, stepped after each epoch (one that watches a metric:
            after each validation), or None.

    Example:
        >>> system = Plain(GraphSpec(num_nodes=3))
        >>> type(system.student).__name__
        'EncoderDecoder'
    """

    def __init__(
        self,
        spec: GraphSpec,
        predictor: Callable[[GraphSpec], LinkPredictor] = EncoderDecoder,
        selector: AbstractSelector | None = None,
        optimizer: OptimizerCallable = Adam,
        updates: Updates = Updates(),
        adaptive_proposal: Callable[[GraphSpec], AbstractAdaptiveProposal] | None = None,
        weighting: AbstractNegativeWeighting | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(predictor(spec), updates)
        self.selector = selector or FirstSelector()
        self.optimizer = optimizer
        self.weighting = weighting or EqualWeighting()
        # After the learners, whose initial weights so do not depend on it
        self.adaptive_proposal = None if adaptive_proposal is None else adaptive_proposal(spec)
        self.lr_scheduler = lr_scheduler

    def configure_optimizers(self) -> Configured:
        """The student's optimizer, and one of its tables where they are trained row by row."""
        optimizers, tables = self.make_optimizers([self.optimizer], [self.student])
        optimizers, schedulers = configured(optimizers, {"lr_scheduler": self.lr_scheduler})
        return optimizers + tables, schedulers

    def training_step(self, batch: TrainBatch, batch_idx: int) -> StepOutput:
        """Candidates, picks, loss, update."""
        (student,) = self.learners([self.student])
        key = self.key.at(batch.epoch, batch.step)
        batch, update_proposal = adapted(self, batch, key)
        result = mebns_step(
            student,
            self.selector,
            batch,
            self.graph,
            key,
            self.group,
            gradient_clip_norm=self.updates.gradient_clip_norm,
            weighting=self.weighting,
        )
        refuse_non_finite(self, batch, result)
        update_proposal()
        self.learn(
            {"student": result.unclipped_student_grads, "student_tables": result.student_tables or None},
            {"student": (self.all_optimizers()[0], student.params()), "student_tables": student.table_part()},
        )
        self.log_mean("train/student_loss", result.losses["student"])
        return step_output(batch, result)
