"""What the loaders hand out: every edge once, slices that make up the union, masks and pairs against brute force."""

from __future__ import annotations

import time

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mebns_pl.data import batches
from mebns_pl.data.batches import EvalChunks, PairBlocks, StepSampler, TrainSteps, handed_out
from mebns_pl.data.needs import Needs, TeacherNegatives
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.negatives.proposals.degree import DegreeProposal
from mebns_pl.negatives.proposals.mixture import MixtureProposal
from mebns_pl.negatives.proposals.pairs import UniformPairProposal
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.pools.abstract import AllowedPairs
from mebns_pl.pools.built import PairPool, PoolReport
from mebns_pl.types import EvalBatch, Share
from references.runs import fit, make_data, make_plain

KEY = Key(3, "tests/batches")
NUM_NODES = 20
CUT = ("positives", "candidates", "candidate_mask", "teacher_negatives", "teacher_mask")


class AnyNode(AbstractStaticProposal):
    """Any node at all, legal or not: masks have something to do."""

    def prepare(self, graph: Graph) -> None:
        self.num_nodes = graph.num_nodes

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        return torch.randint(self.num_nodes, (len(anchors), num_candidates), generator=key.generator())


def make_edges(num: int = 50) -> Tensor:
    pairs = torch.combinations(torch.arange(NUM_NODES - 1)).t()
    order = torch.randperm(pairs.shape[1], generator=torch.Generator().manual_seed(1))
    return pairs[:, order[:num]]


WHOLE = Share()


def make_steps(
    share: Share = WHOLE, batch_size: int = 12, num: int = 50, teacher: bool = True, key: Key = KEY
) -> TrainSteps:
    """Training edges are the first ``num`` of 60; the others play the meta edges, which are known too."""
    edges = make_edges(60)
    graph = Graph.from_edges(edges, NUM_NODES)
    known, proposal = KnownEdges(graph), AnyNode()
    std = MixtureProposal([DegreeProposal(), proposal], [0.5, 0.5])
    std.setup(graph, known)
    needs = Needs(Sampler(proposal, 6), teacher=TeacherNegatives(0.5, 2, None) if teacher else None)
    return TrainSteps(edges[:, :num], known, needs, std if teacher else None, batch_size, share, key, graph)


def epoch_of(steps: TrainSteps, epoch: int) -> list[TrainBatch]:
    return [steps[epoch, step] for step in range(len(steps))]


def assert_same(a: TrainBatch, b: TrainBatch) -> None:
    for name, value in vars(a).items():
        other = getattr(b, name)
        assert torch.equal(value, other) if isinstance(value, Tensor) else value == other, name


def undirected(pairs: Tensor) -> list[tuple[int, ...]]:
    return [tuple(sorted(pair)) for pair in pairs.t().tolist()]


# --- training -------------------------------------------------------------------------------------------------------


def test_every_edge_once_an_epoch_in_batches_of_equal_size() -> None:
    steps = make_steps()
    whole = epoch_of(steps, 0)
    assert [batch.positives.shape[1] for batch in whole] == [10, 10, 10, 10, 10]
    assert {batch.positives.shape[1] for batch in epoch_of(make_steps(num=47), 0)} == {11, 12}
    seen = [pair for batch in whole for pair in undirected(batch.positives)]
    assert sorted(seen) == sorted(undirected(make_edges(60)[:, :50]))
    for place, batch in enumerate(whole):
        assert (batch.epoch, batch.step, batch.first_row) == (0, place, 0)
        assert torch.equal(batch.positives, batch.union_positives)
        assert batch.candidates.shape == batch.candidate_mask.shape == (batch.positives.shape[1], 6)
        assert batch.teacher_negatives.shape == batch.teacher_mask.shape == (batch.positives.shape[1], 2)


