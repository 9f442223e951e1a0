"""Readable tables: of test metrics, and of predicted links."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from mebns_pl.data.datamodule import data_of
from mebns_pl.pools.built import PoolReport

HEADLINE = ("mrr", "hits@1", "hits@3", "hits@10", "hits@20", "hits@50", "hits@100", "auc", "ap")


class ResultTable(Callback):
    """Prints the test metrics as one table, in percent, with where the logs are.

    Example:
        >>> ResultTable()  # doctest: +ELLIPSIS
        <mebns_pl.callbacks.results.ResultTable object at ...>
    """

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints."""
        if not trainer.is_global_zero:
            return
        logged = {name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}
        data = data_of(trainer)
        name, graph, shared = type(pl_module).__name__, data.loaded.name, data.eval_set("test").negatives is None
        console = Console()
        console.print(f"\nTest of {name} on {graph}, in %")
        table = Table("metric", "against")
        table.add_column("value", justify="right")
        for metric in HEADLINE:
            own = "random non-edges, 1:1" if metric in ("auc", "ap") else "each edge's own negatives"
            against = "shared negatives" if shared else own
            table.add_row(_heading(metric), against, f"{100 * logged[metric]:.2f}")
        console.print(table)
        if trainer.logger is not None:
            console.print(f"TensorBoard: tensorboard --logdir {trainer.log_dir}", soft_wrap=True)


def metric_table(rows: dict[str, dict[str, float]], columns: Sequence[str]) -> Table:
    """A table of metrics in [0, 1], shown in percent.

    Args:
        rows: metrics by name of the row.
        columns: which metrics, in which order.
    """
    table = Table("")
    for column in columns:
        table.add_column(_heading(column), justify="right")
    for name, metrics in rows.items():
        table.add_row(name, *(f"{100 * metrics[column]:.2f}" for column in columns))
    return table


def _heading(metric: str) -> str:
    return metric.capitalize() if metric.startswith("hits") else metric.upper()


def link_table(links: pd.DataFrame) -> Table:
    """A table of predicted links.

    Args:
        links: with columns ``rank``, ``source``, ``target``, ``score``.
    """
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("source")
    table.add_column("target")
    table.add_column("score", justify="right")
    for row in links.itertuples():
        table.add_row(str(row.rank), str(row.source), str(row.target), f"{row.score:.3f}")
    return table


def pool_table(report: PoolReport) -> Table:
    """A table of what was scored, and what share of held-out edges it would have found.

    Args:
        report: of the pool.
    """
    table = Table()
    table.add_column("pool")
    table.add_column("pairs", justify="right")
    table.add_column(f"coverage of {report.held_out:,} held-out edges", justify="right")
    for row in report.table.itertuples():
        coverage = "-" if row.coverage != row.coverage else f"{row.coverage:.1%}"
        table.add_row(str(row.pool), f"{row.pairs:,}", coverage)
    return table
