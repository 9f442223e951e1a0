"""The weight net starts from the starting weights and can leave them; its inputs against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mebns_pl import Graph, WeightNet
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.step import negative_weights
from mebns_pl.mebns.weight_inputs import INPUTS, Facts, standardised


def weights_of(net: WeightNet, outputs: Tensor, mask: Tensor) -> Tensor:
    count, group = mask.sum(), SingleProcess()
    return negative_weights(net.bounded(outputs, mask, count, group), mask, count, group)


def test_starts_from_equal_weights_and_moves() -> None:
    torch.manual_seed(0)
    net = WeightNet()
    features = torch.randn(6, len(net.inputs))
    mask = torch.tensor([True] * 5 + [False])
    weights = weights_of(net, net(features), mask)
    assert weights.tolist() == [1, 1, 1, 1, 1, 0]
    grads = torch.autograd.grad(weights[0], list(net.parameters()), materialize_grads=True)
    moved = [param + grad for param, grad in zip(net.parameters(), grads, strict=True)]
    named = dict(zip(dict(net.named_parameters()), moved, strict=True))
    after = weights_of(net, torch.func.functional_call(net, named, (features,)), mask)
    assert after[0] > 1.01


def test_outputs_row_by_row() -> None:
    net, features = WeightNet(["gap", "rank"], hidden_channels=5), torch.randn(7, 2)
    torch.nn.init.normal_(net.last.weight)
    outputs = net(features)
    assert outputs.shape == (7,)
    torch.testing.assert_close(net(features[2:3])[0], outputs[2])
    compressed = torch.where(features < 0, -(1 - features).log(), (1 + features).log())
    hidden = (compressed @ net.hidden.weight.t() + net.hidden.bias).clamp(min=0)
    torch.testing.assert_close(outputs, (hidden @ net.last.weight.t())[:, 0])
    assert net(features[:0]).shape == (0,)


def test_scores_are_bounded() -> None:
    net = WeightNet(["loss"], max_score=2.0)
    torch.nn.init.normal_(net.last.weight, std=100.0)
    scores = net.bounded(net(1e6 * torch.randn(50, 1)), *all_of(50)).detach()
    assert scores.abs().max() <= 2
    assert scores.abs().max() > 1.9


def test_scores_are_centered_where_there_are_negatives() -> None:
    net, outputs = WeightNet(["loss"], max_score=0.5), torch.tensor([0.0, 0.1, 0.5, 100.0])
    mask = torch.tensor([True, True, True, False])
    scores = net.bounded(outputs, mask, mask.sum(), SingleProcess())
    torch.testing.assert_close(scores[:3], 0.5 * torch.tanh(2 * torch.tensor([-0.2, -0.1, 0.3])))
    nothing = net.bounded(outputs, torch.zeros(4, dtype=torch.bool), torch.tensor(1), SingleProcess())
    assert nothing.isfinite().all()


def test_what_lifts_all_scores_alike_moves_no_weight_and_has_no_gradient() -> None:
    # Bounded before they were centered, all of them could drift to the same end, where the weights are equal for good
    net, shift = WeightNet(["loss"], max_score=0.3), torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    outputs = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(20, dtype=torch.bool)
    torch.testing.assert_close(weights_of(net, outputs + 50, mask), weights_of(net, outputs, mask))
    (slope,) = torch.autograd.grad(weights_of(net, outputs + shift, mask)[0], shift)
    assert slope.abs() < 1e-12


def all_of(count: int) -> tuple[Tensor, Tensor, SingleProcess]:
    return torch.ones(count, dtype=torch.bool), torch.tensor(count), SingleProcess()


@pytest.mark.parametrize("max_score", [0.0, -1.0, float("nan")])
def test_refuses(max_score: float) -> None:
    with pytest.raises(ValueError, match="max_score"):
        WeightNet(max_score=max_score)


@pytest.mark.parametrize("inputs", [[], ["loss", "degree"]])
def test_other_inputs_are_refused(inputs: list[str]) -> None:
    with pytest.raises(ValueError, match="inputs: got .*; allowed are one or more of loss, hardness"):
        WeightNet(inputs=inputs)


EDGES = torch.tensor([[0, 0, 1, 2, 3], [1, 2, 2, 3, 4]])
PAIRS = torch.tensor([[0, 0, 0, 4, 4, 4], [3, 4, 5, 2, 0, 1]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


def facts() -> Facts:
    draw = torch.Generator().manual_seed(3)
    losses, logits, hardness = torch.randn(3, 2, 3, generator=draw, dtype=torch.float64)
    logits[1, 1] = logits[1, 0]  # a tie
    positives, graph = torch.tensor([0.5, -1.0]).double(), Graph.from_edges(EDGES, 6)
    return Facts(PAIRS, MASK, losses, logits, positives, hardness, graph, lambda pairs: 0.1 * pairs.double().sum(dim=0))


def by_hand(name: str, told: Facts, row: int, column: int) -> float:
    neighbors = [{*EDGES[1][EDGES[0] == n].tolist(), *EDGES[0][EDGES[1] == n].tolist()} for n in range(6)]
    anchor, node = PAIRS[:, 3 * row + column].tolist()
    logit, hard = float(told.logits[row, column]), float(told.hardness[row, column])
    others = [other for other in range(3) if MASK[row, other] and other != column]

    def rank(values: torch.Tensor) -> float:
        return sum(float(values[row, other]) > float(values[row, column]) for other in others) / max(len(others), 1)

    return {
        "loss": float(told.losses[row, column]),
        "hardness": hard,
        "rank": rank(told.logits),
        "hardness_rank": rank(told.hardness),
        "gap": logit - float(told.positives[row]),
        "disagreement": logit - hard,
        "change": logit - 0.1 * (anchor + node),
        "uncertainty": 1 / (1 + math.exp(-logit)) / (1 + math.exp(logit)),
        "log_degree": math.log(1 + len(neighbors[node])),
        "common_neighbors": math.log(1 + len(neighbors[anchor] & neighbors[node])),
    }[name]


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_equal_loops(name: str) -> None:
    told = facts()
    values = INPUTS[name](told)
    assert values.dtype == torch.float64
    for row, column in MASK.nonzero().tolist():
        assert float(values[row, column]) == pytest.approx(by_hand(name, told, row, column), abs=1e-12)


def test_inputs_are_standardised_over_what_is_there() -> None:
    told, names = facts(), ["gap", "log_degree", "loss"]
    found = standardised(names, told, SingleProcess())
    assert found[2].tolist() == [0, 0, 0]  # masked
    there = found[MASK.flatten()]
    torch.testing.assert_close(there.mean(dim=0), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(there.std(dim=0, unbiased=False), torch.ones(3).double())
    gaps = INPUTS["gap"](told)[MASK]
    torch.testing.assert_close(there[:, 0], (gaps - gaps.mean()) / gaps.std(unbiased=False))


def test_what_is_the_same_for_all_tells_nothing() -> None:
    told = facts()
    told = Facts(**{**vars(told), "losses": torch.full((2, 3), 0.1, dtype=torch.float64)})
    assert standardised(["loss"], told, SingleProcess()).tolist() == [[0.0]] * 6
    empty = Facts(**{**vars(told), "mask": torch.zeros(2, 3, dtype=torch.bool)})
    assert standardised(["gap"], empty, SingleProcess()).tolist() == [[0.0]] * 6
