"""The evaluation card: what a test's metrics are worth, for people, after the table of metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.text import Text

from mebns_pl.analysis import card
from mebns_pl.analysis.collapse import Note, are_constant, at_chance, constant_scores, dead_units
from mebns_pl.analysis.probe_history import NAME as HISTORY
from mebns_pl.analysis.probe_history import read_history
from mebns_pl.analysis.verdict import Evidence, verdict
from mebns_pl.bounded_yaml import load_yaml
from mebns_pl.callbacks.metrics_file import (
    dead_units_of,
    metrics_of_test,
    metrics_path,
    with_notes,
)
from mebns_pl.checks import at_least
from mebns_pl.data.datamodule import LinkDataModule, data_of
from mebns_pl.errors import DataError
from mebns_pl.metrics.stage import StageScores
from mebns_pl.metrics_json import NAME, read_metrics, write_metrics
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.terminal import card_table
from mebns_pl.types import EvalBatch

log = logging.getLogger(__name__)

COLUMNS = ("mrr", "hits@10", "auc")
_SHARED = ("predictor", "sampler", "optimizer", "loss", "updates", "batching")
"""What a run and its control have in common, of the system's arguments."""
_MOST_SIBLINGS = 200


@dataclass(frozen=True)
class Card:
    """What a test's metrics are held against, and what follows.

    Args:
        metrics: the test's.
        intervals: 95 % bootstrap intervals over test edges, by metric.
        chance: the metrics of a random order.
        heuristics: those of heuristics, best MRR first; empty where they were left out.
        plain: those of the plain control, or None.
        plain_run: the control's folder, or None.
        num_negatives: that each edge is ranked against.
        num_distinct_negatives: how many of them are distinct, mean over edges.
        sentences: what a person should know, the recommendation last.
        notes: what is wrong.

    Example:
        >>> Card({"mrr": 0.3}, {}, {}, {}, None, None, 10, 10.0, ["Fine."]).recommendation
        'Fine.'
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    chance: dict[str, float]
    heuristics: dict[str, dict[str, float]]
    plain: dict[str, float] | None
    plain_run: str | None
    num_negatives: int
    num_distinct_negatives: float
    sentences: list[str]
    notes: list[Note] = field(default_factory=list)

    @property
    def recommendation(self) -> str:
        """What to do."""
        return self.sentences[-1]

    def rows(self, name: str) -> dict[str, dict[str, float]]:
        """The table's rows: the model, the control, the heuristics, chance."""
        plain = {} if self.plain is None else {"Plain, the control": self.plain}
        return {name: self.metrics, **plain, **self.heuristics, "chance": self.chance}

    def as_json(self) -> dict[str, Any]:
        """The ``card`` of a ``metrics.json``."""
        parts = asdict(self)
        for elsewhere in ("metrics", "intervals", "notes", "sentences"):
            del parts[elsewhere]
        return {**parts, "sentences": self.sentences[:-1], "recommendation": self.recommendation}


