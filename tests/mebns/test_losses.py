"""The losses against torch's own, and what the weights promise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.losses.abstract import LOSSES, Counts, negative_losses, positive_losses
from mebns_pl.mebns.step import negative_weights

GROUP = SingleProcess()


def test_elementwise_losses_are_cross_entropies() -> None:
    logits = torch.tensor([-800.0, -3.0, 0.0, 2.0, 800.0], dtype=torch.float64)
    for losses, label in ((positive_losses(logits), torch.ones(5)), (negative_losses(logits), torch.zeros(5))):
        torch.testing.assert_close(losses, binary_cross_entropy_with_logits(logits, label.double(), reduction="none"))
        assert bool(losses.isfinite().all())


@pytest.mark.parametrize("name", LOSSES.classes)
def test_shares_add_up_to_the_union(name: str) -> None:
    loss, draw = LOSSES.named(name)(), torch.Generator().manual_seed(1)
    positive, negative, weights = (torch.randn(size, generator=draw).double() for size in ((5,), (5, 3), (5, 3)))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    weights = weights.exp() * mask
    counts = Counts.of(mask, GROUP)
    assert [int(count) for count in vars(counts).values()] == [5, 7, 4]
    whole = loss.share(positive, negative, weights, counts)
    parts = [
        loss.share(positive[part], negative[part], weights[part], counts)
        for part in (slice(0, 0), slice(0, 2), slice(2, 5))
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


@pytest.mark.parametrize("name", LOSSES.classes)
def test_losses_are_differentiated_twice(name: str) -> None:
    loss, draw = LOSSES.named(name)(), torch.Generator().manual_seed(2)
    values = [torch.randn(size, generator=draw).double() for size in ((3,), (3, 2), (3, 2))]
    mask = torch.tensor([[1, 1], [1, 0], [0, 0]], dtype=torch.bool)
    counts = Counts.of(mask, GROUP)

    def share(positive: Tensor, negative: Tensor, weights: Tensor) -> Tensor:
        return loss.share(positive, negative, weights.exp() * mask, counts)

    leaves = [value.requires_grad_() for value in values]
    assert torch.autograd.gradcheck(share, leaves)
    assert torch.autograd.gradgradcheck(share, leaves)
    assert bool(torch.stack([grad.isfinite().all() for grad in torch.autograd.grad(share(*leaves), leaves)]).all())


def test_losses_by_hand() -> None:
    positive, negative = torch.tensor([0.0, 2.0]), torch.tensor([[0.0, 1.0], [1.5, 0.0]])
    weights, mask = torch.tensor([[0.5, 1.5], [1.0, 0.0]]), torch.tensor([[True, True], [True, False]])
    counts, e = Counts.of(mask, GROUP), math.exp
    rows = [(0.0, [(0.0, 0.5), (1.0, 1.5)]), (2.0, [(1.5, 1.0)])]
    expected = {
        "BinaryCrossEntropy": sum(
            math.log1p(e(-p)) / 4 + sum(w * math.log1p(e(q)) for q, w in others) / 6 for p, others in rows
        ),
        "SoftmaxCrossEntropy": -sum(math.log(e(p) / (e(p) + sum(w * e(q) for q, w in others))) for p, others in rows)
        / 2,
        "BayesianPersonalizedRanking": sum(w * math.log1p(e(q - p)) for p, others in rows for q, w in others) / 3,
        "MarginLoss": sum(w * max(0.0, 1 - p + q) for p, others in rows for q, w in others) / 3,
    }
    assert expected.keys() == LOSSES.classes.keys()
    for name, value in expected.items():
        assert float(LOSSES.named(name)().share(positive, negative, weights, counts)) == pytest.approx(value)


@given(
    scores=st.lists(st.floats(-50, 50), min_size=1, max_size=8),
    legal=st.lists(st.booleans(), min_size=8, max_size=8),
    shift=st.floats(-1e4, 1e4),
)
def test_weights(scores: list[float], legal: list[bool], shift: float) -> None:
    values, mask = torch.tensor(scores, dtype=torch.float64), torch.tensor(legal[: len(scores)])
    count = mask.sum().double().clamp(min=1)
    weights = negative_weights(values, mask, count, GROUP)
    assert bool((weights >= 0).all())
    assert bool((weights[~mask] == 0).all())
    assert float(weights.sum()) == pytest.approx(float(mask.sum()))  # mean 1; nothing where nothing is legal
    torch.testing.assert_close(weights[mask], count * values[mask].softmax(0))
    torch.testing.assert_close(negative_weights(values + shift, mask, count, GROUP), weights, rtol=1e-6, atol=1e-9)


def test_weights_are_differentiated_through_the_normaliser() -> None:
    scores = torch.randn(6, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([True, True, False, True, True, False])
    count = torch.tensor(4.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: negative_weights(s, mask, count, GROUP), scores)
    assert torch.autograd.gradgradcheck(lambda s: negative_weights(s, mask, count, GROUP), scores)


def test_no_negative_at_all_gives_no_nan() -> None:
    scores = torch.randn(3, requires_grad=True)
    weights = negative_weights(scores, torch.zeros(3, dtype=torch.bool), torch.tensor(1.0), GROUP)
    assert weights.tolist() == [0, 0, 0]
    (grad,) = torch.autograd.grad(weights.sum(), scores)
    assert grad.tolist() == [0, 0, 0]


def test_large_scores_do_not_overflow() -> None:
    weights = negative_weights(torch.tensor([1e4, 0.0]), torch.tensor([True, True]), torch.tensor(2.0), GROUP)
    assert weights.tolist() == [2, 0]
