"""What the systems that learn share: optimizers, gradients, means over an epoch, and checkpoints."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from mebns_pl.data.batches import StepSampler
from mebns_pl.distributed.rank_watch import RankWatch
from mebns_pl.distributed.replicas import check_replicas
from mebns_pl.mebns.step import Learner
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.systems.checkpoint_io import use_atomic_files
from mebns_pl.systems.embedding_rows import table_optimizer
from mebns_pl.systems.epoch_means import EpochMeans
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.identity import KEY
from mebns_pl.systems.run_state import begin_epoch_anew, between_epochs, check_checkpoint, describe_run
from mebns_pl.systems.schedulers import step_after_epoch, step_after_validation
from mebns_pl.systems.trainer_options import check_trainer
from mebns_pl.systems.updates import GradientAccumulator, Updates


class AbstractLinkSystem(AbstractEvaluation, ABC):
    """A student predictor that is trained, by manual optimisation, and evaluated; subclasses say how it learns.

    Args:
        student: the predictor that is evaluated and used for prediction.
        updates: accumulation and clipping of the gradients.
    """

    def __init__(self, student: LinkPredictor, updates: Updates = Updates()) -> None:
        super().__init__(student)
        self.automatic_optimization = False
        self.updates = updates
        self.accumulator = GradientAccumulator(updates)
        self._means, self._means_logged = EpochMeans(), False
        self._at_epoch_start = False  # a checkpoint from there was loaded
        self.run_config: dict[str, Any] | None = None  # the command line's options, in plain values

    # Before training

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """The first that Lightning calls: refuses what these systems cannot do, and has the ranks watch each other."""
        check_trainer(self.trainer)
        watched = any(isinstance(callback, RankWatch) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        return [] if watched or self.trainer.world_size == 1 else [RankWatch()]

    def setup(self, stage: str) -> None:
        """As the evaluation's; checkpoint files are written atomically from here on."""
        super().setup(stage)
        use_atomic_files(self.trainer)

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

    def validated(self, values: dict[str, Tensor]) -> None:
        """Steps the schedulers that watch a metric."""
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            step_after_validation(self.all_schedulers(), values)

    # Means over an epoch

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
