"""The weight net starts from equal weights and can leave them."""

from __future__ import annotations

import torch

from mebns_pl.mebns.group import SingleProcess
from mebns_pl.mebns.losses import negative_weights
from mebns_pl.models import WeightNet


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
    net, features = WeightNet(num_features=3, hidden_channels=5), torch.randn(7, 3)
    torch.nn.init.normal_(net.last.weight)
    scores = net(features)
    assert scores.shape == (7,)
    torch.testing.assert_close(net(features[2:3])[0], scores[2])
    hidden = (features @ net.hidden.weight.t() + net.hidden.bias).clamp(min=0)
    torch.testing.assert_close(scores, (hidden @ net.last.weight.t())[:, 0] + net.last.bias)
    assert net(features[:0]).shape == (0,)
