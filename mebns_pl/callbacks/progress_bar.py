"""The progress bar: Lightning's, on one line however narrow the terminal is."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.progress import BarColumn, ProgressColumn
from rich.table import Column


class OneLineBar(RichProgressBar):
    """Lightning's bar, which gives way to what is written beside it: loss and MRR, by short names.

    Lightning's own is 40 characters wide, and its metrics break into several lines at 80 columns.

    Example:
        >>> OneLineBar().theme.metrics_format
        '.3f'
    """

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3f"))

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The metrics by the last part of their names; the run's number stands in its folder's name."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {name.rpartition("/")[2].rpartition("_")[2]: value for name, value in metrics.items()}

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Lightning's columns: the bar takes the room that the others leave."""
        columns: list[ProgressColumn] = super().configure_columns(trainer)
        for column in columns:
            if isinstance(column, BarColumn):
                column.bar_width = None
            else:
                column._table_column = Column(no_wrap=True)
        return columns

    def _init_progress(self, trainer: Trainer) -> None:
        super()._init_progress(trainer)
        if self.progress is not None:
            self.progress.columns[-1]._table_column = Column(no_wrap=True)  # type: ignore[union-attr]
