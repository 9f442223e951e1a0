"""Every selector keeps the contract; each one's own rule is checked against a loop."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mebns_pl.negatives.selectors as package
from mebns_pl.keys import Key
from mebns_pl.negatives.selectors import AbstractSelector, FirstSelector, HardestSelector
from references import negatives as reference

for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"{package.__name__}.{module.name}")


def concrete(base: type) -> list[type]:
    """All classes below ``base`` that can be built, at any depth, defined in the package."""
    below = {cls for child in base.__subclasses__() for cls in [child, *concrete(child)]}
    found = [cls for cls in below if not inspect.isabstract(cls) and cls.__module__.startswith("mebns_pl.")]
    return sorted(found, key=lambda cls: cls.__name__)


BUILDERS: dict[type, Callable[[int], AbstractSelector]] = {
    FirstSelector: lambda m: FirstSelector(num_negatives=m),
    HardestSelector: lambda m: HardestSelector(num_negatives=m),
}
KEY = Key(0, "tests/selectors")


def build(cls: type, num_negatives: int) -> AbstractSelector:
    assert cls in BUILDERS, f"{cls.__name__} has no entry in BUILDERS: tell this test how to build it"
    return BUILDERS[cls](num_negatives)


def rows_of(mask: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(mask))


MASKS = {
    "all": torch.ones(6, 5, dtype=torch.bool),
    "none": torch.zeros(6, 5, dtype=torch.bool),
    "some": torch.rand(6, 5, generator=torch.Generator().manual_seed(1)) < 0.4,
    "one candidate": torch.tensor([[True], [False]]),
    "no row": torch.ones(0, 5, dtype=torch.bool),
}


@pytest.mark.parametrize("cls", concrete(AbstractSelector))
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("num_negatives", [1, 3, 5, 9])
def test_contract(cls, mask, num_negatives):
    selector = build(cls, num_negatives)
    scores = torch.randn(mask.shape, generator=torch.Generator().manual_seed(2))
    before = torch.get_rng_state()
    picks = selector.select(mask, lambda: scores, rows_of(mask), KEY)
    assert torch.equal(torch.get_rng_state(), before)
    assert selector.num_negatives == num_negatives
    size = min(num_negatives, mask.shape[1])
    assert picks.columns.shape == picks.mask.shape == (len(mask), size)
    assert picks.columns.dtype == torch.int64
    assert picks.mask.dtype == torch.bool
    for legal, columns, picked in zip(mask.tolist(), picks.columns.tolist(), picks.mask.tolist(), strict=True):
        assert len(set(columns)) == size
        assert all(0 <= column < len(legal) for column in columns)
        assert [legal[column] for column in columns] == picked
        assert sum(picked) == min(size, sum(legal))
    again = selector.select(mask, lambda: scores, rows_of(mask), KEY)
    assert torch.equal(again.columns, picks.columns)
    assert torch.equal(again.mask, picks.mask)


@pytest.mark.parametrize("cls", concrete(AbstractSelector))
def test_picks_do_not_depend_on_how_the_batch_is_cut(cls):
    mask = torch.rand(20, 8, generator=torch.Generator().manual_seed(1)) < 0.6
    scores = torch.randn(20, 8, generator=torch.Generator().manual_seed(2))
    selector = build(cls, 3)
    whole = selector.select(mask, lambda: scores, torch.arange(20), KEY)
    part = selector.select(mask[7:], lambda: scores[7:], torch.arange(7, 20), KEY)
    assert torch.equal(part.columns, whole.columns[7:])
    assert torch.equal(part.mask, whole.mask[7:])


@pytest.mark.parametrize("cls", [FirstSelector, HardestSelector])
def test_shapes_do_not_wait_for_values(cls):
    # Tensors without data: whatever would bring a value to the host fails.
    mask = torch.ones(6, 5, dtype=torch.bool, device="meta")
    picks = build(cls, 3).select(mask, lambda: torch.ones(6, 5, device="meta"), torch.arange(6), KEY)
    assert picks.columns.shape == picks.mask.shape == (6, 3)


@pytest.mark.parametrize("cls", concrete(AbstractSelector))
def test_less_than_one_negative_is_refused(cls):
    with pytest.raises(ValueError, match="num_negatives: must be at least 1, got 0"):
        build(cls, 0)


@st.composite
def scored(draw: st.DrawFn) -> tuple[list[list[bool]], list[list[float]], int]:
    b, k = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    values = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 2.0, math.inf])
    mask = [draw(st.lists(st.booleans(), min_size=k, max_size=k)) for _ in range(b)]
    scores = [draw(st.lists(values, min_size=k, max_size=k)) for _ in range(b)]
    return mask, scores, draw(st.integers(1, 7))


@settings(max_examples=150, deadline=None)
@given(scored())
def test_rules_equal_the_loop(case):
    mask, scores, num_negatives = case

    def picked(selector: AbstractSelector) -> list[list[int]]:
        picks = selector.select(torch.tensor(mask), lambda: torch.tensor(scores), torch.arange(len(mask)), KEY)
        return [columns[legal].tolist() for columns, legal in zip(picks.columns, picks.mask, strict=True)]

    assert picked(FirstSelector(num_negatives)) == [reference.first(row, num_negatives) for row in mask]
    expected = [reference.hardest(row, values, num_negatives) for row, values in zip(mask, scores, strict=True)]
    assert picked(HardestSelector(num_negatives)) == expected


def test_first_asks_for_no_scores():
    def score() -> torch.Tensor:
        raise AssertionError("scores were asked for")

    FirstSelector(2).select(torch.ones(3, 4, dtype=torch.bool), score, torch.arange(3), KEY)


def test_a_masked_score_that_is_no_number_changes_nothing():
    mask = torch.tensor([[False, True, True]])
    picks = HardestSelector(2).select(mask, lambda: torch.tensor([[math.nan, 1.0, 2.0]]), torch.arange(1), KEY)
    assert picks.columns.tolist() == [[2, 1]]
    assert picks.mask.all()


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3\), got \(3,\)"):
        HardestSelector().select(torch.ones(1, 3, dtype=torch.bool), lambda: torch.ones(3), torch.arange(1), KEY)
