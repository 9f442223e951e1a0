"""Self-adversarial weights: the higher a negative's score, the more it counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.checks import above
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting


@dataclass(frozen=True)
class SelfAdversarialWeighting(AbstractNegativeWeighting):
    """``w_ij = M_i softmax_j(f(u_i, v_ij) / temperature)`` over the M_i negatives of positive i.

    All of a positive's negatives are learned from, the hard ones most; with one negative a positive all weights are 1.

    Sun et al., *RotatE: Knowledge Graph Embedding by Relational Rotation in Complex Space*, ICLR 2019, arXiv
    1902.10197, whose α is ``1 / temperature``.

    Args:
        temperature: above 0; large ones give equal weights.

    Raises:
        ValueError: ``temperature`` is not above 0.

    Example:
        >>> logits, mask = torch.tensor([[0.0, 0.0, 5.0]]), torch.tensor([[True, True, False]])
        >>> SelfAdversarialWeighting().weights(logits, mask)
        tensor([[1., 1., 0.]])
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Checks the temperature."""
        above(0, temperature=self.temperature)

    def weights(self, logits: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`AbstractNegativeWeighting.weights`."""
        # A finite floor, so that a row without any negative has no NaN
        floor = torch.finfo(logits.dtype).min
        shares = (logits / self.temperature).masked_fill(~mask, floor).softmax(dim=1) * mask
        return shares * mask.sum(dim=1, keepdim=True)
