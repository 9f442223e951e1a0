"""``metrics.json``: what came of a run, for programs to read; and a word to people where nothing came of it."""

from __future__ import annotations

import logging
import math
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mebns_pl.analysis.card import shared_pairs
from mebns_pl.analysis.collapse import FitTraces, Note, ReluWatch, are_constant, constant_scores, fit_notes, oracle
from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.callbacks.preemption import Preemption
from mebns_pl.data.datamodule import LinkDataModule, data_of
from mebns_pl.metrics_json import NAME, read_metrics, write_metrics
from mebns_pl.models.batching import FullGraph
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.mebns import MeBNS
from mebns_pl.systems.run_state import run_folder
from mebns_pl.systems.trainer_options import callbacks_of
from mebns_pl.types import EvalBatch

log = logging.getLogger(__name__)

UNFINISHED = ("equal-weights", "never-left-warm-up", "best-epoch-in-warmup")
"""Notes that more epochs may take back."""
WEIGHTS = ("weights/unevenness", "weights/learned", "weights/signal")
"""What the last epoch tells of the weights."""
_WATCHED = 500
_MOST_COUNTED = 10**8
_COUNTED_AT_ONCE = 2**22


class MetricsFile(Callback):
    """Writes ``metrics.json`` into the run's folder: after each validation, at the end of ``fit``, and after ``test``.

    A fit that has come to nothing is told of in the log, with the usual remedy: constant scores, dead units, a loss at
    ln 2, a weight net that adds nothing, a best epoch within warm-up, a run that never left it. The same notes are in
    the file.

    The file is strict JSON (NaN and infinity are null) and at every moment whole; what a stage writes leaves the other
    stages' parts as they are. A run that goes on from a checkpoint goes on with its curves. docs/data_and_evaluation.md
    has the keys.

    Args:
        folder: the run's folder; None takes the logger's, and without a logger nothing is written.

    Example:
        >>> MetricsFile().curves
        {}
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = folder
        self.curves: dict[str, list[float | None]] = {}
        self.best: dict[str, Any] = {}
        self._watched, self._sign = "val/mrr", 1.0
        self._before, self._since = 0.0, 0.0
        self._path: Path | None = None
        self._told: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the folder, on all ranks."""
        self._path = metrics_path(trainer, self.folder)

    # Fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count time and memory, and looks up what tells the best epoch."""
        self._since = time.perf_counter()
        _forget_peak(pl_module.device)
        saver = trainer.checkpoint_callback
        if isinstance(saver, ModelCheckpoint) and saver.monitor:
            self._watched, self._sign = saver.monitor, -1.0 if saver.mode == "min" else 1.0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps a point of the curves, and writes."""
        if (
            trainer.state.fn != TrainerFn.FITTING
            or trainer.sanity_checking
            or not isinstance(pl_module, AbstractLinkSystem)
        ):
            return
        found = trainer.callback_metrics
        values = {name: float(value) for name, value in found.items() if name.startswith("val/")}
        means = {name: float(value) for name, value in pl_module.epoch_means.items()}
        if not self._chosen_late(trainer):
            self._compare(trainer, found, values)
        point: dict[str, float | None] = {"epoch": trainer.current_epoch, "train/loss": means.get("train/student_loss")}
        for found_in, names in ((values, ("val/mrr", "val/hits@10", "val/auc")), (means, WEIGHTS[:2])):
            point |= {name: found_in[name] for name in names if name in found_in}
        self._keep(point)
        self._write_fit(trainer, pl_module, trainer.current_epoch + trainer.is_last_batch)
        if trainer.is_global_zero and self._constant(pl_module):
            self._tell([constant_scores()])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares what checkpoints are chosen by where that is known only now, such as a loss, and writes."""
        if not isinstance(pl_module, AbstractLinkSystem) or not self._chosen_late(trainer):
            return
        found = {**trainer.callback_metrics, **pl_module.epoch_means}
        fresh = self.curves.get("epoch", [])[-1:] == [trainer.current_epoch]
        values = {name: float(value) for name, value in found.items() if fresh and name.startswith("val/")}
        self._compare(trainer, found, values)
        self._write_fit(trainer, pl_module, trainer.current_epoch + 1)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what the last epoch has left, and what a person must know."""
        if isinstance(pl_module, AbstractLinkSystem) and trainer.is_global_zero:
            self._write_fit(trainer, pl_module, trainer.current_epoch)
            notes = self._notes(trainer, pl_module)
            self._tell(notes)
            if self._path is not None:
                found = read_metrics(self._path)
                if "val" in pl_module.scored:
                    found["fit"]["val_negatives"] = count_val_negatives(data_of(trainer))
                last = {name: trainer.callback_metrics.get(name) for name in WEIGHTS}
                found["fit"]["diagnosis"] = {name: float(value) for name, value in last.items() if value is not None}
                write_metrics(self._path, with_notes(found, "fit", notes))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """After a fit adds what the system has found out about its negatives, which comes after all callbacks."""
        if stage != "fit" or not isinstance(pl_module, AbstractLinkSystem) or not pl_module.diagnosis:
            return
        if self._path is not None and trainer.is_global_zero and "fit" in (found := read_metrics(self._path)):
            found["fit"]["diagnosis"] = {**found["fit"].get("diagnosis", {}), **pl_module.diagnosis}
            write_metrics(self._path, found)

    def _notes(self, trainer: Trainer, system: AbstractLinkSystem) -> list[Note]:
        traces = FitTraces(
            losses=self.curves.get("train/loss", []),
            constant=self._constant(system),
            dead=dead_units_of(system, data_of(trainer).split.train),
            warmup=warmup_of(system),
            epochs=trainer.current_epoch,
            best_epoch=self.best.get("epoch"),
            unevenness=self._last("weights/unevenness"),
            learned=self._last("weights/learned"),
            moved=not isinstance(system, MeBNS) or bool(system.weight_net.last.weight.any()),  # it starts at zero
        )
        notes = [*([oracle()] if data_of(trainer).oracle else []), *fit_notes(traces)]
        if any(callback.preempted for callback in callbacks_of(trainer, Preemption)):
            notes = [note for note in notes if note.code not in UNFINISHED]  # it goes on
        return notes

    def _constant(self, system: AbstractLinkSystem) -> bool:
        scored = system.scored.get("val")
        return scored is not None and are_constant(torch.cat([scored.positive, scored.negative]))

    def _tell(self, notes: Sequence[Note]) -> None:
        """Logs each kind of note once."""
        for note in notes:
            if note.code not in self._told:
                log.warning("%s: %s", note.code, note.text)
                self._told.add(note.code)

    def _chosen_late(self, trainer: Trainer) -> bool:
        """Whether checkpoints are chosen at the end of epochs, by what is not known at validation, such as a loss."""
        saver = trainer.checkpoint_callback
        late = isinstance(saver, ModelCheckpoint) and saver._should_save_on_train_epoch_end(trainer)
        return late and not self._watched.startswith("val/")

    def _compare(self, trainer: Trainer, found: Mapping[str, Any], values: Mapping[str, float]) -> None:
        """Takes the epoch for the best one if it is, by what checkpoints are chosen by; NaN is worse than any number.

        Args:
            trainer: the run's.
            found: all that is known by now.
            values: the metrics of this epoch's validation.
        """
        known = {"epoch": trainer.current_epoch, "step": trainer.global_step, **found}
        watched = float(known.get(self._watched, math.nan))
        if not self.best or self._worth(watched) > self._worth(self.best["value"]):
            of_stage = {name.removeprefix("val/"): value for name, value in values.items()}
            self.best = {"epoch": trainer.current_epoch, "value": watched, "val": of_stage}

    def _worth(self, value: float) -> float:
        return -math.inf if math.isnan(value) else self._sign * value

    def _last(self, name: str) -> float | None:
        """The last number of a curve, or None where it has none."""
        return next((value for value in reversed(self.curves.get(name, [])) if value is not None), None)

    def _keep(self, point: Mapping[str, float | None]) -> None:
        """Adds a point; a curve that begins late, such as that of the weights, has None before."""
        count = len(self.curves.get("epoch", ()))
        for name in {**self.curves, **point}:
            self.curves.setdefault(name, [None] * count).append(point.get(name))

    def _write_fit(self, trainer: Trainer, system: AbstractLinkSystem, epochs: int) -> None:
        if not trainer.is_global_zero or self._path is None:
            return
        trackers = [callback.tracker for callback in callbacks_of(trainer, MigrationMonitor)]
        fit = {
            "epochs": epochs,
            "best_epoch": self.best.get("epoch"),
            "warmup_epochs": warmup_of(system),
            "oracle": data_of(trainer).oracle,
            "seconds": self._seconds(),
            "peak_memory_mib": _peak_memory(system.device) / 2**20,
            "val": self.best.get("val", {}),
            "curves": self.curves,
            "churn": _mean([tracker.churns for tracker in trackers]),
            "late_churn": _mean([[tracker.late_churn()] for tracker in trackers]),
            "unevenness": self._last("weights/unevenness"),
        }
        write_metrics(self._path, {**read_metrics(self._path), "fit": fit})

    def _seconds(self) -> float:
        return self._before + time.perf_counter() - self._since

    def state_dict(self) -> dict[str, Any]:
        """The curves, the best validation, and the seconds so far."""
        return {"curves": {name: list(curve) for name, curve in self.curves.items()}, "best": dict(self.best),
                "seconds": self._seconds()}  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        self.curves = {name: list(curve) for name, curve in state_dict["curves"].items()}
        self.best, self._before = dict(state_dict["best"]), float(state_dict["seconds"])

    # Test

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count time, and forgets the test before, of another checkpoint perhaps."""
        self._since = time.perf_counter()
        if trainer.is_global_zero and self._path is not None:
            found = read_metrics(self._path)
            if found.keys() & {"test", "card"}:
                rest = {name: part for name, part in found.items() if name not in ("test", "card")}
                write_metrics(self._path, with_notes(rest, "test", []))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the metrics, and which checkpoint they are of."""
        if not trainer.is_global_zero or self._path is None:
            return
        test = {
            "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
            "epoch": getattr(pl_module, "loaded_epoch", None),
            "seconds": time.perf_counter() - self._since,
            "metrics": metrics_of_test(trainer),
        }
        found = read_metrics(self._path)
        write_metrics(self._path, {**found, "test": {**found.get("test", {}), **test}})


def metrics_path(trainer: Trainer, folder: str | Path | None = None) -> Path | None:
    """Where a trainer's ``metrics.json`` belongs, or None without a folder of logs; to be asked on all ranks."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    if folder is None:
        folder = run_folder(trainer)
    return None if folder is None else Path(folder) / NAME


