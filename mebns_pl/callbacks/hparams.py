"""A run's main options with what came of them, for TensorBoard's HPARAMS tab."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from mebns_pl.bounded_yaml import load_yaml
from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.data.datamodule import LinkDataModule, data_of
from mebns_pl.files import write_atomically
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.mebns import MeBNS

TESTED = ("test/mrr", "test/hits@10", "test/auc")
"""Metrics of test that the HPARAMS tab shows."""


class HyperParameters(Callback):
    """Writes a finished run's main options and final metrics, so that TensorBoard's HPARAMS tab compares runs.

    Options: ``Encoder``, ``Graph``, ``Proposal``, ``Selector``, ``System``, which the tab shows at first, and
    ``candidates (K)``, ``decoder``, ``engine``, ``lr``, ``seed``. Metrics: ``final/best_val_mrr``, the highest
    validation MRR; ``final/late_churn``, the mean churn@1 over the second half of training, where there is a
    :class:`MigrationMonitor`; and ``test/mrr``, ``test/hits@10`` and ``test/auc`` once the run has been tested.
    ``hparams.yaml`` beside the logs holds the same, with all test metrics. Other loggers than TensorBoard's get
    nothing.

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
        if metrics:
            options = main_options(pl_module, data_of(trainer))
            for logger in _tensorboards(trainer):
                # Declared now: of a folder's events TensorBoard takes the first declaration alone
                for summary in hparams(options, dict.fromkeys([*metrics, *TESTED], 0.0)):
                    logger.experiment._get_file_writer().add_summary(summary)
                logger.log_metrics(metrics)
                logger.save()
                _add_to_file(logger, {**options, **metrics})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the test metrics to ``hparams.yaml``; TensorBoard has them as scalars of the same names."""
        if trainer.is_global_zero:
            tested = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("test/")}
            for logger in _tensorboards(trainer):
                _add_to_file(logger, tested)

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


def _tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _add_to_file(logger: TensorBoardLogger, values: Mapping[str, str | int | float]) -> None:
    """Puts values into ``hparams.yaml`` beside those that it has."""
    path = Path(logger.log_dir, logger.NAME_HPARAMS_FILE)
    before = load_yaml(path.read_text("utf-8"), path) if path.is_file() else None
    write_atomically(path, yaml.safe_dump({**(before or {}), **values}, sort_keys=True))


def _name(part: object) -> str:
    return type(part).__name__
