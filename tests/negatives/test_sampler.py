"""A sampler is one concept: what draws, where and for whom; its families are what lies in their folders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import mebns_pl
from mebns_pl import (
    AbstractProposal,
    AbstractStaticProposal,
    CacheProposal,
    CommonNeighbors,
    DegreeProposal,
    EqualWeighting,
    FirstSelector,
    FunctionProposal,
    GeneratorProposal,
    Graph,
    HardestSelector,
    Key,
    KnownEdges,
    MixtureProposal,
    ProximityProposal,
    Sampler,
    SelfAdversarialWeighting,
    UniformPairProposal,
    UniformProposal,
)
from mebns_pl.families import Family
from mebns_pl.negatives.candidates import drawn_ahead, drawn_in_step
from mebns_pl.negatives.proposals.abstract import PROPOSALS
from mebns_pl.negatives.selectors.abstract import SELECTORS
from mebns_pl.negatives.weightings.abstract import WEIGHTINGS
from references.negatives import GRAPHS, MIXED, Edges, members
from references.runs import make_data, make_plain


def any_node(graph: Graph, anchors: torch.Tensor, num_candidates: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(graph.num_nodes, (len(anchors), num_candidates), generator=generator)


WAYS = {
    FunctionProposal: [lambda: FunctionProposal(any_node)],
    MixtureProposal: [lambda: MixtureProposal([UniformPairProposal(), DegreeProposal()], [0.5, 0.5])],
    ProximityProposal: [lambda: ProximityProposal(CommonNeighbors())],
}
STATIC = members(PROPOSALS, WAYS, AbstractStaticProposal)
KEY = Key(0, "tests/sampler")


def made(edges: Edges = MIXED, num_nodes: int = 11) -> tuple[Graph, KnownEdges]:
    graph = Graph.from_edges(torch.tensor(edges).t(), num_nodes)
    return graph, KnownEdges(graph)


# --- the concept ----------------------------------------------------------------------------------------------------


def test_the_default_is_random_negative_sampling() -> None:
    sampler = Sampler()
    assert [type(part) for part in (sampler.proposal, sampler.selector, sampler.weighting)] == [
        UniformProposal,
        FirstSelector,
        EqualWeighting,
    ]
    assert sampler.num_candidates == 8
    assert sampler.adaptive is None
    assert sampler.static is sampler.proposal


def test_parts_are_those_given() -> None:
    parts = DegreeProposal(), HardestSelector(2), SelfAdversarialWeighting()
    sampler = Sampler(parts[0], 5, *parts[1:])
    assert (sampler.proposal, sampler.selector, sampler.weighting) == parts
    assert (sampler.static, sampler.adaptive, sampler.num_candidates) == (parts[0], None, 5)


def test_beside_an_adaptive_proposal_the_static_one_is_uniform() -> None:
    proposal = CacheProposal()
    sampler = Sampler(proposal)
    assert sampler.proposal is sampler.adaptive is proposal
    assert type(sampler.static) is UniformProposal


@pytest.mark.parametrize("number", [0, -1])
def test_less_than_one_candidate_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"^num_candidates: expected 1 or more, got {number}$"):
        Sampler(num_candidates=number)


def test_a_proposal_of_neither_kind_is_refused() -> None:
    class Homeless(AbstractProposal):
        def propose(self, anchors: Tensor) -> Tensor:
            return anchors

    expected = "^proposal: expected an AbstractStaticProposal or an AbstractAdaptiveProposal, got "
    for wrong in (Homeless(), HardestSelector(), "UniformProposal"):
        with pytest.raises(TypeError, match=f"{expected}{type(wrong).__name__}$"):
            Sampler(wrong)


def test_the_root_of_proposals_cannot_be_built() -> None:
    with pytest.raises(TypeError, match="abstract"):
        AbstractProposal()


# --- static: ahead, for the whole union batch -----------------------------------------------------------------------


@pytest.mark.parametrize("build", STATIC)
@pytest.mark.parametrize("cuts", [(0, 13, 40), (0, 0, 40), (0, 5, 20, 40)])
def test_draws_do_not_depend_on_the_number_of_ranks(build, cuts) -> None:
    graph, known = made()
    sampler = Sampler(build(), num_candidates=6)
    sampler.static.setup(graph, known)
    anchors = torch.arange(40) * 7 % 11
    whole = drawn_ahead(sampler, anchors, known, KEY, slice(0, 40))
    assert whole.nodes.shape == whole.mask.shape == (40, 6)
    opposite = anchors if whole.anchors is None else whole.anchors
    assert torch.equal(whole.mask, ~known.mask(opposite[:, None], whole.nodes))
    for start, stop in pairwise(cuts):
        part = slice(start, stop)
        for own, all_of_them in zip(drawn_ahead(sampler, anchors, known, KEY, part), whole, strict=True):
            assert own is all_of_them is None or torch.equal(own, all_of_them[part])


def test_only_proposals_of_pairs_draw_anchors() -> None:
    graph, known = made()
    anchors = torch.zeros(200, dtype=torch.int64)
    for proposal in (UniformProposal(), UniformPairProposal()):
        proposal.setup(graph, known)
        drawn = drawn_ahead(Sampler(proposal), anchors, known, KEY, slice(0, 200)).anchors
        assert (drawn is None) == (type(proposal) is UniformProposal)
    assert len(drawn.unique()) == 11


def test_what_cannot_be_avoided_is_masked() -> None:
    graph, known = made(*GRAPHS["complete but for one edge"])
    sampler = Sampler(num_candidates=3)
    sampler.static.setup(graph, known)
    drawn = drawn_ahead(sampler, torch.tensor([0, 2]), known, KEY, slice(0, 2))
    assert drawn.mask.tolist() == [[False] * 3, [True] * 3]
    assert drawn.nodes[1].tolist() == [4] * 3


@pytest.mark.parametrize("build", STATIC)
def test_setup_is_done_once_for_the_same_edges(build, monkeypatch: pytest.MonkeyPatch) -> None:
    proposal, (graph, known) = build(), made()
    prepared, prepare = [], proposal.prepare
    monkeypatch.setattr(proposal, "prepare", lambda graph: (prepared.append(graph), prepare(graph)))
    for _ in range(3):
        proposal.setup(graph, known)
    assert prepared == [graph]
    assert proposal.known is known
    other, other_known = made(GRAPHS["star"][0], 8)
    proposal.setup(other, other_known)
    proposal.setup(graph, known)
    assert prepared == [graph, other, graph]


def test_a_setup_that_failed_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    proposal, (graph, known) = DegreeProposal(), made()

    def fail(graph: Graph) -> None:
        raise ValueError("graph: it is not as it should be")

    with monkeypatch.context() as patch:
        patch.setattr(proposal, "prepare", fail)
        for _ in range(2):
            with pytest.raises(ValueError, match="not as it should be"):
                proposal.setup(graph, known)
    proposal.setup(graph, known)
    assert proposal.propose(torch.arange(3), 2, KEY).shape == (3, 2)


# --- adaptive: in the step ------------------------------------------------------------------------------------------


def test_loaders_draw_nothing_for_an_adaptive_proposal() -> None:
    _, known = made()
    sampler = Sampler(CacheProposal(), num_candidates=6)  # nothing is set up: a draw would be refused
    drawn = drawn_ahead(sampler, torch.arange(11), known, KEY, slice(3, 7))
    assert drawn.anchors is None
    assert drawn.nodes.shape == drawn.mask.shape == (4, 0)
    assert drawn.mask.dtype == torch.bool


def test_batches_of_an_adaptive_proposal_are_without_candidates() -> None:
    data = make_data()
    steps = data.train_steps(make_plain(data.spec, proposal=CacheProposal()).needs)
    assert steps[0, 0].candidates.shape == steps[0, 0].candidate_mask.shape == (25, 0)
    assert data.train_steps(make_plain(data.spec).needs)[0, 0].candidates.shape == (25, 5)


def test_candidates_in_the_step_are_the_proposals_own() -> None:
    graph, known = made()
    proposal = CacheProposal(size=3)
    proposal.build(graph.spec)
    proposal.start(graph, known, KEY.child("start"))
    proposal.cache[0] = torch.tensor([1, 5, 0])  # a known edge, a legal node and the anchor itself
    anchors, rows = torch.tensor([0, 9]), torch.tensor([4, 5])
    drawn = drawn_in_step(proposal, anchors, rows, 20, lambda nodes: nodes.float(), KEY)
    assert torch.equal(drawn.anchors, anchors)
    assert torch.equal(drawn.nodes, proposal.propose(anchors, rows, 20, lambda nodes: nodes.float(), KEY))
    assert torch.equal(drawn.mask[0], drawn.nodes[0] == 5)
    assert bool(drawn.mask[1].all())


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_generator_on_two_threads_learns_the_same_every_time(two_threads: None) -> None:
    """Many rows meet in few embeddings, in sums that are large enough to be parted among threads."""
    graph, known = made()
    anchors = torch.arange(600) % 11
    tables = []
    for _ in range(8):
        proposal = GeneratorProposal(channels=16)
        torch.manual_seed(1)
        proposal.build(graph.spec)
        proposal.start(graph, known, KEY.child("start"))
        for number in range(3):
            key = KEY.at(0, number)
            drawn = drawn_in_step(proposal, anchors, torch.arange(600), 8, torch.sin, key)
            proposal.update(anchors, torch.arange(600), drawn.nodes, torch.sin, lambda value: value, key)
        tables.append(proposal.table.detach())
    assert all(torch.equal(table, tables[0]) for table in tables)


# --- the families ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [PROPOSALS, SELECTORS, WEIGHTINGS], ids=lambda family: family.base.__name__)
def test_families_are_what_is_public(family: Family) -> None:
    public = {name: getattr(mebns_pl, name) for name in mebns_pl.__all__ if not name.startswith("Abstract")}
    below = {name for name, item in public.items() if isinstance(item, type) and issubclass(item, family.base)}
    assert set(family.classes) == below
    assert all(rule.endswith((".", ":")) for rule in family.rules.values())
