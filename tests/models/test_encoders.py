"""Encoders against PyG's layers and dense matrices; features of every kind; derivatives; dropout."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from mebns_pl import GAT, GCN, LinearGCN
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key
from mebns_pl.models.encoders.abstract import ENCODERS, AbstractEncoder
from mebns_pl.types import GraphSpec
from references import models as reference
from references.step import make_edges, make_features

ALL = list(ENCODERS.classes.values())
KINDS = ["dense", "sparse", "none"]
KEY = Key(8, "tests/encoders")


def make_graph(kind: str, masked: bool) -> Graph:
    """24 nodes, one isolated; masking isolates node 0 too and leaves others with fewer neighbours."""
    graph = Graph.from_edges(make_edges(), 24, make_features(kind))
    if not masked:
        return graph
    edges = make_edges()
    gone = edges[:, (edges == 0).any(0) | (torch.arange(edges.shape[1]) % 5 == 0)]
    graph = graph.without(gone)
    assert int(graph.degree[0]) == 0
    return graph if kind == "none" else graph.masked_features(torch.arange(6) % 2 == 0)


def make_encoder(cls: Callable[..., AbstractEncoder], spec: GraphSpec, **options: object) -> AbstractEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = cls(spec, hidden_channels=4, **options).double()
        for param in encoder.parameters():  # no bias at zero, no attention that is nearly uniform
            torch.nn.init.normal_(param)
    return encoder


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", reference.REFERENCES)
def test_equals_the_reference(cls: type[AbstractEncoder], kind: str, masked: bool, num_layers: int) -> None:
    graph = make_graph(kind, masked)
    encoder = make_encoder(cls, graph.spec, num_layers=num_layers)
    found, expected = encoder(graph), reference.REFERENCES[cls](encoder, graph)
    assert found.shape == (24, encoder.out_channels)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [{"embed_nodes": True}, {"embed_nodes": True, "use_features": False}])
@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_beside_features_and_alone(kind: str, options: dict[str, bool]) -> None:
    graph = make_graph(kind, True)
    encoder = make_encoder(LinearGCN, graph.spec, num_layers=3, **options)
    assert (encoder.linear is None) == (kind == "none" or "use_features" in options)
    assert not encoder.inductive
    torch.testing.assert_close(encoder(graph), reference.linear_gcn(encoder, graph), rtol=1e-10, atol=1e-12)


def test_features_alone_are_inductive() -> None:
    assert LinearGCN(GraphSpec(3, 2)).inductive
    assert not LinearGCN(GraphSpec(3)).inductive


@pytest.mark.parametrize("cls", ALL)
def test_gradients_of_sparse_features_equal_dense_ones(cls: type[AbstractEncoder]) -> None:
    sparse = make_graph("sparse", True)
    assert isinstance(sparse.x, Features)
    dense = replace(sparse, x=sparse.x.to_dense())
    encoder = make_encoder(cls, sparse.spec)
    other = make_encoder(cls, dense.spec)
    grads = [
        torch.autograd.grad((model(graph, KEY) ** 2).sum(), list(model.parameters()))
        for model, graph in ((encoder, sparse), (other, dense))
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", ALL)
def test_derivatives(cls: type[AbstractEncoder], kind: str) -> None:
    """Gradient and double backward against central differences along a random direction."""
    graph = make_graph(kind, True)
    encoder = make_encoder(cls, graph.spec, dropout=0.3)
    params = {name: param.detach().clone().requires_grad_() for name, param in encoder.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    direction = {name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in params.items()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return functional_call(encoder, values, (graph, KEY)).tanh().pow(2).sum()

    def shifted(size: float) -> dict[str, Tensor]:
        return {name: (p + size * direction[name]).detach().requires_grad_() for name, p in params.items()}

    def gradient(values: dict[str, Tensor], create_graph: bool = False) -> Tensor:
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss(values), list(values.values()), create_graph=create_graph)]
        )

    flat_direction = torch.cat([value.flatten() for value in direction.values()])
    slope = (loss(shifted(1e-6)) - loss(shifted(-1e-6))) / 2e-6
    torch.testing.assert_close(gradient(params) @ flat_direction, slope.detach(), rtol=1e-6, atol=1e-8)
    curvature = (gradient(shifted(1e-6)) - gradient(shifted(-1e-6))) / 2e-6
    product = torch.autograd.grad(
        gradient(params, create_graph=True) @ flat_direction, list(params.values()), materialize_grads=True
    )
    torch.testing.assert_close(torch.cat([p.flatten() for p in product]), curvature, rtol=1e-5, atol=1e-5)


# --- dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cls", ALL)
def test_dropout_is_keyed(cls: type[AbstractEncoder], num_layers: int) -> None:
    graph = make_graph("dense", False)
    encoder = make_encoder(cls, graph.spec, dropout=0.5, num_layers=num_layers)
    state = torch.get_rng_state()
    first, same, other, none = encoder(graph, KEY), encoder(graph, KEY), encoder(graph, KEY.child("b")), encoder(graph)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first, none)
    assert torch.equal(make_encoder(cls, graph.spec, dropout=0.0, num_layers=num_layers)(graph, KEY), none)
    encoder.eval()
    assert torch.equal(encoder(graph, KEY), first)


def test_layers_have_masks_of_their_own() -> None:
    """With equal weights in both layers and no edge, equal masks would give equal zeros."""
    graph = Graph.from_edges(torch.zeros(2, 0, dtype=torch.int64), 500, torch.ones(500, 1, dtype=torch.float64))
    encoder = GCN(graph.spec, hidden_channels=1, num_layers=1, dropout=0.5).double()
    deep = GCN(graph.spec, hidden_channels=1, num_layers=2, dropout=0.5).double()
    for model in (encoder, deep):
        for param in model.parameters():
            torch.nn.init.ones_(param) if param.dim() == 2 else torch.nn.init.zeros_(param)
    kept_once, kept_twice = (float((model(graph, KEY) > 0).double().mean()) for model in (encoder, deep))
    assert kept_once == pytest.approx(0.5, abs=0.08)
    assert kept_twice == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("cls", ALL)
def test_nodes_of_a_part_of_the_graph_draw_their_own_masks(cls: type[AbstractEncoder]) -> None:
    """A component alone, with the names its nodes have in the whole graph, gets the embeddings it has there."""
    edges = torch.tensor([[0, 1, 5, 6, 7], [1, 2, 6, 7, 5]])
    x = torch.randn(8, 3, dtype=torch.float64)
    whole = Graph.from_edges(edges, 8, x)
    ids = torch.tensor([5, 6, 7])
    part = replace(Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3, x[ids]), node_ids=ids)
    encoder = make_encoder(cls, whole.spec, dropout=0.5)
    torch.testing.assert_close(encoder(part, KEY), encoder(whole, KEY)[ids])


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_refuses(cls: type[AbstractEncoder]) -> None:
    spec = make_graph("dense", False).spec
    with pytest.raises(ValueError, match="num_layers.*0"):
        cls(spec, num_layers=0)
    with pytest.raises(ValueError, match="dropout.*1"):
        cls(spec, dropout=1.0)
    encoder = make_encoder(cls, spec)
    with pytest.raises(ValueError, match="built for"):
        encoder(make_graph("none", False))


def test_a_linear_encoder_needs_something_to_begin_with() -> None:
    with pytest.raises(ValueError, match="embed_nodes: expected one of them at least, got False and False"):
        LinearGCN(GraphSpec(3, 2), use_features=False)
    with pytest.raises(ValueError, match="residual.*-1"):
        LinearGCN(GraphSpec(3), residual=-1)
    encoder = LinearGCN(GraphSpec(3, 2), use_features=False, embed_nodes=True)
    with pytest.raises(ValueError, match="built for 3 nodes, got 24"):
        encoder(make_graph("dense", False))


def test_heads_must_divide() -> None:
    with pytest.raises(ValueError, match="heads.*hidden_channels=6.*4"):
        GAT(GraphSpec(3, 2), hidden_channels=6, heads=4)


@pytest.mark.parametrize("cls", ALL)
def test_copies_are_independent(cls: type[AbstractEncoder]) -> None:
    graph = make_graph("dense", False)
    encoder = make_encoder(cls, graph.spec)
    before = encoder(graph)
    for param in copy.deepcopy(encoder).parameters():
        param.data.zero_()
    assert torch.equal(encoder(graph), before)
