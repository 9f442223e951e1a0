"""Every proposal keeps the contract; each one's distribution is checked against its closed form."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from mebns_pl import (
    AbstractStaticProposal,
    DegreeProposal,
    FunctionProposal,
    KHopProposal,
    MixtureProposal,
    ProximityProposal,
    UniformProposal,
    WalkProposal,
)
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.graph.measures.neighbors import CommonNeighbors
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import PROPOSALS
from references import negatives as reference
from references.negatives import GRAPHS, MIXED, Edges, members


def any_node(graph: Graph, anchors: Tensor, num_candidates: int, generator: torch.Generator) -> Tensor:
    return torch.randint(graph.num_nodes, (len(anchors), num_candidates), generator=generator)


WAYS: dict[type, list[Callable[[], AbstractStaticProposal]]] = {
    DegreeProposal: [DegreeProposal, lambda: DegreeProposal(power=0.0), lambda: DegreeProposal(power=3.0)],
    ProximityProposal: [
        lambda: ProximityProposal(CommonNeighbors()),
        lambda: ProximityProposal(CommonNeighbors(), top=2, power=1.5, skip=1),
    ],
    FunctionProposal: [lambda: FunctionProposal(any_node)],
    KHopProposal: [KHopProposal, lambda: KHopProposal(hops=4)],
    WalkProposal: [WalkProposal, lambda: WalkProposal(length=5)],
    MixtureProposal: [
        lambda: MixtureProposal(
            [UniformProposal(), DegreeProposal(), ProximityProposal(CommonNeighbors())], weights=[0.2, 0.3, 0.5]
        )
    ],
}
EACH = members(PROPOSALS, WAYS, AbstractStaticProposal)
KEY = Key(0, "tests/proposals")


def set_up(proposal: AbstractStaticProposal, edges: Edges, num_nodes: int) -> KnownEdges:
    graph = Graph.from_edges(torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t(), num_nodes)
    known = KnownEdges(graph)
    proposal.setup(graph, known)
    return known


def check_draws(drawn: Tensor, anchors: Tensor, num_candidates: int, edges: Edges, num_nodes: int) -> None:
    """Shape, type, range, and no known edge where that can be helped."""
    assert drawn.shape == (len(anchors), num_candidates)
    assert drawn.dtype == torch.int64
    assert drawn.device.type == "cpu"
    for anchor, row in zip(anchors.tolist(), drawn.tolist(), strict=True):
        legal = reference.legal_nodes(edges, num_nodes, anchor) or range(num_nodes)
        assert set(row) <= set(legal)


@pytest.mark.parametrize("build", EACH)
@pytest.mark.parametrize(("edges", "num_nodes"), GRAPHS.values(), ids=GRAPHS.keys())
@pytest.mark.parametrize("num_candidates", [1, 40])
def test_contract(build, edges, num_nodes, num_candidates):
    proposal = build()
    before = torch.get_rng_state()
    set_up(proposal, edges, num_nodes)
    anchors = torch.arange(num_nodes).repeat(3)
    drawn = proposal.propose(anchors, num_candidates, KEY)
    assert torch.equal(torch.get_rng_state(), before)
    check_draws(drawn, anchors, num_candidates, edges, num_nodes)
    assert torch.equal(proposal.propose(anchors, num_candidates, KEY), drawn)
    assert torch.equal(anchors, torch.arange(num_nodes).repeat(3))
    set_up(proposal, edges, num_nodes)
    assert torch.equal(proposal.propose(anchors, num_candidates, KEY), drawn)


def held_arrays(value):
    """Every numpy array that an object keeps, at any depth of tuples, lists and the package's own objects."""
    if isinstance(value, np.ndarray):
        return [value]
    parts = value if isinstance(value, (tuple, list)) else []
    if type(value).__module__.startswith("mebns_pl"):
        parts = vars(value).values()
    return [array for part in parts for array in held_arrays(part)]


