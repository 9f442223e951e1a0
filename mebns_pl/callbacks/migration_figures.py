"""Draws what the migration monitor sees, into TensorBoard."""

from __future__ import annotations

import copy
import math
import time
from bisect import bisect
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.tensorboard import SummaryWriter

from mebns_pl.analysis import figures
from mebns_pl.analysis.figures import Phases
from mebns_pl.analysis.migration import hard_set
from mebns_pl.callbacks.board import writer_of
from mebns_pl.callbacks.cost import Stopwatch, inspected
from mebns_pl.callbacks.migration import MigrationMonitor, monitor_before
from mebns_pl.checks import expect, within
from mebns_pl.data.datamodule import data_of
from mebns_pl.escaping import in_markdown
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.mebns import MeBNS

PICTURES = "2_migration_pictures"
TAGS = {
    "phases": "1_quality/with_phases",
    "overlap": f"{PICTURES}/overlap",
    "flow": f"{PICTURES}/flow",
    "crossings": f"{PICTURES}/crossings",
    "scores": f"{PICTURES}/scores",
    "most_migrated": f"{PICTURES}/most_migrated",
    "filter": "3_filter/picture",
    "weights": "4_weights/picture",
    "meta_set": "5_meta/picture",
}
"""Where the figures stand in TensorBoard: each behind the values of its group."""

LONGEST = 62
"""Characters of the two names of a pair in a figure."""


@dataclass(frozen=True)
class Frame:
    """What figures of one epoch are drawn from, beside the snapshots up to it.

    Args:
        epoch: 0-based.
        step: the student's updates by its end.
        phases: of the run by then.
        flips: ``(M,)`` crossings of the probe's pairs by then.
        first: of the epoch's first step ``weights``, ``starting``, ``losses`` and ``hardness``, each ``(m,)``; empty
            in warm-up and without a teacher.
        meta: ``mean``, ``std`` and ``labels`` of the meta set, each ``(m,)``; empty where there is none.
    """

    epoch: int
    step: int
    phases: Phases
    flips: Tensor
    first: dict[str, Tensor]
    meta: dict[str, Tensor]


