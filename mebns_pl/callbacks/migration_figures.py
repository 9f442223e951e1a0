"""Draws what the migration monitor sees, into TensorBoard."""

from __future__ import annotations

import copy
import time
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.tensorboard import SummaryWriter

from mebns_pl.analysis import figures
from mebns_pl.analysis.migration import hard_set
from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.checks import expect, within
from mebns_pl.data.datamodule import data_of
from mebns_pl.escaping import in_markdown

LAYOUT = {
    "Migration": {
        "Share of the hard set that is new": ["Multiline", [r"migration/churn@\d+"]],
        "Crossings of the probability threshold": ["Multiline", [r"migration/(easy_to_hard|hard_to_easy)"]],
        "Hard when drawn, easy an epoch later": ["Multiline", [r"migration/(un)?picked_turned_easy"]],
        "Crossings of a pair so far": ["Multiline", [r"migration/flips_mean"]],
    },
    "Quality": {
        "Validation MRR": ["Multiline", [r"val/mrr"]],
        "Validation AUC": ["Multiline", [r"val/auc"]],
    },
    "Teacher and weights": {
        "Share of candidates kept": ["Multiline", [r"filter/kept_share"]],
        "Hardness of what is picked": ["Multiline", [r"filter/hardness"]],
        "Unevenness of the weights": ["Multiline", [r"weights/unevenness"]],
    },
}
"""TensorBoard's custom scalars: charts that show all selected runs together."""


