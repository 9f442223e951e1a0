from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mebns_pl.datasets.split import split_edges
from mebns_pl.errors import DataError
from mebns_pl.keys import Key
from mebns_pl.types import EdgeSplit
from references.runs import replace_held_out

KEY = Key(0, "split")
PARTS = ("train", "meta", "val", "test")


def some_edges(num: int) -> torch.Tensor:
    nodes = next(n for n in range(2, 10_000) if n * (n - 1) // 2 >= num)
    return torch.combinations(torch.arange(nodes))[:num].t().contiguous()


def sizes(split: EdgeSplit) -> list[int]:
    return [getattr(split, part).shape[1] for part in PARTS]


def pair_list(edges: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(edge) for edge in edges.t().tolist()]


@pytest.mark.parametrize(
    ("num", "expected"),
    [
        (5278, [4399, 89, 263, 527]),
        (4552, [3793, 77, 227, 455]),
        (44324, [36923, 753, 2216, 4432]),
        (100, [84, 1, 5, 10]),
    ],
)
def test_default_sizes(num, expected):
    assert sizes(split_edges(some_edges(num), key=KEY)) == expected


@given(
    num=st.integers(1, 300),
    val=st.floats(0.01, 0.6),
    test=st.floats(0.01, 0.6),
    meta=st.just(0.0) | st.floats(0.01, 0.9),
    seed=st.integers(0, 5),
)
def test_parts_make_up_the_whole_or_the_error_says_how_many_are_needed(num, val, test, meta, seed):
    assume(val + test < 0.99)
    edges = some_edges(num)
    try:
        split = split_edges(edges, val, test, meta, key=Key(seed, "s"))
    except DataError as error:
        needed = int(re.search(r"at least ([\d,]+) are needed", str(error))[1].replace(",", ""))
        assert needed > num
        split = split_edges(some_edges(needed), val, test, meta, key=KEY)
        assert min(count for part, count in zip(PARTS, sizes(split), strict=True) if part != "meta" or meta) > 0
        with pytest.raises(DataError):
            split_edges(some_edges(needed - 1), val, test, meta, key=KEY)
        return
    parts = [pair_list(getattr(split, part)) for part in PARTS]
    assert sorted(pair for part in parts for pair in part) == sorted(pair_list(edges))
    for part, pairs in zip(PARTS, parts, strict=True):
        assert pairs == sorted(pairs)
        assert all(a < b for a, b in pairs)
        assert pairs or (part == "meta" and meta == 0)


def test_key_and_edges_decide_and_not_their_order():
    edges = some_edges(200)
    split = split_edges(edges, key=KEY)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    shuffled = edges[:, order]
    shuffled[:, ::2] = shuffled[:, ::2].flip(0)
    state = torch.get_rng_state()
    again, other = split_edges(shuffled, key=KEY), split_edges(edges, key=Key(1, "split"))
    assert torch.equal(state, torch.get_rng_state())
    for part in PARTS:
        assert torch.equal(getattr(split, part), getattr(again, part))
        assert not torch.equal(getattr(split, part), getattr(other, part))


def test_meta_fraction_changes_no_held_out_edge():
    edges = some_edges(200)
    one, two = split_edges(edges, meta_fraction=0.1, key=KEY), split_edges(edges, meta_fraction=0.4, key=KEY)
    assert torch.equal(one.val, two.val)
    assert torch.equal(one.test, two.test)


def test_replacing_held_out_edges_keeps_the_others():
    edges = some_edges(60)
    split = split_edges(edges, key=KEY)
    new = replace_held_out(split, torch.tensor([[30, 21], [20, 31]]), torch.tensor([[40], [41]]))
    assert new.train is split.train
    assert new.meta is split.meta
    assert pair_list(new.val) == [(20, 30), (21, 31)]
    assert pair_list(new.test) == [(40, 41)]
    assert dataclasses.is_dataclass(new)


def test_replacing_held_out_edges_by_known_ones_is_refused():
    split = split_edges(some_edges(60), key=KEY)
    pair = torch.tensor([[50], [51]])
    for edges in (split.train[:, :1].flip(0), split.meta[:, :1], pair):
        with pytest.raises(DataError, match=r"val, test: edge .* stands twice"):
            replace_held_out(split, edges, pair)


def test_no_edges_to_replace_with_are_allowed():
    split = split_edges(some_edges(60), key=KEY)
    none = torch.zeros(2, 0, dtype=torch.long)
    assert sizes(replace_held_out(split, none, none))[2:] == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_fraction": -0.1}, r"val_fraction: got -0.1; allowed is a number in \[0, 1\)"),
        ({"test_fraction": 1.0}, r"test_fraction: got 1.0"),
        ({"meta_fraction": -0.1}, r"meta_fraction: got -0.1; allowed is a number in \[0, 1\)"),
        ({"meta_fraction": float("nan")}, r"meta_fraction: got nan"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, r"a sum below 1"),
    ],
)
def test_bad_fractions_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        split_edges(some_edges(100), **arguments, key=KEY)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.tensor([[0, 1], [1, 1]]), "self-loop at node 1"),
        (torch.tensor([[0, 1, 2], [1, 2, 1]]), r"edge \(1, 2\) stands twice"),
        (torch.tensor([[0.0], [1.0]]), r"got torch.float32 of shape \(2, 1\)"),
        (torch.tensor([[0, 1, 2]]), r"shape \(1, 3\)"),
        (torch.zeros(2, 0, dtype=torch.long), "got 0; .* at least 20 are needed"),
    ],
)
def test_bad_edges_are_refused(edges, message):
    with pytest.raises(DataError, match=message):
        split_edges(edges, key=KEY)


def test_tiny_fractions_answer_at_once():
    with pytest.raises(DataError, match="at least 1,000,000,000 are needed"):
        split_edges(some_edges(10), val_fraction=1e-9, key=KEY)


@pytest.mark.parametrize(("val", "test"), [(0.0, 0.0), (0.0, 0.2), (0.2, 0.0)])
def test_parts_of_share_0_are_empty_and_nothing_is_lost(val, test):
    split = split_edges(some_edges(50), val, test, key=KEY)
    assert (split.val.shape[1], split.test.shape[1]) == (int(50 * val), int(50 * test))
    assert split.all.shape[1] == 50
