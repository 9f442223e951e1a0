"""Modules of PyG and of one's own as encoders: against the module itself, and what is refused."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GCN, GraphSAGE, HeteroLinear, SAGEConv

import mebns_pl
from mebns_pl import EncoderDecoder, Graph, GraphSpec, Key, PyGEncoder
from mebns_pl.analysis.encoder_check import look_at_encoder, small_graph
from mebns_pl.graph.sparse import Features
from mebns_pl.models.pyg import make_encoder
from references.step import make_edges, make_features
from references.typed import typed_graph

KEY = Key(4, "tests/pyg")
SAGE = partial(GraphSAGE, hidden_channels=8, num_layers=2, dropout=0.5)


class TwoSteps(nn.Module):
    """Ten lines of one's own, with dropout as a function."""

    def __init__(self, in_channels: int, hidden_channels: int = 8, dropout: float = 0.3) -> None:
        super().__init__()
        self.first, self.last = SAGEConv(in_channels, hidden_channels), SAGEConv(hidden_channels, hidden_channels)
        self.dropout = dropout

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = nn.functional.dropout(self.first(x, edge_index).relu(), self.dropout, training=self.training)
        return self.last(h, edge_index)  # type: ignore[no-any-return]


class AlwaysDrops(TwoSteps):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x, edge_index), 0.5)


class Counts(TwoSteps):
    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.calls = nn.Buffer(torch.zeros(()))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x, edge_index)


class Pools(TwoSteps):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index).mean(dim=0)


class NeedsMore(TwoSteps):
    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:  # type: ignore[override]
        return x


@pytest.mark.parametrize("kind", ["dense", "sparse", "none"])
@pytest.mark.parametrize("module", [SAGE, TwoSteps], ids=["GraphSAGE", "own"])
def test_embeddings_are_the_modules(module: partial[nn.Module], kind: str) -> None:
    edges = make_edges()
    graph = Graph.from_edges(edges, 24, make_features(kind))
    encoder = PyGEncoder(graph.spec, module, embedding_channels=5)
    left = graph.without(edges[:, :7])
    kept = edges[:, 7:]
    x = encoder.embedding.weight if encoder.embedding is not None else graph.x
    x = x.to_dense() if isinstance(x, Features) else x
    expected = encoder.module.eval()(x.float(), torch.cat([kept, kept.flip(0)], dim=1))
    torch.testing.assert_close(encoder(left), expected)
    assert encoder.out_channels == 8
    assert encoder.inductive == (kind != "none")
    if kind != "none":
        masked = graph.masked_features(torch.arange(graph.spec.num_features) > 1)
        both = torch.cat([edges, edges.flip(0)], dim=1)
        torch.testing.assert_close(
            encoder(masked), encoder.module.eval()(x.float() * (torch.arange(x.shape[1]) > 1), both)
        )


@pytest.mark.parametrize("module", [SAGE, TwoSteps], ids=["GraphSAGE", "own"])
def test_dropout_is_keyed(module: partial[nn.Module]) -> None:
    graph = small_graph()
    encoder = PyGEncoder(graph.spec, module)
    state = torch.get_rng_state()
    first, none = encoder(graph, KEY), encoder(graph)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        assert torch.equal(encoder(graph, KEY), first)
        assert torch.equal(encoder(graph), none)
    assert not torch.allclose(encoder(graph, KEY.child("other")), first)
    assert not torch.allclose(none, first)
    assert torch.equal(copy.deepcopy(encoder).eval()(graph, KEY), first)


def test_making_one_draws_what_the_module_does() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        encoder = PyGEncoder(GraphSpec(5, 3), SAGE)
        after = torch.rand(())
        torch.manual_seed(2)
        module = SAGE(3)
        assert torch.equal(torch.rand(()), after)
    for a, b in zip(encoder.module.parameters(), module.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (AlwaysDrops, "AlwaysDrops draws random numbers in evaluation mode; .* training=self.training"),
        (Counts, "Counts writes its buffer 'calls' in forward"),
        (Pools, r"Pools gives shape \(8,\); allowed is a tensor \(5, C\), a row for each node"),
        (NeedsMore, r"NeedsMore.forward\(x, edge_index\) fails for x 5 x 3 without edges: .*'batch'"),
        (partial(GCN, hidden_channels=4, num_layers=2, cached=True), "convs.0 keeps the first edges it sees"),
        (partial(GCN, hidden_channels=4, num_layers=2, norm="batch_norm"), "GCN writes its buffer 'norms.0"),
    ],
)
def test_what_cannot_be_trained_is_refused(module: partial[nn.Module], told: str) -> None:
    with pytest.raises(ValueError, match=f"^module: {told}"):
        PyGEncoder(GraphSpec(5, 3), module)


class ByType(nn.Module):
    """Weights by type: types are numbered in the order of their names, item, tag, user."""

    def __init__(self, in_channels: int, num_types: int = 3) -> None:
        super().__init__()
        self.first, self.last = HeteroLinear(in_channels, 6, num_types), SAGEConv(6, 4)

    def forward(self, x: Tensor, edge_index: Tensor, node_type: Tensor) -> Tensor:
        return self.last(self.first(x, node_type), edge_index)  # type: ignore[no-any-return]


def test_types_are_handed_over() -> None:
    graph = typed_graph(features=True)
    encoder = PyGEncoder(graph.spec, ByType)
    assert graph.types is not None
    expected = encoder.module(graph.x, graph.edge_index, torch.tensor([2, 0, 1] * 8))
    torch.testing.assert_close(encoder(graph), expected)
    with pytest.raises(ValueError, match="^module: its forward takes node_type, and the graph has no types"):
        PyGEncoder(GraphSpec(60, 8), ByType)(small_graph())


