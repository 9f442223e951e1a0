"""SEAL: each pair is judged by the subgraph round it, labelled by distances, with a graph classifier (DGCNN)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from mebns_pl.checks import at_least, fits
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.row_sets import RowSets
from mebns_pl.graph.sparse import product
from mebns_pl.graph.subgraph import Subgraphs, enclosing_subgraphs
from mebns_pl.keys import Key
from mebns_pl.models.layers import FeatureLinear, KeyedDropout, check_width
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.types import GraphSpec

NUM_LABELS = 1000
"""Labels from this one on share the last embedding."""


@dataclass(frozen=True)
class SEALInputs:
    """Pairs as their enclosing subgraphs.

    Args:
        subgraphs: M labelled subgraphs, without the pairs' own edges.
        rows: ``(M,)`` int64, each pair's name within the union batch, under which it draws its dropout mask.
        graph: all nodes with their features, but no edge; without any node where features are not used.
        key: the key of this stochastic pass, or None for a deterministic one.
    """

    subgraphs: Subgraphs
    rows: Tensor
    graph: Graph
    key: Key | None = None

    def select(self, index: Tensor | slice) -> SEALInputs:
        """The pairs at ``index``."""
        device = self.rows.device
        place = index if isinstance(index, slice) else index.cpu()
        return replace(self, subgraphs=self.subgraphs.to("cpu").select(place).to(device), rows=self.rows[index])

    def with_key(self, key: Key | None) -> SEALInputs:
        """The same pairs in another stochastic pass."""
        return replace(self, key=key)


class SEAL(LinkPredictor[SEALInputs]):
    r"""SEAL (Zhang and Chen, NeurIPS 2018, 1802.09691) with DGCNN (Zhang et al., AAAI 2018).

    1. The subgraph of all nodes within ``num_hops`` steps of either end, without the pair's own edge.
    2. Each node gets its double-radius label, a function of its distances to the two ends, and with it an embedding;
       where the graph has features, a linear map of them is added to the first layer.
    3. Graph convolutions :math:`\tanh(\hat D^{-1/2} (A + I) \hat D^{-1/2} H W + b)`, the last one of a single channel.
    4. SortPooling: the ``num_pooled`` nodes that are highest in the last channel, in that order, with the channels of
       all layers; zeros stand where there are fewer.
    5. A linear map of each node's channels to 16, ReLU, max-pooling of neighbours in the order, a convolution of five
       with 32 channels, ReLU, a dense layer of 128, ReLU, dropout, and the logit.

    There is no learned embedding of single nodes, so that the number of parameters does not depend on the graph's size.

    Args:
        spec: the graph's size.
        num_hops: h, 1 or more. One is enough where paths are short (USAir, C.ele); sparse graphs gain from more.
        num_pooled: k, 10 or more. The original takes the 60 % quantile of the training subgraphs' sizes; see
            :func:`sortpool_size`.
        hidden_channels: C, of the embedding and of each layer but the last.
        num_layers: convolutions before the one with a single channel, 1 or more.
        dropout: probability in [0, 1), after the dense layer.
        max_nodes_per_hop: most nodes that a step may add to a subgraph, or None for all.
        use_features: whether node features are used where there are any.

    Cost of M pairs, whose subgraphs have n nodes and e directed edges in all: extraction in O(n + e), then n C^2 + e C
    multiply-adds a layer and about 2000 k for each pair. With features once a call N F C more (only the non-zero ones
    where they are sparse).

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> predictor = SEAL(graph.spec, num_pooled=10)
        >>> predictor(predictor.prepare(graph, torch.tensor([[0, 1], [2, 2]]))).shape
        torch.Size([2])
    """

    prepares_ahead = True
    score_block = 2**11

    def __init__(
        self,
        spec: GraphSpec,
        num_hops: int = 1,
        num_pooled: int = 30,
        hidden_channels: int = 32,
        num_layers: int = 3,
        dropout: float = 0.5,
        max_nodes_per_hop: int | None = None,
        use_features: bool = True,
    ) -> None:
        super().__init__()
        at_least(1, num_hops=num_hops, num_layers=num_layers)
        at_least(10, num_pooled=num_pooled)
        check_width(hidden_channels, num_layers)
        fits(16 * 128 * 16 * num_pooled, num_pooled=num_pooled)
        self.num_hops = num_hops
        self.num_pooled = num_pooled
        self.max_nodes_per_hop = max_nodes_per_hop
        self.labels = nn.Parameter(torch.randn(NUM_LABELS, hidden_channels))
        self.features = FeatureLinear(spec, hidden_channels) if use_features and spec.num_features else None
        widths = [hidden_channels] * (num_layers + 1) + [1]
        linears = [nn.Linear(a, b, bias=False) for a, b in pairwise(widths)]
        for linear in linears:
            nn.init.xavier_uniform_(linear.weight)
        self.linears = nn.ModuleList(linears)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in widths[1:])
        self.node_channels = nn.Linear(sum(widths[1:]), 16)
        self.order_conv = nn.Conv1d(16, 32, 5)
        self.dense = nn.Linear(32 * (num_pooled // 2 - 4), 128)
        self.dropout = KeyedDropout(dropout)
        self.last = nn.Linear(128, 1)

    def prepare(self, graph: Graph, pairs: Tensor, rows: Tensor | None = None, key: Key | None = None) -> SEALInputs:
        """Extracts and labels the subgraphs, on the CPU."""
        on_cpu = graph if graph.indptr.device.type == "cpu" else graph.to("cpu")
        subgraphs = enclosing_subgraphs(on_cpu, pairs.cpu(), self.num_hops, self.max_nodes_per_hop).to(pairs.device)
        nodes = _nodes_alone(graph) if self.features is not None else _nothing(pairs.device)
        return SEALInputs(subgraphs, self.pair_inputs(graph, pairs, rows, key).rows, nodes, key)

    def forward(self, inputs: SEALInputs) -> Tensor:
        """Logits ``(M,)``."""
        return self.scorer(inputs.graph, inputs.key)(inputs)

    def scorer(self, graph: Graph, key: Key | None = None) -> Callable[[SEALInputs], Tensor]:
        """Maps the features once."""
        table = self.linears[0](self.labels)
        if self.features is not None:
            table = torch.cat([table, self.features(graph)])

        def score(inputs: SEALInputs) -> Tensor:
            return self._classify(self._pooled(inputs.subgraphs, table), inputs)

        return score

    @property
    def inductive(self) -> bool:
        """True: nothing is learned of single nodes."""
        return True

    def _pooled(self, subgraphs: Subgraphs, table: Tensor) -> Tensor:
        """``(M, k, all channels)``."""
        spread = _Spread(subgraphs, table.dtype)
        h = _rows_of(subgraphs, table.shape[0]).sums(table)
        layers: list[Tensor] = []
        for linear, bias in zip(self.linears, self.biases, strict=True):
            h = linear(layers[-1]) if layers else h
            layers.append((spread(h) + bias).tanh())
        channels = torch.cat(layers, dim=1)
        places = sort_places(layers[-1].detach().squeeze(1), subgraphs.ptr, self.num_pooled)
        return places.sums(channels).view(subgraphs.num_pairs, self.num_pooled, channels.shape[1])

    def _classify(self, pooled: Tensor, inputs: SEALInputs) -> Tensor:
        h = self.node_channels(pooled).relu().transpose(1, 2)
        h = self.order_conv(nn.functional.max_pool1d(h, 2)).relu().flatten(1)
        h = self.dropout(self.dense(h).relu(), inputs.rows, inputs.key and inputs.key.child("dense"))
        return self.last(h).squeeze(1)  # type: ignore[no-any-return]


def sortpool_size(graph: Graph, pairs: Tensor, num_hops: int = 1, share: float = 0.6) -> int:
    """The ``num_pooled`` that the original would take: a quantile of the pairs' subgraph sizes, 10 or more.

    Args:
        graph: the message-passing graph.
        pairs: ``(2, M)`` int64, training pairs.
        num_hops: of the subgraphs.
        share: the quantile, in [0, 1].
    """
    sizes = enclosing_subgraphs(graph, pairs, num_hops).ptr.diff().sort().values
    return max(10, int(sizes[min(len(sizes) - 1, int(share * len(sizes)))]))


class _Spread:
    """The normalised adjacency with self-loops of all subgraphs, block by block, as one product.

    Args:
        subgraphs: the subgraphs.
        dtype: of the channels.
    """

    def __init__(self, subgraphs: Subgraphs, dtype: torch.dtype) -> None:
        dtype = torch.float32 if dtype == torch.bfloat16 else dtype  # sparse kernels have no bfloat16
        degree = subgraphs.indptr.diff()
        scale = (degree + 1).to(dtype).rsqrt()
        values = torch.repeat_interleave(scale, degree) * scale[subgraphs.indices.long()]
        size = (degree.numel(), degree.numel())
        self.matrix = torch.sparse_csr_tensor(
            subgraphs.indptr.int(), subgraphs.indices.int(), values, size, check_invariants=False
        )
        self.own = (scale * scale)[:, None]

    def __call__(self, h: Tensor) -> Tensor:
        """``(n, C) -> (n, C)``."""
        h = h.to(self.own.dtype)
        return product(self.matrix, self.matrix, h) + self.own * h


def _rows_of(subgraphs: Subgraphs, num_rows: int) -> RowSets:
    """For each node the rows of the table that it starts from: its label's, and its features' where there are any."""
    labels = subgraphs.labels.long().clamp(max=NUM_LABELS - 1)
    each = 1 if num_rows == NUM_LABELS else 2
    members = labels if each == 1 else torch.stack([labels, subgraphs.nodes.long() + NUM_LABELS], dim=1).flatten()
    return RowSets(torch.arange(labels.numel() + 1, device=labels.device) * each, members, num_rows)


def sort_places(height: Tensor, ptr: Tensor, num_pooled: int) -> RowSets:
    """SortPooling's choice: for each subgraph its ``num_pooled`` highest nodes in falling order, none for lacking ones.

    Args:
        height: ``(n,)``; of equal nodes the first comes first.
        ptr: ``(M + 1,)`` int64, where each subgraph starts.
        num_pooled: k.

    Returns:
        ``M k`` sets of one node or none.
    """
    num_pairs = ptr.numel() - 1
    pair = torch.repeat_interleave(torch.arange(num_pairs, device=ptr.device), ptr.diff())
    order = height.argsort(descending=True, stable=True)
    order = order[pair[order].argsort(stable=True)]
    place = torch.arange(order.numel(), device=ptr.device) - ptr[pair]
    filled = torch.arange(num_pooled, device=ptr.device) < ptr.diff()[:, None]
    starts = torch.cat([ptr[:1], filled.flatten().cumsum(0)])
    return RowSets(starts, order[place < num_pooled], height.numel())


def _nodes_alone(graph: Graph) -> Graph:
    """The nodes with their features, which travel between processes without the edges.

    No view of the graph's arrays goes along: sending one moves the memory that the next batch's kernels are reading.
    """
    return Graph(
        torch.zeros_like(graph.indptr), graph.indices.new_empty(0), graph.x, None, graph.feature_mask, graph.node_ids
    )


def _nothing(device: torch.device) -> Graph:
    """A graph without nodes."""
    return Graph.from_edges(torch.zeros(2, 0, dtype=torch.int64), num_nodes=0).to(device)
