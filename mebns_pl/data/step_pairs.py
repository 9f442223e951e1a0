"""The layout of a step's pairs: one list, so that a predictor prepares them in one go."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.types import TrainBatch


class StepPairs:
    """The pairs of one batch as a single list: positives, then candidates, then teacher negatives, row by row.

    A pair's row name, for keyed dropout, is its place in the *union* batch: ``row * (1 + K + T) + column``.

    Args:
        batch: the batch.
    """

    def __init__(self, batch: TrainBatch) -> None:
        size, self.num_candidates = batch.candidates.shape
        num_teacher = batch.teacher_negatives.shape[1]
        nodes = torch.cat([batch.positives[1][:, None], batch.candidates, batch.teacher_negatives], dim=1)
        device = nodes.device
        self.rows = batch.first_row + torch.arange(size, device=device)
        names = self.rows[:, None] * nodes.shape[1] + torch.arange(nodes.shape[1], device=device)
        blocks = [slice(0, 1), slice(1, 1 + self.num_candidates), slice(1 + self.num_candidates, nodes.shape[1])]
        anchors = batch.positives[0][:, None].repeat(1, nodes.shape[1])
        anchors[:, blocks[1]] = batch.candidate_anchors[:, None]
        self.pairs = torch.stack([torch.cat([t[:, block].flatten() for block in blocks]) for t in (anchors, nodes)])
        self.names = torch.cat([names[:, block].flatten() for block in blocks])
        self.positives = slice(0, size)
        self.candidates = slice(size, size * (1 + self.num_candidates))
        self.teacher = slice(self.candidates.stop, self.candidates.stop + size * num_teacher)
        self.size = size

    def picked(self, columns: Tensor) -> Tensor:
        """``(b, M)`` columns -> ``(b M,)`` places in the list."""
        row = torch.arange(self.size, device=columns.device)[:, None]
        return (self.size + row * self.num_candidates + columns).flatten()
