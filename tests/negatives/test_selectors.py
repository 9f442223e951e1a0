"""Every selector keeps the contract; each one's own rule is checked against a loop."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from mebns_pl import (
    AbstractSelector,
    AdaptiveHardnessSelector,
    BayesianSelector,
    CandidateScores,
    FirstSelector,
    FunctionSelector,
    HardestSelector,
    SoftmaxSelector,
    TopSelector,
)
from mebns_pl.errors import DataError
from mebns_pl.keys import Key
from mebns_pl.negatives.selectors.abstract import SELECTORS
from references import negatives as reference
from references.effort import examples
from references.negatives import joined, members


def near_the_middle(score: CandidateScores, uniform: torch.Tensor) -> torch.Tensor:
    return uniform - score().abs()


WAYS: dict[type, list[Callable[..., AbstractSelector]]] = {
    TopSelector: [lambda num_negatives: TopSelector(num_negatives + 1, num_negatives)],
    FunctionSelector: [
        partial(FunctionSelector, near_the_middle),
        partial(FunctionSelector, lambda _, uniform: uniform),
    ],
    SoftmaxSelector: [SoftmaxSelector, partial(SoftmaxSelector, temperature=0.5)],
}
EACH = members(SELECTORS, WAYS)
KEY = Key(0, "tests/selectors")


def known_scores(scores: torch.Tensor) -> CandidateScores:
    """The candidates' scores with something to ask for beside them."""
    generator = torch.Generator().manual_seed(3)
    pairs, graph = joined(torch.randint(9, (20, scores.shape[1]), generator=generator))
    positives = torch.randn(20, generator=generator)[-len(scores) :] if len(scores) else scores.new_zeros(0)
    return CandidateScores.given(scores, positives, pairs[:, -len(scores) :][:, : len(scores)], graph)


def rows_of(mask: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(mask))


MASKS = {
    "all": torch.ones(6, 5, dtype=torch.bool),
    "none": torch.zeros(6, 5, dtype=torch.bool),
    "some": torch.rand(6, 5, generator=torch.Generator().manual_seed(1)) < 0.4,
    "one candidate": torch.tensor([[True], [False]]),
    "no row": torch.ones(0, 5, dtype=torch.bool),
}


@pytest.mark.parametrize("build", EACH)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("num_negatives", [1, 3, 5, 9])
def test_contract(build, mask, num_negatives):
    selector = build(num_negatives=num_negatives)
    scores = torch.randn(mask.shape, generator=torch.Generator().manual_seed(2))
    before = torch.get_rng_state()
    picks = selector.select(mask, known_scores(scores), rows_of(mask), KEY)
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
    again = selector.select(mask, known_scores(scores), rows_of(mask), KEY)
    assert torch.equal(again.columns, picks.columns)
    assert torch.equal(again.mask, picks.mask)


@pytest.mark.parametrize("build", EACH)
def test_picks_do_not_depend_on_how_the_batch_is_cut(build):
    mask = torch.rand(20, 8, generator=torch.Generator().manual_seed(1)) < 0.6
    scores = torch.randn(20, 8, generator=torch.Generator().manual_seed(2))
    selector = build(num_negatives=3)
    whole = selector.select(mask, known_scores(scores), torch.arange(20), KEY)
    part = selector.select(mask[7:], known_scores(scores[7:]), torch.arange(7, 20), KEY)
    assert torch.equal(part.columns, whole.columns[7:])
    assert torch.equal(part.mask, whole.mask[7:])


@pytest.mark.parametrize("cls", [FirstSelector, HardestSelector])
def test_shapes_do_not_wait_for_values(cls):
    # Tensors without data: whatever would bring a value to the host fails.
    mask = torch.ones(6, 5, dtype=torch.bool, device="meta")
    picks = cls(3).select(mask, lambda: torch.ones(6, 5, device="meta"), torch.arange(6), KEY)
    assert picks.columns.shape == picks.mask.shape == (6, 3)


@pytest.mark.parametrize("build", EACH)
def test_less_than_one_negative_is_refused(build):
    with pytest.raises(ValueError, match="^num_negatives: expected 1 or more, got 0$"):
        build(num_negatives=0)


