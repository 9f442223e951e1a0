"""The test metrics as a readable table."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from mebns_pl.data.datamodule import data_of
from mebns_pl.terminal import metric_heading, say, text_table

HEADLINE = ("mrr", "hits@1", "hits@3", "hits@10", "hits@20", "hits@50", "hits@100", "auc", "ap")


class ResultTable(Callback):
    """Prints the test metrics as one table, in percent, with where the logs are.

    Example:
        >>> ResultTable()  # doctest: +ELLIPSIS
        <mebns_pl.callbacks.results.ResultTable object at ...>
    """

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints."""
        folder = trainer.log_dir  # asked on all ranks
        if not trainer.is_global_zero:
            return
        logged = {name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}
        data = data_of(trainer)
        name, graph, shared = type(pl_module).__name__, data.loaded.name, data.eval_set("test").num_negatives is None
        say(f"\nTest of {name} on {graph}, in %")
        rows = []
        for metric in HEADLINE:
            own = "random non-edges, 1:1" if metric in ("auc", "ap") else "each edge's own negatives"
            against = "shared negatives" if shared else own
            rows.append((metric_heading(metric), against, f"{100 * logged[metric]:.2f}"))
        Console().print(text_table(["metric", "against"], ["value"], rows))
        if trainer.logger is not None:
            say(f"TensorBoard: tensorboard --logdir {folder}")
