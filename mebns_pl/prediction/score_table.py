"""Scores of given pairs, in their order."""

from __future__ import annotations

from itertools import zip_longest

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from mebns_pl.data.datamodule import data_of
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.prediction.abstract import AbstractPredictionTable, link_frame, of_all_ranks


class ScoreTable(AbstractPredictionTable):
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

    _blocks: list[Tensor]

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts anew."""
        self._blocks = []

    def add(self, pairs: Tensor, logits: Tensor) -> None:
        """Keeps a block's logits."""
        self._blocks.append(logits.float().cpu())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the blocks of all ranks in order, and makes the table."""
        # Ranks hold every n-th block
        turns = zip_longest(*of_all_ranks(self._blocks, trainer))
        logits = torch.cat([block for turn in turns for block in turn if block is not None])
        given = data_of(trainer).given
        assert given is not None
        pairs = given.pairs
        self.table = link_frame(pairs, logits, given.node_names).assign(
            known=KnownEdges(given.graph).listed(pairs[0], pairs[1]).numpy(),
            new_node=(pairs >= given.num_known).any(dim=0).numpy(),
            rejected=(logits == -torch.inf).numpy(),
        )
