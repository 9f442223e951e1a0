"""GraphSAGE as CSR products: no ``(E, C)`` messages, an order of magnitude cheaper than scatter on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.encoders.abstract import AbstractLayeredEncoder
from mebns_pl.models.layers import linear_stack
from mebns_pl.types import GraphSpec


class SAGE(AbstractLayeredEncoder):
    r"""GraphSAGE with mean aggregation (Hamilton et al., 1706.02216, algorithm 1).

    Each layer is :math:`H' = D^{-1} A \, \mathrm{dropout}(H W_1) + H W_2 + b`, with a ReLU between layers; a node
    without neighbours gets the second part alone.

    Args:
        spec: the graph's size.
        hidden_channels: width of every layer.
        num_layers: 1 or more.
        dropout: probability in [0, 1).

    Cost: twice GCN's linear maps, the same propagation.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> SAGE(graph.spec, hidden_channels=8)(graph).shape
        torch.Size([3, 8])
    """

    def __init__(self, spec: GraphSpec, hidden_channels: int = 128, num_layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__(hidden_channels, num_layers, dropout)
        self.neighbor_linears = linear_stack(spec, hidden_channels, num_layers)
        self.own_linears = linear_stack(spec, hidden_channels, num_layers)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(hidden_channels)) for _ in range(num_layers))

    def messages(self, layer: int, graph: Graph, h: Tensor | None, key: Key | None = None) -> tuple[Tensor, ...]:
        """Both linear maps: what neighbours get, and what the node itself keeps."""
        inputs = graph if h is None else h.relu()
        neighbors, own = self.neighbor_linears[layer](inputs), self.own_linears[layer](inputs)
        neighbors = self.dropout(neighbors, graph.dropout_rows, key and key.child(layer))
        return neighbors, self.dropout(own, graph.dropout_rows, key and key.child(f"own{layer}"))

    def aggregate(self, layer: int, graph: Graph, messages: tuple[Tensor, ...]) -> Tensor:
        """The mean over neighbours, and the node's own part."""
        neighbors, own = messages
        total = graph.strength
        mean = graph.neighbor_sum(neighbors) / torch.where(total > 0, total, 1).to(own.dtype)[:, None]
        return mean + own + self.biases[layer]  # type: ignore[no-any-return]
