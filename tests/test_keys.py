"""Keyed draws: a function of the key and the row's name, the same in numba and torch, and random enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl import keys
from mebns_pl.keys import Key, dropout_mask, dropped, permutation, uniform

KEY = Key(7, "tests/keys")
any_key = st.builds(Key, st.integers(), st.text(max_size=5), st.integers(0, 9), st.integers(0, 9))


def bits_loop(key: Key, row: int, column: int, num_columns: int) -> int:
    """The hash as written down with Python's integers: SplitMix64 of the row, Murmur3's finisher with the column."""
    word = 2**64
    h = ((row + 1) * 0x9E3779B97F4A7C15 + key.child("rows").integer()) % word
    h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) % word
    h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) % word
    columns = key.child("columns").numpy().integers(-(2**31), 2**31, num_columns, dtype=np.int32)
    h = (h >> 32) ^ (int(columns[column]) % 2**32)
    h = (h * 0x85EBCA6B) % 2**32
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) % 2**32
    return h >> 8


def test_generators_are_the_keys_own() -> None:
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for draw in (
        lambda key: torch.rand(4, generator=key.generator()).tolist(),
        lambda key: key.numpy().random(4).tolist(),
    ):
        assert draw(KEY) == draw(Key(*KEY))
        others = [KEY.child("a"), KEY.child(0), KEY.at(1), KEY.at(0, 1), Key(8, KEY.stream)]
        assert len({tuple(draw(key)) for key in [KEY, *others]}) == len(others) + 1
    assert sorted(permutation(50, KEY).tolist()) == list(range(50))
    assert torch.equal(permutation(50, KEY), permutation(50, KEY))
    assert not torch.equal(permutation(50, KEY), permutation(50, KEY.at(1)))
    uniform(KEY, torch.arange(3), 2), dropout_mask(KEY, torch.arange(3), 2, 0.5, torch.float32)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert bool((np.random.get_state()[1] == state[1]).all())


@given(first=any_key, second=any_key)
def test_integers_tell_keys_apart(first: Key, second: Key) -> None:
    assert 0 <= first.integer() < 2**63
    assert (first.integer() == second.integer()) == (first == second)


def test_names_do_not_run_together() -> None:
    parts = [
        Key(1, "a", 11, 1),
        Key(1, "a", 1, 11),
        Key(11, "a", 1, 1),
        Key(1, "a/1", 1, 1),
        Key(1, "a", 1, 1).child(2),
        Key(1, "a/2"),
    ]
    assert len({key.integer() for key in parts}) == len(parts)


def test_a_key_is_the_same_for_ever() -> None:
    """A change of this number breaks resuming and comparing runs: make it knowingly."""
    assert Key(0, "train/candidates", 3, 4).integer() == Key(0, "train", 3, 4).child("candidates").integer()
    assert Key(0, "train/candidates", 3, 4).integer() == 1584971561632540764


@given(key=any_key, rows=st.lists(st.integers(0, 2**62), max_size=4), num_columns=st.integers(1, 4))
def test_bits_are_the_hash_as_written_down(key: Key, rows: list[int], num_columns: int) -> None:
    expected = [[bits_loop(key, row, column, num_columns) for column in range(num_columns)] for row in rows]
    names = torch.tensor(rows, dtype=torch.int64)
    assert keys._bits(key, names, num_columns).tolist() == expected
    assert uniform(key, names, num_columns).tolist() == [[value / 2**24 for value in row] for row in expected]


@given(
    key=any_key, rows=st.lists(st.integers(0, 2**62), max_size=6), num_columns=st.integers(1, 5), p=st.floats(0, 0.99),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)  # fmt: skip
def test_compiled_masks_equal_torchs(key: Key, rows: list[int], num_columns: int, p: float, dtype: torch.dtype) -> None:
    names = torch.tensor(rows, dtype=torch.int64)
    mask = dropout_mask(key, names, num_columns, p, dtype)
    by_torch = keys._mask_of_bits(keys._bits(key, names, num_columns), p, dtype)
    assert mask.dtype == dtype
    assert torch.equal(mask, by_torch)
    zeros = keys._bits(key, names, num_columns) < round(p * 2**24)
    assert torch.equal(mask == 0, zeros)
    torch.testing.assert_close(mask[~zeros], torch.full_like(mask[~zeros], 1 / (1 - p)))


def test_rows_do_not_depend_on_the_cut() -> None:
    rows = torch.tensor([5, 0, 123456789, 7])
    for draw in (lambda r: uniform(KEY, r, 6), lambda r: dropout_mask(KEY, r, 6, 0.4, torch.float64)):
        whole = draw(rows)
        assert torch.equal(whole[1:3], draw(rows[1:3]))
        assert torch.equal(whole.flip(0), draw(rows.flip(0)))
        assert draw(rows[:0]).shape == (0, 6)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_masks_are_random_enough(p: float) -> None:
    mask = dropout_mask(KEY, torch.arange(2000), 50, p, torch.float64)
    error = (p / (1 - p) / mask.numel()) ** 0.5  # standard error of the mean, which is 1
    assert float(mask.mean()) == pytest.approx(1, abs=4 * error)
    assert float((mask == 0).double().mean()) == pytest.approx(p, abs=0.01)
    # Neither rows nor columns are alike
    for dim in (0, 1):
        shares = (mask == 0).double().mean(dim)
        spread = (p * (1 - p) / mask.shape[dim]) ** 0.5
        assert float(shares.std()) == pytest.approx(spread, rel=0.4)


def test_uniform_numbers_are_uniform_and_uncorrelated() -> None:
    values = uniform(KEY, torch.arange(20_000), 4).double()
    assert float(values.min()) >= 0
    assert float(values.max()) < 1
    assert values.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.01)
    assert values.var(0).tolist() == pytest.approx([1 / 12] * 4, abs=0.002)
    counts = torch.histc(values, 16, 0, 1) / values.numel()
    assert counts.tolist() == pytest.approx([1 / 16] * 16, abs=0.003)
    others = uniform(KEY.child("other"), torch.arange(20_000), 4).double()
    table = torch.cat([values, others, values.roll(1, 0)], dim=1)
    assert float((torch.corrcoef(table.t()) - torch.eye(12)).abs().max()) < 0.035


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropped_is_the_product_with_the_mask(dtype: torch.dtype) -> None:
    """With its derivatives, of views too."""
    h = torch.randn(7, 5, generator=KEY.generator()).t().to(dtype).requires_grad_()
    rows, above = torch.tensor([4, 0, 9, 2, 2]), torch.ones(7, 5, dtype=dtype).t()
    expected = h * dropout_mask(KEY, rows, 7, 0.4, dtype)
    found = dropped(h, KEY, rows, 0.4)
    assert torch.equal(found, expected)
    assert 0 < int((found == 0).sum()) < found.numel()
    assert torch.equal(*(torch.autograd.grad(value, h, above)[0] for value in (found, expected)))
    if dtype == torch.float64:
        assert torch.autograd.gradgradcheck(lambda value: dropped(value, KEY, rows, 0.4).square(), h)
