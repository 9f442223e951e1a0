"""Encoders: a graph -> one embedding a node.

GCN and GraphSAGE are written as CSR products (no ``(E, C)`` messages, an order of magnitude cheaper than scatter on a
CPU); tests hold them equal to PyG's ``GCNConv`` and ``SAGEConv``. GAT is PyG's ``GATConv``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.layers import FeatureLinear, KeyedDropout
from mebns_pl.types import GraphSpec


class AbstractEncoder(nn.Module, ABC):
    """Embeds the nodes of a graph; ``out_channels`` says how wide the embeddings are."""

    out_channels: int

    @abstractmethod
    def forward(self, graph: Graph, key: Key | None = None) -> Tensor:
        """Embeddings ``(N, out_channels)``; with a key, dropout draws the mask it names."""

    @property
    def inductive(self) -> bool:
        """Whether nodes that training has not seen can be embedded: by their features, where there are any."""
        linears = [layer for layer in self.modules() if isinstance(layer, FeatureLinear)]
        return bool(linears) and all(layer.spec.num_features for layer in linears)


class AbstractLayeredEncoder(AbstractEncoder, ABC):
    """Layers that each map every node alone (``messages``) and then look at its neighbours (``aggregate``).

    Told apart, the two can be computed for the whole graph block by block: see
    :func:`mebns_pl.models.layerwise.embed_layerwise`.

    Args:
        num_layers: number of layers.
    """

    num_layers: int

    @abstractmethod
    def messages(self, layer: int, graph: Graph, h: Tensor | None, key: Key | None = None) -> tuple[Tensor, ...]:
        """What a layer makes of each node's own ``h`` ``(N, C)``, or of its features: tensors ``(N, ...)``."""

    @abstractmethod
    def aggregate(self, layer: int, graph: Graph, messages: tuple[Tensor, ...]) -> Tensor:
        """The layer's result ``(N, C)``, from the messages of each node and its neighbours."""

    def forward(self, graph: Graph, key: Key | None = None) -> Tensor:
        """``(N, out_channels)``; of a sample, the nodes that it was made for and some more."""
        h = self.aggregate(0, graph, self.messages(0, graph, None, key))
        for layer in range(1, self.num_layers):
            if graph.sampled is not None and graph.sampled.inner is not None:
                graph = graph.sampled.inner  # farther nodes have done their part
                h = h[: graph.num_nodes]
            h = self.aggregate(layer, graph, self.messages(layer, graph, h, key))
        return h


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
        super().__init__()
        self.out_channels, self.num_layers = hidden_channels, num_layers
        self.linears = _linear_stack(spec, hidden_channels, num_layers)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(hidden_channels)) for _ in range(num_layers))
        self.dropout = KeyedDropout(dropout)

    def messages(self, layer: int, graph: Graph, h: Tensor | None, key: Key | None = None) -> tuple[Tensor, ...]:
        """The linear map."""
        m = self.linears[layer](graph if h is None else h.relu())
        return (self.dropout(m, graph.dropout_rows, key and key.child(layer)),)

    def aggregate(self, layer: int, graph: Graph, messages: tuple[Tensor, ...]) -> Tensor:
        """The scaled sum over neighbours and the node itself."""
        return graph.normalized_sum(messages[0]) + self.biases[layer]  # type: ignore[no-any-return]


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
        super().__init__()
        self.out_channels, self.num_layers = hidden_channels, num_layers
        self.neighbor_linears = _linear_stack(spec, hidden_channels, num_layers)
        self.own_linears = _linear_stack(spec, hidden_channels, num_layers)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(hidden_channels)) for _ in range(num_layers))
        self.dropout = KeyedDropout(dropout)

    def messages(self, layer: int, graph: Graph, h: Tensor | None, key: Key | None = None) -> tuple[Tensor, ...]:
        """Both linear maps: what neighbours get, and what the node itself keeps."""
        inputs = graph if h is None else h.relu()
        neighbors, own = self.neighbor_linears[layer](inputs), self.own_linears[layer](inputs)
        neighbors = self.dropout(neighbors, graph.dropout_rows, key and key.child(layer))
        return neighbors, self.dropout(own, graph.dropout_rows, key and key.child(f"own{layer}"))

    def aggregate(self, layer: int, graph: Graph, messages: tuple[Tensor, ...]) -> Tensor:
        """The mean over neighbours, and the node's own part."""
        neighbors, own = messages
        mean = graph.neighbor_sum(neighbors) / graph.degree.clamp(min=1).to(own.dtype)[:, None]
        return mean + own + self.biases[layer]  # type: ignore[no-any-return]


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
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> GAT(graph.spec, hidden_channels=8, heads=2)(graph).shape
        torch.Size([3, 8])
    """

    def __init__(
        self, spec: GraphSpec, hidden_channels: int = 128, num_layers: int = 2, heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        _check_num_layers(num_layers)
        if hidden_channels % heads:
            raise ValueError(f"heads: must divide hidden_channels={hidden_channels}, got {heads}")
        self.out_channels, self.num_layers = hidden_channels, num_layers
        self.linear = FeatureLinear(spec, hidden_channels)
        self.convs = nn.ModuleList(GATConv(hidden_channels, hidden_channels // heads, heads) for _ in range(num_layers))
        self.dropout = KeyedDropout(dropout)

    def messages(self, layer: int, graph: Graph, h: Tensor | None, key: Key | None = None) -> tuple[Tensor, ...]:
        """The layer's inputs with dropout: attention maps them itself."""
        h = self.linear(graph) if h is None else h.relu()
        return (self.dropout(h, graph.dropout_rows, key and key.child(layer)),)

    def aggregate(self, layer: int, graph: Graph, messages: tuple[Tensor, ...]) -> Tensor:
        """Attention over neighbours and the node itself."""
        return self.convs[layer](messages[0], graph.edge_index)  # type: ignore[no-any-return]


def _check_num_layers(num_layers: int) -> None:
    if num_layers < 1:
        raise ValueError(f"num_layers: expected 1 or more, got {num_layers}")


def _linear_stack(spec: GraphSpec, hidden_channels: int, num_layers: int) -> nn.ModuleList:
    _check_num_layers(num_layers)
    hidden = (nn.Linear(hidden_channels, hidden_channels, bias=False) for _ in range(num_layers - 1))
    return nn.ModuleList([FeatureLinear(spec, hidden_channels), *hidden])
