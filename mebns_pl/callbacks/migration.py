"""Logs the migration of negatives, for plain and MeBNS systems alike."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mebns_pl.analysis.migration import MigrationTracker, nearest_scores
from mebns_pl.callbacks.cost import Stopwatch
from mebns_pl.checks import expect
from mebns_pl.data.datamodule import data_of
from mebns_pl.keys import permutation
from mebns_pl.systems.link_system import AbstractLinkSystem


class MigrationMonitor(Callback):
    """Scores a fixed probe of legal negatives after every epoch and logs how its hard set changes.

    Logged under ``migration/``: ``churn@1``, ``churn@5``, ``churn@10`` (share of the hard set that was not in it so
    many epochs ago), ``easy_to_hard`` and ``hard_to_easy`` (shares that crossed the probability threshold),
    ``flips_mean`` (how often a pair has entered or left the hard set so far, mean over the probe), ``hard_score`` (the
    lowest logit in the hard set). Of the *sampled* negatives of each epoch's first step (of all ranks) also
    ``picked_turned_easy`` beside ``unpicked_turned_easy``: of those that were hard when picked the share that is easy
    one epoch later, against candidates of equal score that were passed over (regression to the mean moves both).

    Args:
        probe_size: M, pairs of the probe, half uniform and half structural.
        share: rho, the share of the probe that counts as hard, in (0, 1).
        threshold: tau on the probability, in (0, 1).
        lags: lags of the churn, in epochs.

    ``latest`` holds the newest logits on the CPU: those of the ``probe``, ``(M,)``, and of up to ``M / 4`` training
    edges, ``positives``.

    Cost: one encoding and at most 5.25 M decodings an epoch.

    Example:
        >>> MigrationMonitor(probe_size=500).probe_size
        500
    """

    def __init__(
        self, probe_size: int = 2000, share: float = 0.2, threshold: float = 0.5, lags: tuple[int, ...] = (1, 5, 10)
    ) -> None:
        expect(probe_size >= 10, "10 pairs or more", probe_size=probe_size)
        self.probe_size = probe_size
        self.tracker = MigrationTracker(share, threshold, lags)
        self.watch = Stopwatch()
        self.latest: dict[str, Tensor] = {}
        self._watched: dict[str, Tensor] = {}
        self._now: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the probe, and some edges."""
        data = data_of(trainer)
        chosen = permutation(data.split.train.shape[1], data.split_key.child("probe/edges"))[: -(-self.probe_size // 4)]
        drawn = {"probe": data.probe(self.probe_size), "positives": data.split.train[:, chosen]}
        self._watched = {name: pairs.to(pl_module.device) for name, pairs in drawn.items()}

    @property
    def probe(self) -> Tensor:
        """``(2, M)`` the pairs that are watched.

        Raises:
            RuntimeError: before a fit has drawn them.
        """
        if not self._watched:
            raise RuntimeError("MigrationMonitor: the probe is drawn when a fit starts")
        return self._watched["probe"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remembers what the epoch's first step picked and what it passed over."""
        if batch_idx == 0:
            assert isinstance(pl_module, AbstractLinkSystem)
            with self.watch.running():
                whole = {name: pl_module.group.columns_of_all(outputs[name]) for name in ("picked", "unpicked")}
                self._now = {name: pairs[:, : self.probe_size] for name, pairs in whole.items()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scores the probe and the remembered pairs, and logs."""
        with self.watch.running():
            self._log(trainer, self._score(pl_module))

    def _score(self, pl_module: LightningModule) -> dict[str, float]:
        groups = {**self._watched, **self._now}
        groups |= {f"{name} before": pairs for name, pairs in self._before.items()}
        # A checkpoint brings some back on the CPU
        groups = {name: pairs.to(pl_module.device) for name, pairs in groups.items()}
        assert isinstance(pl_module, AbstractLinkSystem)
        scores = pl_module.score(torch.cat(list(groups.values()), dim=1))
        parts = dict(zip(groups, scores.split([pairs.shape[1] for pairs in groups.values()]), strict=True))
        self.latest = {name: parts[name].float().cpu() for name in ("probe", "positives")}
        scalars = self.tracker.update(parts["probe"])
        for name in self._before:
            scalars[f"{name}_turned_easy"] = float((parts[f"{name} before"] < scalars["hard_score"]).float().mean())
        self._before = self._hard_and_controls(parts, groups, scalars["hard_score"])
        self._now = {}
        return {f"migration/{name}": value for name, value in scalars.items()}

    @staticmethod
    def _log(trainer: Trainer, named: dict[str, float]) -> None:
        """Logs as the module's ``log_dict`` would, which takes as long as the scores."""
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in named.items()})
        step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1  # that of all that is logged of an epoch
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": trainer.current_epoch, **named}, step)

    def _hard_and_controls(
        self, scores: dict[str, Tensor], pairs: dict[str, Tensor], level: float
    ) -> dict[str, Tensor]:
        """The picked pairs that are hard now, and for each a passed-over one of the nearest score."""
        hard = scores["picked"] >= level
        if not bool(hard.any()) or not len(scores["unpicked"]):
            return {}
        controls = nearest_scores(scores["picked"][hard], scores["unpicked"])
        return {"picked": pairs["picked"][:, hard], "unpicked": pairs["unpicked"][:, controls]}

    def state_dict(self) -> dict[str, Any]:
        """The tracker's history and the remembered pairs."""
        return {"tracker": self.tracker.state_dict(), "before": dict(self._before), "now": dict(self._now)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the history back."""
        self.tracker.load_state_dict(state_dict["tracker"])
        self._before, self._now = dict(state_dict["before"]), dict(state_dict["now"])


def monitor_before(callback: Callback, trainer: Trainer) -> MigrationMonitor:
    """The monitor that stands before a callback which reads its scores.

    Raises:
        ValueError: there is none.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for other in callbacks[: callbacks.index(callback)]:
        if isinstance(other, MigrationMonitor):
            return other
    raise ValueError(f"callbacks: {type(callback).__name__} reads a MigrationMonitor's scores; put one before it")
