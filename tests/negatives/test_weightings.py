"""Every weighting keeps the contract; self-adversarial weights are a softmax by row."""

from __future__ import annotations

import math

import pytest
import torch

from mebns_pl import EqualWeighting, FunctionWeighting, SelfAdversarialWeighting
from mebns_pl.errors import DataError
from mebns_pl.negatives.weightings.abstract import WEIGHTINGS
from references import negatives as reference
from references.negatives import members

WAYS = {
    SelfAdversarialWeighting: [SelfAdversarialWeighting, lambda: SelfAdversarialWeighting(0.5)],
    FunctionWeighting: [lambda: FunctionWeighting(lambda logits, _: logits.exp())],
}
EACH = members(WEIGHTINGS, WAYS)
MASK = torch.rand(30, 6, generator=torch.Generator().manual_seed(0)) < 0.5
MASK[3], MASK[4] = False, True
LOGITS = 3 * torch.randn(30, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("build", EACH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contract(build, dtype) -> None:
    logits, before = LOGITS.to(dtype), torch.get_rng_state()
    weights = build().weights(logits, MASK)
    assert torch.equal(torch.get_rng_state(), before)
    assert weights.shape == MASK.shape
    assert weights.dtype == dtype
    assert bool((weights >= 0).all())
    assert bool((weights[~MASK] == 0).all())
    torch.testing.assert_close(weights.sum(1), MASK.sum(1).to(dtype))  # mean 1; a row without negatives is all 0
    masked = build().weights(logits.masked_fill(~MASK, 99.0), MASK)
    torch.testing.assert_close(masked, weights)
    torch.testing.assert_close(build().weights(logits[5:9], MASK[5:9]), weights[5:9])  # rows do not meet
    assert build().weights(logits[:0], MASK[:0]).shape == (0, 6)


def test_equal_is_one() -> None:
    assert torch.equal(EqualWeighting().weights(LOGITS, MASK), MASK.float())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_self_adversarial_is_the_softmax_of_the_row(temperature: float) -> None:
    weights = SelfAdversarialWeighting(temperature).weights(LOGITS.double(), MASK)
    for row, logits, mask in zip(weights.tolist(), LOGITS.double().tolist(), MASK.tolist(), strict=True):
        if any(mask):
            expected = [sum(mask) * share for share in reference.softmax(logits, mask, temperature)]
            assert row == pytest.approx(expected, rel=1e-9)


def test_large_logits_are_no_trouble() -> None:
    weights = SelfAdversarialWeighting().weights(torch.tensor([[1e30, 0.0], [-1e30, -1e30]]), torch.ones(2, 2) > 0)
    assert weights.tolist() == [[2.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature: expected a number above 0, got"):
        SelfAdversarialWeighting(temperature)


def test_a_function_of_ones_own_is_brought_to_mean_one() -> None:
    weights = FunctionWeighting(lambda logits, _: logits.double().exp()).weights(LOGITS.double(), MASK)
    torch.testing.assert_close(weights, SelfAdversarialWeighting(1.0).weights(LOGITS.double(), MASK))
    # Below 0 is nothing, and where nothing is given at all, all weigh the same
    logits, both = torch.tensor([[-1.0, 1.0], [-1.0, 0.0]]), torch.ones(2, 2, dtype=torch.bool)
    assert FunctionWeighting(lambda logits, _: logits).weights(logits, both).tolist() == [[0.0, 2.0], [1.0, 1.0]]
    assert FunctionWeighting(lambda logits, _: 0 * logits).weights(LOGITS, MASK).tolist() == MASK.float().tolist()
    with pytest.raises(DataError, match="^weighting: <lambda> gave NoneType; allowed are floating point"):
        FunctionWeighting(lambda *_: None).weights(LOGITS, MASK)
