"""A run's main options with what came of them, for TensorBoard's HPARAMS tab."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.data.datamodule import LinkDataModule, data_of
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.mebns import MeBNS


class HyperParameters(Callback):
    """Writes a finished run's main options and final metrics, so that TensorBoard's HPARAMS tab compares runs.

    Options: ``Encoder``, ``Graph``, ``Proposal``, ``Selector``, ``System``, which the tab shows at first, and
    ``candidates (K)``, ``decoder``, ``engine``, ``lr``, ``seed``. Metrics: ``final/best_val_mrr``, the highest
    validation MRR, and ``final/late_churn``, the mean churn@1 over the second half of training, where there is a
    :class:`MigrationMonitor`. Other loggers than TensorBoard's get nothing.

    Example:
        >>> HyperParameters().best is None
        True
    """

    def __init__(self) -> None:
        self.best: float | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the highest MRR of validations during a fit."""
        found = trainer.callback_metrics.get("val/mrr")
        if found is not None and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.best = max(float(found), self.best if self.best is not None else float("-inf"))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes."""
        if not trainer.is_global_zero:
            return
        metrics = {} if self.best is None else {"final/best_val_mrr": self.best}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, MigrationMonitor) and callback.tracker.churns:
                metrics["final/late_churn"] = callback.tracker.late_churn()
        assert isinstance(pl_module, AbstractLinkSystem)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and metrics:
                logger.log_hyperparams(main_options(pl_module, data_of(trainer)), metrics)

    def state_dict(self) -> dict[str, Any]:
        """The highest MRR so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self.best = state_dict["best"]


def main_options(system: AbstractLinkSystem, data: LinkDataModule) -> dict[str, str | int | float]:
    """What tells runs apart, by name; "none" where a run does not have it. See :class:`HyperParameters`."""
    student = system.student
    group = system.all_optimizers()[0].optimizer.param_groups[0]
    # The tab shows the first five by name, upper case before lower, and only what the first of the runs has
    return {
        "Encoder": _name(student.encoder if isinstance(student, EncoderDecoder) else student),
        "Graph": data.loaded.name,
        "Proposal": _name(system.sampler.proposal),
        "Selector": _name(system.sampler.selector),
        "System": _name(system),
        "candidates (K)": system.sampler.num_candidates,
        "decoder": _name(student.decoder) if isinstance(student, EncoderDecoder) else "none",
        "engine": _name(system.engine) if isinstance(system, MeBNS) else "none",
        "lr": float(group.get("initial_lr", group["lr"])),
        "seed": data.key.seed,
    }


def _name(part: object) -> str:
    return type(part).__name__
