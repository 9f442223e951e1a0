"""What the systems that learn share: optimizers, gradients, means over an epoch, and checkpoints."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from mebns_pl.data.batches import StepSampler
from mebns_pl.data.needs import Needs
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.distributed.group import DistributedGroup, SingleProcess
from mebns_pl.distributed.replicas import check_replicas
from mebns_pl.mebns.learner import Gradients, Learner, ModuleT
from mebns_pl.mebns.step import Negatives, StepResult
from mebns_pl.models.batching import AbstractBatching
from mebns_pl.models.layers import parted_of, place_tables
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.negatives.proposals.abstract import AbstractAdaptiveProposal
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.systems.checkpoint_io import check_checkpoint_file, use_atomic_files
from mebns_pl.systems.diagnosis import diagnose
from mebns_pl.systems.embedding_rows import table_optimizer
from mebns_pl.systems.epoch_means import EpochMeans
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.identity import KEY
from mebns_pl.systems.parted_tables import put_rows_in, take_rows_out, write_rows_beside
from mebns_pl.systems.run_state import begin_epoch_anew, between_epochs, check_checkpoint, describe_run, run_folder
from mebns_pl.systems.schedulers import step_after_epoch, step_after_validation
from mebns_pl.systems.updates import GradientAccumulator, Updates
from mebns_pl.types import GraphSpec, to_device

log = logging.getLogger(__name__)


class AbstractLinkSystem(AbstractEvaluation, ABC):
    """A student predictor that is trained, by manual optimisation, and evaluated; subclasses say how it learns.

    Args:
        student: the predictor that is evaluated and used for prediction.
        sampler: the negatives; an adaptive proposal is copied and lives here as ``proposal``.
        updates: accumulation and clipping of the gradients.
        batching: which part of the graph a step works on.
    """

    def __init__(
        self, student: LinkPredictor, sampler: Sampler | None, updates: Updates, batching: AbstractBatching | None
    ) -> None:
        super().__init__(student, batching)
        self.automatic_optimization = False
        self.sampler = sampler or Sampler()
        self.updates = updates
        self.accumulator = GradientAccumulator(updates)
        self.proposal: AbstractAdaptiveProposal | None = None
        self._means, self._means_logged = EpochMeans(), False
        self.diagnosis: dict[str, float] = {}
        self._at_epoch_start = False  # a checkpoint from there was loaded
        self.loaded_epoch: int | None = None
        """The epoch in which the checkpoint that was loaded last was made, counted from 0."""

    def build_proposal(self, spec: GraphSpec) -> None:
        """Makes an adaptive proposal's state; after the learners, whose initial weights so do not depend on it."""
        self.proposal = copy.deepcopy(self.sampler.adaptive)
        if self.proposal is not None:
            self.proposal.build(spec)

    # Before training

    @property
    def needs(self) -> Needs:
        """The sampler's candidates, and a step's inputs where they are made ahead.

        An adaptive proposal's candidates are known in the step only, so then nothing can be prepared ahead.
        """
        ahead = self.student.prepare if self.student.prepares_ahead and self.proposal is None else None
        return replace(super().needs, sampler=self.sampler, inputs=partial(self.batching.inputs, ahead))

    def setup(self, stage: str) -> None:
        """Checks what goes with what; checkpoint files are written atomically from here on.

        Raises:
            ValueError: neighbour batches, and a model, proposal or precision that does not go with them.
        """
        self.batching.check(self.student, self.proposal is not None, str(self.trainer.precision))
        super().setup(stage)
        use_atomic_files(self.trainer)
        if parted_of(self):
            if self.updates.accumulate > 1:
                raise ValueError(
                    f"updates.accumulate: got {self.updates.accumulate}; with batching.shard_tables it is 1, for "
                    "checkpoints keep no rank's own sums"
                )
            write_rows_beside(self.trainer)
        wanted, fewest = self.sampler.num_candidates, self.data.fewest_candidates if stage == "fit" else None
        if fewest is not None and wanted > fewest:
            log.info(
                "num_candidates: %s are drawn for each anchor, with replacement; some have only %s legal candidates",
                f"{wanted:,}",
                f"{fewest:,}",
            )
        # The ranks have met: each takes its rows of tables that are parted among them, and DDP lets them be
        place_tables(self, DistributedGroup() if self.trainer.world_size > 1 else SingleProcess())
        self._ddp_params_and_buffers_to_ignore = list(parted_of(self))

    def on_fit_start(self) -> None:
        """Takes the graph to the device, and the seed and ranks from the run."""
        data = self.data
        self.key = data.key.child("step")
        self.group = DistributedGroup() if self.trainer.world_size > 1 else SingleProcess()
        # All ranks are asked for it: a step whose numbers are not finite may be one rank's alone
        self.log_folder = Path(run_folder(self.trainer) or self.trainer.default_root_dir)
        self._graph = self._placed(data.train_graph)
        if self.proposal is not None:
            self.proposal.start(self._graph, data.avoided.to(self.device), self.key.child("adaptive"))

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

    # Learning

    @abstractmethod
    def step(self, batch: TrainBatch) -> tuple[TrainBatch, StepResult, Callable[[], None]]:
        """What a batch would have the learners do; nothing is moved.

        Returns:
            The batch with its candidates, what was found, and what updates an adaptive proposal.
        """

    @abstractmethod
    def learners(self) -> dict[str, Learner[Any]]:
        """Who learns, by name."""

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

    def learner(self, module: ModuleT, place: int, num_modules: int) -> Learner[ModuleT]:
        """The ``place``-th of the modules that :meth:`make_optimizers` got, with its optimizers.

        Lightning's list has those of tables at its end: teacher's behind student's, where they have any.
        """
        optimizers = [optimizer.optimizer for optimizer in self.all_optimizers()]
        if not self.batching.tables(module):
            return Learner(module, optimizers[place])
        tables = optimizers[num_modules + place]
        tables.param_groups[0]["lr"] = optimizers[place].param_groups[0]["lr"]  # a scheduler moves the first's alone
        return Learner(module, optimizers[place], tables)

    def all_schedulers(self) -> list[Any]:
        """The learning-rate schedulers, always as a list."""
        schedulers = self.lr_schedulers()
        return schedulers if isinstance(schedulers, list) else [] if schedulers is None else [schedulers]

    def learned(self) -> list[Optimizer]:
        """The optimizers that make steps in this epoch."""
        return [optimizer.optimizer for optimizer in self.all_optimizers()]

    def learn(self, learners: Mapping[str, Learner[Any]], learned: Mapping[str, Gradients]) -> Collection[str]:
        """Takes a step's gradients, and moves the learners whose group of steps is full.

        Args:
            learners: all, by name.
            learned: the gradients of those that learn in this step, by the same names, before clipping.

        Returns:
            The names of those that were moved.
        """
        means = self.accumulator.add(learned, self.trainer.is_last_batch)
        for name, mean in means.items():
            learner = learners[name]
            # The student's step alone goes through Lightning, which counts global steps by it
            descend(self.all_optimizers()[0] if name == "student" else learner.optimizer, learner.params(), mean.dense)
            if learner.tables is not None:
                descend(learner.tables, learner.table_params(), mean.tables)
        return means.keys()

    def replicated(self) -> dict[str, Tensor]:
        """Everything that must be the same on all ranks: parameters, optimizer states, gradients added up so far."""
        parted = parted_of(self)
        found = {name: value for name, value in self.state_dict().items() if name not in parted}
        names: dict[Tensor, str] = {param: name for name, param in self.named_parameters()}
        for optimizer in self.trainer.optimizers:
            for param, state in optimizer.state.items():
                if names[param] in parted:
                    continue
                values = {key: value for key, value in state.items() if isinstance(value, Tensor)}
                found |= {f"{names[param]}, {key} of its optimizer": value for key, value in values.items()}
        for name, total in self.accumulator.totals.items():
            found |= {f"{name}, accumulated gradient {place}": value for place, value in enumerate(total.values())}
        return found

    def on_fit_end(self) -> None:
        """Lays held-out edges beside what the last epoch's first steps would draw now, for analysis."""
        if self.trainer.train_dataloader is None or not self.trainer.global_step:
            return
        steps, epoch = self.trainer.train_dataloader.dataset, max(self.current_epoch - 1, 0)
        batches = (to_device(steps[epoch, step], self.device) for step in range(len(steps)))

        def look(batch: TrainBatch) -> tuple[TrainBatch, Negatives]:
            batch, result, _ = self.step(batch)
            return batch, result.negatives

        self.diagnosis = diagnose(self.data, batches, look, self.group)
        shares = {name: value for name, value in self.diagnosis.items() if name.startswith("held_out/")}
        for logger in self.trainer.loggers:
            logger.log_metrics(shares, self.trainer.global_step)

    def validated(self, values: dict[str, Tensor]) -> None:
        """Steps the schedulers that watch a metric."""
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            step_after_validation(self.all_schedulers(), values)

    # Means over an epoch

    @property
    def epoch_means(self) -> dict[str, Tensor]:
        """The means ``()`` over the epoch so far, by name."""
        return self._means.compute()

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

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Self:
        """Lightning's, which does not notice a damaged file.

        Raises:
            CheckpointError: no such file, a damaged one, or one that does not belong to such a system.
        """
        check_checkpoint_file(checkpoint_path)
        return super().load_from_checkpoint(checkpoint_path, *args, **options)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Says which run this is, and holds the epoch's means and the gradients of a group that is not full."""
        at_start = between_epochs(self.trainer, checkpoint)
        means = self._means.state_dict()
        checkpoint[KEY] = {**describe_run(self), "epoch_means": means, "at_epoch_start": at_start}
        checkpoint["accumulated"] = self.accumulator.state_dict()
        take_rows_out(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another version, model, graph or split, and goes on with what it holds.

        Raises:
            CheckpointError: it does not belong to this system and its data; the message tells what differs.
        """
        check_checkpoint(self, checkpoint)
        put_rows_in(self, checkpoint)
        self.loaded_epoch = checkpoint.get("epoch")
        self._means.load_state_dict(checkpoint[KEY]["epoch_means"])
        self._at_epoch_start = checkpoint[KEY]["at_epoch_start"]
        self.accumulator.load_state_dict(checkpoint["accumulated"])


def descend(optimizer: Optimizer | LightningOptimizer, params: Sequence[nn.Parameter], grads: Sequence[Tensor]) -> None:
    """Steps an optimizer with given gradients, and leaves none behind."""
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