@st.composite
def scored(draw: st.DrawFn) -> tuple[list[list[bool]], list[list[float]], int]:
    b, k = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    values = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 2.0, math.inf])
    mask = [draw(st.lists(st.booleans(), min_size=k, max_size=k)) for _ in range(b)]
    scores = [draw(st.lists(values, min_size=k, max_size=k)) for _ in range(b)]
    return mask, scores, draw(st.integers(1, 7))


@settings(max_examples=examples(150), deadline=None)
@given(scored())
def test_rules_equal_the_loop(case):
    mask, scores, num_negatives = case

    def picked(selector: AbstractSelector) -> list[list[int]]:
        picks = selector.select(torch.tensor(mask), lambda: torch.tensor(scores), torch.arange(len(mask)), KEY)
        return [columns[legal].tolist() for columns, legal in zip(picks.columns, picks.mask, strict=True)]

    assert picked(FirstSelector(num_negatives)) == [reference.first(row, num_negatives) for row in mask]
    expected = [reference.hardest(row, values, num_negatives) for row, values in zip(mask, scores, strict=True)]
    assert picked(HardestSelector(num_negatives)) == expected
    # Whoever chooses among the M highest chooses all of M
    assert [sorted(row) for row in picked(TopSelector(num_negatives, num_negatives))] == [sorted(e) for e in expected]


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


@pytest.mark.parametrize("build", EACH)
def test_what_is_masked_changes_nothing(build):
    mask = torch.rand(20, 8, generator=torch.Generator().manual_seed(1)) < 0.6
    scores = torch.randn(20, 8, generator=torch.Generator().manual_seed(2))
    picks = [
        build(num_negatives=2).select(mask, known_scores(scores.masked_fill(~mask, value)), torch.arange(20), KEY)
        for value in (-50.0, 50.0)
    ]
    assert torch.equal(picks[0].mask, picks[1].mask)
    assert torch.equal(picks[0].columns[picks[0].mask], picks[1].columns[picks[1].mask])


# --- distributions --------------------------------------------------------------------------------------------------

DRAWS = 20_000
LOGITS = torch.tensor([0.3, -1.0, 2.0, 9.0, 1.0])
LEGAL = torch.tensor([True, True, True, False, True])


def frequencies(selector: AbstractSelector) -> list[tuple[int, ...]]:
    """The picks of many rows with the same candidates, in their order."""
    mask, scores = LEGAL.expand(DRAWS, -1), LOGITS.expand(DRAWS, -1)
    picks = selector.select(mask, CandidateScores.given(scores), torch.arange(DRAWS), KEY)
    assert picks.mask.all()
    return [tuple(row) for row in picks.columns.tolist()]


