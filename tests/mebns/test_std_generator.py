"""Structure is mixed into the sampler's draws at the rate that the STD-Generator asks for."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from mebns_pl import AbstractStaticProposal, StdGenerator
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.mixture import MixtureProposal
from references.runs import make_data, make_mebns

KEY = Key(0, "tests/std")


class ConstantProposal(AbstractStaticProposal):
    """Always the same node."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.setups = 0

    def prepare(self, graph: Graph) -> None:
        self.setups += 1

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        return torch.full((len(anchors), num_candidates), self.node)


def build(ratio: float) -> tuple[MixtureProposal, ConstantProposal, ConstantProposal]:
    structure, base = ConstantProposal(7), ConstantProposal(8)
    return make_data(structure=structure).enhanced(base, ratio), structure, base


@pytest.mark.parametrize(("ratio", "node"), [(0.0, 8), (1.0, 7)])
def test_extreme_ratios_use_one_side_alone(ratio: float, node: int) -> None:
    assert (build(ratio)[0].propose(torch.arange(41), 3, KEY) == node).all()


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_structural_share_is_the_ratio(ratio: float) -> None:
    drawn = build(ratio)[0].propose(torch.zeros(1000, dtype=torch.int64), 4, KEY)
    assert drawn.shape == (1000, 4)
    assert binomtest(int((drawn == 7).sum()), drawn.numel(), ratio).pvalue > 1e-3


def test_the_key_decides() -> None:
    mixture, anchors = build(0.5)[0], torch.arange(9)
    assert torch.equal(mixture.propose(anchors, 4, KEY), mixture.propose(anchors, 4, KEY))
    assert not torch.equal(mixture.propose(anchors, 4, KEY), mixture.propose(anchors, 4, KEY.at(1)))


def test_both_are_set_up_once_however_often_they_are_asked_for() -> None:
    structure, base = ConstantProposal(7), ConstantProposal(8)
    data = make_data(structure=structure)
    needs = make_mebns(data.spec, proposal=base).needs
    for _ in range(2):
        data.train_steps(needs)
        data.probe(20)
    assert (structure.setups, base.setups) == (1, 1)


def test_the_teachers_batches_follow_it() -> None:
    data = make_data(structure=ConstantProposal(7))
    system = make_mebns(data.spec, proposal=ConstantProposal(8), std_generator=StdGenerator(1.0, num_negatives=3))
    batch = data.train_steps(system.needs)[0, 0]
    assert batch.teacher_negatives.shape == (batch.positives.shape[1], 3)
    assert bool((batch.teacher_negatives == 7).all())
    assert bool((batch.candidates == 8).all())


def test_wrong_arguments_are_refused() -> None:
    for ratio in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"structure_ratio: expected a share in \[0, 1\], got"):
            StdGenerator(ratio)
    with pytest.raises(ValueError, match="num_negatives: expected 1 or more, got 0"):
        StdGenerator(num_negatives=0)
