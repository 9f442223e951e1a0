"""Modules of PyG, and one's own with ``forward(x, edge_index)``, as encoders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mebns_pl.checks import at_least, fits
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.encoders.abstract import AbstractEncoder
from mebns_pl.models.layers import FeatureLinear
from mebns_pl.types import GraphSpec

EncoderFactory = Callable[[Any], nn.Module]
"""What makes an encoder of a graph's size; or a module with ``forward(x, edge_index)`` of the number of x's columns."""


class PyGEncoder(AbstractEncoder):
    """Any module with ``forward(x, edge_index)``, of PyG or one's own, as an encoder.

    ``x`` is the graph's features, dense; a graph without has a learned embedding of each node. ``edge_index`` holds
    both directions of every edge that takes part in message passing, sorted by target. A module whose ``forward`` takes
    ``edge_weight``, too, is given the edges' weights ``(E',)``, where the graph has any; one that takes ``node_type``
    the nodes' types ``(N,)``, numbered in the order of their names (for ``HeteroLinear``, or embeddings of types).
    Wherever a predictor takes an encoder the module's class can be named in its place.

    Dropout, and all else that the module draws from torch's global generators, is drawn from generators that are
    seeded by the pass's key within ``forward`` and put back behind it: the same key gives the same draws, on any number
    of ranks. Without a key the module is in evaluation mode. What is lost beside the package's own encoders: a CPU and
    a GPU draw different masks; a GPU adds messages in no fixed order; features are dense; and neighbour batches and
    layer-wise inference need an :class:`~mebns_pl.models.encoders.abstract.AbstractLayeredEncoder`. `mebns check`
    looks at all that a class must keep to.

    Args:
        spec: the graph's size.
        module: makes the module from the number of columns of ``x``, its first argument.
        embedding_channels: columns of the learned embedding, where the graph has no features; 1 or more.

    Raises:
        ValueError: the module cannot be run (on nodes without edges, all of the first type), gives no ``(N, C)``,
            draws in evaluation mode, writes buffers, or caches edges.

    Cost: the module's; E C messages are made in most of PyG's layers, about ten times the cost of GCN on a CPU.

    Example:
        >>> from torch_geometric.nn import GraphSAGE
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> encoder = PyGEncoder(graph.spec, partial(GraphSAGE, hidden_channels=8, num_layers=2))
        >>> encoder(graph).shape
        torch.Size([3, 8])
    """

    def __init__(self, spec: GraphSpec, module: Callable[[int], nn.Module], embedding_channels: int = 64) -> None:
        super().__init__()
        at_least(1, embedding_channels=embedding_channels)
        self.num_features = spec.num_features
        fits(4 * spec.num_nodes * spec.num_features * spec.sparse, num_features=spec.num_features)
        self.embedding = None if spec.num_features else FeatureLinear(spec, embedding_channels)
        columns = spec.num_features or embedding_channels
        self.module = module(columns)
        _refuse_cached_edges(self.module)
        self.out_channels = _dry_run(self.module, spec.num_nodes, columns)

    def forward(self, graph: Graph, key: Key | None = None) -> Tensor:
        """``(N, out_channels)``; with a key, the module is in training mode, and draws what the key names.

        Raises:
            ValueError: the graph's features are not those that the encoder was built for, or types are missing.
        """
        if graph.spec.num_features != self.num_features:
            raise ValueError(f"graph: built for {self.num_features} features, got {graph.spec.num_features}")
        more = {}
        if graph.weight is not None and _takes_weights(self.module):
            weight = graph.weight if graph.keep is None else graph.weight[graph.keep]
            more["edge_weight"] = weight.to(next(self.module.parameters(), weight).dtype)
        if _takes_types(self.module):
            if graph.types is None:
                raise ValueError(
                    "module: its forward takes node_type, and the graph has no types that are linked apart"
                )
            more["node_type"] = graph.types.kind
        with _seeded(key, graph.indptr.device):
            return _run(self.module, self._x(graph), graph.edge_index, key is not None, **more)

    @property
    def inductive(self) -> bool:
        """Whether there are features."""
        return self.embedding is None

    def _x(self, graph: Graph) -> Tensor:
        x: Tensor | None = graph.dense_x
        if self.embedding is not None or x is None:
            assert self.embedding is not None
            return self.embedding(graph)  # type: ignore[no-any-return]
        param = next(self.module.parameters(), x)
        x = x.to(param.dtype)
        return x if graph.feature_mask is None else x * graph.feature_mask


def make_encoder(make: EncoderFactory, spec: GraphSpec) -> AbstractEncoder:
    """The encoder that a factory makes; a module that is none is adapted by :class:`PyGEncoder`.

    Args:
        make: a class, a partial of one, or a function of the spec.
        spec: the graph's size.

    Raises:
        TypeError: a function that makes no encoder.

    Example:
        >>> from torch_geometric.nn import GraphSAGE
        >>> type(make_encoder(partial(GraphSAGE, hidden_channels=8, num_layers=2), GraphSpec(3))).__name__
        'PyGEncoder'
    """
    cls = _class_of(make)
    if cls is not None and issubclass(cls, nn.Module) and not issubclass(cls, AbstractEncoder):
        return PyGEncoder(spec, make)
    made = make(spec)
    if not isinstance(made, AbstractEncoder):
        raise TypeError(
            f"encoder: got {type(made).__name__}; allowed is an AbstractEncoder, or the class of a module with "
            "forward(x, edge_index), whose first argument is the number of x's columns"
        )
    return made


def _class_of(make: Any) -> type | None:
    """The class that a factory makes objects of, where it is a class or a partial of one."""
    if isinstance(make, partial):  # jsonargparse's have the class among their arguments
        return next((item for item in (make.func, *make.args) if isinstance(item, type)), None)
    return make if isinstance(make, type) else None


@contextmanager
def _seeded(key: Key | None, device: torch.device) -> Iterator[None]:
    """Torch's global generators, seeded by a key within, and behind it as they were before."""
    if key is None:
        yield
        return
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(
            torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
        )
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(key.integer())
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


