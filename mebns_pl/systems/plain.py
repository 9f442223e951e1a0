"""The plain system: one predictor, one sampler. What MeBNS is compared with."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch.cli import OptimizerCallable
from torch.optim import Adam, Optimizer

from mebns_pl.mebns.step import Learner, mebns_step
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.negatives.proposals.adaptive import AbstractAdaptiveProposal
from mebns_pl.negatives.selectors.abstract import AbstractSelector
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting
from mebns_pl.negatives.weightings.equal import EqualWeighting
from mebns_pl.systems.adaptive import adapted
from mebns_pl.systems.evaluation import AbstractLinkSystem
from mebns_pl.systems.outputs import StepOutput, step_output
from mebns_pl.types import GraphSpec, TrainBatch


class Plain(AbstractLinkSystem):
    """Trains a predictor on binary cross-entropy against a sampler's negatives.

    Args:
        spec: the graph's size, given by the data module.
        predictor: makes the predictor.
        selector: picks negatives among the candidates; the first (that is, the proposal's own draw) by default.
        optimizer: makes the optimizer.
        gradient_clip_norm: joint 2-norm to clip gradients to, or None.
        adaptive_proposal: makes a proposal that learns with the student, whose candidates stand in place of the data
            module's; or None.
        weighting: weights of the negatives; equal by default.

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
        gradient_clip_norm: float | None = None,
        adaptive_proposal: Callable[[GraphSpec], AbstractAdaptiveProposal] | None = None,
        weighting: AbstractNegativeWeighting | None = None,
    ) -> None:
        super().__init__(predictor(spec))
        self.selector = selector or FirstSelector()
        self.optimizer = optimizer
        self.gradient_clip_norm = gradient_clip_norm
        self.weighting = weighting or EqualWeighting()
        # After the learners, whose initial weights so do not depend on it
        self.adaptive_proposal = None if adaptive_proposal is None else adaptive_proposal(spec)

    def configure_optimizers(self) -> Optimizer:
        """The student's optimizer."""
        return self.optimizer(self.student.parameters())

    def training_step(self, batch: TrainBatch, batch_idx: int) -> StepOutput:
        """Candidates, picks, loss, update."""
        (optimizer,) = self.all_optimizers()
        student = Learner(self.student, optimizer.optimizer)
        key = self.key.at(batch.epoch, batch.step)
        batch, update_proposal = adapted(self, batch, key)
        result = mebns_step(
            student,
            self.selector,
            batch,
            self.graph,
            key,
            self.group,
            gradient_clip_norm=self.gradient_clip_norm,
            weighting=self.weighting,
        )
        update_proposal()
        self.apply_gradients(optimizer, student.params(), result.student_grads)
        self.log_mean("train/student_loss", result.losses["student"], prog_bar=True)
        return step_output(batch, result)
