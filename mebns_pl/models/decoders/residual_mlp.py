"""A perceptron with residual layers as a decoder."""

from __future__ import annotations

from torch import Tensor, nn

from mebns_pl.checks import at_least
from mebns_pl.keys import Key
from mebns_pl.models.decoders.abstract import AbstractDecoder
from mebns_pl.models.layers import KeyedDropout


class ResidualMLPDecoder(AbstractDecoder):
    r"""A perceptron on the elementwise product p of the embeddings, p added in every layer (Refined-GAE, 2411.03845).

    .. math:: h_0 = p, \quad h_{l+1} = \mathrm{dropout}(\mathrm{ReLU}(W_l h_l + b_l + p))

    The product that an inner product adds up so reaches the last layer, however many there are.

    Args:
        in_channels: C, width of the embeddings and of every layer.
        num_layers: number of linear layers, 1 or more; the last has one output.
        dropout: probability in [0, 1), after each hidden ReLU.

    Cost: (num_layers - 1) x C² multiply-adds a pair.

    Example:
        >>> import torch
        >>> ResidualMLPDecoder(4)(torch.ones(3, 4), torch.ones(3, 4), torch.arange(3)).shape
        torch.Size([3])
    """

    def __init__(self, in_channels: int, num_layers: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        at_least(1, num_layers=num_layers)
        self.hidden = nn.ModuleList(nn.Linear(in_channels, in_channels) for _ in range(num_layers - 1))
        self.last = nn.Linear(in_channels, 1)
        self.dropout = KeyedDropout(dropout)

    def forward(self, source: Tensor, target: Tensor, rows: Tensor, key: Key | None = None) -> Tensor:
        """``(M,)``."""
        product = source * target
        h = product
        for layer, linear in enumerate(self.hidden):
            h = self.dropout((linear(h) + product).relu(), rows, key and key.child(layer))
        return self.last(h).squeeze(1)  # type: ignore[no-any-return]