def test_order_turning_and_draws_are_keyed() -> None:
    steps = make_steps()
    for one, same in zip(epoch_of(steps, 1), epoch_of(make_steps(), 1), strict=True):
        assert_same(one, same)
    # In whatever order they are asked for
    backwards = [steps[1, step] for step in reversed(range(len(steps)))][::-1]
    for one, same in zip(epoch_of(steps, 1), backwards, strict=True):
        assert_same(one, same)
    first, later, other = steps[0, 0], steps[1, 0], make_steps(key=KEY._replace(seed=4))[0, 0]
    for batch in (later, other):
        assert undirected(batch.positives) != undirected(first.positives)
        assert not torch.equal(batch.candidates, first.candidates)
        assert not torch.equal(batch.teacher_negatives, first.teacher_negatives)


def test_edges_are_turned_round_about_half_the_time() -> None:
    steps = make_steps()
    turns = []
    for epoch in range(12):
        positives = torch.cat([batch.positives for batch in epoch_of(steps, epoch)], dim=1)
        turns.append((positives[0] > positives[1]).tolist())
    share = sum(map(sum, turns)) / sum(map(len, turns))
    assert share == pytest.approx(0.5, abs=0.1)  # 600 turns: five standard deviations
    assert turns[0] != turns[1]


def test_masks_equal_brute_force() -> None:
    known = set(undirected(make_edges(60)))
    masked, kept = 0, 0
    for batch in epoch_of(make_steps(), 0):
        for nodes, mask in ((batch.candidates, batch.candidate_mask), (batch.teacher_negatives, batch.teacher_mask)):
            for anchor, row, legal in zip(batch.positives[0].tolist(), nodes.tolist(), mask.tolist(), strict=True):
                expected = [node != anchor and tuple(sorted((anchor, node))) not in known for node in row]
                assert legal == expected
                kept, masked = kept + sum(expected), masked + len(expected) - sum(expected)
    assert kept > 100
    assert masked > 100


def test_uniform_pairs_have_anchors_of_their_own() -> None:
    """Whatever the positives' ends: every node is an anchor about equally often, and masks are for these anchors."""
    data = make_data(batch_size=10)
    needs = make_plain(data.spec, proposal=UniformPairProposal()).needs
    steps, anchors = data.train_steps(needs), []
    for epoch in range(40):
        for step in range(len(steps)):
            batch = steps[epoch, step]
            assert batch.candidate_anchors is batch.free_anchors
            legal = ~data.known.mask(batch.candidate_anchors[:, None], batch.candidates)
            assert torch.equal(batch.candidate_mask, legal)
            anchors.append(batch.candidate_anchors)
    counts = torch.bincount(torch.cat(anchors), minlength=data.loaded.num_nodes)
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-4
    assert 40 in torch.cat(anchors)  # a node without an edge
    again = data.train_steps(needs)[3, 1]
    assert torch.equal(again.candidate_anchors, steps[3, 1].candidate_anchors)
    default = make_data()
    batch = default.train_steps(make_plain(default.spec).needs)[0, 0]
    assert batch.free_anchors is None
    assert torch.equal(batch.candidate_anchors, batch.positives[0])


def test_no_teacher_no_negatives_for_it() -> None:
    with_teacher, without = make_steps()[0, 1], make_steps(teacher=False)[0, 1]
    assert without.teacher_negatives.shape == without.teacher_mask.shape == (10, 0)
    for name in ("positives", "candidates", "candidate_mask"):
        assert torch.equal(getattr(with_teacher, name), getattr(without, name))


