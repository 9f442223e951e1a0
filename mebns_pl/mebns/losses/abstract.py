"""The contract of losses: logits of edges and of their weighted negatives -> a rank's share of the union's loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.families import Family


@dataclass(frozen=True)
class Counts:
    """How much there is on all ranks, by which a rank's sums are divided so that ranks' shares add up.

    Args:
        positives: ``()`` rows.
        negatives: ``()`` negatives, at least 1.
        rows: ``()`` rows with a negative, at least 1.
    """

    positives: Tensor
    negatives: Tensor
    rows: Tensor

    @staticmethod
    def of(mask: Tensor, group: AbstractGroup) -> Counts:
        """Those of this rank's mask ``(b, M)`` and the others'; one message."""
        dtype = torch.get_default_dtype()
        mine = torch.stack([mask.new_ones(len(mask)).sum(), mask.sum(), mask.any(dim=1).sum()]).to(dtype)
        positives, negatives, rows = group.sum(mine).unbind()
        return Counts(positives, negatives.clamp(min=1), rows.clamp(min=1))


class AbstractLoss(ABC):
    """A loss of edges against weighted negatives: row i holds one edge and its M negatives.

    Example:
        >>> class ScoreDifference(AbstractLoss):
        ...     def negative(self, positive, negative):
        ...         return negative - positive[:, None]
        ...     def share(self, positive, negative, weights, counts):
        ...         return (weights * self.negative(positive, negative)).sum() / counts.negatives
        >>> mask = torch.ones(1, 2, dtype=torch.bool)
        >>> counts = Counts(torch.tensor(1), torch.tensor(2), torch.tensor(1))
        >>> ScoreDifference().share(torch.tensor([1.0]), torch.tensor([[0.0, 2.0]]), mask.float(), counts)
        tensor(0.)
    """

    @abstractmethod
    def negative(self, positive: Tensor, negative: Tensor) -> Tensor:
        """``(b, M)``: what each negative costs by itself; the weight net looks at it.

        Args:
            positive: ``(b,)`` logits of edges.
            negative: ``(b, M)`` logits of their negatives.
        """

    @abstractmethod
    def share(self, positive: Tensor, negative: Tensor, weights: Tensor, counts: Counts) -> Tensor:
        """``()``, differentiable in all but the counts; the sum over ranks is the loss of the union batch.

        Args:
            positive: ``(b,)`` logits of edges.
            negative: ``(b, M)`` logits of their negatives.
            weights: ``(b, M)``, mean 1 over the union's negatives, 0 where there is none.
            counts: of the union batch.
        """


def at_least_single(values: Tensor) -> Tensor:
    """Half precision, which autocast gives, as float32: a sum of bfloat16 cannot count to a batch's size."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def positive_losses(logits: Tensor) -> Tensor:
    """Binary cross-entropy of edges, elementwise: ``log(1 + exp(-logit))``."""
    return softplus(-at_least_single(logits))


def negative_losses(logits: Tensor) -> Tensor:
    """Binary cross-entropy of non-edges, elementwise: ``log(1 + exp(logit))``."""
    return softplus(at_least_single(logits))


def gaps(positive: Tensor, negative: Tensor) -> Tensor:
    """``(b, M)``: how far each negative is above its row's edge."""
    return at_least_single(negative) - at_least_single(positive)[:, None]


LOSSES = Family(AbstractLoss, "--model.loss")
"""Every loss there is."""
