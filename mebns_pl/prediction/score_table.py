"""Scores of given pairs, in their order."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mebns_pl.data.datamodule import data_of
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.scoring import AbstractScoring, StudentScoring


class ScoreTable(Callback):
    """Collects the scores of the pairs that the data module was given, in their order.

    The columns are ``source``, ``target`` (names), ``score`` (probability; 0 where the scoring rejects the pair),
    ``logit``, ``known`` (a known edge), ``new_node`` (a node that training has not seen) and ``rejected`` (by the
    cascade's teacher).

    Args:
        scoring: what pairs are scored by; the student alone by default.

    Example:
        >>> ScoreTable().table is None
        True
    """

    def __init__(self, scoring: AbstractScoring | None = None) -> None:
        self.scoring = scoring or StudentScoring()
        self.table: pd.DataFrame | None = None
        self._blocks: list[Tensor] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Chooses the scoring."""
        if isinstance(pl_module, AbstractEvaluation):
            pl_module.score_by(self.scoring)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew."""
        self._blocks = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps a block's logits."""
        self._blocks.append(outputs[1].float().cpu())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the blocks of all ranks in order, and makes the table."""
        ranks: list[Any] = [self._blocks]
        if trainer.world_size > 1:
            ranks = [None] * trainer.world_size
            torch.distributed.all_gather_object(ranks, self._blocks)
        # Ranks hold every n-th block; none has two blocks more than another
        turns = range(max(len(blocks) for blocks in ranks))
        logits = torch.cat([blocks[turn] for turn in turns for blocks in ranks if turn < len(blocks)])
        given = data_of(trainer).given
        assert given is not None
        names, pairs = given.node_names, given.pairs
        self.table = pd.DataFrame(
            {
                "source": [names[i] for i in pairs[0].tolist()],
                "target": [names[i] for i in pairs[1].tolist()],
                "score": logits.double().sigmoid().numpy(),
                "logit": logits.numpy(),
                "known": KnownEdges(given.graph).mask(pairs[0], pairs[1]).numpy(),
                "new_node": (pairs >= given.num_known).any(dim=0).numpy(),
                "rejected": (logits == -torch.inf).numpy(),
            }
        )
