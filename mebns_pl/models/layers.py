"""Layers that encoders and decoders share: keyed dropout, what nodes begin with (features, embeddings), perceptrons."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mebns_pl.checks import at_least, fits, within
from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.distributed.row_shards import RowShards
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key, dropped
from mebns_pl.types import GraphSpec

_BYTES = 4 * 4
"""Of a parameter: with its gradient and Adam's two moments."""


_parted: ContextVar[bool] = ContextVar("parted", default=False)


@contextmanager
def parted_tables() -> Iterator[None]:
    """Within, layers make their embedding tables without rows: :func:`place_tables` gives each rank its own."""
    before = _parted.set(True)
    try:
        yield
    finally:
        _parted.reset(before)


@dataclass
class Parted:
    """How a table whose rows are parted among ranks begins, and where they are.

    Args:
        num_nodes: N.
        std: of the first values.
        seed: of the first values.
        shards: where the rows are; None before :func:`place_tables`.
    """

    num_nodes: int
    std: float
    seed: int
    shards: RowShards | None = None

    @staticmethod
    def begun(num_nodes: int, std: float) -> Parted | None:
        """One with a seed of the global generator, or None where tables are not parted."""
        return Parted(num_nodes, std, int(torch.randint(2**62, ()))) if _parted.get() else None


class KeyedDropout(nn.Module):
    """Inverted dropout whose mask is a function of a key and each row's name (see :func:`mebns_pl.keys.dropout_mask`).

    It works by the key it is given, not by ``module.training``. The same key gives the same mask again, for a lookahead
    and the real step say, and any slice of the rows gives that slice of the mask.

    Args:
        p: probability of a zero, in [0, 1).

    Example:
        >>> layer, h = KeyedDropout(0.5), torch.ones(4, 3)
        >>> rows = torch.arange(4)
        >>> bool((layer(h, rows, Key(0, "a"))[2:] == layer(h[2:], rows[2:], Key(0, "a"))).all())
        True
        >>> layer(h, rows, None) is h
        True
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        within("[0, 1)", "probability", dropout=p)
        self.p = p

    def forward(self, h: Tensor, rows: Tensor, key: Key | None) -> Tensor:
        """``(M, C) -> (M, C)``; ``rows`` ``(M,)`` int64; unchanged where ``key`` is None."""
        if key is None or self.p == 0:
            return h
        return dropped(h, key, rows, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class FeatureLinear(nn.Module):
    """The linear map from a graph's features to ``(N, C)``, for dense, sparse or absent features.

    Sparse features (bag of words) are multiplied as a CSR product. Without features the result is a learned embedding
    of each node: the weight itself, which is the linear map of one-hot features.

    Args:
        spec: the graph's size.
        out_channels: C.
    """

    def __init__(self, spec: GraphSpec, out_channels: int) -> None:
        super().__init__()
        at_least(1, hidden_channels=out_channels)
        self.spec = spec
        self.parted = None if spec.num_features else Parted.begun(spec.num_nodes, 1 / math.sqrt(out_channels))
        if self.parted is not None:
            self.weight = nn.Parameter(torch.empty(0, out_channels))
            return
        fits(_BYTES * (spec.num_features or spec.num_nodes) * out_channels, hidden_channels=out_channels)
        self.weight = nn.Parameter(torch.empty(spec.num_features or spec.num_nodes, out_channels))
        nn.init.xavier_uniform_(self.weight)
        if not spec.num_features:
            # One-hot features: unit variance overall, as embeddings are commonly started
            nn.init.normal_(self.weight, std=1 / math.sqrt(out_channels))

    def forward(self, graph: Graph) -> Tensor:
        """``(N, C)``.

        Raises:
            ValueError: the graph's features are not those the layer was built for.
        """
        if graph.node_ids is None and graph.spec != self.spec:
            raise ValueError(f"graph: the model was built for {self.spec}, got {graph.spec}")
        if graph.x is None:
            return _node_rows(self.weight, graph, self.parted)
        weight = self.weight if graph.feature_mask is None else self.weight * graph.feature_mask[:, None]
        # What loader workers have prepared is as it is stored, also where a run computes in float64
        x = graph.x if graph.x.dtype == weight.dtype else graph.x.type(weight.dtype)
        return x @ weight

    def extra_repr(self) -> str:
        return f"{self.spec}, out_channels={self.weight.shape[1]}"


class NodeEmbedding(nn.Module):
    """A learned embedding of every node, begun orthogonal, whether or not the graph has features.

    The columns are orthogonal, of equal norms; so are the rows where there are as few nodes as channels. Where there
    are more, rows are nearly so, and propagated once the inner product of two of them tells the number of their
    common neighbours (Ma et al., 2411.03845). Rows have a mean square norm of 1.

    Args:
        num_nodes: N.
        out_channels: C.

    Cost: N C^2 once, to begin with.
    """

    def __init__(self, num_nodes: int, out_channels: int) -> None:
        super().__init__()
        self.num_nodes = num_nodes
        self.parted = Parted.begun(num_nodes, 1 / math.sqrt(out_channels))
        if self.parted is not None:  # orthogonal only nearly: no rank sees the whole
            self.weight = nn.Parameter(torch.empty(0, out_channels))
            return
        self.weight = nn.Parameter(torch.empty(num_nodes, out_channels))
        nn.init.orthogonal_(self.weight, max(1.0, num_nodes / out_channels) ** 0.5)

    def forward(self, graph: Graph) -> Tensor:
        """``(N, C)``, or of a part of the graph those of its nodes.

        Raises:
            ValueError: the graph has another number of nodes.
        """
        if graph.node_ids is None and graph.num_nodes != self.num_nodes:
            raise ValueError(f"graph: the model was built for {self.num_nodes} nodes, got {graph.num_nodes}")
        return _node_rows(self.weight, graph, self.parted)

    def extra_repr(self) -> str:
        return f"{self.num_nodes}, out_channels={self.weight.shape[1]}"


class Perceptron(nn.Module):
    """Linear, LayerNorm, ReLU, dropout by row, Linear."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        check_width(hidden_channels, 1, in_channels)
        self.first = nn.Linear(in_channels, hidden_channels)
        self.norm = nn.LayerNorm(hidden_channels)
        self.dropout = KeyedDropout(dropout)
        self.last = nn.Linear(hidden_channels, out_channels)

    def forward(self, h: Tensor, rows: Tensor, key: Key | None) -> Tensor:
        """``(M, in_channels) -> (M, out_channels)``."""
        return self.last(self.dropout(self.norm(self.first(h)).relu(), rows, key))  # type: ignore[no-any-return]


