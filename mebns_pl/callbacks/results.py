"""A readable table at the end of a test."""

from __future__ import annotations

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from mebns_pl.data.datamodule import data_of


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
        metrics = {
            name.removeprefix("test/"): float(v)
            for name, v in trainer.callback_metrics.items()
            if name.startswith("test/")
        }
        title = f"{type(pl_module).__name__} on {data_of(trainer).loaded.name}, test"
        console = Console()
        console.print(metric_table({type(pl_module).__name__: metrics}, title))
        if trainer.log_dir:
            console.print(f"TensorBoard: tensorboard --logdir {trainer.log_dir}", soft_wrap=True)


def metric_table(rows: dict[str, dict[str, float]], title: str, columns: list[str] | None = None) -> Table:
    """A table of metrics in [0, 1], shown in percent.

    Args:
        rows: metrics by name of the row.
        title: the table's title.
        columns: which metrics, in which order; None takes all of the first row.
    """
    columns = columns or list(next(iter(rows.values())))
    table = Table(
        title=title,
        title_justify="left",
        caption="in %; ties: mean of optimistic and pessimistic rank",
        caption_justify="left",
    )
    table.add_column("")
    for column in columns:
        table.add_column(_heading(column), justify="right")
    for name, metrics in rows.items():
        table.add_row(name, *(f"{100 * metrics[column]:.2f}" if column in metrics else "" for column in columns))
    return table


def _heading(metric: str) -> str:
    return metric.upper() if metric in ("mrr", "auc", "ap") else metric.capitalize()


def link_table(links: pd.DataFrame, title: str = "Top predicted links") -> Table:
    """A table of predicted links.

    Args:
        links: with columns ``rank``, ``source``, ``target``, ``score``.
        title: the table's title.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("source")
    table.add_column("target")
    table.add_column("score", justify="right")
    for row in links.itertuples():
        table.add_row(str(row.rank), str(row.source), str(row.target), f"{row.score:.3f}")
    return table