def _takes_weights(module: nn.Module) -> bool:
    return getattr(module, "supports_edge_weight", "edge_weight" in inspect.signature(module.forward).parameters)


def _takes_types(module: nn.Module) -> bool:
    return "node_type" in inspect.signature(module.forward).parameters


def _run(module: nn.Module, x: Tensor, edge_index: Tensor, training: bool, **more: Tensor) -> Tensor:
    if module.training != training or any(part.training != training for part in module.children()):
        module.train(training)
    return module(x, edge_index, **more)  # type: ignore[no-any-return]


def _refuse_cached_edges(module: nn.Module) -> None:
    """Refuses layers that keep the first graph they see: target edges are left out of messages anew in every step."""
    for name, layer in module.named_modules():
        if getattr(layer, "cached", False) is True:
            raise ValueError(f"module: {name or type(layer).__name__} keeps the first edges it sees; set cached=False")


def _dry_run(module: nn.Module, num_nodes: int, columns: int) -> int:
    """The width of the embeddings of nodes without edges; the module is run in either mode.

    Raises:
        ValueError: it cannot be used, with the reason.
    """
    x, edge_index = torch.zeros(1, 1).expand(num_nodes, columns), torch.empty(2, 0, dtype=torch.int64)
    name = type(module).__name__
    more = {"node_type": torch.zeros(num_nodes, dtype=torch.int64)} if _takes_types(module) else {}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            state = torch.get_rng_state()
            result = _run(module, x, edge_index, training=False, **more)
            drawn = not torch.equal(torch.get_rng_state(), state)
            written = {buffer: value._version for buffer, value in module.named_buffers()}
            _run(module, x, edge_index, training=True, **more)
        except (RuntimeError, TypeError, IndexError, NotImplementedError) as error:
            told = " ".join(str(error).split())
            raise ValueError(
                f"module: {name}.forward(x, edge_index) fails for x {num_nodes:,} x {columns} without edges: {told}"
            ) from error
    if not isinstance(result, Tensor) or result.dim() != 2 or len(result) != num_nodes:
        got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"module: {name} gives {got}; allowed is a tensor ({num_nodes:,}, C), a row for each node")
    if drawn:
        raise ValueError(
            f"module: {name} draws random numbers in evaluation mode; allowed is dropout in training mode alone: "
            "F.dropout(..., training=self.training)"
        )
    changed = [buffer for buffer, value in module.named_buffers() if value._version != written.get(buffer)]
    if changed:
        raise ValueError(
            f"module: {name} writes its buffer {changed[0]!r} in forward; the lookahead would change it, and ranks "
            "would differ. Use LayerNorm or GraphNorm in place of BatchNorm"
        )
    return result.shape[1]
