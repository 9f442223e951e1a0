"""The contract of decoders: two embeddings -> a logit."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mebns_pl.families import Family
from mebns_pl.keys import Key

CACHE_BLOCK = 1024
"""Pairs decoded in one go on a CPU: their embeddings stay in its cache."""


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

    def of_pairs(self, z: Tensor, pairs: Tensor, rows: Tensor, key: Key | None = None) -> Tensor:
        """:meth:`forward` of the rows of ``z`` ``(N, C)`` that are the ends of ``pairs`` ``(2, M)``: ``(M,)``."""

        def decode(pairs: Tensor, rows: Tensor) -> Tensor:
            return self(z.index_select(0, pairs[0]), z.index_select(0, pairs[1]), rows, key)  # type: ignore[no-any-return]

        if torch.is_grad_enabled() or pairs.device.type != "cpu":
            return decode(pairs, rows)
        # Without a graph to keep, blocks that stay in the cache are several times as fast; the result is the same
        blocks = zip(pairs.split(CACHE_BLOCK, dim=1), rows.split(CACHE_BLOCK), strict=True)
        return torch.cat([decode(*block) for block in blocks])


DECODERS = Family(AbstractDecoder, "--model.predictor.decoder")
"""Every decoder there is."""
