"""Keeps the best predicted links, and writes them with their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.data.datamodule import data_of
from mebns_pl.pools.built import PairPool
from mebns_pl.prediction.abstract import AbstractPredictionTable, link_frame, of_all_ranks
from mebns_pl.prediction.best import BestLinks
from mebns_pl.prediction.files import check_table_path, write_table
from mebns_pl.systems.scoring import AbstractScoring


class PredictionWriter(AbstractPredictionTable):
    """Keeps the ``top_k`` highest-scored pairs of ``predict`` and writes them with their names.

    The columns are ``rank`` (from 1), ``source``, ``target`` (names), ``score`` (probability, in (0, 1)) and
    ``logit``. Ties are broken by node order. On several ranks each keeps its own best, and rank 0 writes the best of
    all. Which pairs are scored is the data module's ``pairs``.

    Args:
        path: the file to write, CSV or Parquet by its suffix (``.csv``, ``.parquet``, ``.pq``); its folder is made.
            None writes none, and leaves the links in ``table``.
        top_k: how many links, 1 or more.
        per_node: whether these are the links of each source node (ranked for each node) and not of all.
        scoring: what links are scored by; the student alone by default.

    Raises:
        ValueError: an argument out of its range; when prediction begins, a scoring that the system cannot do.

    Example:
        >>> PredictionWriter("links.parquet", top_k=10, per_node=True).top_k
        10
    """

    def __init__(
        self,
        path: str | None = "predictions.csv",
        top_k: int = 100,
        per_node: bool = False,
        scoring: AbstractScoring | None = None,
    ) -> None:
        super().__init__(scoring)
        at_least(1, top_k=top_k)
        self.path: Path | None = None if path is None else check_table_path(path)
        self.top_k = top_k
        self.per_node = per_node
        self.pool: PairPool | None = None
        self._best = BestLinks(top_k)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Chooses the scoring, and finds out now whether the file's folder can be made."""
        super().setup(trainer, pl_module, stage)
        if stage == "predict" and self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew."""
        loader: Any = trainer.predict_dataloaders
        self.pool = loader.dataset.pool
        self._best = BestLinks(self.top_k, self.pool.allowed if self.per_node else None)

    def add(self, pairs: Tensor, logits: Tensor) -> None:
        """Merges a block into the best so far."""
        self._best.add(pairs, logits)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file."""
        best = self._best
        parts = of_all_ranks(best.settle(), trainer)
        if len(parts) > 1:
            best.keep(torch.cat([pairs for pairs, _ in parts], dim=1), torch.cat([logits for _, logits in parts]))
        self.table = link_frame(best.pairs, best.logits, data_of(trainer).loaded.node_names)
        self.table.insert(0, "rank", best.ranks().numpy())
        if trainer.is_global_zero and self.path is not None:
            write_table(self.table, self.path)
