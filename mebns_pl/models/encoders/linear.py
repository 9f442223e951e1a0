"""A linear encoder: steps of propagation without weights or activations between them."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.checks import at_least, expect
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.encoders.abstract import AbstractLayeredEncoder
from mebns_pl.models.layers import FeatureLinear, NodeEmbedding
from mebns_pl.types import GraphSpec


class LinearGCN(AbstractLayeredEncoder):
    r"""GCN's propagation alone, as in Refined-GAE (Ma et al., CIKM 2025, 2411.03845).

    .. math:: H_0 = X W + E, \quad H_{l+1} = \hat D^{-1/2} (A + I) \hat D^{-1/2} \, \mathrm{dropout}(H_l) + r H_0

    X W is a linear map of the features, E a learned embedding of each node that begins orthogonal: so the inner
    products of propagated embeddings begin as counts of common neighbours, and no activation spoils them.
    (X W + E is what a linear map makes of features and embeddings side by side.)

    Args:
        spec: the graph's size.
        hidden_channels: C, width of the embeddings.
        num_layers: steps of propagation, 1 or more; two to four in the paper.
        residual: r, 0 or more, what of the beginning is added in every step.
        embed_nodes: whether nodes have learned embeddings; on a graph without features, they always have.
        use_features: whether features are used, where there are any.
        dropout: probability in [0, 1), before every step.

    Raises:
        ValueError: an argument out of its range, or neither features nor embeddings.

    Cost: N F C for the map (only the non-zero features where they are sparse), then (E + N) C a step; N C^2 once, for
    orthogonal embeddings.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> LinearGCN(graph.spec, hidden_channels=8)(graph).shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        spec: GraphSpec,
        hidden_channels: int = 128,
        num_layers: int = 2,
        residual: float = 0.1,
        embed_nodes: bool = False,
        use_features: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(hidden_channels, num_layers, dropout)
        at_least(0, residual=residual)
        if spec.num_features:
            allowed = "one of them at least"
            expect(use_features or embed_nodes, allowed, use_features=use_features, embed_nodes=embed_nodes)
        use_features = use_features and spec.num_features > 0
        self.residual = residual
        self.linear = FeatureLinear(spec, hidden_channels) if use_features else None
        self.nodes = NodeEmbedding(spec.num_nodes, hidden_channels) if embed_nodes or not use_features else None

    def messages(self, layer: int, graph: Graph, h: Tensor | None, key: Key | None = None) -> tuple[Tensor, ...]:
        """What is propagated, and what each node began with."""
        if h is None:
            now = first = self._first(graph)
        else:
            now, first = h.chunk(2, dim=1)
        return self.dropout(now, graph.dropout_rows, key and key.child(layer)), first

    def aggregate(self, layer: int, graph: Graph, messages: tuple[Tensor, ...]) -> Tensor:
        """A step ``(N, C)``; for a next one with what each node began with, ``(N, 2 C)``."""
        now, first = messages
        result = graph.normalized_sum(now) + self.residual * first
        return result if layer == self.num_layers - 1 else torch.cat([result, first], dim=1)

    def _first(self, graph: Graph) -> Tensor:
        parts = [part(graph) for part in (self.linear, self.nodes) if part is not None]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]  # type: ignore[no-any-return]
