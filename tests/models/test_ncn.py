"""NCN against a pair-by-pair reference."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mebns_pl import GCN, NCN
from mebns_pl.graph.csr import Graph
from references.ncn import common, logit
from references.step import NUM_NODES, make_edges, make_features


@pytest.mark.parametrize("features", ["none", "dense", "sparse"])
def test_logits_equal_the_reference(features: str) -> None:
    graph = Graph.from_edges(make_edges(), NUM_NODES, make_features(features)).without(make_edges()[:, ::5])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = NCN(graph.spec, partial(GCN, hidden_channels=6), hidden_channels=5).double()
    pairs = torch.cartesian_prod(torch.arange(NUM_NODES), torch.arange(NUM_NODES)).t()[:, ::3]
    found = model(model.prepare(graph, pairs))
    expected = torch.stack([logit(model, graph, u, v) for u, v in pairs.t().tolist()])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_common_neighbors_matter() -> None:
    """A batch's own positive is left out of message passing, and so is the common neighbour it makes."""
    graph = Graph.from_edges(make_edges(), NUM_NODES, make_features("dense"))
    u, v = next((u, v) for u in range(23) for v in range(u) if len(common(graph, u, v)) == 1)
    (between,) = common(graph, u, v)
    masked = graph.without(torch.tensor([[u], [between]]))
    model = NCN(graph.spec)
    found = [model.prepare(g, torch.tensor([[u], [v]])).common.sizes.tolist() for g in (graph, masked)]
    assert found == [[1], [0]]
