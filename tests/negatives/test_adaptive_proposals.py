"""Every adaptive proposal keeps the contract; each one's distribution is checked against its closed form."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from mebns_pl import AbstractAdaptiveProposal, CacheProposal, ChainProposal, GeneratorProposal
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import PROPOSALS, Score, write_rows
from mebns_pl.types import GraphSpec
from references import negatives as reference
from references.negatives import GRAPHS, MIXED, Edges, members

Build = Callable[[], AbstractAdaptiveProposal]
WAYS: dict[type, list[Build]] = {
    CacheProposal: [CacheProposal, lambda: CacheProposal(size=3, num_new=2)],
    ChainProposal: [ChainProposal, lambda: ChainProposal(num_chains=3, num_steps=3, uniform_share=1.0)],
    GeneratorProposal: [GeneratorProposal, lambda: GeneratorProposal(pool=3, channels=2, lr=0.1)],
}
EACH = members(PROPOSALS, WAYS, AbstractAdaptiveProposal)
KEY = Key(0, "tests/adaptive")


def built(build: Build, spec: GraphSpec) -> AbstractAdaptiveProposal:
    """With its state made, always the same."""
    proposal = build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        proposal.build(spec)
    return proposal


def started(build: Build, edges: Edges, num_nodes: int) -> AbstractAdaptiveProposal:
    graph = Graph.from_edges(torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t(), num_nodes)
    proposal = built(build, graph.spec)
    proposal.start(graph, KnownEdges(graph), KEY.child("start"))
    return proposal


def score_of(anchors: Tensor) -> Score:
    """A fixed logit for every pair."""
    return lambda nodes: torch.sin(7.0 * anchors[:, None] + 3.0 * nodes)


def alone(value: Tensor) -> Tensor:
    return value


def step(proposal: AbstractAdaptiveProposal, anchors: Tensor, key: Key, num_candidates: int = 4) -> Tensor:
    rows, score = torch.arange(len(anchors)), score_of(anchors)
    candidates = proposal.propose(anchors, rows, num_candidates, score, key)
    with torch.no_grad():
        proposal.update(anchors, rows, candidates, score, alone, key)
    return candidates


def state(proposal: AbstractAdaptiveProposal) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in proposal.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("build", EACH)
@pytest.mark.parametrize(("edges", "num_nodes"), GRAPHS.values(), ids=GRAPHS.keys())
@pytest.mark.parametrize("num_candidates", [1, 20])
def test_contract(build, edges, num_nodes, num_candidates):
    before = torch.get_rng_state()
    proposal = started(build, edges, num_nodes)
    anchors = torch.arange(num_nodes).repeat(3)
    rows, score = torch.arange(len(anchors)), score_of(anchors)
    for number in range(3):
        held = state(proposal)
        key = KEY.at(0, number)
        drawn = proposal.propose(anchors, rows, num_candidates, score, key)
        assert same(held, state(proposal))
        assert drawn.shape == (len(anchors), num_candidates)
        assert drawn.dtype == torch.int64
        for anchor, row in zip(anchors.tolist(), drawn.tolist(), strict=True):
            legal = reference.legal_nodes(edges, num_nodes, anchor) or range(num_nodes)
            assert set(row) <= set(legal)
        assert torch.equal(proposal.propose(anchors, rows, num_candidates, score, key), drawn)
        with torch.no_grad():
            proposal.update(anchors, rows, drawn, score, alone, key)
        assert all(bool(value.isfinite().all()) for value in state(proposal).values())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(anchors, torch.arange(num_nodes).repeat(3))


@pytest.mark.parametrize("build", EACH)
def test_updates_change_the_state_and_what_is_drawn(build):
    proposal = started(build, [], 60)
    held, frozen = state(proposal), copy.deepcopy(proposal)
    for number in range(5):
        step(proposal, torch.arange(60), KEY.at(1, number))
    assert not same(held, state(proposal))
    rows, score = torch.arange(60), score_of(torch.arange(60))
    assert not torch.equal(*(p.propose(rows, rows, 4, score, KEY) for p in (proposal, frozen)))


@pytest.mark.parametrize("build", EACH)
def test_another_key_draws_anew(build):
    proposal = started(build, MIXED, 11)
    anchors = torch.arange(11).repeat(10)
    drawn = proposal.propose(anchors, torch.arange(110), 4, score_of(anchors), KEY)
    for other in (KEY._replace(seed=1), KEY.child("other"), KEY.at(1), KEY.at(0, 1)):
        assert not torch.equal(proposal.propose(anchors, torch.arange(110), 4, score_of(anchors), other), drawn)


@pytest.mark.parametrize("build", EACH)
@pytest.mark.parametrize("cuts", [(0, 13, 40), (0, 0, 40), (0, 5, 20, 40)])
def test_ranks_draw_and_keep_what_one_process_does(build, cuts):
    """Each rank sees its slice; `gather` gives all of them what one process has."""
    whole = started(build, MIXED, 11)
    ranks = [copy.deepcopy(whole) for _ in cuts[1:]]
    anchors, rows = torch.arange(40) * 7 % 11, torch.arange(40)
    for number in range(3):
        key, seen = KEY.at(2, number), list[Tensor]()

        def record(value: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(value)
            return value

        candidates = whole.propose(anchors, rows, 4, score_of(anchors), key)
        with torch.no_grad():
            whole.update(anchors, rows, candidates, score_of(anchors), record, key)
        for rank, start, stop in zip(ranks, cuts, cuts[1:], strict=False):
            part = slice(start, stop)
            own = rank.propose(anchors[part], rows[part], 4, score_of(anchors[part]), key)
            assert torch.equal(own, candidates[part])
            calls = iter(seen)

            def gather(value: Tensor, calls=calls, part: slice = part) -> Tensor:
                union = next(calls)
                assert torch.equal(value, union[part])
                return union

            with torch.no_grad():
                rank.update(anchors[part], rows[part], own, score_of(anchors[part]), gather, key)
            assert next(calls, None) is None
            assert same(state(rank), state(whole))


@pytest.mark.parametrize("build", EACH)
def test_state_is_all_in_the_state_dict(build):
    """Resumed from it, a proposal goes on as if it had never stopped, and `start` keeps what is there."""
    anchors = torch.arange(11).repeat(2)
    proposal = started(build, MIXED, 11)
    for number in range(3):
        step(proposal, anchors, KEY.at(0, number))
    graph = Graph.from_edges(torch.tensor(MIXED).t(), 11)
    resumed = built(build, graph.spec)
    resumed.load_state_dict(state(proposal))
    resumed.start(graph, KnownEdges(graph), KEY.child("another start"))
    for number in range(3, 6):
        assert torch.equal(step(proposal, anchors, KEY.at(0, number)), step(resumed, anchors, KEY.at(0, number)))
    assert same(state(proposal), state(resumed))


@pytest.mark.parametrize("build", EACH)
def test_work_before_the_start_is_refused(build):
    proposal, anchors = built(build, GraphSpec(5)), torch.arange(2)
    message = f"{type(proposal).__name__}: call setup(graph, known), or start of an adaptive one, first"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        step(proposal, anchors, KEY)


def test_the_first_of_equal_anchors_is_written():
    table = torch.zeros(4, 2)
    write_rows(table, torch.tensor([2, 0, 2, 0]), torch.arange(8.0).view(4, 2))
    assert table.tolist() == [[2, 3], [0, 0], [0, 1], [0, 0]]


def check(counts: Tensor, expected: list[float] | np.ndarray) -> None:
    """Counts agree with probabilities, and what has none never happened."""
    shares = np.asarray(expected)
    assert shares.sum() == pytest.approx(1)
    assert int(counts[torch.from_numpy(shares <= 0)].sum()) == 0
    possible = shares > 0
    result = chisquare(counts.numpy()[possible], int(counts.sum()) * shares[possible], sum_check=False)
    assert result.pvalue > 1e-3


# --- cache ----------------------------------------------------------------------------------------------------------


def test_a_cache_is_drawn_from_uniformly():
    proposal = started(lambda: CacheProposal(size=3), [], 9)
    proposal.cache[4] = torch.tensor([1, 7, 7])
    anchors = torch.full((3000,), 4)
    drawn = proposal.propose(anchors, torch.arange(3000), 4, score_of(anchors), KEY)
    check(torch.bincount(drawn.flatten(), minlength=9), [0, 1 / 3, 0, 0, 0, 0, 0, 2 / 3, 0])


@pytest.mark.parametrize("num_new", [1, 2])
def test_a_cache_is_refreshed_by_importance(num_new):
    # Nodes 1, 2 and 3 are legal for node 0; its cache is (1), and num_new uniform ones come to it
    proposal = started(lambda: CacheProposal(size=1, num_new=num_new), [], 4)
    proposal.cache[0] = 1
    logits = torch.tensor([9.0, 0.0, 1.0, -0.5])
    rows = torch.arange(20_000)
    seen: list[Tensor] = []

    def gather(value: Tensor) -> Tensor:
        seen.append(value)
        return value

    proposal.update(torch.zeros_like(rows), rows, rows[:, None], lambda nodes: logits[nodes], gather, KEY)
    expected = np.zeros(4)
    for fresh in itertools.product((1, 2, 3), repeat=num_new):
        powers = [math.exp(logits[node]) for node in (1, *fresh)]
        for node, power in zip((1, *fresh), powers, strict=True):
            expected[node] += power / sum(powers) / 3**num_new
    check(torch.bincount(seen[1][:, 0], minlength=4), expected)


def test_a_cache_of_many_keeps_each_entry_once():
    """Drawn without replacement from cache and fresh nodes: with a huge logit everywhere nothing comes twice."""
    proposal = started(lambda: CacheProposal(size=20, num_new=30), [], 5000)
    held = set(proposal.cache[7].tolist())
    anchors = torch.tensor([7])
    proposal.update(anchors, anchors, anchors[:, None], lambda nodes: torch.zeros(nodes.shape), alone, KEY)
    found = proposal.cache[7].tolist()
    assert len(set(found)) > 17
    assert 2 < len(held & set(found)) < 16


# --- chain ----------------------------------------------------------------------------------------------------------

LOGITS = [0.2, 1.0, -0.7, 0.9, 1.5, -1.0, 0.4, 2.0, -0.3, 0.0, 0.8]


@pytest.mark.parametrize(("anchor", "power", "share"), [(0, 0.75, 0.5), (4, 1.0, 0.2), (9, 2.0, 0.9), (7, 0.0, 1.0)])
def test_the_target_is_the_chains_stationary_distribution(anchor, power, share):
    """On paper: the slow transition matrix leaves the target as it is; and the chain moves as the matrix says."""
    legal = reference.legal_nodes(MIXED, 11, anchor)
    moves = reference.chain_moves(MIXED, 11, anchor, LOGITS, power, share)
    target = np.array([math.exp(power * LOGITS[node]) if node in legal else 0.0 for node in range(11)])
    target /= target.sum()
    np.testing.assert_allclose(target @ moves, target, rtol=1e-12, atol=1e-15)
    proposal = started(lambda: ChainProposal(5, power=power, uniform_share=share), MIXED, 11)
    anchors, logits = torch.full((3000,), anchor), torch.tensor(LOGITS, dtype=torch.float64)
    for start in legal[::2]:
        proposal.chains[anchor] = start
        drawn = proposal.propose(anchors, torch.arange(3000), 5, lambda nodes: logits[nodes], KEY.at(start))
        check(torch.bincount(drawn.flatten(), minlength=11), moves[start])


def test_long_chains_follow_the_target():
    legal = reference.legal_nodes(MIXED, 11, 2)
    proposal = started(lambda: ChainProposal(5, num_steps=60, power=1.0), MIXED, 11)
    proposal.chains[2] = 10
    anchors, logits = torch.full((2000,), 2), torch.tensor(LOGITS)
    drawn = proposal.propose(anchors, torch.arange(2000), 5, lambda nodes: logits[nodes], KEY)
    powers = np.array([math.exp(LOGITS[node]) if node in legal else 0.0 for node in range(11)])
    check(torch.bincount(drawn.flatten(), minlength=11), powers / powers.sum())


def test_chains_go_on_from_where_they_were():
    proposal = started(lambda: ChainProposal(num_chains=4), MIXED, 11)
    anchors = torch.arange(11)
    held = proposal.chains.clone()
    drawn = step(proposal, anchors, KEY, num_candidates=3)
    assert torch.equal(proposal.chains[:, :3], drawn)
    assert torch.equal(proposal.chains[:, 3], held[:, 3])
    drawn = step(proposal, anchors, KEY.at(1), num_candidates=9)
    assert torch.equal(drawn, proposal.chains[:, [0, 1, 2, 3, 0, 1, 2, 3, 0]])


# --- generator ------------------------------------------------------------------------------------------------------


def test_a_generator_draws_by_its_softmax_over_the_pool():
    proposal = started(lambda: GeneratorProposal(pool=2, channels=3), [], 4)
    anchors = torch.zeros(4000, dtype=torch.int64)
    drawn = proposal.propose(anchors, torch.arange(4000), 3, score_of(anchors), KEY)
    table = proposal.table.detach().double()
    power = (table[:, :-1] @ table[0, :-1] + table[:, -1]).exp().tolist()
    expected = np.zeros(4)
    for pool in itertools.product((1, 2, 3), repeat=2):
        for node in pool:
            expected[node] += power[node] / sum(power[other] for other in pool) / 9
    check(torch.bincount(drawn.flatten(), minlength=4), expected)


def test_the_generators_gradient_is_reinforce():
    """The surrogate loss is written out cell by cell, and torch's Adam steps."""
    proposal = started(lambda: GeneratorProposal(pool=4, channels=2, lr=0.01), MIXED, 11).double()
    twin = torch.nn.Parameter(proposal.table.detach().clone())
    adam = torch.optim.Adam([twin], lr=0.01)
    baseline = None
    for number in range(3):
        anchors, rows, key = torch.tensor([0, 4, 9, 0]), torch.arange(4), KEY.at(number)
        score = score_of(anchors)
        candidates = proposal.propose(anchors, rows, 3, score, key)
        pool, columns = proposal._draw(anchors, rows, 3, key)
        assert torch.equal(pool.gather(1, columns), candidates)
        rewards = score(candidates).double()
        baseline = rewards.mean() if baseline is None else baseline
        loss = torch.zeros((), dtype=torch.float64)
        for row, anchor in enumerate(anchors.tolist()):
            logits = torch.stack([twin[anchor, :-1] @ twin[node, :-1] + twin[node, -1] for node in pool[row].tolist()])
            for cell, column in enumerate(columns[row].tolist()):
                loss = loss - (rewards[row, cell] - baseline) * logits.log_softmax(0)[column] / rewards.numel()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            proposal.update(anchors, rows, candidates, score, alone, key)
        torch.testing.assert_close(proposal.table.data, twin.data, rtol=1e-9, atol=1e-12)
        baseline = 0.9 * baseline + 0.1 * rewards.mean()
        torch.testing.assert_close(proposal.baseline, baseline)