def metrics_of_test(trainer: Trainer) -> dict[str, float]:
    """The metrics of a test by their short names: ``mrr``, ``hits@10``, ``auc``, ..."""
    logged = trainer.callback_metrics.items()
    return {name.removeprefix("test/"): float(value) for name, value in logged if name.startswith("test/")}


def with_notes(found: Mapping[str, Any], stage: str, notes: Sequence[Note]) -> dict[str, Any]:
    """What a ``metrics.json`` holds with the notes of a stage in the place of those it had before.

    Args:
        found: what is there.
        stage: ``fit`` or ``test``.
        notes: its notes; a kind that the other stage has told of is not told again.
    """
    others = [note for note in found.get("notes", []) if note.get("stage") != stage]
    told = {note["code"] for note in others}
    new = [{"code": note.code, "text": note.text, "stage": stage} for note in notes if note.code not in told]
    return {**found, "notes": others + new}


def dead_units_of(system: AbstractEvaluation, pairs: Tensor) -> tuple[int, int]:
    """Dead units of the student's worst layer, on some of ``pairs`` ``(2, m)``, and of how many; (0, 0) where not seen.

    Seen are students that encode the whole graph: one encoding more is cheap there.
    """
    if not isinstance(system.batching, FullGraph):
        return 0, 0
    with ReluWatch() as watch:
        system.score(pairs[:, :_WATCHED].to(system.device))
    dead: tuple[int, int] = watch.worst
    return dead


