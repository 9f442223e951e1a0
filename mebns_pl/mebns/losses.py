"""The losses, as this rank's share of global sums."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mebns_pl.distributed.group import AbstractGroup


def at_least_single(values: Tensor) -> Tensor:
    """Half precision, which autocast gives, as float32: a sum of bfloat16 cannot count to a batch's size."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def positive_losses(logits: Tensor) -> Tensor:
    """Binary cross-entropy of edges, elementwise: ``log(1 + exp(-logit))``."""
    return functional.softplus(-at_least_single(logits))


def negative_losses(logits: Tensor) -> Tensor:
    """Binary cross-entropy of non-edges, elementwise: ``log(1 + exp(logit))``."""
    return functional.softplus(at_least_single(logits))


def balanced_loss(
    positive: Tensor, negative: Tensor, weights: Tensor, num_positives: Tensor, num_negatives: Tensor
) -> Tensor:
    """Half the mean over positives plus half the weighted mean over negatives.

    ``1/2 sum l+ / n+  +  1/2 sum w l- / n-`` with the counts of the union batch, so that ranks' shares add up to the
    union's loss.

    Args:
        positive: ``(p,)`` losses of this rank's positives.
        negative: ``(n,)`` losses of this rank's negatives.
        weights: ``(n,)``, 0 where a negative is masked.
        num_positives: ``()`` over all ranks, at least 1.
        num_negatives: ``()`` over all ranks, at least 1.
    """
    return 0.5 * positive.sum() / num_positives + 0.5 * (weights * negative).sum() / num_negatives


def negative_weights(scores: Tensor, mask: Tensor, num_negatives: Tensor, group: AbstractGroup) -> Tensor:
    """``n- softmax(scores)`` over all negatives of the union batch: weights with mean 1, differentiated through.

    Args:
        scores: ``(n,)``, the weight net's.
        mask: ``(n,)`` bool, False gives weight 0.
        num_negatives: ``()``, n- over all ranks.
        group: the ranks.

    Returns:
        ``(n,)``, 0 or more; all 0 where the union batch has no negative.
    """
    scores = at_least_single(scores)
    masked = scores.masked_fill(~mask, -torch.inf)
    # A softmax does not mind its shift; the floor serves a share without negatives, which has no maximum
    floor = scores.new_full((1,), -1e30)
    top = group.max(torch.cat([masked.detach(), floor]).max())
    powers = (masked - top).exp()
    # The largest power is 1, so the bound acts only where there is no negative at all
    return num_negatives * powers / group.sum(powers.sum()).clamp(min=0.5)
