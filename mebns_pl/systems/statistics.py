"""How the filter and the weights behave, as numbers to log."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import Optimizer

from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.mebns.losses.abstract import at_least_single
from mebns_pl.mebns.step import Negatives


def union_statistics(
    batch: TrainBatch, negatives: Negatives, group: AbstractGroup
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """How the filter and the weights behave on the union batch, the same on all ranks; one message.

    Args:
        batch: this rank's slice.
        negatives: its picks.
        group: the ranks.

    Returns:
        ``kept_share``: kept over legal candidates, and ``hardness``: the teacher's mean logit of the picks; and of all
        picks the weights ``(n,)`` and those before the weight net ``(n,)``.
    """
    assert negatives.hardness is not None
    rows, picks = negatives.columns.shape
    weights, starting = (
        at_least_single(values).masked_fill(~negatives.mask, -1.0).view(rows, picks)
        for values in (negatives.weights, negatives.starting)
    )
    counted = (negatives.kept, batch.candidate_mask, negatives.hardness * negatives.mask, negatives.mask)
    mine = torch.stack([values.sum().to(weights.dtype) for values in counted])
    # Each rank adds its own rows to the others' zeros
    whole = weights.new_zeros(2, batch.union_positives.shape[1], picks)
    whole[:, batch.first_row : batch.first_row + rows] = torch.stack([weights, starting])
    (kept, legal, hardness, picked), (weights, starting) = group.sum_all([mine, whole])
    filtered = {"kept_share": kept / legal.clamp(min=1), "hardness": hardness / picked.clamp(min=1)}
    return filtered, weights[weights >= 0], starting[weights >= 0]


def weight_statistics(weights: Tensor, starting: Tensor) -> dict[str, Tensor]:
    """How unequal the weights are, and how much of that was learned.

    Args:
        weights: ``(n,)``, 0 or more, with a positive sum.
        starting: ``(n,)``, those before the weight net.

    Returns:
        ``unevenness``: 1 less the entropy of the normalised weights over log n, so 0 when all are equal and 1 when one
        holds all (Theil's index over its maximum); ``top_tenth``: share of the total that the highest tenth holds, 0.1
        when all are equal; ``learned``: the coefficient of variation of the learned factor, weight over starting
        weight where that is not 0, so 0 where the weight net changes nothing.
    """
    ratio = weights / weights.mean()  # not shares: near 0 their entropy would be a small difference of large numbers
    unevenness = torch.special.xlogy(ratio, ratio).mean() / torch.tensor(max(len(ratio), 2)).log()
    factor = (weights / starting)[starting > 0]
    return {
        "unevenness": unevenness,
        "top_tenth": ratio.topk(-(-len(ratio) // 10)).values.sum() / len(ratio),
        "learned": factor.std(unbiased=False) / factor.mean(),
    }


def steadiness(optimizer: Optimizer, gradient: Sequence[Tensor]) -> Tensor | None:
    """How much a gradient points where those before it did: the cosine to their mean, as the optimizer keeps it.

    1 where the direction is always the same, 0 on average where there is nothing but noise, whatever the gradients'
    length and however it changes.

    Args:
        optimizer: before its step with this gradient.
        gradient: of its parameters, in their order.

    Returns:
        ``()``, or None of an optimizer that keeps no such mean (SGD without momentum), or has made no step.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    states = [optimizer.state.get(param, {}) for param in params]
    means = [state.get("exp_avg", state.get("momentum_buffer")) for state in states]
    if any(mean is None for mean in means):
        return None
    mean, now = (torch.cat([part.flatten().double() for part in parts]) for parts in (means, gradient))
    return torch.dot(normalize(mean, dim=0, eps=1e-300), normalize(now, dim=0, eps=1e-300))
