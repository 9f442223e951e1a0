"""Keeps the best predicted links, and writes them with their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer

from mebns_pl.data.datamodule import data_of
from mebns_pl.pools.built import PairPool
from mebns_pl.prediction.best import AbstractBest, BestOverall, BestPerNode
from mebns_pl.prediction.files import check_table_path, write_table
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.scoring import AbstractScoring, StudentScoring


class PredictionWriter(Callback):
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
        if top_k < 1:
            raise ValueError(f"top_k: expected 1 or more, got {top_k}")
        self.path: Path | None = None if path is None else check_table_path(path)
        self.top_k = top_k
        self.per_node = per_node
        self.scoring = scoring or StudentScoring()
        self.table: pd.DataFrame | None = None
        self.pool: PairPool | None = None
        self._best: AbstractBest = BestOverall(top_k)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Chooses the scoring, and finds out now whether the file's folder can be made."""
        if stage == "predict" and isinstance(pl_module, AbstractEvaluation):
            pl_module.score_by(self.scoring)
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew."""
        loader: Any = trainer.predict_dataloaders
        self.pool = loader.dataset.pool
        self._best = BestPerNode(self.top_k, self.pool.allowed) if self.per_node else BestOverall(self.top_k)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Merges a block into the best so far."""
        self._best.add(*outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file."""
        best = self._best
        pairs, logits = best.settle()
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, (pairs, logits))
            best.pairs, best.logits = best.best(
                torch.cat([p for p, _ in parts], dim=1), torch.cat([found for _, found in parts])
            )
        names = data_of(trainer).loaded.node_names
        self.table = pd.DataFrame(
            {
                "rank": best.ranks().numpy(),
                "source": [names[i] for i in best.pairs[0].tolist()],
                "target": [names[i] for i in best.pairs[1].tolist()],
                "score": best.logits.double().sigmoid().numpy(),
                "logit": best.logits.numpy(),
            }
        )
        if trainer.is_global_zero and self.path is not None:
            write_table(self.table, self.path)
