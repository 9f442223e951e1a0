"""What the systems share: graph, keyed randomness, validation, test, prediction, and applying gradients."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from mebns_pl.data.batches import StepSampler
from mebns_pl.data.batching import AbstractBatching, FullGraph, PairScore
from mebns_pl.data.datamodule import LinkDataModule, data_of
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.mebns.group import AbstractGroup, DistributedGroup, SingleProcess
from mebns_pl.mebns.step import Learner
from mebns_pl.mebns.tables import table_optimizer
from mebns_pl.mebns.teacher_filter import TeacherFilter
from mebns_pl.metrics.ranking import classification_metrics, link_metrics, shared_link_metrics
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.systems.scoring import AbstractScoring, StudentScoring
from mebns_pl.types import EvalBatch


class AbstractLinkSystem(LightningModule, ABC):
    """A student predictor with its evaluation; subclasses train it, by manual optimisation.

    The message-passing graph comes from the data module (``train_graph``; in prediction ``full_graph``).

    Args:
        student: the predictor that is evaluated and used for prediction.
    """

    def __init__(self, student: LinkPredictor) -> None:
        super().__init__()
        self.automatic_optimization = False
        refuse_batch_norm(student)
        self.student = student
        self.group: AbstractGroup = SingleProcess()
        self.batching: AbstractBatching = FullGraph()
        self.key = Key(0, "step")
        self.val_ranking, self.val_classes = link_metrics(), classification_metrics()
        self.test_ranking, self.test_classes = link_metrics(), classification_metrics()
        self.val_shared, self.test_shared = shared_link_metrics(), shared_link_metrics()
        self._graph: Graph | None = None
        self._score: PairScore | None = None
        self._scoring: AbstractScoring = StudentScoring()
        self._predict: PairScore | None = None

    # Before anything: the graph, the ranks, the seed

    def setup(self, stage: str) -> None:
        """Tells the data module how to embed nodes (for a pool of pairs to predict), and what to prepare ahead."""
        self.batching = self.data.batching
        self.batching.check(self.student)
        self.data.embed = self.embed
        self.data.prepare = self.student.prepare if self.student.prepares_ahead else None

    def on_fit_start(self) -> None:
        """Takes the graph to the device, and the seed and ranks from the run."""
        data = self.data
        self.key = data.key.child("step")
        self.group = DistributedGroup() if self.trainer.world_size > 1 else SingleProcess()
        self._graph = self.batching.resident(data.train_graph, self.device)

    def on_train_start(self) -> None:
        """Makes sure that ranks share the data as the data module parts it.

        Raises:
            ValueError: Lightning has put its own sampler, which pads with duplicates, in place of the data module's.
        """
        loader = self.trainer.train_dataloader
        if loader is None or not isinstance(loader.sampler, StepSampler):
            raise ValueError(
                "trainer.use_distributed_sampler: expected False, got True; the data module parts the data"
            )

    def teardown(self, stage: str) -> None:
        """Lets the graph go: the next stage may bring other data, or another device."""
        self._score = self._graph = self._predict = None
        self.data.embed = self.data.prepare = None

    @property
    def data(self) -> LinkDataModule:
        """The run's data module.

        Raises:
            TypeError: the trainer was given something else.
        """
        return data_of(self.trainer)

    @property
    def graph(self) -> Graph:
        """The message-passing graph, where the data module's batching keeps it."""
        if self._graph is None:
            self._graph = self.batching.resident(self.data.train_graph, self.device)
        return self._graph

    def score(self, pairs: Tensor) -> Tensor:
        """The student's logits ``(m,)`` of ``pairs`` ``(2, m)`` on the training graph, without dropout or gradient."""
        with torch.no_grad():
            return self.batching.scorer(self.student, self.graph, self.device)(pairs)

    def embed(self, graph: Graph) -> Tensor | None:
        """The student's embeddings ``(N, C)`` of the nodes of ``graph``, on its device, or None where it has none."""
        with torch.no_grad():
            return self.batching.embeddings(self.student, graph, self.device)

    @property
    def gate(self) -> tuple[LinkPredictor, TeacherFilter] | None:
        """A teacher with its filter, where there is one."""
        return None

    # Validation and test

    def _begin(self) -> None:
        # Encodes once for all batches of the stage
        self._score = self.batching.scorer(self.student, self.graph, self.device)

    def _logits(self, pairs: Tensor) -> Tensor:
        assert self._score is not None
        return self._score(pairs)

    def _evaluate(
        self, batch: EvalBatch, ranking: MetricCollection, classes: MetricCollection, shared: MetricCollection
    ) -> None:
        positive = self._logits(batch.positives)
        if batch.negatives is None:
            shared.update(positive, self._logits(batch.random_negatives))
            return
        negative = self._logits(batch.negatives.flatten(1)).view(batch.negatives.shape[1:])
        ranking.update(positive, negative)
        classes.update(positive, self._logits(batch.random_negatives))

    def _report(
        self, stage: str, ranking: MetricCollection, classes: MetricCollection, shared: MetricCollection
    ) -> None:
        self._score = None
        if self.data.shares_negatives(stage):
            values = shared.compute()
        else:
            values = {**ranking.compute(), **classes.compute()}
        for name, value in values.items():
            self.log(f"{stage}/{name}", value.float(), prog_bar=stage == "val" and name == "mrr")
        for metrics in (ranking, classes, shared):
            metrics.reset()

    def on_validation_epoch_start(self) -> None:
        """Encodes."""
        self._begin()

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Ranks held-out edges."""
        self._evaluate(batch, self.val_ranking, self.val_classes, self.val_shared)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/mrr``, ``val/hits@k``, ``val/auc``, ``val/ap``."""
        self._report("val", self.val_ranking, self.val_classes, self.val_shared)

    def on_test_epoch_start(self) -> None:
        """Encodes; where a protocol says so, message passing uses validation edges too."""
        self._graph = self.batching.resident(self.data.test_graph, self.device)
        self._begin()

    def test_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Ranks held-out edges."""
        self._evaluate(batch, self.test_ranking, self.test_classes, self.test_shared)

    def on_test_epoch_end(self) -> None:
        """Logs ``test/mrr`` and the others."""
        self._report("test", self.test_ranking, self.test_classes, self.test_shared)
        self._graph = None

    # Prediction

    def student_logits(self, pairs: Tensor) -> Tensor:
        """The student's logits ``(m,)`` of ``pairs`` ``(2, m)``, while a stage runs: its graph is encoded once."""
        return self._logits(pairs)

    def logits_of(self, predictor: LinkPredictor) -> PairScore:
        """A function to another predictor's logits on the present graph, encoded here, without gradient."""
        with torch.no_grad():
            score = self.batching.scorer(predictor, self.graph, self.device)
        return torch.no_grad()(score)

    def score_by(self, scoring: AbstractScoring) -> None:
        """Sets what predictions are scored by; the student's logits by default.

        Raises:
            ValueError: this system cannot be scored so.
        """
        scoring.check(self)
        self._scoring = scoring

    def on_predict_epoch_start(self) -> None:
        """Message passing uses every known edge from here on."""
        self._graph = self.batching.resident(self.data.predict_graph, self.device)
        self._begin()
        self._predict = self._scoring.scorer(self)

    def predict_step(self, batch: Tensor, batch_idx: int) -> tuple[Tensor, Tensor]:
        """``(2, m)`` pairs -> the pairs with their logits ``(m,)``, -inf where the scoring rejects a pair."""
        assert self._predict is not None
        return batch, self._predict(batch)

    def on_predict_epoch_end(self) -> None:
        """Gives the whole graph back."""
        self._score = self._graph = self._predict = None

    # Training

    def all_optimizers(self) -> list[LightningOptimizer]:
        """The optimizers, always as a list."""
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def make_optimizers(self, factories: Sequence[OptimizerCallable], modules: Sequence[nn.Module]) -> list[Optimizer]:
        """One optimizer a module, and behind them one for the embedding tables of each that is trained row by row."""
        optimizers, tables = [], []
        for make, module in zip(factories, modules, strict=True):
            sparse = self.batching.tables(module)
            names = {id(table) for table in sparse}
            optimizers.append(make([param for param in module.parameters() if id(param) not in names]))
            if sparse:
                tables.append(table_optimizer(optimizers[-1], sparse))
        return optimizers + tables

    def learners(self, modules: Sequence[nn.Module]) -> list[Learner]:
        """The modules with the optimizers that :meth:`make_optimizers` has made."""
        optimizers = [optimizer.optimizer for optimizer in self.all_optimizers()]
        tables = iter(optimizers[len(modules) :])
        return [
            Learner(module, optimizer, next(tables) if self.batching.tables(module) else None)
            for module, optimizer in zip(modules, optimizers, strict=False)
        ]

    def apply_tables(self, learner: Learner, grads: Sequence[Tensor]) -> None:
        """Moves a learner's embedding tables, where it has any, by sparse gradients."""
        if learner.tables is not None:
            self.apply_gradients(learner.tables, learner.table_params(), grads)

    def apply_gradients(
        self, optimizer: Optimizer | LightningOptimizer, params: Sequence[nn.Parameter], grads: Sequence[Tensor]
    ) -> None:
        """Steps an optimizer with given gradients, and leaves none behind."""
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def log_mean(self, name: str, value: Tensor | float, **kwargs: Any) -> None:
        """Logs the mean over the epoch; where ranks differ (statistics of their own picks) rank 0's is shown."""
        self.log(name, value, on_step=False, on_epoch=True, batch_size=1, **kwargs)


def refuse_batch_norm(module: nn.Module) -> None:
    """Refuses layers that learn from whole batches: the lookahead would change their buffers, and ranks would differ.

    Raises:
        ValueError: a BatchNorm layer, with its name.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, _BatchNorm):
            raise ValueError(
                f"predictor: {name} is a {type(layer).__name__}; batch statistics are not supported, use LayerNorm"
            )