class MigrationFigures(Callback):
    """Figures of a run for TensorBoard, for plain and MeBNS systems alike, at several epochs.

    Validation MRR over churn with the run's phases; overlap of hard sets, what is new in them, crossings, scores over
    time, the pairs that migrated most by name; and with MeBNS filter, weights and meta set. :data:`TAGS` says where
    they stand. Beside them the table of the pairs that migrated most, and when the phases were. Needs a
    :class:`MigrationMonitor` before it among the callbacks, whose scores it reads.

    There are ``frames`` of each, at epochs that part the run evenly and at its end; of a run of no known length after
    1, 2, 4, 8, ... epochs. A frame is drawn as soon as all looking at the run (the monitor's, too) takes no more than
    ``budget`` of the training time, and otherwise when training ends. Nothing is drawn for other loggers than
    TensorBoard's.

    Args:
        max_snapshots: at most so many epochs are kept, evenly spaced: when there are more, every second one goes.
            2 or more, or 0 to keep and draw nothing.
        budget: share of the training time that drawing may take before its end, in [0, 1).
        num_examples: how many pairs are named, 1 ... 8.
        frames: how many epochs are drawn, 1 ... 10: TensorBoard shows no more.

    Cost: no score of its own; ``max_snapshots`` x 1.25 x ``probe_size`` numbers of memory; about a second a frame.

    Example:
        >>> MigrationFigures(budget=0.0).max_snapshots
        50
    """

    _monitor: MigrationMonitor

    def __init__(self, max_snapshots: int = 50, budget: float = 0.03, num_examples: int = 6, frames: int = 5) -> None:
        expect(max_snapshots == 0 or max_snapshots >= 2, "2 or more, or 0 for none", max_snapshots=max_snapshots)
        within("[0, 1)", budget=budget)
        expect(1 <= num_examples <= 8, "1 ... 8", num_examples=num_examples)
        expect(1 <= frames <= 10, "1 ... 10", frames=frames)
        self.max_snapshots = max_snapshots
        self.budget = budget
        self.num_examples = num_examples
        self.frames = frames
        self.stride = 1
        self.epochs: list[int] = []
        self.probe: list[Tensor] = []
        self.positives: list[Tensor] = []
        self.kept: list[float] = []
        self.band: list[list[float]] = []
        self.offered: list[list[float]] = []
        self.mrr: dict[int, float] = {}
        self.watch = Stopwatch()
        self._step: dict[str, Tensor] = {}
        self._waiting: list[Frame] = []
        self._last, self._started, self._before = 1.0, 0.0, 0.0  # seconds of the last drawing: at first a guess

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for the monitor.

        Raises:
            ValueError: no :class:`MigrationMonitor` stands before this callback.
        """
        self._monitor = monitor_before(self, trainer)
        self._started, self._before = time.perf_counter(), inspected(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the epoch's first step."""
        if batch_idx == 0:
            names = ("weights", "starting", "logits", "hardness", "band", "offered")
            self._step = {name: outputs[name] for name in names}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the MRR of a validation during a fit."""
        found = trainer.callback_metrics.get("val/mrr")
        if found is not None and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.mrr[trainer.current_epoch] = float(found)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps a snapshot when one is due, and draws when there is time."""
        with self.watch.running():
            epoch = trainer.current_epoch
            if not self.max_snapshots:
                return
            if epoch % self.stride == 0:
                self._keep(pl_module, epoch)
            if frame_due(epoch, trainer.max_epochs, self.frames) and len(self.epochs) > 1:
                self._waiting.append(self.frame(trainer, pl_module, epoch))
            if self._waiting and self._has_time(trainer):
                self._log(trainer, self._waiting.pop(0))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws what has waited, and the last epoch."""
        with self.watch.running():
            if len(self.epochs) > 1:
                self._waiting.append(self.frame(trainer, pl_module, max(trainer.current_epoch - 1, 0)))
                while self._waiting:
                    self._log(trainer, self._waiting.pop(0))

    def frame(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> Frame:
        """What the figures of the epoch that ends now are drawn from."""
        phases, first, meta = phases_of(pl_module, epoch), {}, {}
        if len(self._step.get("hardness", ())) and epoch >= phases.warmup:
            first = {name: self._step[name].float().cpu() for name in ("weights", "starting", "hardness")}
            first["losses"] = softplus(self._step["logits"].float().cpu())
        found = getattr(pl_module, "meta_set", None)
        if found is not None and phases.refreshes:
            meta = {name: getattr(found, name).cpu() for name in ("mean", "std", "labels")}
        assert self._monitor.tracker.flips is not None
        return Frame(epoch, trainer.global_step, phases, self._monitor.tracker.flips, first, meta)

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Figure]:
        """The figures by name after a fit, of at least two snapshots."""
        return self._drawn(trainer, self.frame(trainer, pl_module, max(trainer.current_epoch - 1, 0)))

    def _drawn(self, trainer: Trainer, frame: Frame) -> dict[str, Figure]:
        phases, when = frame.phases, f", epoch {frame.epoch}"
        count = bisect(self.epochs, frame.epoch)
        epochs, probe, positives = self.epochs[:count], torch.stack(self.probe[:count]), self.positives[:count]
        hard = torch.stack([hard_set(scores, self._monitor.tracker.share) for scores in probe])
        most = self._most_migrated(frame.flips)
        names = self._names(trainer, most, LONGEST)
        mrr = {epoch: value for epoch, value in self.mrr.items() if epoch <= frame.epoch}
        drawn = {}
        if mrr:
            drawn["phases"] = figures.phases_figure(mrr, self._monitor.tracker.churns[: frame.epoch], phases)
        drawn |= {
            "overlap": figures.overlap_figure(hard, epochs, phases),
            "flow": figures.flow_figure(hard, epochs, phases),
            "crossings": figures.flips_figure(frame.flips, when),
            "scores": figures.ridge_figure(torch.stack(positives), probe, hard, epochs, phases),
            "most_migrated": figures.examples_figure(
                names, hard[:, most].t(), frame.flips[most].tolist(), epochs, phases
            ),
        }
        if not any(map(math.isnan, self.band[count - 1])):
            drawn["filter"] = figures.filter_figure(
                epochs, self.kept[:count], self.band[:count], self.offered[:count], phases
            )
        if frame.first:
            drawn["weights"] = figures.weights_figure(**frame.first, when=when)
        if frame.meta:
            drawn["meta_set"] = figures.meta_set_figure(**frame.meta, when=f", of epoch {phases.refreshes[-1]}")
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """The snapshots, the present epoch's first step, and the frames that wait."""
        names = ("stride", "epochs", "probe", "positives", "kept", "band", "offered", "mrr", "_step")
        waiting = [{**vars(frame), "phases": vars(frame.phases)} for frame in self._waiting]
        return {**{name: getattr(self, name) for name in names}, "waiting": waiting}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        waiting = state_dict["waiting"]
        self._waiting = [Frame(**{**found, "phases": Phases(**found["phases"])}) for found in waiting]
        for name, value in state_dict.items():
            if name != "waiting":
                setattr(self, name, copy.copy(value))

    def _keep(self, pl_module: LightningModule, epoch: int) -> None:
        assert isinstance(pl_module, AbstractLinkSystem)
        self.epochs.append(epoch)
        self.probe.append(self._monitor.latest["probe"])
        self.positives.append(self._monitor.latest["positives"])
        self.kept.append(float(pl_module.epoch_means.get("filter/kept_share", 1.0)))
        self.band.append(self._step["band"].tolist())
        self.offered.append(self._step["offered"].tolist())
        if len(self.epochs) > self.max_snapshots:
            self.stride *= 2
            for history in (self.epochs, self.probe, self.positives, self.kept, self.band, self.offered):
                del history[1::2]

    def _has_time(self, trainer: Trainer) -> bool:
        seconds = inspected(trainer) - self._before
        rest = time.perf_counter() - self._started - seconds
        return seconds + self._last < self.budget * rest

    def _most_migrated(self, flips: Tensor) -> Tensor:
        """Places in the probe of the pairs that crossed most often, none twice: a probe can hold a pair twice."""
        order = flips.argsort(descending=True, stable=True)
        pairs = self._monitor.probe.cpu()[:, order].sort(dim=0).values
        again = torch.tensor(pd.DataFrame(pairs.t().numpy()).duplicated().to_numpy())
        return order[~again][: self.num_examples]

    def _names(self, trainer: Trainer, places: Tensor, longest: int | None = None) -> list[str]:
        """Names of pairs, shortened to ``longest`` characters."""
        nodes, pairs = data_of(trainer).loaded.node_names, self._monitor.probe.cpu()[:, places]
        return [" \u2013 ".join(_shortened([nodes[node] for node in pair], longest)) for pair in pairs.t().tolist()]

    def _log(self, trainer: Trainer, frame: Frame) -> None:
        writer = writer_of(trainer)
        if writer is None:
            return
        start = time.perf_counter()
        for name, figure in self._drawn(trainer, frame).items():
            writer.add_figure(TAGS[name], figure, frame.step)
        most = self._most_migrated(frame.flips)
        _write_table(writer, self._names(trainer, most), frame.flips[most].tolist(), frame.step)
        writer.add_text("phases", _told(frame.phases), frame.step)
        self._last = time.perf_counter() - start


