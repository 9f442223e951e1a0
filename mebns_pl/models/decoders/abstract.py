"""The contract of decoders: two embeddings -> a logit."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from mebns_pl.families import Family
from mebns_pl.keys import Key


class AbstractDecoder(nn.Module, ABC):
    """Scores pairs from the embeddings of their ends; symmetric in the two ends.

    Example:
        >>> import torch
        >>> class Distance(AbstractDecoder):
        ...     def forward(self, source, target, rows, key=None):
        ...         return -(source - target).square().sum(dim=1)
        >>> Distance()(torch.zeros(1, 2), torch.ones(1, 2), torch.arange(1)).tolist()
        [-2.0]
    """

    @abstractmethod
    def forward(self, source: Tensor, target: Tensor, rows: Tensor, key: Key | None = None) -> Tensor:
        """Logits ``(M,)`` from ``source`` and ``target`` ``(M, C)``; ``rows`` ``(M,)`` name the pairs for dropout."""


DECODERS = Family(AbstractDecoder, "--model.predictor.decoder")
"""Every decoder there is."""
