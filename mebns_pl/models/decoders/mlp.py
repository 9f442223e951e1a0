"""A perceptron as a decoder."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from mebns_pl.checks import at_least
from mebns_pl.keys import Key
from mebns_pl.models.decoders.abstract import AbstractDecoder
from mebns_pl.models.layers import KeyedDropout, check_width


class MLPDecoder(AbstractDecoder):
    """A multi-layer perceptron on the elementwise product of the two embeddings (as in OGB's and HeaRT's baselines).

    Args:
        in_channels: C, width of the embeddings.
        hidden_channels: width of the hidden layers.
        num_layers: number of linear layers, 1 or more; the last has one output.
        dropout: probability in [0, 1), after each hidden ReLU.

    Cost: C x hidden + (num_layers - 2) x hidden² multiply-adds a pair.

    Example:
        >>> import torch
        >>> MLPDecoder(4, hidden_channels=8)(torch.ones(3, 4), torch.ones(3, 4), torch.arange(3)).shape
        torch.Size([3])
    """

    def __init__(self, in_channels: int, hidden_channels: int = 128, num_layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        at_least(1, num_layers=num_layers)
        check_width(hidden_channels, num_layers - 2, in_channels)
        widths = [in_channels] + [hidden_channels] * (num_layers - 1)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.last = nn.Linear(widths[-1], 1)
        self.dropout = KeyedDropout(dropout)

    def forward(self, source: Tensor, target: Tensor, rows: Tensor, key: Key | None = None) -> Tensor:
        """``(M,)``."""
        h = source * target
        for layer, linear in enumerate(self.hidden):
            h = self.dropout(linear(h).relu(), rows, key and key.child(layer))
        return self.last(h).squeeze(1)  # type: ignore[no-any-return]
