"""What a step learns from, and the layout of its pairs: one list, so that a predictor prepares them in one go."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.models.predictor import Inputs


@dataclass(frozen=True)
class TrainBatch:
    """The positives of one step with everything that static samplers drew for them.

    On several ranks the *union* batch of B positives is cut into contiguous slices; a rank holds rows
    ``first_row ... first_row + b`` of it and the whole of ``union_positives``.

    Args:
        positives: ``(2, b)`` int64; row 0 holds the anchors (each edge was turned round at random).
        candidates: ``(b, K)`` int64, candidate nodes of each anchor.
        candidate_mask: ``(b, K)`` bool, True where the pair (anchor, candidate) is a legal negative.
        teacher_negatives: ``(b, T)`` int64, the STD-Generator's nodes; ``T`` is 0 where no teacher is trained.
        teacher_mask: ``(b, T)`` bool, True where legal.
        union_positives: ``(2, B)`` int64, the positives of all ranks: left out of message passing.
        first_row: the place of this slice in the union batch.
        epoch: 0-based epoch the batch was drawn for.
        step: 0-based step within the epoch.
        number: 0-based step of the run, epochs before this one included.
        free_anchors: ``(b,)`` int64, nodes that the candidates stand opposite to in place of the positives' own
            anchors, where the proposal draws whole pairs; None keeps the positives' anchors.
        inputs: the predictors' inputs of all these pairs, in the order of
            :class:`StepPairs`, where loader workers have made them; or None.
    """

    positives: Tensor
    candidates: Tensor
    candidate_mask: Tensor
    teacher_negatives: Tensor
    teacher_mask: Tensor
    union_positives: Tensor
    first_row: int
    epoch: int
    step: int
    number: int = 0
    free_anchors: Tensor | None = None
    inputs: Inputs | None = None

    @property
    def candidate_anchors(self) -> Tensor:
        """``(b,)`` int64, the node that each row of candidates stands opposite to."""
        return self.positives[0] if self.free_anchors is None else self.free_anchors


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
