"""Sums over sets of rows against loops, and common neighbours against sets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.row_sets import RowSets, common_neighbors
from references.ncn import common
from references.step import NUM_NODES, make_edges

sets_of_rows = st.lists(st.lists(st.integers(0, 6), max_size=5), max_size=6)


def make(sets: list[list[int]]) -> RowSets:
    sizes = torch.tensor([0] + [len(members) for members in sets])
    return RowSets(sizes.cumsum(0), torch.tensor([row for rows in sets for row in rows], dtype=torch.int64), 7)


def values() -> Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@given(sets_of_rows)
def test_sums_and_their_gradient(sets: list[list[int]]) -> None:
    h = values().requires_grad_()
    found = make(sets).sums(h)
    expected = torch.stack([h[rows].sum(0) for rows in sets]) if sets else h[:0]
    torch.testing.assert_close(found, expected)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (grad,) = torch.autograd.grad((found * weight).sum(), h)
    (right,) = torch.autograd.grad((expected * weight).sum(), h)
    torch.testing.assert_close(grad, right)
    with torch.no_grad():
        torch.testing.assert_close(make(sets).sums(h), found)


@given(sets_of_rows, st.data())
def test_select(sets: list[list[int]], data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(sets) - 1), max_size=7)) if sets else []
    found = make(sets).select(torch.tensor(places, dtype=torch.int64))
    expected = make([sets[place] for place in places])
    assert found.ptr.tolist() == expected.ptr.tolist()
    assert found.members.tolist() == expected.members.tolist()
    assert make(sets).select(slice(1, 3)).ptr.tolist() == make(sets[1:3]).ptr.tolist()


def test_all_derivatives() -> None:
    sets, h = make([[0, 2, 2], [], [6]]), values().requires_grad_()
    assert gradcheck(lambda x: sets.sums(x).sin(), h)
    assert gradgradcheck(lambda x: sets.sums(x).sin(), h)


@pytest.mark.parametrize("masked", [False, True])
def test_common_neighbors_of_all_pairs(masked: bool) -> None:
    graph = Graph.from_edges(make_edges(), NUM_NODES)
    graph = graph.without(make_edges()[:, ::3]) if masked else graph
    pairs = torch.cartesian_prod(torch.arange(NUM_NODES), torch.arange(NUM_NODES)).t()
    found = common_neighbors(graph, pairs)
    for place, (u, v) in enumerate(pairs.t().tolist()):
        assert found.members[found.ptr[place] : found.ptr[place + 1]].tolist() == common(graph, u, v)
    assert found.sizes.sum() > 0
    assert common_neighbors(graph, pairs[:, :0]).num_sets == 0
