"""The losses against torch's own, and what the weights promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.losses import negative_losses, positive_losses
from mebns_pl.mebns.step import balanced_loss, negative_weights

GROUP = SingleProcess()


def test_elementwise_losses_are_cross_entropies() -> None:
    logits = torch.tensor([-800.0, -3.0, 0.0, 2.0, 800.0], dtype=torch.float64)
    for losses, label in ((positive_losses(logits), torch.ones(5)), (negative_losses(logits), torch.zeros(5))):
        torch.testing.assert_close(losses, binary_cross_entropy_with_logits(logits, label.double(), reduction="none"))
        assert bool(losses.isfinite().all())


def test_balanced_loss_is_half_and_half() -> None:
    positive, negative = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0, 100.0])
    weights = torch.tensor([1.5, 0.5, 0.0])
    loss = balanced_loss(positive, negative, weights, torch.tensor(2.0), torch.tensor(2.0))
    assert float(loss) == pytest.approx(0.5 * 2.0 + 0.5 * (1.5 * 2 + 0.5 * 4) / 2)


def test_shares_add_up_to_the_union() -> None:
    positive, negative, weights = torch.rand(5), torch.rand(7), torch.rand(7)
    counts = torch.tensor(5.0), torch.tensor(7.0)
    whole = balanced_loss(positive, negative, weights, *counts)
    parts = [
        balanced_loss(positive[p], negative[n], weights[n], *counts)
        for p, n in ((slice(0, 0), slice(0, 3)), (slice(0, 5), slice(3, 7)))
    ]
    torch.testing.assert_close(sum(parts), whole)


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