def count_val_negatives(data: LinkDataModule) -> dict[str, int]:
    """How many negatives validation edges have in all, and how many of them are test edges; nothing where too many.

    Validation must not know test edges, so its negatives do not avoid them.
    """
    batch = data.eval_set("val")
    edges, size = data.split.test, data.loaded.num_nodes
    if batch.num_negatives is None:
        parts = [batch.random_negatives]
    elif batch.positives.shape[1] * batch.num_negatives > _MOST_COUNTED:
        return {}
    else:
        parts = [_counting(part) for part in batch.parts(_COUNTED_AT_ONCE)]
    total = sum(negatives[0].numel() for negatives in parts)
    if total > _MOST_COUNTED:
        return {}
    return {"total": total, "test_edges": sum(shared_pairs(negatives, edges, size) for negatives in parts)}


def _counting(batch: EvalBatch) -> Tensor:
    """``(2, m)``: the negatives that count."""
    assert batch.negatives is not None
    return batch.negatives.flatten(1) if batch.repeated is None else batch.negatives[:, ~batch.repeated]


def warmup_of(system: LightningModule) -> int:
    """For how many epochs a system trains like the sampler alone: 0 but for MeBNS."""
    return system.warmup if isinstance(system, MeBNS) else 0


def _mean(lists: Sequence[Sequence[float]]) -> float | None:
    values = [value for one in lists for value in one]
    return sum(values) / len(values) if values else None


def _forget_peak(device: torch.device) -> None:
    """Begins to measure the most memory anew, as far as the system lets one: a process may run several fits."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed
        return


def _peak_memory(device: torch.device) -> int:
    """Bytes: the most that was allocated on a GPU, or that the process held on the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