class MigrationFigures(Callback):
    """Figures of migration for TensorBoard, for plain and MeBNS systems alike.

    Under ``figures/``: overlap of hard sets, flow between easy and hard, crossings, scores over time, the pairs that
    migrated most by name, and with MeBNS weights, filter and meta set. Beside them the table ``figures/most_migrated``
    and a layout of custom scalars that shows several runs in one chart. Needs a :class:`MigrationMonitor` before it
    among the callbacks, whose scores it reads.

    Drawn after an epoch whenever all drawing so far has taken no more than ``budget`` of the training time, and once
    more when training ends. Nothing is drawn for other loggers than TensorBoard's.

    Args:
        max_snapshots: at most so many epochs are kept, evenly spaced: when there are more, every second one goes.
            2 or more, or 0 to keep and draw nothing.
        budget: share of the training time that drawing may take, in [0, 1); 0 draws at the end only.
        num_examples: how many pairs are named, 1 ... 12.

    Cost: no score of its own; ``max_snapshots`` x 1.25 x ``probe_size`` numbers of memory; about a second a drawing.

    Example:
        >>> MigrationFigures(budget=0.0).max_snapshots
        50
    """

    _monitor: MigrationMonitor

    def __init__(self, max_snapshots: int = 50, budget: float = 0.05, num_examples: int = 8) -> None:
        expect(max_snapshots == 0 or max_snapshots >= 2, "2 or more, or 0 for none", max_snapshots=max_snapshots)
        within("[0, 1)", budget=budget)
        expect(1 <= num_examples <= 12, "1 ... 12", num_examples=num_examples)
        self.max_snapshots = max_snapshots
        self.budget = budget
        self.num_examples = num_examples
        self.stride = 1
        self.epochs: list[int] = []
        self.probe: list[Tensor] = []
        self.positives: list[Tensor] = []
        self.kept: list[float] = []
        self.band: list[list[float]] = []
        self._step: dict[str, Tensor] = {}
        self._drawing, self._last = 0.0, 2.0  # seconds of all drawings, and of the last: at first a guess
        self._started = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for the monitor, and lays the scalars out.

        Raises:
            ValueError: no :class:`MigrationMonitor` stands before this callback.
        """
        before = trainer.callbacks[: trainer.callbacks.index(self)]  # type: ignore[attr-defined]
        monitor = next((callback for callback in before if isinstance(callback, MigrationMonitor)), None)
        if monitor is None:
            raise ValueError("callbacks: MigrationFigures reads a MigrationMonitor's scores; put one before it")
        self._monitor = monitor
        self._drawing, self._last, self._started = 0.0, 2.0, time.perf_counter()
        writer = _writer(trainer)
        if writer is not None:
            writer.add_custom_scalars(LAYOUT)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the epoch's first step."""
        if batch_idx == 0:
            names = ("weights", "logits", "hardness", "band", "kept_share")
            self._step = {name: outputs[name] for name in names}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps a snapshot when one is due, and draws when there is time."""
        epoch = trainer.current_epoch
        if not self.max_snapshots or epoch % self.stride:
            return
        self.epochs.append(epoch)
        self.probe.append(self._monitor.latest["probe"])
        self.positives.append(self._monitor.latest["positives"])
        self.kept.append(float(self._step["kept_share"]))
        self.band.append(self._step["band"].tolist())
        if len(self.epochs) > self.max_snapshots:
            self.stride *= 2
            for history in (self.epochs, self.probe, self.positives, self.kept, self.band):
                del history[1::2]
        elapsed = time.perf_counter() - self._started
        if len(self.epochs) > 1 and self._drawing + self._last < self.budget * elapsed:
            self._log(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws once more."""
        if len(self.epochs) > 1:
            self._log(trainer, pl_module)

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Figure]:
        """The figures by name, of at least two snapshots."""
        probe, positives = torch.stack(self.probe), torch.stack(self.positives)
        hard = torch.stack([hard_set(scores, self._monitor.tracker.share) for scores in probe])
        most = self._most_migrated()
        names = self._names(trainer, most, longest=15)
        border = torch.stack([scores[members].min() for scores, members in zip(probe, hard, strict=True)])
        drawn = {
            "overlap": figures.overlap_figure(hard, self.epochs),
            "flow": figures.flow_figure(hard, self.epochs),
            "crossings": figures.flips_figure(self._flips()),
            "scores": figures.ridge_figure(positives, probe, hard, self.epochs),
            "most_migrated": figures.examples_figure(names, probe[:, most].t(), border, self.epochs),
        }
        if len(self._step.get("hardness", ())):
            parts = (self._step["weights"], softplus(self._step["logits"]), self._step["hardness"])
            drawn["weights"] = figures.weights_figure(*(part.float().cpu() for part in parts))
            drawn["filter"] = figures.filter_figure(self.epochs, self.kept, self.band)
        meta = getattr(trainer.lightning_module, "meta_set", None)
        if meta is not None:
            drawn["meta_set"] = figures.meta_set_figure(meta.mean.cpu(), meta.std.cpu(), meta.labels.cpu())
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """The snapshots, and the present epoch's first step."""
        names = ("stride", "epochs", "probe", "positives", "kept", "band", "_step")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the snapshots back."""
        for name, value in state_dict.items():
            setattr(self, name, copy.copy(value))

    def _flips(self) -> Tensor:
        assert self._monitor.tracker.flips is not None
        return self._monitor.tracker.flips

    def _most_migrated(self) -> Tensor:
        """Places in the probe of the pairs that crossed most often, none twice: a probe can hold a pair twice."""
        order = self._flips().argsort(descending=True, stable=True)
        pairs = self._monitor.probe.cpu()[:, order].sort(dim=0).values
        again = torch.tensor(pd.DataFrame(pairs.t().numpy()).duplicated().to_numpy())
        return order[~again][: self.num_examples]

    def _names(self, trainer: Trainer, places: Tensor, longest: int | None = None) -> list[str]:
        """Names of pairs; those of nodes are cut to ``longest`` characters."""
        nodes = data_of(trainer).loaded.node_names
        if longest is not None:
            nodes = [name if len(name) <= longest else f"{name[: longest - 1].rstrip()}\u2026" for name in nodes]
        pairs = self._monitor.probe.cpu()[:, places]
        return [f"{nodes[u]} \u2013 {nodes[v]}" for u, v in pairs.t().tolist()]

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = _writer(trainer)
        if writer is None:
            return
        start = time.perf_counter()
        for name, figure in self.draw(trainer, pl_module).items():
            writer.add_figure(f"figures/{name}", figure, trainer.global_step)
        most = self._most_migrated()
        rows = zip(self._names(trainer, most), self._flips()[most].tolist(), strict=True)
        table = "| pair | crossings |\n|---|---:|\n" + "\n".join(
            f"| {in_markdown(name)} | {count} |" for name, count in rows
        )
        writer.add_text("figures/most_migrated", table, trainer.global_step)
        self._last = time.perf_counter() - start
        self._drawing += self._last


def _writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer, on the rank that writes."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return loggers[0].experiment if loggers and trainer.is_global_zero else None