class EvaluationCard(Callback):
    """After a test holds its metrics against chance, heuristics and the plain control, and says what follows.

    Heuristics score the same test edges against the same negatives. The plain control is a run with ``Plain`` beside
    this one, in a sibling folder, of the same data, seed, predictor and sampler, that has been tested. Intervals are
    percentile bootstrap intervals over test edges. The card goes to the terminal and into the run's ``metrics.json``.

    Args:
        max_pairs: heuristics are left out, which is said, where more pairs than that are scored; 0 never tries them.
        max_edges: the same for the edges of the graph.
        resamples: of the bootstrap.
        show: whether the card is printed.

    Raises:
        ValueError: a number below 0, or no resamples.

    Example:
        >>> EvaluationCard(max_pairs=0).card is None
        True
    """

    def __init__(
        self, max_pairs: int = 5_000_000, max_edges: int = 2_000_000, resamples: int = 1000, show: bool = True
    ) -> None:
        at_least(0, max_pairs=max_pairs, max_edges=max_edges)
        at_least(1, resamples=resamples)
        self.max_pairs = max_pairs
        self.max_edges = max_edges
        self.resamples = resamples
        self.show = show
        self.folder: str | Path | None = None
        """The run's folder; None takes the logger's."""
        self.card: Card | None = None
        """Of the last test, on rank 0."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the card, prints it, and writes it."""
        path = metrics_path(trainer, self.folder)  # asked on all ranks
        if not trainer.is_global_zero or not isinstance(pl_module, AbstractEvaluation):
            return
        found = {} if path is None else read_metrics(path)
        self.card = self._made(pl_module, data_of(trainer), metrics_of_test(trainer), found, path)
        if self.show:
            self._print(Console(), type(pl_module).__name__, self.card)
        else:
            for note in self.card.notes:
                log.warning("%s: %s", note.code, note.text)
        if path is not None:
            test = {**found.get("test", {}), "metrics": self.card.metrics, "intervals": self.card.intervals}
            write_metrics(
                path, with_notes({**found, "test": test, "card": self.card.as_json()}, "test", self.card.notes)
            )

    def _made(
        self,
        system: AbstractEvaluation,
        data: LinkDataModule,
        metrics: dict[str, float],
        found: Mapping[str, Any],
        path: Path | None,
    ) -> Card:
        batch, scored = data.eval_set("test"), system.scored["test"]
        shared = batch.num_negatives is None
        num_negatives = batch.num_negatives or batch.random_negatives.shape[1]
        patterns = card.patterns_of(batch, data.loaded.num_nodes)
        by_chance = card.chance(patterns, batch.positives.shape[1], batch.random_negatives.shape[1])
        reciprocal = 1 / scored.ranks.cpu().numpy()
        intervals = {"mrr": card.bootstrap_interval(reciprocal, self.resamples)}
        if not shared:  # shared negatives have a rule of their own for Hits
            hits = (scored.ranks <= 10).double().cpu().numpy()
            intervals["hits@10"] = card.bootstrap_interval(hits, self.resamples)
        whole = len(reciprocal) == batch.positives.shape[1]
        rivals, notes = self._heuristics(batch, data) if whole else ({}, [_of_a_part(len(reciprocal), batch)])
        best = next(iter(rivals), None)
        rival = None
        if best is not None:
            ahead = card.bootstrap_interval(reciprocal - 1 / rivals[best].ranks, self.resamples)
            rival = card.Rival(best, rivals[best].metrics["mrr"], ahead)
        name = type(system).__name__
        control = plain_control(path.parent) if path is not None and name == "MeBNS" and whole else None
        plain = None if control is None else read_metrics(control / NAME)["test"]["metrics"]
        distinct = patterns.sum(axis=1)
        fit = found.get("fit", {})
        counted = fit.get("val_negatives", {})
        sentences = [
            card.of_all_nodes(float(distinct.mean()), int(distinct.min()))
            if batch.negatives is None and not shared
            else card.of_negatives(num_negatives, float(distinct.mean()), int(distinct.min()), shared),
            card.val_and_test(
                fit.get("val", {}).get("mrr"), metrics["mrr"], counted.get("total"), counted.get("test_edges")
            ),
            *(note.text[0].upper() + note.text[1:] + "." for note in notes),
            *_migration(path, control),
            card.recommendation(
                metrics["mrr"], intervals["mrr"], by_chance["mrr"], rival, name, plain["mrr"] if plain else None
            ),
        ]
        wrong = [*self._wrong(system, scored, data), *at_chance(intervals["mrr"], by_chance["mrr"], metrics["auc"])]
        return Card(
            metrics=metrics,
            intervals=intervals,
            chance=by_chance,
            heuristics={name: found.metrics for name, found in rivals.items()},
            plain=plain,
            plain_run=None if control is None else str(control),
            num_negatives=num_negatives,
            num_distinct_negatives=float(distinct.mean()),
            sentences=[sentence for sentence in sentences if sentence],
            notes=wrong,
        )

    def _heuristics(self, batch: EvalBatch, data: LinkDataModule) -> tuple[dict[str, card.Scored], list[Note]]:
        pairs, edges = card.num_pairs(batch), data.loaded.num_edges
        if pairs <= self.max_pairs and edges <= self.max_edges:
            return card.heuristic_results(batch, data.test_graph), []
        limits = f"card.max_pairs is {self.max_pairs:,} and card.max_edges {self.max_edges:,}"
        return {}, [Note("no-heuristics", f"heuristics are left out: {pairs:,} pairs, {edges:,} edges, and {limits}")]

    def _wrong(self, system: AbstractEvaluation, scored: StageScores, data: LinkDataModule) -> list[Note]:
        constant = are_constant(torch.cat([scored.positive, scored.negative]))
        learns = any(True for _ in system.parameters())
        dead = dead_units_of(system, data.split.train) if learns else (0, 0)
        return [*([constant_scores()] if constant else []), *dead_units(dead)]

    def _print(self, console: Console, name: str, made: Card) -> None:
        low, high = (100 * end for end in made.intervals["mrr"])
        title = f"this model ({name})"
        console.print("\nBeside chance and heuristics, on the same edges and negatives, in %")
        console.print(card_table(made.rows(title), COLUMNS, {title: f"{low:.2f} to {high:.2f}"}))
        for sentence in made.sentences[:-1]:
            console.print(Text(sentence))
        for note in made.notes:
            console.print(Text(f"{note.code}: {note.text}."))
        console.print(Text(f"Recommendation: {made.recommendation}", "bold"))


