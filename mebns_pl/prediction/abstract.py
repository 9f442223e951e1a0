"""What the callbacks of prediction share: a scoring, pairs with their logits block by block, and a table at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import pandas as pd
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mebns_pl.errors import DataError
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.scoring import AbstractScoring, StudentScoring

T = TypeVar("T")


class AbstractPredictionTable(Callback, ABC):
    """Makes a table of scored pairs, ``table``, in ``predict``.

    Args:
        scoring: what pairs are scored by; the student alone by default.
    """

    def __init__(self, scoring: AbstractScoring | None = None) -> None:
        self.scoring = scoring or StudentScoring()
        self.table: pd.DataFrame | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Chooses the scoring.

        Raises:
            ValueError: the system cannot be scored so.
        """
        if stage == "predict" and isinstance(pl_module, AbstractEvaluation):
            pl_module.score_by(self.scoring)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Takes a block.

        Raises:
            DataError: a score is no number.
        """
        pairs, logits = outputs
        bad = logits.isnan()
        if bool(bad.any()):
            source, target = pairs[:, bad][:, 0].tolist()
            raise DataError(
                f"predict: the score of nodes {source} and {target} is NaN, as of weights or features that are not "
                "finite; allowed are checkpoints of a training that did not diverge"
            )
        self.add(pairs, logits)

    @abstractmethod
    def add(self, pairs: Tensor, logits: Tensor) -> None:
        """Takes ``pairs`` ``(2, m)`` with ``logits`` ``(m,)``, -inf where the scoring rejects a pair."""


def of_all_ranks(own: T, trainer: Trainer) -> list[T]:
    """What each rank has, in their order, on every rank."""
    found: list[Any] = [own] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(found, own)
    return found


def link_frame(pairs: Tensor, logits: Tensor, names: Sequence[str]) -> pd.DataFrame:
    """The columns that every table of links has.

    Args:
        pairs: ``(2, n)`` int64 nodes.
        logits: ``(n,)``.
        names: of all nodes.

    Returns:
        ``source``, ``target`` (names), ``score`` (probability) and ``logit``.
    """
    source, target = ([names[node] for node in nodes] for nodes in pairs.tolist())
    score = logits.double().sigmoid().numpy()
    return pd.DataFrame({"source": source, "target": target, "score": score, "logit": logits.numpy()})
