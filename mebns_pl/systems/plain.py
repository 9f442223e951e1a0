"""The plain system: one predictor, one sampler. What MeBNS is compared with."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch.cli import OptimizerCallable
from torch.optim import Adam, Optimizer

from mebns_pl.mebns.step import mebns_step
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.negatives.selectors.abstract import AbstractSelector
from mebns_pl.negatives.selectors.first import FirstSelector
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
    ) -> None:
        super().__init__(predictor(spec))
        self.selector = selector or FirstSelector()
        self.optimizer = optimizer
        self.gradient_clip_norm = gradient_clip_norm

    def configure_optimizers(self) -> list[Optimizer]:
        """The student's optimizer, and one of its tables where they are trained row by row."""
        return self.make_optimizers([self.optimizer], [self.student])

    def training_step(self, batch: TrainBatch, batch_idx: int) -> StepOutput:
        """Candidates, picks, loss, update."""
        (student,) = self.learners([self.student])
        key = self.key.at(batch.epoch, batch.step)
        result = mebns_step(
            student, self.selector, batch, self.graph, key, self.group, gradient_clip_norm=self.gradient_clip_norm
        )
        self.apply_gradients(self.all_optimizers()[0], student.params(), result.student_grads)
        self.apply_tables(student, result.student_tables)
        self.log_mean("train/student_loss", result.losses["student"], prog_bar=True)
        return step_output(batch, result)