@pytest.mark.parametrize("build", EACH)
def test_no_array_hangs_on_a_tensor(build):
    """Spawned loader workers move tensors into shared memory; an array on top of one would read what is freed."""
    proposal = build()
    set_up(proposal, *next(iter(GRAPHS.values())))
    assert not held_arrays(proposal)


@pytest.mark.parametrize("build", EACH)
def test_another_key_draws_anew(build):
    proposal = build()
    set_up(proposal, MIXED, 11)
    anchors = torch.arange(11)
    drawn = proposal.propose(anchors, 20, KEY)
    for other in (KEY._replace(seed=1), KEY.child("other"), KEY.at(1), KEY.at(0, 1)):
        assert not torch.equal(proposal.propose(anchors, 20, other), drawn)


@pytest.mark.parametrize("build", EACH)
def test_no_anchor_has_no_candidates(build):
    proposal = build()
    set_up(proposal, MIXED, 11)
    assert proposal.propose(torch.empty(0, dtype=torch.int64), 4, KEY).shape == (0, 4)


@pytest.mark.parametrize("build", EACH)
def test_setup_forgets_the_graph_before(build):
    used, fresh = build(), build()
    set_up(used, GRAPHS["star"][0], 8)
    set_up(used, MIXED, 11)
    set_up(fresh, MIXED, 11)
    assert torch.equal(used.propose(torch.arange(11), 9, KEY), fresh.propose(torch.arange(11), 9, KEY))


@pytest.mark.parametrize("build", EACH)
def test_a_draw_before_setup_is_refused(build):
    with pytest.raises(RuntimeError, match=r"call setup\(graph, known\)"):
        build().propose(torch.arange(2), 2, KEY)


@pytest.mark.parametrize("build", EACH)
@given(data=st.data())
def test_draws_are_legal_on_any_graph(build, data):
    num_nodes = data.draw(st.integers(1, 9))
    pairs = [(a, b) for a in range(num_nodes) for b in range(a + 1, num_nodes)]
    edges = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    proposal = build()
    set_up(proposal, edges, num_nodes)
    anchors = torch.arange(num_nodes)
    check_draws(proposal.propose(anchors, 7, KEY), anchors, 7, edges, num_nodes)


