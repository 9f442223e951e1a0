"""GCN as CSR products: no ``(E, C)`` messages, an order of magnitude cheaper than scatter on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.encoders.abstract import AbstractLayeredEncoder
from mebns_pl.models.layers import linear_stack
from mebns_pl.types import GraphSpec


class GCN(AbstractLayeredEncoder):
    r"""Graph convolutional network (Kipf and Welling, 1609.02907, eq. 2).

    Each layer is :math:`H' = \hat D^{-1/2} (A + I) \hat D^{-1/2} \, \mathrm{dropout}(H W) + b`, with a ReLU between
    layers. Dropout stands before the propagation of every layer, so that one-layer encoders are stochastic too, as
    Monte-Carlo dropout needs.

    Args:
        spec: the graph's size.
        hidden_channels: width of every layer.
        num_layers: 1 or more.
        dropout: probability in [0, 1).

    Cost: N F C for the first map (only the non-zero features where they are sparse), then (E + N) C a layer.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> GCN(graph.spec, hidden_channels=8)(graph).shape
        torch.Size([3, 8])
    """

    def __init__(self, spec: GraphSpec, hidden_channels: int = 128, num_layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__(hidden_channels, num_layers, dropout)
        self.linears = linear_stack(spec, hidden_channels, num_layers)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(hidden_channels)) for _ in range(num_layers))

    def messages(self, layer: int, graph: Graph, h: Tensor | None, key: Key | None = None) -> tuple[Tensor, ...]:
        """The linear map."""
        m = self.linears[layer](graph if h is None else h.relu())
        return (self.dropout(m, graph.dropout_rows, key and key.child(layer)),)

    def aggregate(self, layer: int, graph: Graph, messages: tuple[Tensor, ...]) -> Tensor:
        """The scaled sum over neighbours and the node itself."""
        return graph.normalized_sum(messages[0]).add_(self.biases[layer])  # in place: the sum is nobody else's
