"""Enclosing subgraphs against networkx on thousands of small graphs, and what they must hold."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.subgraph import Subgraphs, enclosing_subgraphs
from references import subgraph as reference


def graph_of(networkx_graph: nx.Graph) -> Graph:
    edges = torch.tensor(list(networkx_graph.edges), dtype=torch.long).reshape(-1, 2).t()
    return Graph.from_edges(edges, networkx_graph.number_of_nodes())


def pairs_of(*pairs: tuple[int, int]) -> torch.Tensor:
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()


def assert_equal(found: Subgraphs, graph: nx.Graph, pairs: torch.Tensor, num_hops: int, limit: int | None = None):
    """Every pair's subgraph is that of the reference, and the arrays are laid out as promised."""
    assert_well_formed(found)
    assert found.num_pairs == pairs.shape[1]
    nodes, ptr = found.nodes.tolist(), found.ptr.tolist()
    edges = [[] for _ in range(found.num_pairs)]
    for pair, a, b in zip(found.batch[found.edge_index[1]].tolist(), *found.edge_index.tolist(), strict=True):
        edges[pair].append((nodes[a], nodes[b]))
    for i, (source, target) in enumerate(pairs.t().tolist()):
        expected = reference.enclosing(graph, source, target, num_hops, limit)
        own = nodes[ptr[i] : ptr[i + 1]]
        ends = [source] if source == target else [source, target]
        assert own[: len(ends)] == ends
        assert len(own) == len(expected.nodes)
        assert set(own) == expected.nodes
        assert len(edges[i]) == len(expected.edges)
        assert set(edges[i]) == expected.edges
        assert dict(zip(own, found.labels[ptr[i] : ptr[i + 1]].tolist(), strict=True)) == expected.labels


def assert_well_formed(found: Subgraphs):
    for array in (found.ptr, found.nodes, found.labels, found.indptr, found.indices):
        assert array.dtype == torch.int64
        assert array.dim() == 1
    num_nodes, num_edges = found.nodes.numel(), found.indices.numel()
    assert found.ptr[0] == 0
    assert found.ptr[-1] == num_nodes == found.labels.numel()
    assert found.indptr[0] == 0
    assert found.indptr[-1] == num_edges
    assert found.indptr.numel() == num_nodes + 1
    rows = torch.repeat_interleave(torch.arange(num_nodes), found.indptr.diff())
    keys = rows * max(1, num_nodes) + found.indices
    assert bool((keys.diff() > 0).all())  # ascending in each row, no edge twice
    mirrored = found.indices * max(1, num_nodes) + rows
    assert torch.equal(mirrored.sort().values, keys)
    assert torch.equal(found.batch[rows], found.batch[found.indices])


def assert_same(a: Subgraphs, b: Subgraphs):
    for name in ("ptr", "nodes", "labels", "indptr", "indices"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def random_graph(rng: np.random.Generator) -> nx.Graph:
    """2 to 14 nodes of any density, sometimes with a hub, often in parts and with isolated nodes."""
    num_nodes = int(rng.integers(2, 15))
    graph = nx.gnp_random_graph(num_nodes, float(rng.choice([0.05, 0.15, 0.3, 0.6])), seed=int(rng.integers(2**31)))
    if rng.random() < 0.3:
        graph.add_edges_from((0, node) for node in range(1, num_nodes) if rng.random() < 0.9)
    return graph


@pytest.mark.parametrize("num_hops", [0, 1, 2, 3])
@pytest.mark.parametrize("limit", [None, 1, 2, 4])
def test_thousands_of_random_graphs(num_hops, limit):
    """200 graphs as one, then the pairs of each: node numbers are large, and pairs of two graphs have no path."""
    rng = np.random.default_rng([num_hops, limit or 0])
    graphs = [random_graph(rng) for _ in range(200)]
    whole = nx.disjoint_union_all(graphs)
    sizes = np.array([graph.number_of_nodes() for graph in graphs])
    starts = np.cumsum(sizes) - sizes
    own = [(start + rng.integers(size, size=(4, 2))) for start, size in zip(starts, sizes, strict=True)]
    across = rng.integers(whole.number_of_nodes(), size=(100, 2))
    pairs = torch.from_numpy(np.concatenate([*own, across])).t()
    found = enclosing_subgraphs(graph_of(whole), pairs, num_hops, limit)
    assert_equal(found, whole, pairs, num_hops, limit)