@given(size=st.integers(1, 4), batch_size=st.integers(1, 60), num=st.integers(1, 50), epoch=st.integers(0, 2))
def test_slices_of_ranks_make_up_the_union(size: int, batch_size: int, num: int, epoch: int) -> None:
    whole = make_steps(batch_size=batch_size, num=num)
    parts = [make_steps(Share(rank, size), batch_size, num) for rank in range(size)]
    assert {len(part) for part in parts} == {len(whole)}
    for step in {0, len(whole) - 1}:
        union, slices = whole[epoch, step], [part[epoch, step] for part in parts]
        for name in CUT:
            dim = 1 if name == "positives" else 0
            assert torch.equal(torch.cat([getattr(part, name) for part in slices], dim=dim), getattr(union, name)), name
        row = 0
        for part in slices:
            assert part.first_row == row
            assert torch.equal(part.union_positives, union.positives)
            row += part.positives.shape[1]


def test_some_slices_are_empty_or_uneven() -> None:
    sizes = [
        [make_steps(Share(rank, 4), batch_size, num)[0, 0].positives.shape[1] for rank in range(4)]
        for batch_size, num in ((12, 50), (3, 8))
    ]
    assert sizes == [[2, 3, 2, 3], [0, 1, 0, 1]]
    empty = make_steps(Share(0, 4), 3, 8)[0, 0]
    assert empty.candidates.shape == (0, 6)
    assert empty.teacher_mask.shape == (0, 2)
    assert empty.union_positives.shape == (2, 2)


def test_sampler_names_epoch_and_step() -> None:
    sampler = StepSampler(3)
    assert len(sampler) == 3
    assert list(sampler) == [(0, 0), (0, 1), (0, 2)]
    sampler.set_epoch(7)
    assert list(sampler) == list(sampler) == [(7, 0), (7, 1), (7, 2)]


def test_loader_workers_give_the_same_batches() -> None:
    steps = make_steps()
    sampler = StepSampler(len(steps))
    sampler.set_epoch(2)
    torch.manual_seed(0)
    found = list(DataLoader(steps, batch_size=None, sampler=sampler, num_workers=2, multiprocessing_context="fork"))
    for one, same in zip(found, epoch_of(steps, 2), strict=True):
        assert_same(one, same)


class OwnMemory(Dataset[tuple[Tensor, dict[str, Tensor], list[bool]]]):
    """Items hold what the next one is drawn from, and tell whether any of it moved while one was drawn."""

    def __init__(self) -> None:
        self.table, self.cache = torch.arange(1000), {"0": torch.arange(10)}

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor], list[bool]]:
        self.cache[str(index)] = torch.full((10,), index)
        before = [tensor.data_ptr() for tensor in (self.table, *self.cache.values())]
        time.sleep(0.05)
        after = [tensor.data_ptr() for tensor in (self.table, *self.cache.values())]
        return self.table, self.cache, [one == other for one, other in zip(before, after, strict=True)]


@pytest.mark.parametrize("safe", [True, False])
def test_nothing_moves_while_a_worker_draws(safe: bool) -> None:
    """Else another thread would free the memory that a draw reads."""
    options = {"batch_size": None, "num_workers": 1, "multiprocessing_context": "fork"}
    items = list(DataLoader(OwnMemory(), sampler=range(4), collate_fn=handed_out if safe else None, **options))
    assert all(all(stayed) for _, _, stayed in items) is safe
    assert all(torch.equal(table, torch.arange(1000)) for table, _, _ in items)
    if safe:  # each item is what it was
        assert [sorted(cache) for _, cache, _ in items] == [["0"], ["0", "1"], ["0", "1", "2"], ["0", "1", "2", "3"]]


def test_every_loader_hands_out_so() -> None:
    data = make_data(num_workers=1)
    fit(make_plain(data.spec), data, 1)
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()]
    assert all(loader.collate_fn is handed_out for loader in loaders)


# --- evaluation -----------------------------------------------------------------------------------------------------


def make_eval(num: int, num_negatives: int = 5) -> EvalBatch:
    numbers = torch.arange(2 * num).view(2, num)
    negatives = torch.arange(2 * num * num_negatives).view(2, num, num_negatives)
    return EvalBatch(numbers, negatives, -numbers)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("num", [1, 3, 10, 23])
