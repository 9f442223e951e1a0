"""The weight net starts from equal weights and can leave them."""

from __future__ import annotations

import pytest
import torch

from mebns_pl import WeightNet
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.step import negative_weights


def test_starts_from_equal_weights_and_moves() -> None:
    torch.manual_seed(0)
    net, features = WeightNet(), torch.randn(6, 2)
    mask, count = torch.tensor([True] * 5 + [False]), torch.tensor(5.0)
    weights = negative_weights(net(features), mask, count, SingleProcess())
    assert weights.tolist() == [1, 1, 1, 1, 1, 0]
    grads = torch.autograd.grad(weights[0], list(net.parameters()), materialize_grads=True)
    moved = [param + grad for param, grad in zip(net.parameters(), grads, strict=True)]
    named = dict(zip(dict(net.named_parameters()), moved, strict=True))
    after = negative_weights(torch.func.functional_call(net, named, (features,)), mask, count, SingleProcess())
    assert after[0] > 1.01


def test_scores_row_by_row() -> None:
    net, features = WeightNet(hidden_channels=5, max_score=0.5), torch.randn(7, 2)
    torch.nn.init.normal_(net.last.weight)
    scores = net(features)
    assert scores.shape == (7,)
    torch.testing.assert_close(net(features[2:3])[0], scores[2])
    compressed = torch.where(features < 0, -(1 - features).log(), (1 + features).log())
    hidden = (compressed @ net.hidden.weight.t() + net.hidden.bias).clamp(min=0)
    expected = (hidden @ net.last.weight.t())[:, 0] + net.last.bias
    torch.testing.assert_close(scores, 0.5 * torch.tanh(2 * expected))
    assert net(features[:0]).shape == (0,)


def test_scores_are_bounded() -> None:
    net = WeightNet(max_score=2.0)
    torch.nn.init.normal_(net.last.weight, std=100.0)
    scores = net(1e6 * torch.randn(50, 2))
    assert scores.detach().abs().max() <= 2
    assert scores.detach().abs().max() > 1.9


@pytest.mark.parametrize("max_score", [0.0, -1.0, float("nan")])
def test_refuses(max_score: float) -> None:
    with pytest.raises(ValueError, match="max_score"):
        WeightNet(max_score=max_score)


def test_it_may_look_at_one_input_alone() -> None:
    net, features = WeightNet(inputs=["hardness"]), torch.randn(6, 2)
    torch.nn.init.normal_(net.last.weight)
    other = features.clone()
    other[:, 0] += 5
    assert torch.equal(net(features), net(other))
    other[:, 1] += 5
    assert not torch.equal(net(features), net(other))


@pytest.mark.parametrize("inputs", [[], ["loss", "degree"]])
def test_other_inputs_are_refused(inputs: list[str]) -> None:
    with pytest.raises(ValueError, match="inputs: expected some of loss, hardness"):
        WeightNet(inputs=inputs)
