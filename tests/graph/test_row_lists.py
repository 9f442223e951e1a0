"""Rows made of blocks of pairs against sets; what is reached from nodes against a loop over the edges."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl.datasets.loaded import NumberNames, undirected_edges, unique_edges
from mebns_pl.graph import csr_kernels, row_lists
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.neighbors import surroundings, with_neighbors
from mebns_pl.graph.row_lists import Pairs, both_ways, lower_first, pairs_of_rows, sorted_rows

NUM_NODES = 7
nodes = st.integers(0, NUM_NODES - 1)
pair_lists = st.lists(st.tuples(nodes, nodes), max_size=30)


def rows_of(pairs: set[tuple[int, int]]) -> list[list[int]]:
    return [sorted(column for row, column in pairs if row == number) for number in range(NUM_NODES)]


def lists(indptr: np.ndarray, columns: np.ndarray) -> list[list[int]]:
    return [columns[start:stop].tolist() for start, stop in pairwise(indptr)]


@given(pairs=pair_lists, cut=st.integers(1, 9), small=st.booleans())
def test_rows_of_blocks(pairs: list[tuple[int, int]], cut: int, small: bool) -> None:
    def blocks() -> Iterator[Pairs]:
        for start in range(0, len(pairs), cut):
            source, target = np.array(pairs[start : start + cut], dtype=np.int64).T.copy()
            yield source, target

    dtype = np.int32 if small else np.int64
    directed = {(a, b) for a, b in pairs if a != b}
    indptr, columns = sorted_rows(blocks, NUM_NODES, dtype)
    assert [lists(indptr, columns), columns.dtype] == [rows_of(directed), dtype]
    assert pairs_of_rows(indptr, columns).t().tolist() == [list(pair) for pair in sorted(directed)]
    lower = {(min(pair), max(pair)) for pair in directed}
    assert lists(*sorted_rows(lambda: lower_first(blocks()), NUM_NODES)) == rows_of(lower)


@given(values=st.lists(st.integers(-5, 5), max_size=200), cut=st.integers(0, 200))
def test_runs_are_merged(values: list[int], cut: int) -> None:
    array = np.array(sorted(values[:cut]) + values[cut:], dtype=np.int32)
    csr_kernels.merge_runs(array, np.empty_like(array))
    assert array.tolist() == sorted(values)


def test_a_long_row_with_little_out_of_place_is_sorted_in_one_pass() -> None:
    size = 300_000
    targets = np.append(np.arange(2, size), 1)
    few, many = (np.zeros(end, dtype=np.int64) for end in (2, len(targets)))
    sorted_rows(lambda: [(few, targets[:2])], size)  # compiled
    began = time.process_time()
    _, columns = sorted_rows(lambda: [(many, targets)], size)
    assert np.array_equal(columns, np.arange(1, size))
    assert time.process_time() - began < 1  # by numba's own sort several seconds


@given(pairs=pair_lists, block=st.integers(1, 9))
def test_undirected_edges_by_sets(pairs: list[tuple[int, int]], block: int) -> None:
    given_pairs = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()
    directed = {(a, b) for a, b in pairs if a != b}
    lower = {(min(pair), max(pair)) for pair in directed}
    loops = sum(a == b for a, b in pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_lists, "BLOCK", block)
        unique, notes = unique_edges(given_pairs, NUM_NODES)
        edges, told = undirected_edges(given_pairs, NUM_NODES)
        assert lists(*sorted_rows(lambda: both_ways(unique), NUM_NODES)) == rows_of(lower | {(b, a) for a, b in lower})
    assert torch.equal(unique, edges)
    assert unique.t().tolist() == [list(pair) for pair in sorted(lower)]
    assert (f"{loops} self-loop" in " ".join(notes)) == (loops > 0)
    repeated = len(pairs) - loops - len(lower)
    assert (f"{repeated} repeated edge" in " ".join(notes)) == (repeated > 0)
    assert any("direction" in note for note in told) == (2 * len(lower) > len(directed))


@given(pairs=pair_lists, gone=pair_lists, chosen=st.lists(nodes, min_size=1, unique=True))
def test_what_is_reached(pairs: list[tuple[int, int]], gone: list[tuple[int, int]], chosen: list[int]) -> None:
    edges = torch.tensor([pair for pair in pairs if pair[0] != pair[1]], dtype=torch.int64).view(-1, 2).t()
    graph = Graph.from_edges(edges, NUM_NODES)
    if gone:
        graph = graph.without(torch.tensor(gone, dtype=torch.int64).view(-1, 2).t())
    source, target = graph.edge_index.tolist()
    near = [sorted(b for b, a in zip(source, target, strict=True) if a == node) for node in chosen]
    mask = torch.zeros(NUM_NODES, dtype=torch.bool)
    mask[chosen] = True
    assert with_neighbors(graph, mask).nonzero().flatten().tolist() == sorted({*chosen, *chain(*near)})
    for _ in range(2):  # what a call has written down is gone at the next
        block = surroundings(graph, torch.tensor(chosen))
        assert block.node_ids is not None
        order = [*dict.fromkeys([*chosen, *chain(*near)])]
        assert block.node_ids.tolist() == order
        assert block.degree.tolist() == graph.degree[order].tolist()
        rows = lists(block.indptr.numpy(), block.indices.numpy())
        assert [[order[number] for number in row] for row in rows] == [*near, *[[]] * (len(order) - len(chosen))]


def test_number_names() -> None:
    names = NumberNames(3, np.array([-5, 7, 10**17]))
    assert [list(names), names[1], names[::2]] == [["-5", "7", str(10**17)], "7", ["-5", str(10**17)]]
    assert names == ["-5", "7", str(10**17)]
    assert NumberNames(2) == ["0", "1"]
    assert NumberNames(2) != ["0", "2"]
    assert "1" in NumberNames(2)
    with pytest.raises(IndexError):
        NumberNames(2)[2]