def test_a_generator_learns_what_is_rewarded():
    proposal = started(lambda: GeneratorProposal(pool=10, channels=4, lr=0.05), [], 40)
    anchors, rows = torch.arange(40), torch.arange(40)

    def score(nodes: Tensor) -> Tensor:
        return (nodes < 10).float()

    def share(key: Key) -> float:
        return float((proposal.propose(anchors, rows, 20, score, key) < 10).float().mean())

    before = share(KEY)
    with torch.no_grad():
        for number in range(60):
            key = KEY.at(3, number)
            proposal.update(anchors, rows, proposal.propose(anchors, rows, 4, score, key), score, alone, key)
    assert before < 0.4
    assert share(KEY) > 0.75


def test_illegal_candidates_teach_nothing():
    edges = [(a, b) for a in range(6) for b in range(a + 1, 6)]
    proposal = started(lambda: GeneratorProposal(channels=2), edges, 6)
    held = proposal.table.detach().clone()
    step(proposal, torch.arange(6), KEY)
    assert torch.equal(proposal.table, held)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CacheProposal(size=0), "size: expected 1 or more, got 0"),
        (lambda: CacheProposal(num_new=0), "num_new: expected 1 or more, got 0"),
        (lambda: ChainProposal(num_chains=0), "num_chains: expected 1 or more, got 0"),
        (lambda: ChainProposal(num_steps=0), "num_steps: expected 1 or more, got 0"),
        (lambda: ChainProposal(power=-1.0), "power: expected a number in [0, inf), got -1.0"),
        (lambda: ChainProposal(uniform_share=0.0), "uniform_share: expected a share in (0, 1], got 0.0"),
        (lambda: GeneratorProposal(pool=0), "pool: expected 1 or more, got 0"),
        (lambda: GeneratorProposal(channels=0), "channels: expected 1 or more, got 0"),
        (lambda: GeneratorProposal(lr=0.0), "lr: expected a number above 0, got 0.0"),
    ],
)
def test_wrong_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build()
