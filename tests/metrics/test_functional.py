"""The pure ranking metrics against loops and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from mebns_pl.metrics import functional
from mebns_pl.metrics.functional import (
    auc,
    average_precision,
    hits_above,
    hits_at,
    mean_reciprocal_rank,
    ranks,
    ranks_shared,
)
from references import metrics as reference
from references.effort import examples

few_values = st.sampled_from([-math.inf, -2.0, -1.0, -0.0, 0.0, 0.5, 3.0, math.inf])
finite_values = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0])


@st.composite
def ranked(draw: st.DrawFn) -> tuple[list[float], list[list[float]], list[list[bool]]]:
    p, n = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    positive = draw(st.lists(few_values, min_size=p, max_size=p))
    negative = [draw(st.lists(few_values, min_size=n, max_size=n)) for _ in range(p)]
    mask = [draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any)) for _ in range(p)]
    return positive, negative, mask


@settings(max_examples=examples(100), deadline=None)
@given(ranked(), st.sampled_from([torch.float64, torch.float32, torch.bfloat16]), st.sampled_from([1, 5, 2**24]))
def test_ranks_equal_the_loop(scores, dtype, chunk):
    positive, negative, mask = scores
    expected = [reference.rank(*row) for row in zip(positive, negative, strict=True)]
    kept = [[x for x, keep in zip(*row, strict=True) if keep] for row in zip(negative, mask, strict=True)]
    expected_masked = [reference.rank(*row) for row in zip(positive, kept, strict=True)]
    positive, negative = torch.tensor(positive, dtype=dtype), torch.tensor(negative, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "_CHUNK_CELLS", chunk)
        result = ranks(positive, negative)
        assert result.tolist() == expected
        assert ranks(positive, negative, torch.tensor(mask)).tolist() == expected_masked
    assert result.dtype == torch.float64
    shared = [reference.rank(score, negative[0].tolist()) for score in positive.tolist()]
    assert ranks_shared(positive, negative[0]).tolist() == shared


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(finite_values, min_size=1, max_size=12), st.lists(finite_values, min_size=1, max_size=12))
def test_classification_equals_loop_and_sklearn(positive, negative):
    labels = [1] * len(positive) + [0] * len(negative)
    area = auc(torch.tensor(positive), torch.tensor(negative)).item()
    precision = average_precision(torch.tensor(positive), torch.tensor(negative)).item()
    assert area == pytest.approx(reference.auc(positive, negative), abs=1e-14)
    assert area == pytest.approx(roc_auc_score(labels, positive + negative), abs=1e-12)
    assert precision == pytest.approx(reference.average_precision(positive, negative), abs=1e-14)
    assert precision == pytest.approx(average_precision_score(labels, positive + negative), abs=1e-12)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(few_values, min_size=1, max_size=8), st.lists(few_values, min_size=1, max_size=8))
def test_classification_of_infinite_scores(positive, negative):
    scores = torch.tensor(positive), torch.tensor(negative)
    assert auc(*scores).item() == pytest.approx(reference.auc(positive, negative), abs=1e-14)
    expected = reference.average_precision(positive, negative)
    assert average_precision(*scores).item() == pytest.approx(expected, abs=1e-14)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.integers(2, 200).map(lambda twice: twice / 2), min_size=1, max_size=20), st.integers(1, 100))
def test_summaries_of_ranks_equal_the_loop(places, k):
    ranks = torch.tensor(places)
    assert mean_reciprocal_rank(ranks).item() == pytest.approx(reference.mean_reciprocal_rank(places), rel=1e-12)
    assert hits_at(ranks, k).item() == pytest.approx(reference.hits_at(places, k), rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 9, 500])
@pytest.mark.parametrize("value", [0.0, -7.0, math.inf, -math.inf])
def test_constant_scores_earn_the_middle_rank(n, value):
    result = ranks(torch.full((3,), value), torch.full((3, n), value))
    assert result.tolist() == [(n + 2) / 2] * 3
    assert mean_reciprocal_rank(result).item() == pytest.approx(2 / (n + 2), rel=1e-15)
    assert auc(torch.full((3,), value), torch.full((n,), value)).item() == 0.5
    assert average_precision(torch.full((3,), value), torch.full((n,), value)).item() == pytest.approx(3 / (3 + n))


def test_order_of_input_and_shift_of_scores_change_nothing():
    generator = torch.Generator().manual_seed(0)
    positive = torch.randint(-5, 5, (20,), generator=generator).double()
    negative = torch.randint(-5, 5, (20, 30), generator=generator).double()
    expected = ranks(positive, negative)
    shuffled = torch.randperm(30, generator=generator)
    assert torch.equal(ranks(positive, negative[:, shuffled]), expected)
    assert torch.equal(ranks(positive - 100, negative - 100), expected)


def test_a_tie_at_the_top_is_no_hit_at_one():
    tied = ranks(torch.tensor([1.0]), torch.tensor([[1.0, 0.0]]))
    assert tied.tolist() == [1.5]
    assert hits_at(tied, 1).item() == 0.0
    assert hits_at(tied, 2).item() == 1.0


def test_scores_of_different_precision_are_compared_exactly():
    assert ranks_shared(torch.tensor([1.0]), torch.tensor([1.0 + 1e-12], dtype=torch.float64)).tolist() == [2.0]


def test_many_ranks_are_accumulated_in_float64():
    value = mean_reciprocal_rank(torch.full((1_000_000,), 3.0))
    assert value.item() == pytest.approx(1 / 3, rel=1e-13)


def test_nan_is_refused_with_its_count():
    positive, negative = torch.tensor([0.0, math.nan]), torch.tensor([[math.nan, 1.0], [0.0, math.nan]])
    with pytest.raises(ValueError, match="3 of the scores are NaN"):
        ranks(positive, negative)
    for function in (ranks_shared, auc, average_precision):
        with pytest.raises(ValueError, match="2 of the scores are NaN"):
            function(positive, negative[0])


def test_nan_behind_the_mask_is_no_score():
    negative, mask = torch.tensor([[math.nan, 1.0]]), torch.tensor([[False, True]])
    assert ranks(torch.tensor([0.0]), negative, mask).tolist() == [2.0]
    with pytest.raises(ValueError, match="1 of the scores are NaN"):
        ranks(torch.tensor([0.0]), negative, ~mask)


def test_no_positive_has_no_rank():
    assert ranks(torch.empty(0), torch.empty(0, 3)).shape == (0,)


@given(st.lists(few_values, min_size=1, max_size=8), st.lists(few_values, min_size=1, max_size=8), st.integers(1, 10))
def test_hits_above_is_ogbs_rule(positive, negative, k):
    expected = reference.hits_above(positive, negative, k)
    found = hits_above(torch.tensor(positive), torch.tensor(negative), k)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected)


def test_a_tie_with_the_kth_is_no_hit_above():
    positive, negative = torch.tensor([2.0, 1.0]), torch.tensor([3.0, 2.0, 1.0])
    assert hits_above(positive, negative, 2).item() == 0
    assert hits_above(positive, negative, 3).item() == 0.5
    assert hits_above(positive, negative, 4).item() == 1
    assert hits_at(ranks_shared(positive, negative), 3).item() == 0.5
    with pytest.raises(ValueError, match="k: expected 1 or more, got 0"):
        hits_above(positive, negative, 0)


@pytest.mark.parametrize("function", [auc, average_precision, lambda p, n: hits_above(p, n, 1)])
def test_one_class_is_refused_by_name(function):
    with pytest.raises(ValueError, match="^positive: no scores"):
        function(torch.empty(0), torch.ones(2))
    with pytest.raises(ValueError, match="^negative: no scores"):
        function(torch.ones(2), torch.empty(0))


def test_missing_input_is_refused():
    with pytest.raises(ValueError, match="n = 0"):
        ranks(torch.ones(2), torch.empty(2, 0))
    with pytest.raises(ValueError, match="n = 0"):
        ranks_shared(torch.ones(2), torch.empty(0))
    with pytest.raises(ValueError, match="1 of 2 positives"):
        ranks(torch.ones(2), torch.ones(2, 2), torch.tensor([[True, False], [False, False]]))
    with pytest.raises(ValueError, match="ranks: empty"):
        mean_reciprocal_rank(torch.empty(0))
    with pytest.raises(ValueError, match="ranks: empty"):
        hits_at(torch.empty(0), 1)
    with pytest.raises(ValueError, match="k: expected 1 or more, got 0"):
        hits_at(torch.ones(1), 0)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="same p"):
        ranks(torch.ones(2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="negative_mask"):
        ranks(torch.ones(2), torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        ranks_shared(torch.ones(2), torch.ones(2, 2))
