"""GAT: attention layers of PyG."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import GATConv

from mebns_pl.checks import at_least, expect
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.encoders.abstract import AbstractLayeredEncoder
from mebns_pl.models.layers import FeatureLinear, check_width
from mebns_pl.types import GraphSpec


class GAT(AbstractLayeredEncoder):
    r"""Graph attention network (Velickovic et al., 1710.10903, eq. 4-6).

    A linear map of the features, then ``GATConv`` layers with a ReLU between them.
    Dropout stands before every attention layer. The heads are concatenated, so ``heads`` must divide
    ``hidden_channels``.

    Args:
        spec: the graph's size.
        hidden_channels: width of every layer, all heads together.
        num_layers: 1 or more.
        heads: attention heads of each layer.
        dropout: probability in [0, 1).

    Cost: E C messages are made in each layer: about ten times GCN's on a CPU.

    Example:
        >>> import torch
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> GAT(graph.spec, hidden_channels=8, heads=2)(graph).shape
        torch.Size([3, 8])
    """

    def __init__(
        self, spec: GraphSpec, hidden_channels: int = 128, num_layers: int = 2, heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__(hidden_channels, num_layers, dropout)
        at_least(1, heads=heads)
        check_width(hidden_channels, num_layers)
        expect(hidden_channels % heads == 0, f"a divisor of hidden_channels={hidden_channels}", heads=heads)
        self.linear = FeatureLinear(spec, hidden_channels)
        self.convs = nn.ModuleList(GATConv(hidden_channels, hidden_channels // heads, heads) for _ in range(num_layers))

    def messages(self, layer: int, graph: Graph, h: Tensor | None, key: Key | None = None) -> tuple[Tensor, ...]:
        """The layer's inputs with dropout: attention maps them itself."""
        h = self.linear(graph) if h is None else h.relu()
        return (self.dropout(h, graph.dropout_rows, key and key.child(layer)),)

    def aggregate(self, layer: int, graph: Graph, messages: tuple[Tensor, ...]) -> Tensor:
        """Attention over neighbours and the node itself."""
        return self.convs[layer](messages[0], graph.edge_index)  # type: ignore[no-any-return]