def test_eval_chunks_cover_every_positive_once(monkeypatch: pytest.MonkeyPatch, size: int, num: int) -> None:
    monkeypatch.setattr(batches, "EVAL_PAIRS", 28)  # 28 // (5 + 2) = 4 positives a chunk
    whole = make_eval(num)
    ranks = [EvalChunks(whole, Share(rank, size)) for rank in range(size)]
    chunks = [part[i] for part in ranks for i in range(len(part))]
    assert all(0 < chunk.positives.shape[1] <= 4 for chunk in chunks)
    for name in ("positives", "negatives", "random_negatives"):
        assert torch.equal(torch.cat([getattr(chunk, name) for chunk in chunks], dim=1), getattr(whole, name)), name


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("shared", [1, 4, 50])
def test_shared_negatives_come_once_over_chunks_and_ranks(
    monkeypatch: pytest.MonkeyPatch, size: int, shared: int
) -> None:
    monkeypatch.setattr("mebns_pl.data.batches.EVAL_PAIRS", 8)
    pairs = torch.arange(2 * shared).view(2, shared)
    whole = EvalBatch(torch.arange(20).view(2, 10), None, pairs)
    batches = [
        chunks[index]
        for rank in range(size)
        for chunks in [EvalChunks(whole, Share(rank, size))]
        for index in range(len(chunks))
    ]
    assert len(batches) > 2
    assert all(batch.negatives is None for batch in batches)
    assert torch.equal(torch.cat([batch.positives for batch in batches], dim=1), whole.positives)
    assert torch.equal(torch.cat([batch.random_negatives for batch in batches], dim=1), pairs)


def test_eval_chunks_hold_one_positive_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "EVAL_PAIRS", 3)
    chunks = EvalChunks(make_eval(4), Share())
    assert [chunks[i].positives.shape[1] for i in range(len(chunks))] == [1, 1, 1, 1]
    monkeypatch.undo()
    assert len(EvalChunks(make_eval(4), Share())) == 1


# --- prediction -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("block_pairs", [1, 4, 2**17])
@pytest.mark.parametrize("num_pairs", [0, 1, 3, 10])
def test_blocks_come_once_over_the_ranks_and_no_rank_is_without(
    monkeypatch: pytest.MonkeyPatch, size: int, block_pairs: int, num_pairs: int
) -> None:
    """A rank without a block would skip the prediction loop, and the others would wait for it."""
    monkeypatch.setattr(batches, "EVAL_PAIRS", block_pairs)
    pairs = torch.stack([torch.arange(num_pairs), torch.arange(num_pairs) + 20])
    keys = pairs[0] * 50 + pairs[1]
    found = []
    for rank in range(size):
        given, listed = PairBlocks(pairs, None, 50, Share(rank, size)), PairBlocks(keys, None, 50, Share(rank, size))
        assert len(given) == len(listed) >= 1
        assert all(torch.equal(given[i], listed[i]) for i in range(len(given)))
        assert all(given[i].shape[1] <= block_pairs for i in range(len(given)))
        found += [tuple(pair) for i in range(len(given)) for pair in given[i].t().tolist()]
    assert sorted(found) == [tuple(pair) for pair in pairs.t().tolist()]


def test_blocks_lead_from_sources_to_targets() -> None:
    sources = torch.tensor([False, True, True, False])
    allowed = AllowedPairs(sources, ~sources, torch.empty(2, 0, dtype=torch.int64))
    pool = PairPool(torch.empty(0, dtype=torch.int64), allowed, PoolReport([], [], [], 0, 0, 0))
    blocks = PairBlocks(torch.tensor([[0, 0, 1], [1, 2, 3]]), pool, 4, Share())
    assert blocks[0].tolist() == [[1, 2, 1], [0, 0, 3]]
    with pytest.raises(IndexError, match=r"index: expected 0 ... 0, got 1"):
        blocks[1]
