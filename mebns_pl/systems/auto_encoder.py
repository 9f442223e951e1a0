"""The graph auto-encoder: all non-edges at once, in place of a sampler's negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.optim import Adam

from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.mebns.all_pairs import all_pairs_step
from mebns_pl.mebns.learner import Learner
from mebns_pl.mebns.step import StepResult
from mebns_pl.models.decoders.dot import DotDecoder
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.systems.finite import refuse_non_finite
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.outputs import StepOutput, step_output
from mebns_pl.systems.schedulers import Configured, configured
from mebns_pl.systems.updates import Updates
from mebns_pl.types import GraphSpec


class AutoEncoder(AbstractLinkSystem):
    """Trains an encoder with an inner product on its edges against all non-edges (GAE: Kipf and Welling, 1611.07308).

    The loss is that of :class:`~mebns_pl.systems.plain.Plain`, half edges and half non-edges, with the mean over all
    non-edges in place of a sampler's: no draw, and no hard or easy ones among them. With ``data.batch_size`` of the
    number of training edges or more and ``hide_positives: false`` it is HeaRT's GAE (Li et al., 2306.10453).

    Cost: in each step N^2 C multiply-adds and N^2 exponentials for the loss, and N^2 C for its derivatives; memory does
    not grow with N^2, only 2^20 logits are there at once. Whole graphs only.

    Args:
        spec: the graph's size, given by the data module.
        predictor: makes an :class:`EncoderDecoder` with a :class:`DotDecoder` and any encoder; GCN by default.
        optimizer: makes the optimizer.
        updates: accumulation over batches, and clipping.
        lr_scheduler: makes a scheduler of the learning rate, stepped after each epoch (one that watches a metric:
            after each validation), or None.
        hide_positives: whether a batch's edges are left out of message passing, as everywhere else; False lets every
            edge be seen by the embeddings that are to tell it.

    Raises:
        TypeError: a predictor of another kind.

    Example:
        >>> type(AutoEncoder(GraphSpec(num_nodes=3)).student.decoder).__name__
        'DotDecoder'
    """

    def __init__(
        self,
        spec: GraphSpec,
        predictor: Callable[[GraphSpec], LinkPredictor] | None = None,
        optimizer: OptimizerCallable = Adam,
        updates: Updates = Updates(),
        lr_scheduler: LRSchedulerCallable | None = None,
        hide_positives: bool = True,
    ) -> None:
        student = EncoderDecoder(spec, decoder=DotDecoder) if predictor is None else predictor(spec)
        if not isinstance(student, EncoderDecoder) or not isinstance(student.decoder, DotDecoder):
            got = f"{type(student).__name__}" + (
                f" with {type(student.decoder).__name__}" if isinstance(student, EncoderDecoder) else ""
            )
            raise TypeError(f"predictor: an AutoEncoder needs an EncoderDecoder with DotDecoder, got {got}")
        super().__init__(student, None, updates, None)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.hide_positives = hide_positives

    def configure_optimizers(self) -> Configured:
        """The student's optimizer."""
        optimizers, _ = self.make_optimizers([self.optimizer], [self.student])
        return configured(optimizers, {"lr_scheduler": self.lr_scheduler})

    def training_step(self, batch: TrainBatch, batch_idx: int) -> StepOutput:
        """All pairs, loss, update."""
        batch, result, _ = self.step(batch)
        refuse_non_finite(self, batch, result)
        self.learn(self.learners(), result.learned)
        self.log_mean("train/student_loss", result.learned["student"].loss)
        return step_output(batch, result.negatives)

    def step(self, batch: TrainBatch) -> tuple[TrainBatch, StepResult, Callable[[], None]]:
        """See :meth:`AbstractLinkSystem.step`."""
        student, key = self.learners()["student"], self.key.at(batch.epoch, batch.step)
        result = all_pairs_step(student, self.hide_positives, batch, self.graph, key, self.group)
        return batch, result, lambda: None

    def learners(self) -> dict[str, Learner[Any]]:
        """The student."""
        return {"student": self.learner(self.student, 0, 1)}