def _of_a_part(num_edges: int, batch: EvalBatch) -> Note:
    every = batch.positives.shape[1]
    return Note(
        "part-of-test",
        f"only {num_edges:,} of {every:,} test edges were scored (trainer.limit_test_batches), so heuristics and the "
        "control, which are of all, are left out",
    )


def _migration(path: Path | None, control: Path | None) -> list[str]:
    """What a run shows of migration, in sentences; nothing of one that was not trained here."""
    if path is None or not (mine := _evidence(path.parent)).fit:
        return []
    return [finding.text for finding in verdict(mine, None if control is None else _evidence(control))]


def _evidence(run: Path) -> Evidence:
    try:
        history = read_history(run / HISTORY)
    except DataError:  # none was kept, or it is damaged, which need not spoil a test
        history = None
    return Evidence(read_metrics(run / NAME).get("fit", {}), history)


def plain_control(run: Path) -> Path | None:
    """The newest tested run with ``Plain`` beside a run, of the same data, seed, predictor, sampler and epochs.

    Args:
        run: the run's folder ``<save_dir>/<name>/version_N``; controls are looked for in ``<save_dir>/*/version_*``.

    Example:
        >>> plain_control(Path("nowhere/mebns/version_0")) is None
        True
    """
    mine = _terms(run)
    if mine is None:
        return None
    folders = [path.parent for path in run.parent.parent.glob("*/version_*/metrics.json") if path.parent != run]
    folders.sort(key=lambda folder: (folder.stat().st_mtime_ns, str(folder)), reverse=True)
    for folder in folders[:_MOST_SIBLINGS]:
        if "mrr" in read_metrics(folder / NAME).get("test", {}).get("metrics", {}):
            terms = _terms(folder)
            if terms is not None and terms == {**mine, "system": "Plain"}:
                return folder
    return None


def _terms(run: Path) -> dict[str, Any] | None:
    """What a run and its control have in common, of its ``config.yaml``; None where that cannot be read."""
    try:
        config = load_yaml((run / "config.yaml").read_text("utf-8"), run / "config.yaml")
        model, data = config["model"], dict(config["data"])
        made = model.get("init_args", {})
        for harmless in ("root", "num_workers", "pairs"):
            data.pop(harmless, None)
        return {
            "system": model["class_path"].rpartition(".")[2],
            "seed": config.get("seed_everything"),
            "epochs": config.get("trainer", {}).get("max_epochs"),
            "data": _short(data),
            # A plain run without the meta edges is another control
            "equal_data": bool(made.get("equal_data")),
            "callbacks": _short(config.get("trainer", {}).get("callbacks")),
            **{part: _short(made.get(part)) for part in _SHARED},
        }
    except (OSError, DataError, KeyError, TypeError, AttributeError):
        return None


def _short(value: Any) -> Any:
    """The same with classes by their last name: they may be written by either of two paths."""
    if isinstance(value, Mapping):
        return {key: item.rpartition(".")[2] if key == "class_path" else _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value