def check_width(hidden_channels: int, num_maps: int = 1, in_channels: int = 1) -> None:
    """Refuses a width below 1, or with whose maps from it to itself, and from ``in_channels``, no memory is enough.

    Raises:
        ValueError: it is such.
    """
    at_least(1, hidden_channels=hidden_channels)
    numbers = hidden_channels * (hidden_channels * num_maps + in_channels)
    fits(_BYTES * numbers, hidden_channels=hidden_channels)


def linear_stack(spec: GraphSpec, hidden_channels: int, num_layers: int) -> nn.ModuleList:
    """The linear maps of an encoder's layers: one of the graph's features, then those of ``hidden_channels``."""
    check_width(hidden_channels, num_layers - 1)
    hidden = (nn.Linear(hidden_channels, hidden_channels, bias=False) for _ in range(num_layers - 1))
    return nn.ModuleList([FeatureLinear(spec, hidden_channels), *hidden])


def tables_of(module: nn.Module) -> list[nn.Parameter]:
    """The embedding tables ``(N, C)`` in a module: what stands for the features where a graph has none, or beside."""
    layers = (layer for layer in module.modules() if isinstance(layer, FeatureLinear | NodeEmbedding))
    return [layer.weight for layer in layers if isinstance(layer, NodeEmbedding) or not layer.spec.num_features]


def parted_of(module: nn.Module) -> dict[str, Parted]:
    """By the names of their parameters, the tables in a module whose rows are parted among ranks."""
    layers = (
        (name, layer) for name, layer in module.named_modules() if isinstance(layer, FeatureLinear | NodeEmbedding)
    )
    return {f"{name}.weight".lstrip("."): layer.parted for name, layer in layers if layer.parted is not None}


def place_tables(module: nn.Module, group: AbstractGroup) -> None:
    """Gives the tables that were made within :func:`parted_tables` this rank's rows, unless they have them.

    Raises:
        ValueError: they have those of another number of ranks.
    """
    for name, parted in parted_of(module).items():
        shards = RowShards(parted.num_nodes, group.rank, group.size)
        if parted.shards is not None:
            if parted.shards != shards:
                raise ValueError(f"group: {name} is parted among {parted.shards.size} ranks, got {group.size}")
            continue
        weight = module.get_parameter(name)
        weight.data = shards.begin(weight.shape[1], parted.std, parted.seed).to(weight)
        parted.shards = shards


def _node_rows(weight: Tensor, graph: Graph, parted: Parted | None) -> Tensor:
    """The rows of a table that are the graph's nodes."""
    if parted is not None:
        if parted.shards is None or graph.sampled is None:
            what = "on parts of a graph" if graph.sampled is None else "once a trainer has placed them"
            raise ValueError(f"graph: tables that are parted among ranks are used {what}")
        return parted.shards.lookup(weight, graph.dropout_rows)
    if graph.sampled is not None:  # a gradient of the batch's rows alone
        return functional.embedding(graph.dropout_rows, weight, sparse=True)
    return weight if graph.node_ids is None else weight[graph.node_ids]
