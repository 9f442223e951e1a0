"""Writes the top predicted links to a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mebns_pl.data.datamodule import data_of


class PredictionWriter(Callback):
    """Keeps the ``top_k`` highest-scored pairs of ``predict`` and writes them with their names.

    The columns are ``rank`` (from 1), ``source``, ``target`` (names), ``score`` (probability, in (0, 1)) and
    ``logit``. Ties are broken by node order. On several ranks each keeps its own best, and rank 0 writes the best of
    all.

    Args:
        path: the CSV file to write; its folder is made.
        top_k: how many links, 1 or more.

    Example:
        >>> PredictionWriter("links.csv", top_k=10).top_k
        10
    """

    def __init__(self, path: str = "predictions.csv", top_k: int = 100) -> None:
        if top_k < 1:
            raise ValueError(f"top_k: expected 1 or more, got {top_k}")
        if Path(path).suffix != ".csv":
            raise ValueError(f"path: expected a file name that ends in .csv, got {path!r}")
        self.path = Path(path)
        self.top_k = top_k
        self.table: pd.DataFrame | None = None
        self._pairs = torch.empty(2, 0, dtype=torch.int64)
        self._logits = torch.empty(0)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew, and finds out now whether the folder can be written to."""
        self._pairs, self._logits = torch.empty(2, 0, dtype=torch.int64), torch.empty(0)
        self.path.parent.mkdir(parents=True, exist_ok=True)

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
        pairs, logits = outputs
        best = logits.argsort(descending=True, stable=True)[: self.top_k]  # pairs come in node order
        self._keep(
            torch.cat([self._pairs, pairs[:, best].cpu()], dim=1), torch.cat([self._logits, logits[best].float().cpu()])
        )

    def _keep(self, pairs: Tensor, logits: Tensor) -> None:
        # Stable sorts, the last one counts most: ranks hold interleaved blocks
        order = pairs[1].argsort(stable=True)
        order = order[pairs[0, order].argsort(stable=True)]
        order = order[logits[order].argsort(descending=True, stable=True)][: self.top_k]
        self._pairs, self._logits = pairs[:, order], logits[order]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file."""
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, (self._pairs, self._logits))
            self._keep(torch.cat([p for p, _ in parts], dim=1), torch.cat([s for _, s in parts]))
        names = data_of(trainer).loaded.node_names
        self.table = pd.DataFrame(
            {
                "rank": range(1, len(self._logits) + 1),
                "source": [names[i] for i in self._pairs[0].tolist()],
                "target": [names[i] for i in self._pairs[1].tolist()],
                "score": self._logits.double().sigmoid().numpy(),
                "logit": self._logits.numpy(),
            }
        )
        if trainer.is_global_zero:
            self.table.to_csv(self.path, index=False)
