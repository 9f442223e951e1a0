"""The STD-Generator mixes structure into the base proposal at the asked rate."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from mebns_pl import AbstractProposal
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.mebns.std_generator import StdGenerator

KEY = Key(0, "tests/std")


class ConstantProposal(AbstractProposal):
    """Always the same node."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.setups = 0

    def setup(self, graph: Graph, known: KnownEdges) -> None:
        self.setups += 1

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        return torch.full((len(anchors), num_candidates), self.node)


def build(ratio: float, num_negatives: int = 1) -> tuple[StdGenerator, ConstantProposal, ConstantProposal]:
    graph = Graph.from_edges(torch.tensor([[0], [1]]), num_nodes=9)
    structure, base = ConstantProposal(7), ConstantProposal(8)
    generator = StdGenerator(structure, ratio, num_negatives)
    generator.setup(graph, KnownEdges(graph), base)
    return generator, structure, base


@pytest.mark.parametrize(("ratio", "node"), [(0.0, 8), (1.0, 7)])
def test_extreme_ratios_use_one_side_alone(ratio, node):
    assert (build(ratio, 3)[0].generate(torch.arange(50), KEY) == node).all()


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_structural_share_is_the_ratio(ratio):
    drawn = build(ratio, 4)[0].generate(torch.zeros(1000, dtype=torch.int64), KEY)
    assert drawn.shape == (1000, 4)
    assert binomtest(int((drawn == 7).sum()), drawn.numel(), ratio).pvalue > 1e-3


def test_the_key_decides():
    generator = build(0.5, 4)[0]
    anchors = torch.arange(9)
    assert torch.equal(generator.generate(anchors, KEY), generator.generate(anchors, KEY))
    assert not torch.equal(generator.generate(anchors, KEY), generator.generate(anchors, KEY.at(1)))


def test_only_structure_is_set_up():
    _, structure, base = build(0.5)
    assert (structure.setups, base.setups) == (1, 0)


def test_wrong_arguments_are_refused():
    for ratio in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"structure_ratio: must be in \[0, 1\], got"):
            StdGenerator(ConstantProposal(0), ratio)
    with pytest.raises(ValueError, match="num_negatives: must be at least 1, got 0"):
        StdGenerator(ConstantProposal(0), num_negatives=0)
    with pytest.raises(RuntimeError, match="call setup"):
        StdGenerator(ConstantProposal(0)).generate(torch.arange(2), KEY)
