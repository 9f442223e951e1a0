"""Types of nodes: what is legal, by loops; untyped graphs stay as they are."""

from __future__ import annotations

import itertools

import pytest
import torch

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.graph.node_types import NodeTypes
from mebns_pl.keys import Key
from references.typed import EDGES, LINKED, NAMES, legal, typed_graph

EVERY = torch.arange(24)


def test_kinds_are_linked_as_edges_link_them() -> None:
    types = NodeTypes.of(NAMES, EDGES)
    assert types is not None
    fit = types.fit(EVERY[:, None], EVERY)
    for a, b in itertools.product(range(24), repeat=2):
        assert bool(fit[a, b]) == ((NAMES[a], NAMES[b]) in LINKED)
    pairs = sum((NAMES[a], NAMES[b]) in LINKED for a, b in itertools.combinations(range(24), 2))
    assert types.num_pairs == pairs
    one = NodeTypes.of(["a", "a", "b", "b"], torch.tensor([[0, 0], [1, 2]]))
    assert one is not None
    assert one.num_pairs == 5


@pytest.mark.parametrize("edges", [EDGES[:, :0], torch.tensor([[0, 0, 1], [3, 1, 4]])])
def test_nothing_governs_where_all_kinds_are_linked_or_none(edges: torch.Tensor) -> None:
    assert NodeTypes.of(["a", "b", "b", "a", "b"], edges) is None
    assert NodeTypes.of([str(number) for number in range(100)], torch.tensor([[0], [1]])) is None


@pytest.mark.parametrize("moved", [False, True])
def test_legal_negatives_are_those_of_a_loop(moved: bool) -> None:
    known = KnownEdges(typed_graph())
    known = known.to("cpu") if moved else known
    mask = known.mask(EVERY[:, None], EVERY)
    for anchor in range(24):
        expected = legal(anchor)
        assert (~mask[anchor]).nonzero().flatten().tolist() == expected
        assert int(known.num_legal(torch.tensor(anchor))) == len(expected)
        ranks = torch.arange(len(expected))
        assert known.legal_node(torch.full_like(ranks, anchor), ranks).tolist() == expected
    drawn = known.legal_nodes(EVERY[:, None].expand(-1, 60), Key(0, "tests").generator())
    for anchor, row in enumerate(drawn.tolist()):
        assert set(row) <= set(legal(anchor))


def test_edges_of_other_kinds_block_nothing_that_is_legal() -> None:
    """A tag beside a user: linked in the graph, but not by what the types allow."""
    edges = torch.cat([EDGES, torch.tensor([[0], [2]])], dim=1)
    known = KnownEdges(Graph.from_edges(edges, 24, types=NodeTypes.of(NAMES, EDGES)))
    for anchor in range(24):
        ranks = torch.arange(int(known.num_legal(torch.tensor(anchor))))
        assert known.legal_node(torch.full_like(ranks, anchor), ranks).tolist() == legal(anchor)


def test_a_linked_kind_with_itself() -> None:
    names, edges = ["a", "a", "a", "b", "b"], torch.tensor([[0, 0], [1, 3]])
    known = KnownEdges(Graph.from_edges(edges, 5, types=NodeTypes.of(names, edges)))
    expected = {0: [2, 4], 1: [2, 3, 4], 2: [0, 1, 3, 4], 3: [1, 2], 4: [0, 1, 2]}
    for anchor, nodes in expected.items():
        ranks = torch.arange(len(nodes))
        assert int(known.num_legal(torch.tensor(anchor))) == len(nodes)
        assert known.legal_node(torch.full_like(ranks, anchor), ranks).tolist() == nodes