def check_distribution(
    proposal: AbstractStaticProposal, anchor: int, expected: list[float], draws: int = 20_000
) -> None:
    """Draws agree with ``expected`` by a chi-square test, and what has no probability is never drawn."""
    drawn = proposal.propose(torch.full((draws // 20,), anchor), 20, KEY)
    counts = torch.bincount(drawn.flatten(), minlength=len(expected)).tolist()
    possible = [node for node, probability in enumerate(expected) if probability > 0]
    assert sum(counts[node] for node in possible) == draws
    assert sum(expected) == pytest.approx(1, abs=1e-12)
    if len(possible) > 1:
        result = chisquare([counts[node] for node in possible], [draws * expected[node] for node in possible])
        assert result.pvalue > 1e-3


@pytest.mark.parametrize("anchor", [0, 2, 4, 9])
def test_uniform_is_uniform_over_legal_nodes(anchor):
    proposal = UniformProposal()
    set_up(proposal, MIXED, 11)
    check_distribution(proposal, anchor, reference.uniform(MIXED, 11, anchor))


@pytest.mark.parametrize("anchor", [0, 4, 9])
@pytest.mark.parametrize("power", [0.75, 0.0, 2.0])
def test_degree_follows_the_power_of_the_degree(anchor, power):
    proposal = DegreeProposal(power)
    set_up(proposal, MIXED, 11)
    check_distribution(proposal, anchor, reference.degree(MIXED, 11, anchor, power, draws=9))


def test_degree_bounded_redraws_end_in_uniform_draws():
    # All but one of the nodes with edges are linked to node 0, so that most redraws hit a known edge again.
    edges = [(0, leaf) for leaf in range(1, 20)] + [(19, 20)]
    proposal = DegreeProposal(1.0)
    set_up(proposal, edges, 24)
    expected = reference.degree(edges, 24, 0, 1.0, draws=9)
    assert expected[20] > 0.4
    assert expected[21] == expected[23] > 0.1
    check_distribution(proposal, 0, expected)


def test_degree_without_any_edge_is_uniform():
    proposal = DegreeProposal()
    set_up(proposal, [], 6)
    check_distribution(proposal, 2, reference.uniform([], 6, 2))


def proximity_distribution(anchor: int, power: float, top: int, skip: int) -> list[float]:
    counts = reference.common_neighbors(DENSE, 12, anchor)
    row = sorted(counts, key=lambda node: -counts[node])[skip : skip + top]
    total = sum(counts[node] ** power for node in row)
    return [counts[node] ** power / total if node in row else 0.0 for node in range(12)]


# Node 0 has 1, 2, ..., 5 as neighbours and shares one with 6, two with 7, ..., five with 10, none with 11.
DENSE: Edges = [(0, hub) for hub in range(1, 6)]
DENSE += [(hub, 5 + size) for size in range(1, 6) for hub in range(1, size + 1)]


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(("top", "skip"), [(50, 0), (3, 0), (2, 1), (50, 3)])
def test_proximity_follows_the_power_of_the_score(power, top, skip):
    proposal = ProximityProposal(CommonNeighbors(), top=top, power=power, skip=skip)
    set_up(proposal, DENSE, 12)
    check_distribution(proposal, 0, proximity_distribution(0, power, top, skip))


@pytest.mark.parametrize(("anchor", "skip"), [(11, 0), (0, 5), (0, 500)])
def test_proximity_with_an_empty_row_is_uniform(anchor, skip):
    proposal = ProximityProposal(CommonNeighbors(), skip=skip)
    set_up(proposal, DENSE, 12)
    check_distribution(proposal, anchor, reference.uniform(DENSE, 12, anchor))


def test_proximity_heeds_known_edges_that_are_not_in_the_graph():
    graph = Graph.from_edges(torch.tensor(DENSE).t(), 12)
    known = KnownEdges(Graph.from_edges(torch.tensor([*DENSE, (0, 10)]).t(), 12))
    proposal = ProximityProposal(CommonNeighbors(), top=3)
    proposal.setup(graph, known)
    assert set(proposal.propose(torch.zeros(1, dtype=torch.int64), 100, KEY).flatten().tolist()) == {8, 9}


def test_proximity_has_no_room_for_neighbours():
    # Nodes 0 to 4 all know each other and node 5 knows 3 and 4: neighbours share more with node 0 than node 5 does.
    edges = [(a, b) for a in range(5) for b in range(a + 1, 5)] + [(3, 5), (4, 5)]
    proposal = ProximityProposal(CommonNeighbors(), top=1)
    set_up(proposal, edges, 8)
    assert set(proposal.propose(torch.zeros(1, dtype=torch.int64), 50, KEY).flatten().tolist()) == {5}


@pytest.mark.parametrize(("anchor", "hops"), [(0, 2), (0, 3), (3, 2), (3, 3), (8, 2), (8, 9), (9, 2), (4, 2)])
def test_khop_is_uniform_over_the_legal_neighbourhood(anchor, hops):
    proposal = KHopProposal(hops)
    set_up(proposal, MIXED, 11)
    check_distribution(proposal, anchor, reference.khop(MIXED, 11, anchor, hops))


def test_khop_heeds_known_edges_that_are_not_in_the_graph():
    proposal = KHopProposal(hops=3)
    graph = Graph.from_edges(torch.tensor(MIXED).t(), 11)
    proposal.setup(graph, KnownEdges(Graph.from_edges(torch.tensor([*MIXED, (0, 4)]).t(), 11)))
    assert set(proposal.propose(torch.zeros(1, dtype=torch.int64), 100, KEY).flatten().tolist()) == {3}


@pytest.mark.parametrize(("anchor", "length"), [(0, 2), (0, 3), (4, 2), (7, 4), (9, 3)])
def test_walks_end_as_powers_of_the_transition_matrix_say(anchor, length):
    proposal = WalkProposal(length)
    set_up(proposal, MIXED, 11)
    check_distribution(proposal, anchor, reference.walk(MIXED, 11, anchor, length, draws=9))


def test_walks_that_seldom_end_at_a_legal_node_end_in_uniform_draws():
    edges = [(0, leaf) for leaf in range(1, 20)] + [(19, 20)]
    proposal = WalkProposal(2)
    set_up(proposal, edges, 24)
    expected = reference.walk(edges, 24, 0, 2, draws=9)
    assert expected[21] > 0.1
    check_distribution(proposal, 0, expected)


@pytest.mark.parametrize("weights", [[0.25, 0.75], [1.0, 0.0], [0.0, 1.0]])
def test_mixture_is_the_weighted_sum(weights):
    proposal = MixtureProposal([UniformProposal(), DegreeProposal(2.0)], weights)
    set_up(proposal, MIXED, 11)
    parts = reference.uniform(MIXED, 11, 0), reference.degree(MIXED, 11, 0, 2.0, draws=9)
    check_distribution(proposal, 0, [weights[0] * a + weights[1] * b for a, b in zip(*parts, strict=True)])


def test_mixture_chooses_cell_by_cell():
    proposal = MixtureProposal([UniformProposal(), UniformProposal()], [0.5, 0.5])
    set_up(proposal, [], 100_000)
    anchors = torch.arange(400)
    drawn = proposal.propose(anchors, 50, KEY)
    from_first = drawn == proposal.proposals[0].propose(anchors, 50, KEY.child(0))
    # Cells of a row, and of a column, are independent: their counts spread like a binomial's, of variance 50 / 4 and
    # 400 / 4.
    assert 10 < from_first.sum(dim=1).double().var().item() < 15
    assert 50 < from_first.sum(dim=0).double().var().item() < 160


@pytest.mark.parametrize("build", EACH)
def test_a_proposal_can_be_sent_to_a_worker(build):
    proposal = build()
    set_up(proposal, MIXED, 11)
    sent = pickle.loads(pickle.dumps(proposal))
    assert torch.equal(sent.propose(torch.arange(11), 5, KEY), proposal.propose(torch.arange(11), 5, KEY))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DegreeProposal(power=-1.0), "power: expected a number in [0, inf), got -1.0"),
        (lambda: DegreeProposal(power=float("nan")), "power: expected a number in [0, inf), got nan"),
        (lambda: ProximityProposal(CommonNeighbors(), top=0), "top: expected 1 or more, got 0"),
        (lambda: ProximityProposal(CommonNeighbors(), power=-0.5), "power: expected a number in [0, inf), got -0.5"),
        (lambda: ProximityProposal(CommonNeighbors(), skip=-1), "skip: expected 0 or more, got -1"),
        (lambda: KHopProposal(hops=1), "hops: expected 2 or more, got 1"),
        (lambda: WalkProposal(length=1), "length: expected 2 or more, got 1"),
        (lambda: MixtureProposal([], []), "proposals: expected one or more, got []"),
        (
            lambda: MixtureProposal([UniformProposal()], [0.5, 0.5]),
            "weights: expected one for each of the 1 proposals, got [0.5, 0.5]",
        ),
        (
            lambda: MixtureProposal([UniformProposal()], [0.9]),
            "weights: expected probabilities, none negative and of sum 1, got [0.9]",
        ),
        (
            lambda: MixtureProposal([UniformProposal()] * 2, [1.5, -0.5]),
            "weights: expected probabilities, none negative and of sum 1, got",
        ),
        (lambda: MixtureProposal([UniformProposal()] * 2, [float("nan"), 1.0]), "weights: expected probabilities"),
    ],
)
def test_wrong_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        build()
