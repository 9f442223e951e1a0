"""Keeps the best predicted links, and writes them with their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from mebns_pl.checks import at_least, expect
from mebns_pl.data.datamodule import data_of
from mebns_pl.pools.built import PairPool
from mebns_pl.prediction.abstract import AbstractPredictionTable, link_frame, of_all_ranks
from mebns_pl.prediction.best import BestLinks
from mebns_pl.prediction.calibration import calibrate
from mebns_pl.prediction.explanation import common_neighbors
from mebns_pl.prediction.files import check_table_path, write_table
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.scoring import AbstractScoring


class PredictionWriter(AbstractPredictionTable):
    """Keeps the ``top_k`` highest-scored pairs of ``predict`` and writes them with their names.

    The columns are ``rank`` (from 1), ``source``, ``target`` (names), ``score`` (the logit's sigmoid, in (0, 1)) and
    ``logit``. Ties are broken by node order. On several ranks each keeps its own best, and rank 0 writes the best of
    all. Which pairs are scored is the data module's ``pairs``.

    Args:
        path: the file to write, CSV or Parquet by its suffix (``.csv``, ``.parquet``, ``.pq``); its folder is made.
            None writes none, and leaves the links in ``table``.
        top_k: how many links, 1 or more.
        per_node: whether these are the links of each source node (ranked for each node) and not of all.
        max_per_node: in how many of the links a node may stand, the best ones, 1 or more; None for no cap, so that a
            hub may stand in most. With ``per_node`` it is ``top_k`` that says so.
        explain: whether ``probability`` and ``why`` are told, too: by held-out edges, how likely a pair that scores so
            high is a link (:func:`~mebns_pl.prediction.calibration.calibrate`; left out where none was held out for
            validation), and neighbours that both ends have.
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
        max_per_node: int | None = None,
        explain: bool = False,
    ) -> None:
        super().__init__(scoring)
        at_least(1, top_k=top_k)
        at_least(1, or_null=True, max_per_node=max_per_node)
        expect(not (per_node and max_per_node), "one of the two, for top_k caps each node's own list",
               per_node=per_node, max_per_node=max_per_node)  # fmt: skip
        self.path: Path | None = None if path is None else check_table_path(path)
        self.top_k = top_k
        self.per_node = per_node
        self.max_per_node = max_per_node
        self.explain = explain
        self.pool: PairPool | None = None
        self.reliability: pd.DataFrame | None = None
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
        allowed, size = self.pool.allowed if self.per_node else None, data_of(trainer).loaded.num_nodes
        self._best = BestLinks(self.top_k, allowed, self.max_per_node, size)

    def add(self, pairs: Tensor, logits: Tensor) -> None:
        """Merges a block into the best so far."""
        self._best.add(pairs, logits)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file."""
        best = self._best
        parts = of_all_ranks(best.settle(), trainer)
        if len(parts) > 1:
            best.keep(torch.cat([pairs for pairs, _ in parts], dim=1), torch.cat([logits for _, logits in parts]))
        best.cap()
        data = data_of(trainer)
        names = data.loaded.node_names
        self.table = link_frame(best.pairs, best.logits, names)
        self.table.insert(0, "rank", best.ranks().numpy())
        if self.explain:
            assert isinstance(pl_module, AbstractEvaluation)
            if found := calibrate(pl_module, data):  # on all ranks, as in a validation
                calibration, self.reliability = found
                self.table.insert(4, "probability", calibration.probability(best.logits))
        if self.explain and trainer.is_global_zero:
            self.table["why"] = common_neighbors(data.full_graph, best.pairs, names)
        if trainer.is_global_zero and self.path is not None:
            write_table(self.table, self.path)