def test_weights_are_handed_over_where_they_are_taken() -> None:
    edges, weight = make_edges(), torch.rand(make_edges().shape[1]) + 0.5
    graph = Graph.from_edges(edges, 24, make_features("dense"), weight)
    gone = edges[:, :5]
    both = torch.cat([edges[:, 5:], edges[:, 5:].flip(0)], dim=1)
    encoder = PyGEncoder(graph.spec, partial(GCN, hidden_channels=4, num_layers=2))
    expected = encoder.module.eval()(graph.x.float(), both, edge_weight=weight[5:].repeat(2))  # type: ignore[union-attr]
    torch.testing.assert_close(encoder(graph.without(gone)), expected)
    alike = PyGEncoder(graph.spec, SAGE)
    assert torch.equal(alike(graph), alike(Graph.from_edges(edges, 24, graph.x)))


def test_another_number_of_features_is_refused() -> None:
    with pytest.raises(ValueError, match="^graph: built for 3 features, got 8$"):
        PyGEncoder(GraphSpec(60, 3), SAGE)(small_graph())


@pytest.mark.parametrize(
    "make", [SAGE, TwoSteps, partial(PyGEncoder, module=SAGE), lambda spec: PyGEncoder(spec, SAGE)]
)
def test_factories_of_either_kind(make: partial[nn.Module]) -> None:
    spec = GraphSpec(5, 3)
    assert type(make_encoder(make, spec)) is PyGEncoder
    predictor = EncoderDecoder(spec, make)
    assert predictor.encoder.out_channels == 8
    assert type(make_encoder(mebns_pl.GCN, spec)) is mebns_pl.GCN


def test_a_function_of_no_encoder_is_refused() -> None:
    with pytest.raises(
        TypeError, match="^encoder: got Linear; allowed is an AbstractEncoder, or the class of a module"
    ):
        make_encoder(lambda spec: nn.Linear(2, 3), GraphSpec(3))  # type: ignore[arg-type,return-value]


# --- the rules that `mebns check` looks at ---------------------------------------------------------------------------


class Remembers(mebns_pl.AbstractEncoder):
    """Sees the first graph for ever."""

    def __init__(self, spec: GraphSpec) -> None:
        super().__init__()
        self.out_channels, self.graph = 4, None
        self.inner = mebns_pl.GCN(spec, 4, dropout=0.0)

    def forward(self, graph: Graph, key: Key | None = None) -> Tensor:
        self.graph = self.graph or graph
        return self.inner(self.graph, key)  # type: ignore[no-any-return]


class Draws(mebns_pl.AbstractEncoder):
    """Draws from the global generator, and adds up its calls."""

    def __init__(self, spec: GraphSpec) -> None:
        super().__init__()
        self.out_channels, self.weight = 4, nn.Parameter(torch.ones(spec.num_features, 4))
        self.calls = nn.Buffer(torch.zeros(()))

    def forward(self, graph: Graph, key: Key | None = None) -> Tensor:
        self.calls += 1
        return graph.x @ self.weight * torch.rand(graph.num_nodes, 1)  # type: ignore[operator,no-any-return]


class _Once(torch.autograd.Function):
    """Its derivative is hidden from a second one."""

    @staticmethod
    def forward(ctx, value):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(value)
        return value**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return grad * 3 * ctx.saved_tensors[0] ** 2


class NotTwice(mebns_pl.AbstractEncoder):
    def __init__(self, spec: GraphSpec) -> None:
        super().__init__()
        self.out_channels, self.weight = 4, nn.Parameter(torch.ones(spec.num_features, 4))

    def forward(self, graph: Graph, key: Key | None = None) -> Tensor:
        return _Once.apply(graph.x @ self.weight)  # type: ignore[operator,no-any-return]


def broken(make: type[mebns_pl.AbstractEncoder] | partial[nn.Module]) -> set[str]:
    graph = small_graph()
    return {f.rule for f in look_at_encoder(lambda: make_encoder(make, graph.spec), graph) if f.good is False}


@pytest.mark.parametrize("make", [SAGE, TwoSteps, mebns_pl.SAGE, mebns_pl.GAT])
def test_good_encoders_keep_every_rule(make: partial[nn.Module]) -> None:
    assert broken(make) == set()


@pytest.mark.parametrize(
    ("make", "rules"),
    [
        (Remembers, {"target edges stay unseen", "second derivatives"}),
        (NotTwice, {"second derivatives"}),
        (
            Draws,
            {
                "global generators untouched",
                "forward writes no parameters or buffers",
                "the same key, the same embeddings",
                "target edges stay unseen",
                "second derivatives",
            },
        ),
    ],
)
def test_broken_rules_are_found(make: type[mebns_pl.AbstractEncoder], rules: set[str]) -> None:
    assert broken(make) == rules


def test_what_is_not_used_is_told() -> None:
    class Idle(TwoSteps):
        def __init__(self, in_channels: int) -> None:
            super().__init__(in_channels)
            self.idle = nn.Linear(1, 1)

    graph = small_graph()
    found = {f.rule: f for f in look_at_encoder(lambda: make_encoder(Idle, graph.spec), graph)}
    assert found["a gradient for every parameter"].good is None
    assert "module.idle.weight" in found["a gradient for every parameter"].told
