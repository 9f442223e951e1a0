"""The inner product as a decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mebns_pl.keys import Key
from mebns_pl.models.decoders.abstract import AbstractDecoder
from mebns_pl.models.pair_products import pair_dots


class DotDecoder(AbstractDecoder):
    """The inner product of the two embeddings, plus a learned bias.

    The bias moves all logits alike: it changes no ranking, and lets the probabilities be calibrated.

    Args:
        in_channels: C, width of the embeddings.

    Cost: C a pair.

    Example:
        >>> DotDecoder(2)(torch.ones(3, 2), torch.ones(3, 2), torch.arange(3)).tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, source: Tensor, target: Tensor, rows: Tensor, key: Key | None = None) -> Tensor:
        """``(M,)``."""
        return (source * target).sum(dim=1) + self.bias

    def of_pairs(self, z: Tensor, pairs: Tensor, rows: Tensor, key: Key | None = None) -> Tensor:
        """``(M,)``, to rounding that of :meth:`forward`; on a CPU the ends' rows are not copied."""
        return pair_dots(z, pairs) + self.bias
