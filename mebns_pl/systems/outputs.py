"""What a training step hands to callbacks: which pairs were picked, and which were not."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.mebns.step import Negatives


class StepOutput(TypedDict):
    """Detached tensors of one step, this rank's.

    Args:
        picked: ``(2, m)`` pairs the student learned from.
        unpicked: ``(2, n)`` legal candidates that were passed over.
        dropped: ``(2, k)`` those of them that the filter had dropped.
        weights: ``(m,)`` weights of the picked pairs, mean 1 over the union batch.
        starting: ``(m,)`` those before the weight net.
        logits: ``(m,)`` the student's logits of the picked pairs.
        hardness: ``(m,)`` the teacher's logits of the picked pairs; empty without a teacher.
        band: ``(2,)`` least and highest hardness that the filter kept, means over anchors; NaN without a teacher.
        offered: ``(2,)`` those of all legal candidates, of the same anchors.
    """

    picked: Tensor
    unpicked: Tensor
    dropped: Tensor
    weights: Tensor
    starting: Tensor
    logits: Tensor
    hardness: Tensor
    band: Tensor
    offered: Tensor


def step_output(batch: TrainBatch, negatives: Negatives) -> StepOutput:
    """Collects the pairs of a step."""
    picked_cells = torch.zeros_like(batch.candidate_mask).scatter_(
        1, negatives.columns, negatives.mask.view(negatives.columns.shape)
    )
    passed_over = batch.candidate_mask & ~picked_cells
    dropped = batch.candidate_mask & ~negatives.kept
    anchors = batch.candidate_anchors[:, None].expand_as(batch.candidates)
    return StepOutput(
        picked=negatives.pairs[:, negatives.mask],
        unpicked=torch.stack([anchors[passed_over], batch.candidates[passed_over]]),
        dropped=torch.stack([anchors[dropped], batch.candidates[dropped]]),
        weights=negatives.weights[negatives.mask],
        starting=negatives.starting[negatives.mask],
        logits=negatives.logits[negatives.mask],
        hardness=negatives.logits[:0] if negatives.hardness is None else negatives.hardness[negatives.mask],
        band=_band(negatives.candidate_hardness, negatives.kept, negatives.kept),
        offered=_band(negatives.candidate_hardness, batch.candidate_mask, negatives.kept),
    )


def _band(hardness: Tensor | None, among: Tensor, kept: Tensor) -> Tensor:
    """Least and highest hardness ``(2,)`` among candidates, means over the anchors that keep any."""
    if hardness is None:
        return torch.full((2,), torch.nan)
    least = hardness.masked_fill(~among, torch.inf).amin(dim=1)
    most = hardness.masked_fill(~among, -torch.inf).amax(dim=1)
    return torch.stack([least, most])[:, kept.any(dim=1)].mean(dim=1)
