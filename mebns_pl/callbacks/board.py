"""TensorBoard in an order that tells the story: groups of tags by number, and charts of a few curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

GROUPS = {
    "val": "1_quality",
    "migration": "2_migration",
    "filter": "3_filter",
    "weights": "4_weights",
    "meta": "5_meta",
    "train": "6_losses",
    "cost": "7_cost",
}
"""TensorBoard's groups, which stand by name; what else there is comes after them: ``final``, ``held_out``, ``test``."""


def _chart(tag: str) -> list[Any]:
    return ["Multiline", [f"^{tag}$"]]


LAYOUT = {
    "1 Quality": {
        "Validation MRR; higher is better": _chart("1_quality/MRR"),
        "Validation AUC; higher is better, 0.5 is chance": _chart("1_quality/auc"),
        "Student's loss; 0.69 has learned nothing": _chart("6_losses/student_loss"),
    },
    "2 Migration": {
        "New in the hard set since the epoch before; good: near 0": _chart("2_migration/churn@1"),
        "New since 10 epochs before; good: near 0, and near the chart before": _chart("2_migration/churn@10"),
        "Crossings of a pair so far; good: it goes flat": _chart("2_migration/flips_mean"),
        "Easy pairs that turned hard, by probability": _chart("2_migration/easy_to_hard"),
        "Picked when hard, easy an epoch later": _chart("2_migration/picked_turned_easy"),
        "The same of pairs passed over; what the chart before is held against": _chart(
            "2_migration/unpicked_turned_easy"
        ),
    },
    "3 Filter": {
        "Share of candidates kept; 1 in warm-up, then as the filter is set": _chart("3_filter/kept_share"),
        "Teacher's logit of what is picked; good: not the highest there are": _chart("3_filter/hardness"),
    },
    "4 Weights": {
        "How far the weight net moves weights; under 0.01 it does nothing": _chart("4_weights/learned"),
        "Held by the highest tenth; 0.1 where all are equal": _chart("4_weights/top_tenth"),
        "Steadiness of its gradient; 0 is noise, 1 one direction": _chart("4_weights/signal"),
    },
    "5 Meta set": {
        "Pairs in the meta set; good: more than a few": _chart("5_meta/kept"),
        "Their uncertainty; good: low": _chart("5_meta/uncertainty"),
    },
    "7 Cost": {
        "Seconds an epoch": _chart("7_cost/epoch_seconds"),
        "Share of them for looking at the run; good: under 0.05": _chart("7_cost/inspection_share"),
    },
}
"""TensorBoard's custom scalars: charts of one curve a run, whose titles say what good looks like."""


def board_tag(name: str) -> str:
    """Where a logged value stands in TensorBoard.

    Example:
        >>> board_tag("val/mrr"), board_tag("migration/churn@1"), board_tag("test/mrr")
        ('1_quality/MRR', '2_migration/churn@1', 'test/mrr')
    """
    group, slash, rest = name.partition("/")
    # Capitals stand first: of the measures of quality this is the one that is watched
    rest = "MRR" if name == "val/mrr" else rest
    return f"{GROUPS.get(group, group)}{slash}{rest}"


class BoardLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, with tags in an order that tells the story.

    Groups are numbered: quality, migration, filter, weights, meta set, losses, cost; the custom scalars are laid out
    (:data:`LAYOUT`), and ``epoch``, which Lightning logs beside everything, is left out. Names elsewhere stay what they
    are: ``val/mrr`` is what checkpoints watch, ``1_quality/MRR`` is its tag.

    Args:
        save_dir, name, version, options: as Lightning's.

    Example:
        >>> BoardLogger("logs", name="mebns").name
        'mebns'
    """

    _laid_out = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs, by :func:`board_tag`."""
        if not self._laid_out:
            self.experiment.add_custom_scalars(LAYOUT)
            self._laid_out = True
        told = {board_tag(name): value for name, value in metrics.items() if name != "epoch"}
        if told:
            super().log_metrics(told, step)


def writer_of(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer, on the rank that writes."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return loggers[0].experiment if loggers and trainer.is_global_zero else None
