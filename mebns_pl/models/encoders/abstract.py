"""The contract of encoders: a graph -> one embedding a node."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from mebns_pl.checks import at_least
from mebns_pl.families import Family
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.layers import FeatureLinear, KeyedDropout, tables_of


class AbstractEncoder(nn.Module, ABC):
    """Embeds the nodes of a graph; ``out_channels`` says how wide the embeddings are.

    Example:
        >>> import torch
        >>> class Degree(AbstractEncoder):
        ...     out_channels = 1
        ...     def forward(self, graph, key=None):
        ...         return graph.degree[:, None].float()
        >>> Degree()(Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)).flatten().tolist()
        [1.0, 2.0, 1.0]
    """

    out_channels: int

    @abstractmethod
    def forward(self, graph: Graph, key: Key | None = None) -> Tensor:
        """Embeddings ``(N, out_channels)``; with a key, dropout draws the mask it names."""

    @property
    def inductive(self) -> bool:
        """Whether nodes that training has not seen can be embedded: by their features, where there are any."""
        return any(isinstance(layer, FeatureLinear) for layer in self.modules()) and not tables_of(self)


ENCODERS = Family(AbstractEncoder, "--model.predictor.encoder")
"""Every encoder there is."""


class AbstractLayeredEncoder(AbstractEncoder, ABC):
    """Layers that each map every node alone (``messages``) and then look at its neighbours (``aggregate``).

    Told apart, the two can be computed for the whole graph block by block: see
    :func:`mebns_pl.models.layerwise.embed_layerwise`.

    Args:
        hidden_channels: width of every layer.
        num_layers: number of layers, 1 or more.
        dropout: probability in [0, 1).

    Raises:
        ValueError: ``num_layers`` or ``dropout`` out of its range.

    Example:
        >>> import torch
        >>> from mebns_pl.models.encoders.gcn import GCN
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> encoder = GCN(graph.spec, hidden_channels=8, num_layers=1)
        >>> bool((encoder.aggregate(0, graph, encoder.messages(0, graph, None)) == encoder(graph)).all())
        True
    """

    def __init__(self, hidden_channels: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        at_least(1, num_layers=num_layers)
        self.out_channels, self.num_layers = hidden_channels, num_layers
        self.dropout = KeyedDropout(dropout)

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
