"""A heuristic as a predictor: the measure's scores, nothing to learn, on any part of the graph."""

from __future__ import annotations

import pickle

import torch

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.neighbors import AdamicAdar, CommonNeighbors
from mebns_pl.keys import Key
from mebns_pl.models.measure_predictor import MeasurePredictor

PAIRS = torch.tensor([[0, 3, 22, 5, 29], [1, 9, 0, 5, 2]])


def test_it_is_the_measure(tiny_graph: Graph) -> None:
    predictor = MeasurePredictor(tiny_graph.spec, AdamicAdar())
    assert not list(predictor.parameters())
    inputs = predictor.prepare(tiny_graph, PAIRS, key=Key(0, "dropout"))
    expected = AdamicAdar().pairs(tiny_graph, *PAIRS)
    assert bool((expected > 0).any())
    assert torch.equal(predictor(inputs), expected)
    assert torch.equal(predictor.scorer(tiny_graph)(inputs), expected)
    assert torch.equal(predictor(inputs.select(torch.tensor([3, 1]))), expected[[3, 1]])
    assert torch.equal(predictor(pickle.loads(pickle.dumps(inputs))), expected)


def test_left_out_edges_do_not_count(tiny_graph: Graph) -> None:
    predictor = MeasurePredictor(tiny_graph.spec)
    node = int(tiny_graph.degree.argmax())
    neighbors = tiny_graph.indices[tiny_graph.indptr[node] : tiny_graph.indptr[node + 1]]
    pair = neighbors[:2, None]
    before = predictor(predictor.prepare(tiny_graph, pair))
    without = tiny_graph.without(torch.stack([torch.full_like(neighbors, node), neighbors]))
    assert torch.equal(predictor(predictor.prepare(without, pair)), before - 1)
    assert isinstance(predictor.measure, CommonNeighbors)