def frame_due(epoch: int, num_epochs: int | None, frames: int) -> bool:
    """Whether an epoch ends one of ``frames`` equal parts of the run but for the last, whose end is that of training.

    Args:
        epoch: 0-based.
        num_epochs: of the run; -1 or None where it is not known, and then 1, 2, 4, 8, ... epochs are parts.
        frames: how many parts.

    Example:
        >>> [epoch for epoch in range(100) if frame_due(epoch, 100, 4)], [e for e in range(9) if frame_due(e, -1, 4)]
        ([24, 49, 74], [0, 1, 3, 7])
    """
    done = epoch + 1
    if num_epochs is None or num_epochs < 1:
        return math.log2(done).is_integer()
    return done < num_epochs and done * frames // num_epochs > epoch * frames // num_epochs


def phases_of(system: LightningModule, epoch: int) -> Phases:
    """The phases of a system's run up to an epoch."""
    if not isinstance(system, MeBNS):
        return Phases()
    warmup, learns = system.warmup, system.teacher_epochs
    refreshes = tuple(range(warmup, epoch + 1, system.collector.refresh_epochs))
    # A teacher that follows the student never stops
    frozen = learns if learns and system.teaching.still and learns <= epoch else None
    return Phases(min(warmup, epoch + 1), frozen, refreshes)


def _told(phases: Phases) -> str:
    """The phases in words, for the TEXT tab."""
    if phases == Phases():
        return "No phases: every epoch is like the others."
    lines = [f"Warm-up: {phases.warmup} epochs, in which the student learns from the sampler alone."]
    if phases.frozen is not None:
        lines.append(f"The teacher stops learning with epoch {phases.frozen}.")
    if phases.refreshes:
        lines.append(f"A new meta set with the epochs {', '.join(map(str, phases.refreshes))}.")
    return "\n\n".join(lines)


def _write_table(writer: SummaryWriter, names: list[str], counts: list[int], step: int) -> None:
    rows = "\n".join(f"| {in_markdown(name)} | {count} |" for name, count in zip(names, counts, strict=True))
    writer.add_text(TAGS["most_migrated"], f"| pair | crossings |\n|---|---:|\n{rows}", step)


def _shortened(names: list[str], longest: int | None) -> list[str]:
    """The two names of a pair, each with its middle left out where both together are longer than that."""
    if longest is None or sum(map(len, names)) <= longest:
        return names
    # What one does not need the other may have
    room = [max(longest // 2, longest - len(other)) for other in reversed(names)]
    return [_without_middle(name, most) for name, most in zip(names, room, strict=True)]


def _without_middle(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    end = most // 4
    return f"{name[: most - 1 - end].rstrip()}\u2026{name[-end:].lstrip()}"
