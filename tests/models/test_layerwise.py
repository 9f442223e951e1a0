"""Layer-wise inference equals the encoder on the whole graph, whatever the blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from mebns_pl import EncoderDecoder, LinearGCN, NeighborSampling
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key
from mebns_pl.models import batching as batching_module
from mebns_pl.models import layerwise
from mebns_pl.models.encoders.abstract import ENCODERS, AbstractEncoder, AbstractLayeredEncoder
from mebns_pl.models.layerwise import embed_layerwise, embed_some, layerwise_scorer
from mebns_pl.models.predictor import score_pairs
from mebns_pl.types import GraphSpec

Make = Callable[..., AbstractLayeredEncoder]
LAYERED: list[Make] = [cls for cls in ENCODERS.classes.values() if issubclass(cls, AbstractLayeredEncoder)]
LAYERED.append(partial(LinearGCN, embed_nodes=True))  # embeddings beside features
KEY = Key(4, "tests/layerwise")


def make_graph(kind: str, num_nodes: int = 60) -> Graph:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(num_nodes, (2, 200), generator=generator)
    edges[0, :50] = 0  # a hub, larger than the blocks of the tests
    x = torch.randn(num_nodes, 6, dtype=torch.float64, generator=generator)
    features = {"dense": x, "sparse": Features.of(x.relu().to_sparse()), "none": None}[kind]
    graph = Graph.from_edges(edges[:, edges[0] != edges[1]], num_nodes, features)
    graph = graph.dropped(torch.rand(graph.num_edges // 2, generator=generator) < 0.8)
    return graph if kind == "none" else graph.masked_features(torch.arange(6) % 3 > 0)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "stochastic"])
@pytest.mark.parametrize("blocks", [(2**20, 2**16), (20, 7), (1, 1)])
@pytest.mark.parametrize("kind", ["dense", "sparse", "none"])
@pytest.mark.parametrize("cls", LAYERED)
def test_equals_the_whole_graph(
    cls: Make,
    kind: str,
    blocks: tuple[int, int],
    key: Key | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layerwise, "EDGE_BLOCK", blocks[0])
    monkeypatch.setattr(layerwise, "NODE_BLOCK", blocks[1])
    graph = make_graph(kind)
    encoder = cls(graph.spec, hidden_channels=8, num_layers=3, dropout=0.5).double()
    torch.testing.assert_close(embed_layerwise(encoder, graph, key=key), encoder(graph, key), rtol=1e-10, atol=1e-12)


def test_a_scorer_equals_the_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EncoderDecoder, "score_block", 16)
    graph = make_graph("dense")
    predictor = EncoderDecoder(graph.spec).double()
    pairs = torch.randint(60, (2, 50), generator=torch.Generator().manual_seed(1))
    for key in (None, KEY):
        found = layerwise_scorer(predictor, graph, "cpu", key)(pairs)
        assert not found.requires_grad
        torch.testing.assert_close(found, predictor(predictor.prepare(graph, pairs, key=key)), rtol=1e-10, atol=1e-12)
    expected = score_pairs(predictor, predictor.scorer(graph), graph, pairs)
    torch.testing.assert_close(layerwise_scorer(predictor, graph, "cpu")(pairs), expected, rtol=1e-10, atol=1e-12)


def test_refuses_encoders_without_layers() -> None:
    class Whole(AbstractEncoder):
        out_channels = 2

        def __init__(self, spec: GraphSpec) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(spec.num_nodes, 2))

        def forward(self, graph: Graph, key: Key | None = None) -> torch.Tensor:
            return self.weight

    graph = replace(make_graph("none"))
    with pytest.raises(TypeError, match="expected an AbstractLayeredEncoder, got Whole"):
        layerwise_scorer(EncoderDecoder(graph.spec, Whole), graph, "cpu")


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "stochastic"])
@pytest.mark.parametrize("blocks", [(2**20, 2**16), (5, 3)])
@pytest.mark.parametrize("kind", ["dense", "sparse", "none"])
@pytest.mark.parametrize("cls", LAYERED)
def test_some_nodes_are_embedded_as_all(
    cls: Make, kind: str, blocks: tuple[int, int], key: Key | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes that these do not depend on are never looked at."""
    monkeypatch.setattr(layerwise, "EDGE_BLOCK", blocks[0])
    monkeypatch.setattr(layerwise, "NODE_BLOCK", blocks[1])
    graph = make_graph(kind).without(torch.tensor([[0, 0, 3], [1, 5, 9]]))
    encoder = cls(graph.spec, hidden_channels=8, num_layers=2, dropout=0.5).double()
    nodes = torch.tensor([7, 41, 7, 3])
    z, chosen = embed_some(encoder, graph, nodes, key=key)
    torch.testing.assert_close(z[chosen.rows(nodes)], encoder(graph, key)[nodes], rtol=1e-10, atol=1e-12)
    near = graph.edge_index[0, torch.isin(graph.edge_index[1], nodes)]
    near = torch.cat([nodes, near, graph.edge_index[0, torch.isin(graph.edge_index[1], near)]])
    far = torch.ones(graph.num_nodes, dtype=torch.bool).index_fill_(0, near, False)
    assert bool(far.any())
    if kind == "dense":
        assert isinstance(graph.x, torch.Tensor)
        graph.x[far] = torch.nan
        assert bool(embed_some(encoder, graph, nodes, key=key)[0].isfinite().all())


def test_scorers_of_large_graphs_look_at_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, pairs = make_graph("dense"), torch.tensor([[3, 9, 3], [12, 30, 40]])
    predictor, batching = EncoderDecoder(graph.spec).double(), NeighborSampling(5, 2)
    expected = batching.scorer(predictor, graph, "cpu", pairs.flatten)(pairs)
    passes = batching.stochastic_scores(predictor, graph, pairs, KEY)
    monkeypatch.setattr(batching_module, "RESTRICTED", 60)
    monkeypatch.setattr(layerwise, "embed_layerwise", None)
    found = batching.scorer(predictor, graph, "cpu", pairs.flatten)(pairs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    again = batching.stochastic_scores(predictor, graph, pairs, KEY)
    torch.testing.assert_close(again, passes, rtol=1e-10, atol=1e-12)
    with pytest.raises(TypeError, match="not callable"):
        batching.scorer(predictor, graph, "cpu")