def check_frequencies(drawn: list[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> None:
    assert set(drawn) == set(expected)
    assert sum(expected.values()) == pytest.approx(1)
    counts = [drawn.count(cell) for cell in expected]
    assert chisquare(counts, [DRAWS * share for share in expected.values()]).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [1.0, 0.4, 3.0])
def test_softmax_draws_by_the_softmax(temperature):
    shares = reference.softmax(LOGITS.tolist(), LEGAL.tolist(), temperature)
    expected = {(column,): share for column, share in enumerate(shares) if share}
    check_frequencies(frequencies(SoftmaxSelector(temperature)), expected)


def test_softmax_draws_without_replacement():
    shares = reference.softmax(LOGITS.tolist(), LEGAL.tolist(), 1.0)
    expected = {(a, b): shares[a] * shares[b] / (1 - shares[a]) for a in (0, 1, 2, 4) for b in (0, 1, 2, 4) if a != b}
    check_frequencies(frequencies(SoftmaxSelector(1.0, num_negatives=2)), expected)


def test_top_is_uniform_among_the_highest():
    check_frequencies(frequencies(TopSelector(top=3)), {(0,): 1 / 3, (2,): 1 / 3, (4,): 1 / 3})
    pairs = {(a, b): 1 / 6 for a in (0, 2, 4) for b in (0, 2, 4) if a != b}
    check_frequencies(frequencies(TopSelector(top=3, num_negatives=2)), pairs)


@pytest.mark.parametrize("selector", [SoftmaxSelector(), TopSelector(top=4)], ids=lambda s: type(s).__name__)
def test_rows_and_keys_draw_apart(selector):
    drawn = frequencies(selector)
    mask, scores = LEGAL.expand(DRAWS, -1), LOGITS.expand(DRAWS, -1)
    other = selector.select(mask, CandidateScores.given(scores), torch.arange(DRAWS), KEY.at(1))
    assert [tuple(row) for row in other.columns.tolist()] != drawn


def test_a_function_of_ones_own_ranks_the_candidates():
    picked = frequencies(FunctionSelector(lambda score, _: -score().abs(), num_negatives=2))
    assert set(picked) == {(0, 1)}  # the smallest absolute values, and the legal one first of equals
    check_frequencies(frequencies(FunctionSelector(lambda _, uniform: uniform)), {(c,): 1 / 4 for c in (0, 1, 2, 4)})


@pytest.mark.parametrize("given", [None, torch.zeros(3, 5), torch.zeros(6, 5, dtype=torch.int64)])
def test_what_a_function_of_ones_own_may_not_give_is_named(given):
    def mine(score, uniform):
        return given

    with pytest.raises(
        DataError, match=r"^selector: mine gave .*; allowed are floating point numbers of shape \(6, 5\)"
    ):
        FunctionSelector(mine).select(MASKS["all"], known_scores(torch.zeros(6, 5)), torch.arange(6), KEY)


# --- rules worked out by hand ---------------------------------------------------------------------------------------


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_adaptive_hardness_and_bayes_equal_the_loop(data):
    b, k = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    numbers = st.floats(-6, 6, width=32)
    mask = [data.draw(st.lists(st.booleans(), min_size=k, max_size=k)) for _ in range(b)]
    scores = [data.draw(st.lists(numbers, min_size=k, max_size=k)) for _ in range(b)]
    degrees = [data.draw(st.lists(st.integers(0, 19), min_size=k, max_size=k)) for _ in range(b)]
    positives = data.draw(st.lists(numbers, min_size=b, max_size=b))
    pairs, graph = joined(torch.tensor(degrees))
    logits = torch.tensor(scores, dtype=torch.float64)
    given = CandidateScores.given(logits, torch.tensor(positives, dtype=torch.float64), pairs, graph)

    def costs(selector: AbstractSelector, rule: Callable[[int], list[float]]) -> None:
        picks = selector.select(torch.tensor(mask), given, torch.arange(b), KEY)
        for row in range(b):
            cost = rule(row)
            best = sorted(cost[column] for column in range(k) if mask[row][column])[: selector.num_negatives]
            found = [cost[column] for column in picks.columns[row][picks.mask[row]].tolist()]
            assert found == pytest.approx(best, rel=1e-9, abs=1e-12)

    costs(
        AdaptiveHardnessSelector(1.5, 0.7, -3.0, num_negatives=2),
        lambda row: reference.hardness_gap(scores[row], positives[row], 1.5, 0.7, -3.0),
    )
    costs(
        BayesianSelector(2.0, num_negatives=2),
        lambda row: reference.bayesian_risk(scores[row], mask[row], positives[row], degrees[row], graph.num_nodes, 2.0),
    )


def test_adaptive_hardness_is_adaptive():
    """The better the positive, the easier the negative."""
    scores = torch.linspace(-6, 0, 60).expand(2, -1)
    given = CandidateScores.given(scores, positives=torch.tensor([-3.0, 3.0]))
    picks = AdaptiveHardnessSelector().select(torch.ones(2, 60, dtype=torch.bool), given, torch.arange(2), KEY)
    low, high = scores.gather(1, picks.columns)[:, 0].tolist()
    assert low > high + 0.3


def test_bayes_shuns_popular_candidates():
    given = CandidateScores.given(torch.ones(1, 2), torch.ones(1), *joined(torch.tensor([[15, 1]])))
    picks = BayesianSelector().select(torch.ones(1, 2, dtype=torch.bool), given, torch.arange(1), KEY)
    assert picks.columns.tolist() == [[1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopSelector(top=1, num_negatives=2), "top: expected 2 or more (num_negatives), got 1"),
        (lambda: SoftmaxSelector(temperature=0.0), "temperature: expected a number above 0, got 0.0"),
        (lambda: AdaptiveHardnessSelector(alpha=0.0), "alpha: expected a number above 0, got 0.0"),
        (lambda: AdaptiveHardnessSelector(beta=-1.0), "beta: expected a number above 0, got -1.0"),
        (lambda: AdaptiveHardnessSelector(power=0.0), "power: expected a number below 0, got 0.0"),
        (lambda: BayesianSelector(trade_off=-1.0), "trade_off: expected a number in [0, inf), got -1.0"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
