"""The message-passing graph against dense matrices."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.types import GraphSpec

NUM_NODES = 6
pair_lists = st.lists(
    st.tuples(st.integers(0, NUM_NODES - 1), st.integers(0, NUM_NODES - 1)).filter(lambda pair: pair[0] != pair[1]),
    max_size=12,
)


def tensor_of(pairs: list[tuple[int, int]]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()


def dense(pairs: list[tuple[int, int]]) -> Tensor:
    matrix = torch.zeros(NUM_NODES, NUM_NODES, dtype=torch.float64)
    for a, b in pairs:
        matrix[a, b] = matrix[b, a] = 1
    return matrix


def product_matrix(graph: Graph) -> Tensor:
    return graph.neighbor_sum(torch.eye(graph.num_nodes, dtype=torch.float64))


def assert_is(graph: Graph, matrix: Tensor) -> None:
    """All views of the graph say the same."""
    assert torch.equal(product_matrix(graph), matrix)
    root = (matrix.sum(1) + 1).rsqrt()
    expected = root[:, None] * (matrix + torch.eye(len(matrix))) * root
    torch.testing.assert_close(graph.normalized_sum(torch.eye(graph.num_nodes, dtype=torch.float64)), expected)
    assert graph.degree.tolist() == matrix.sum(1).long().tolist()
    pairs = sorted(map(tuple, graph.edge_index.t().tolist()))
    assert pairs == sorted(map(tuple, matrix.nonzero().tolist()))


@given(pairs=pair_lists)
def test_from_edges(pairs: list[tuple[int, int]]) -> None:
    graph = Graph.from_edges(tensor_of(pairs), NUM_NODES)
    assert_is(graph, dense(pairs))
    assert graph.num_nodes == NUM_NODES
    assert graph.num_edges == 2 * len({frozenset(pair) for pair in pairs})
    keys = graph.edge_keys.tolist()
    assert keys == sorted(set(keys))
    assert keys == [
        row * NUM_NODES + column for row, column in zip(graph.rows.tolist(), graph.indices.tolist(), strict=True)
    ]


@given(pairs=pair_lists, gone=pair_lists, more=pair_lists)
def test_without(pairs: list[tuple[int, int]], gone: list[tuple[int, int]], more: list[tuple[int, int]]) -> None:
    graph = Graph.from_edges(tensor_of(pairs), NUM_NODES)
    product_matrix(graph)  # caches of the whole graph must not be taken over
    less = graph.without(tensor_of(gone))
    assert_is(less, dense(pairs) * (1 - dense(gone)))
    assert_is(less.without(tensor_of(more)), dense(pairs) * (1 - dense(gone)) * (1 - dense(more)))
    assert_is(less, dense(pairs) * (1 - dense(gone)))
    assert_is(graph, dense(pairs))


@given(pairs=pair_lists, gone=pair_lists, data=st.data())
def test_dropped(pairs: list[tuple[int, int]], gone: list[tuple[int, int]], data: st.DataObject) -> None:
    graph = Graph.from_edges(tensor_of(pairs), NUM_NODES)
    keep = data.draw(st.lists(st.booleans(), min_size=graph.num_edges // 2, max_size=graph.num_edges // 2))
    upper = [tuple(pair) for pair in dense(pairs).triu().nonzero().tolist()]  # source < target, row by row
    dropped = [pair for pair, stays in zip(upper, keep, strict=True) if not stays]
    assert_is(graph.dropped(torch.tensor(keep, dtype=torch.bool)), dense(pairs) * (1 - dense(dropped)))
    both = graph.without(tensor_of(gone)).dropped(torch.tensor(keep, dtype=torch.bool))
    assert_is(both, dense(pairs) * (1 - dense(dropped)) * (1 - dense(gone)))
    assert_is(both.with_targets(), dense(pairs) * (1 - dense(dropped)))
    assert_is(graph.without(tensor_of(gone)).with_targets(), dense(pairs))


@pytest.mark.parametrize("edges", [[(0, 6)], [(-1, 2)]])
def test_refuses_nodes_out_of_range(edges: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="0 ... 5"):
        Graph.from_edges(tensor_of(edges), NUM_NODES)


def test_refuses_self_loops() -> None:
    with pytest.raises(ValueError, match="self-loop at node 3"):
        Graph.from_edges(tensor_of([(0, 1), (3, 3)]), NUM_NODES)


def test_spec_tells_the_features() -> None:
    edges, x = tensor_of([(0, 1)]), torch.eye(NUM_NODES)[:, :4]
    assert Graph.from_edges(edges, NUM_NODES).spec == GraphSpec(NUM_NODES)
    assert Graph.from_edges(edges, NUM_NODES, x).spec == GraphSpec(NUM_NODES, 4)
    assert Graph.from_edges(edges, NUM_NODES, Features.of(x.to_sparse())).spec == GraphSpec(NUM_NODES, 4, True)


def test_neighbor_sum_follows_the_type_of_its_argument() -> None:
    graph = Graph.from_edges(tensor_of([(0, 1), (1, 2)]), NUM_NODES)
    for dtype in (torch.float32, torch.float64, torch.float32):
        result = graph.neighbor_sum(torch.ones(NUM_NODES, 2, dtype=dtype))
        assert result.dtype == dtype
        assert result[:, 0].tolist() == [1, 2, 1, 0, 0, 0]


@pytest.mark.parametrize("name", ["neighbor_sum", "normalized_sum"])
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_of_sums(masked: bool, name: str) -> None:
    graph = Graph.from_edges(tensor_of([(0, 1), (1, 2), (2, 0), (3, 4)]), NUM_NODES)
    graph = graph.without(tensor_of([(2, 0)])) if masked else graph
    h, total = torch.randn(NUM_NODES, 2, dtype=torch.float64, requires_grad=True), getattr(graph, name)

    def curved(value: Tensor) -> Tensor:
        return total(total(value).tanh()) ** 2

    assert torch.autograd.gradcheck(total, h)
    assert torch.autograd.gradcheck(curved, h)
    assert torch.autograd.gradgradcheck(curved, h)


def test_derivatives_of_sparse_features() -> None:
    matrix = torch.randn(NUM_NODES, 4, dtype=torch.float64)
    matrix[matrix < 0] = 0
    features = Features.of(matrix.to_sparse_coo())
    weight = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(features.to_dense(), matrix)
    torch.testing.assert_close(features @ weight, matrix @ weight)
    for function in (lambda w: features @ w, lambda w: (features @ w).tanh() ** 2):
        assert torch.autograd.gradcheck(function, weight)
        assert torch.autograd.gradgradcheck(function, weight)


@pytest.mark.parametrize("layout", ["coo", "csr", "csc"])
def test_features_of_any_layout(layout: str) -> None:
    matrix = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    sparse = {"coo": matrix.to_sparse_coo, "csr": matrix.to_sparse_csr, "csc": matrix.to_sparse_csc}[layout]()
    features = Features.of(sparse)
    assert torch.equal(features.to_dense(), matrix)
    assert torch.equal(features.transposed.to_dense(), matrix.t())
    assert features.type(torch.float64).matrix.dtype == torch.float64


def test_features_add_up_duplicates() -> None:
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[0, 0], [1, 1]]), torch.tensor([1.0, 2.0]), (2, 2), check_invariants=True
    )
    features = Features.of(sparse)
    assert features.to_dense().tolist() == [[0, 3], [0, 0]]
    assert features.transposed.to_dense().tolist() == [[0, 0], [3, 0]]


def test_feature_masks_add_up() -> None:
    graph = Graph.from_edges(tensor_of([(0, 1)]), NUM_NODES, torch.ones(NUM_NODES, 3))
    first = graph.masked_features(torch.tensor([True, False, True]))
    assert (first.feature_mask * 1).tolist() == [1, 0, 1]
    assert (first.masked_features(torch.tensor([False, True, True])).feature_mask * 1).tolist() == [0, 0, 1]
    assert graph.feature_mask is None


def test_copies_and_moves_are_whole() -> None:
    graph = Graph.from_edges(tensor_of([(0, 1), (1, 2)]), NUM_NODES, Features.of(torch.eye(NUM_NODES).to_sparse()))
    graph = graph.without(tensor_of([(0, 1)]))
    expected = product_matrix(graph)
    for other in (graph.to("cpu"), pickle.loads(pickle.dumps(graph))):
        assert torch.equal(product_matrix(other), expected)
        assert other.spec == graph.spec
