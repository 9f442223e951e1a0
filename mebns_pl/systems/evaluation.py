"""What the systems share: graph, keyed randomness, validation, test, prediction, and applying gradients."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from mebns_pl.data.batches import StepSampler
from mebns_pl.data.batching import AbstractBatching, FullGraph, NeighborSampling, PairScore
from mebns_pl.data.datamodule import LinkDataModule, data_of
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.mebns.group import AbstractGroup, DistributedGroup, SingleProcess
from mebns_pl.mebns.replicas import check_replicas
from mebns_pl.mebns.step import Learner
from mebns_pl.mebns.tables import table_optimizer
from mebns_pl.mebns.teacher_filter import TeacherFilter
from mebns_pl.metrics.ranking import classification_metrics, link_metrics, shared_link_metrics
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.negatives.proposals.adaptive import AbstractAdaptiveProposal
from mebns_pl.systems.checkpoint_io import use_atomic_files
from mebns_pl.systems.epoch_means import EpochMeans
from mebns_pl.systems.identity import KEY
from mebns_pl.systems.rank_watch import RankWatch
from mebns_pl.systems.run_state import begin_epoch_anew, between_epochs, check_checkpoint, describe_run
from mebns_pl.systems.schedulers import step_after_epoch, step_after_validation
from mebns_pl.systems.scoring import AbstractScoring, StudentScoring
from mebns_pl.systems.trainer_options import check_trainer
from mebns_pl.systems.updates import GradientAccumulator, Updates
from mebns_pl.types import EvalBatch


class AbstractLinkSystem(LightningModule, ABC):
    """A student predictor with its evaluation; subclasses train it, by manual optimisation.

    The message-passing graph comes from the data module (``train_graph``; in prediction ``full_graph``).

    Args:
        student: the predictor that is evaluated and used for prediction.
        updates: accumulation and clipping of the gradients.
    """

    def __init__(self, student: LinkPredictor, updates: Updates = Updates()) -> None:
        super().__init__()
        self.automatic_optimization = False
        refuse_batch_norm(student)
        self.student = student
        self.updates = updates
        self.accumulator = GradientAccumulator(updates)
        self.adaptive_proposal: AbstractAdaptiveProposal | None = None
        self.group: AbstractGroup = SingleProcess()
        self.batching: AbstractBatching = FullGraph()
        self.key = Key(0, "step")
        self.val_ranking, self.val_classes = link_metrics(), classification_metrics()
        self.test_ranking, self.test_classes = link_metrics(), classification_metrics()
        self.val_shared, self.test_shared = shared_link_metrics(), shared_link_metrics()
        self.known: KnownEdges | None = None  # on this device, for an adaptive proposal's candidates
        self._graph: Graph | None = None
        self._score: PairScore | None = None
        self._scoring: AbstractScoring = StudentScoring()
        self._predict: PairScore | None = None
        self._means, self._means_logged = EpochMeans(), False
        self._at_epoch_start = False  # a checkpoint from there was loaded
        self.run_config: dict[str, Any] | None = None  # the command line's options, in plain values

    # Before anything: the trainer, the graph, the ranks, the seed

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """The first that Lightning calls: refuses what these systems cannot do, and has the ranks watch each other."""
        check_trainer(self.trainer)
        watched = any(isinstance(callback, RankWatch) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        return [] if watched or self.trainer.world_size == 1 else [RankWatch()]

    def setup(self, stage: str) -> None:
        """Tells the data module how to embed nodes, what to prepare ahead, and how many pairs can be scored at once.

        An adaptive proposal's candidates are known in the step only, so then nothing can be prepared ahead. Checkpoint
        files are written atomically from here on.

        Raises:
            ValueError: neighbour batches, and a model, proposal or precision that does not go with them.
        """
        self.batching = self.data.batching
        self.batching.check(self.student)
        if isinstance(self.batching, NeighborSampling):
            if self.trainer.precision == "64-true":
                raise ValueError(
                    "trainer.precision: NeighborSampling hands features out as they are stored, so not in 64-true; "
                    "take 32-true or bf16-mixed"
                )
            if self.adaptive_proposal is not None:
                raise ValueError(
                    f"adaptive_proposal: got {type(self.adaptive_proposal).__name__}, which scores on the whole graph; "
                    "NeighborSampling takes proposals of the data module only"
                )
        use_atomic_files(self.trainer)
        if self.trainer.precision == "64-true":
            self.double()  # Lightning would do so after it has loaded a checkpoint, and round what it has loaded
        ahead = self.student.prepares_ahead and self.adaptive_proposal is None
        self.data.embed = self.embed
        self.data.prepare = self.student.prepare if ahead else None
        self.data.eval_pairs = 2 * self.student.score_block

    def on_fit_start(self) -> None:
        """Takes the graph to the device, and the seed and ranks from the run."""
        data = self.data
        self.key = data.key.child("step")
        self.group = DistributedGroup() if self.trainer.world_size > 1 else SingleProcess()
        self._graph = self._placed(data.train_graph)
        if self.adaptive_proposal is not None:
            self.known = data.known.to(self.device)
            self.adaptive_proposal.start(self._graph, self.known, self.key.child("adaptive"))

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
        if self._at_epoch_start:
            begin_epoch_anew(self.trainer)
            self._at_epoch_start = False

    def teardown(self, stage: str) -> None:
        """Lets the graph go: the next stage may bring other data, or another device."""
        self._score = self._graph = self._predict = self.known = None
        self.data.embed = self.data.prepare = self.data.eval_pairs = None

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
            self._graph = self._placed(self.data.train_graph)
        return self._graph

    def _placed(self, graph: Graph) -> Graph:
        """On this module's device; with ``64-true`` the features are float64, too."""
        graph = self.batching.resident(graph, self.device)
        if graph.x is None or self.trainer.precision != "64-true":
            return graph
        return replace(graph, x=graph.x.type(torch.float64))

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
    ) -> dict[str, Tensor]:
        self._score = None
        if self.data.shares_negatives(stage):
            values = shared.compute()
        else:
            values = {**ranking.compute(), **classes.compute()}
        for name, value in values.items():
            self.log(f"{stage}/{name}", value.float(), prog_bar=stage == "val" and name == "mrr")
        for metrics in (ranking, classes, shared):
            metrics.reset()
        return {f"{stage}/{name}": value for name, value in values.items()}

    def on_validation_epoch_start(self) -> None:
        """Encodes."""
        self._begin()

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Ranks held-out edges."""
        self._evaluate(batch, self.val_ranking, self.val_classes, self.val_shared)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/mrr``, ``val/hits@k``, ``val/auc``, ``val/ap``."""
        values = self._report("val", self.val_ranking, self.val_classes, self.val_shared)
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            step_after_validation(self.all_schedulers(), values)

    def on_test_epoch_start(self) -> None:
        """Encodes; where a protocol says so, message passing uses validation edges too."""
        self._graph = self._placed(self.data.test_graph)
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
        self._graph = self._placed(self.data.predict_graph)
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

    def make_optimizers(
        self, factories: Sequence[OptimizerCallable], modules: Sequence[nn.Module]
    ) -> tuple[list[Optimizer], list[Optimizer]]:
        """One optimizer a module, and one for the embedding tables of each that is trained row by row."""
        optimizers, tables = [], []
        for make, module in zip(factories, modules, strict=True):
            sparse = self.batching.tables(module)
            names = {id(table) for table in sparse}
            optimizers.append(make([param for param in module.parameters() if id(param) not in names]))
            if sparse:
                tables.append(table_optimizer(optimizers[-1], sparse))
        return optimizers, tables

    def learners(self, modules: Sequence[nn.Module]) -> list[Learner]:
        """The modules with their optimizers: Lightning's list has those of tables at its end."""
        optimizers = [optimizer.optimizer for optimizer in self.all_optimizers()]
        tables, learners = iter(optimizers[len(modules) :]), []
        for module, optimizer in zip(modules, optimizers, strict=False):
            learner = Learner(module, optimizer, next(tables) if self.batching.tables(module) else None)
            if learner.tables is not None:  # a scheduler moves the rate of the first alone
                learner.tables.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"]
            learners.append(learner)
        return learners

    def all_schedulers(self) -> list[Any]:
        """The learning-rate schedulers, always as a list."""
        schedulers = self.lr_schedulers()
        return schedulers if isinstance(schedulers, list) else [] if schedulers is None else [schedulers]

    def learned(self) -> list[Optimizer]:
        """The optimizers that make steps in this epoch."""
        return [optimizer.optimizer for optimizer in self.all_optimizers()]

    def apply_gradients(
        self, optimizer: Optimizer | LightningOptimizer, params: Sequence[nn.Parameter], grads: Sequence[Tensor]
    ) -> None:
        """Steps an optimizer with given gradients, and leaves none behind."""
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def learn(
        self,
        grads: Mapping[str, Sequence[Tensor] | None],
        movers: Mapping[str, tuple[Optimizer | LightningOptimizer, Sequence[nn.Parameter]]],
    ) -> None:
        """Takes a step's gradients, and moves the learners when their group of steps is full.

        Args:
            grads: by name of the learner; before clipping, None where it does not learn.
            movers: by name, the optimizer and the parameters that the gradients are of. Lightning counts the steps of
                those optimizers that it has wrapped.
        """
        for name, means in self.accumulator.add(grads, self.trainer.is_last_batch).items():
            self.apply_gradients(*movers[name], means)

    def replicated(self) -> dict[str, Tensor]:
        """Everything that must be the same on all ranks: parameters, optimizer states, gradients added up so far."""
        found = dict(self.state_dict())
        names: dict[Tensor, str] = {param: name for name, param in self.named_parameters()}
        for optimizer in self.trainer.optimizers:
            for param, state in optimizer.state.items():
                values = {key: value for key, value in state.items() if isinstance(value, Tensor)}
                found |= {f"{names[param]}, {key} of its optimizer": value for key, value in values.items()}
        for name, sums in self.accumulator.state_dict().get("sums", {}).items():
            dense = [value.coalesce().values() if value.is_sparse else value for value in sums]
            found |= {f"{name}, accumulated gradient {place}": value for place, value in enumerate(dense)}
        return found

    def log_mean(self, name: str, value: Tensor | float) -> None:
        """Logs the mean over the epoch of a value that is the same on all ranks."""
        self._means.add(name, value)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After the last step logs the epoch's means, for callbacks to see at the epoch's end."""
        if self.trainer.is_last_batch:
            self._log_means()

    def on_train_epoch_end(self) -> None:
        """Makes sure that the ranks have not drifted apart, forgets the epoch's means, and steps the schedulers.

        Raises:
            ReplicaError: they have; the error names the tensors and ranks.
        """
        check_replicas(self.replicated(), self.group)
        if not self._means_logged:  # the epoch was cut short, or taken up behind its last step
            self._log_means()
        self._means, self._means_logged = EpochMeans(), False
        step_after_epoch(self.all_schedulers(), self.learned())

    def _log_means(self) -> None:
        for name, mean in self._means.compute().items():
            self.log(name, mean, on_step=False, on_epoch=True, prog_bar=name == "train/student_loss", batch_size=1)
        self._means_logged = True

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Says which run this is, and holds the epoch's means and the gradients of a group that is not full."""
        at_start = between_epochs(self.trainer, checkpoint)
        means = self._means.state_dict()
        checkpoint[KEY] = {**describe_run(self), "epoch_means": means, "at_epoch_start": at_start}
        checkpoint["accumulated"] = self.accumulator.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another version, model, graph or split, and goes on with what it holds.

        Raises:
            CheckpointError: it does not belong to this system and its data; the message tells what differs.
        """
        check_checkpoint(self, checkpoint)
        self._means.load_state_dict(checkpoint[KEY]["epoch_means"])
        self._at_epoch_start = checkpoint[KEY]["at_epoch_start"]
        self.accumulator.load_state_dict(checkpoint["accumulated"])


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
