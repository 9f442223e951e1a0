"""The data module: what it refuses, what each system trains on, what negatives are never, and what a seed decides."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor

from mebns_pl import Schedule
from mebns_pl.data.batches import TrainSteps
from mebns_pl.data.datamodule import LinkDataModule, data_of
from mebns_pl.data.needs import Needs
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.split import SplitFractions
from mebns_pl.errors import DataError
from mebns_pl.evaluation.negatives import HeartNegatives, RandomNegatives
from mebns_pl.evaluation.protocols import GeneratedComparison, Protocol, TimeParting
from mebns_pl.graph.measures.neighbors import CommonNeighbors
from mebns_pl.negatives.proposals.by_measure import ProximityProposal
from mebns_pl.negatives.proposals.degree import DegreeProposal
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.types import EvalBatch, GraphSpec
from references.runs import differing, drawn_pairs, fit, make_data, make_mebns, make_plain, pairs_of, tensors_of


def plain_steps(data: LinkDataModule, **changes: object) -> TrainSteps:
    """What a plain system trains on."""
    return data.train_steps(make_plain(data.spec, **changes).needs)


def mebns_steps(data: LinkDataModule) -> TrainSteps:
    """What MeBNS trains on."""
    return data.train_steps(make_mebns(data.spec).needs)


def everything(data: LinkDataModule) -> dict[str, Tensor]:
    """All that a data module gives away."""
    steps = mebns_steps(data)
    parts = {
        "split": data.split,
        "batches": [steps[epoch, step] for epoch in (0, 1) for step in range(len(steps))],
        "probe": data.probe(50),
        "meta": meta_pool(data, 3),
        "val": list(data.val_dataloader()),
        "test": list(data.test_dataloader()),
    }
    return {key: tensor for name, part in parts.items() for key, tensor in tensors_of(part, name).items()}


def meta_pool(data: LinkDataModule, epoch: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs and labels that a meta set is collected from."""
    negatives = data.enhanced(UniformProposal(), 0.9)
    return data.meta_pool(negatives, 4, data.key.child("meta").at(epoch))


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "least"), [("batch_size", 1), ("num_workers", 0)])
def test_counts_too_small_are_refused(name: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected {least} or more, got {least - 1}"):
        LinkDataModule(**{name: least - 1})


def test_a_complete_graph_is_refused() -> None:
    pairs = torch.combinations(torch.arange(20)).t()
    data = make_data(LoadedGraph("full", pairs, [str(i) for i in range(20)]))
    data.split = type(data.split)(train=pairs, meta=pairs[:, :0], val=pairs[:, :0], test=pairs[:, :0])
    data.val_dataloader  # noqa: B018 (nothing is drawn there)
    with pytest.raises(DataError, match="full: every node is linked to every other"):
        plain_steps(data)


def test_a_node_table_without_an_edge_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nodes: a node table goes with an edge list .* got graph='cora'"):
        _ = LinkDataModule("cora", nodes=tmp_path / "nodes.csv").spec


def test_unknown_graphs_are_refused() -> None:
    with pytest.raises(DataError, match="graph: got 'air_rutes'; allowed are"):
        _ = LinkDataModule("air_rutes").spec


def test_a_meta_set_needs_meta_edges() -> None:
    """Said before training; a plain system does without."""
    data = make_data(split=SplitFractions(0.1, 0.1, 0.0))
    assert len(plain_steps(data)) == 3
    with pytest.raises(DataError, match=r"split\.meta: MeBNS needs meta edges"):
        mebns_steps(data)


def test_a_meta_set_needs_a_legal_negative() -> None:
    """Nodes 0 and 1 are linked to all others, and their edge is the only meta edge."""
    hubs = torch.tensor([[0, i] for i in range(1, 12)] + [[1, i] for i in range(2, 12)]).t()
    data = make_data(LoadedGraph("hubs", hubs, [str(i) for i in range(12)]))
    data.split = type(data.split)(train=hubs[:, 1:], meta=hubs[:, :1], val=hubs[:, :0], test=hubs[:, :0])
    for ask in (mebns_steps, meta_pool):
        with pytest.raises(DataError, match=r"split\.meta: no meta edge has an end with a legal negative"):
            ask(data)


def test_a_meta_pool_takes_the_end_that_has_a_legal_negative() -> None:
    """Node 0 is linked to all others, so the other end of its edge is asked, whichever a coin would say."""
    hub = torch.tensor([[0, i] for i in range(1, 12)]).t()
    data = make_data(LoadedGraph("hub", hub, [str(i) for i in range(12)]))
    data.split = type(data.split)(train=hub[:, 1:], meta=hub[:, :1], val=hub[:, :0], test=hub[:, :0])
    for epoch in range(8):
        pairs, labels = meta_pool(data, epoch)
        assert pairs[0, labels == 0].tolist() == [1] * 4


def test_systems_want_this_data_module() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(TypeError, match="work with a LinkDataModule, got NoneType"):
        data_of(trainer)
    trainer.datamodule = LightningDataModule()
    with pytest.raises(TypeError, match="work with a LinkDataModule, got LightningDataModule"):
        data_of(trainer)
    trainer.datamodule = data = make_data()
    assert data_of(trainer) is data


# --- graphs ---------------------------------------------------------------------------------------------------------


def test_the_default_is_the_embedded_graph(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mebns_pl"):
        data = LinkDataModule()
        assert data.spec == GraphSpec(352, 6)
    split = data.split
    assert [part.shape[1] for part in (split.train, split.meta, split.val, split.test)] == [2515, 51, 150, 301]


def test_an_own_edge_list_with_a_node_table(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("source,target\n" + "".join(f"n{i},n{i + 1}\n" for i in range(40)))
    (tmp_path / "nodes.csv").write_text("node,size\n" + "".join(f"n{i},{i}\n" for i in range(43)))
    data = LinkDataModule(str(tmp_path / "edges.csv"), nodes=tmp_path / "nodes.csv")
    assert data.spec == GraphSpec(43, 1)
    assert LinkDataModule(str(tmp_path / "edges.csv")).spec == GraphSpec(41)
    assert data.split.all.shape == (2, 40)


def test_graphs_of_training_and_prediction() -> None:
    data = make_data()
    split = data.split
    assert pairs_of(data.train_graph.edge_index) == pairs_of(split.train) | pairs_of(split.meta)
    assert pairs_of(data.full_graph.edge_index) == pairs_of(data.loaded.edges)
    assert data.train_graph.x is data.loaded.x


def test_a_split_may_be_assigned() -> None:
    data, other = make_data(), make_data(seed=1)
    data.split = other.split
    assert differing(everything(data), everything(make_data())) >= {"split", "batches", "meta", "val", "test"}
    assert pairs_of(data.train_graph.edge_index) == pairs_of(other.split.observed)


# --- training -------------------------------------------------------------------------------------------------------


def epoch_of(steps: TrainSteps) -> list[TrainBatch]:
    return [steps[0, step] for step in range(len(steps))]


def epoch_positives(steps: TrainSteps) -> set[tuple[int, ...]]:
    found = [pair for batch in epoch_of(steps) for pair in batch.positives.t().tolist()]
    assert len(found) == len({tuple(sorted(pair)) for pair in found})
    return {tuple(sorted(pair)) for pair in found}


def test_plain_systems_train_on_observed_edges_and_mebns_on_training_edges() -> None:
    data = make_data()
    plain, mebns = plain_steps(data), mebns_steps(data)
    assert epoch_positives(plain) == pairs_of(data.split.observed)
    assert all(batch.teacher_negatives.shape[1] == 0 for batch in epoch_of(plain))
    assert epoch_positives(mebns) == pairs_of(data.split.train)
    assert all(batch.teacher_negatives.shape[1] == 2 for batch in epoch_of(mebns))
    assert pairs_of(data.split.meta)
    assert not pairs_of(data.split.meta) & pairs_of(data.split.train)


def test_asking_changes_nothing() -> None:
    """Whatever other systems have asked in between, in whatever order."""
    data, fresh = make_data(), make_data()
    first = epoch_of(plain_steps(data))
    mebns_steps(data)
    data.probe(20)
    meta_pool(data)
    for one, again, untouched in zip(first, epoch_of(plain_steps(data)), epoch_of(plain_steps(fresh)), strict=True):
        parts = [tensors_of(batch, "b") for batch in (one, again, untouched)]
        assert not differing(parts[0], parts[1])
        assert not differing(parts[0], parts[2])


def test_loaders_follow_the_trainers_system() -> None:
    data = make_data()
    for system in (make_plain(data.spec), make_mebns(data.spec, schedule=Schedule(warmup=0))):
        fit(system, data, 1, limit_val_batches=0)
        found, asked = next(iter(data.train_dataloader())), data.train_steps(system.needs)[0, 0]
        assert not differing(tensors_of(found, "b"), tensors_of(asked, "b"))


def test_plain_systems_do_not_see_which_edges_are_meta_edges() -> None:
    few, many = (make_data(split=SplitFractions(val=0.1, test=0.1, meta=meta)) for meta in (0.05, 0.3))
    assert few.split.meta.shape[1] < many.split.meta.shape[1]
    for one, two in zip(epoch_of(plain_steps(few)), epoch_of(plain_steps(many)), strict=True):
        assert torch.equal(one.positives, two.positives)
        assert torch.equal(one.candidates, two.candidates)


def test_plain_systems_train_on_an_edge_as_often_as_a_published_split_has_it() -> None:
    data = make_data()
    edges = data.split.train
    data._split = replace(data.split, train=torch.cat([edges, edges[:, :1]], dim=1))  # as a protocol parts it
    found = [tuple(sorted(pair)) for batch in epoch_of(plain_steps(data)) for pair in batch.positives.t().tolist()]
    assert found.count(tuple(edges[:, 0].tolist())) == 2


def test_a_share_of_the_training_edges_as_supervision() -> None:
    whole, part = make_data(), make_data(split=SplitFractions(0.1, 0.1, 0.15, supervision=0.3))
    assert torch.equal(part.train_graph.indices, whole.train_graph.indices)  # all pass messages
    every, some = epoch_positives(plain_steps(whole)), epoch_positives(plain_steps(part))
    assert some < every
    assert len(some) == int(0.3 * len(every))
    assert epoch_positives(plain_steps(make_data(split=SplitFractions(0.1, 0.1, 0.15, supervision=1.0)))) == every
    steps = plain_steps(part)
    later = {pair for step in range(len(steps)) for pair in pairs_of(steps[(5, step)].positives.sort(0).values)}
    assert later == some  # the share is fixed
    assert epoch_positives(mebns_steps(part)) <= pairs_of(part.split.train)


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1])
def test_supervision_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"split.supervision.*got {share}"):
        SplitFractions(supervision=share)


def test_a_predictor_that_bears_few_pairs_gets_small_evaluation_batches() -> None:
    data = make_data()
    whole = list(data.val_dataloader())
    data.trainer = SimpleNamespace(
        global_rank=0, world_size=1, lightning_module=SimpleNamespace(needs=Needs(most_pairs=40))
    )
    chunks = list(data.val_dataloader())
    assert len(chunks) > len(whole)
    assert all(chunk.positives.shape[1] * 10 <= 40 for chunk in chunks)
    for name in ("positives", "negatives", "random_negatives"):
        parts = [torch.cat([getattr(batch, name) for batch in batches], dim=1) for batches in (whole, chunks)]
        assert torch.equal(*parts)
    data.trainer.lightning_module.needs = Needs(most_pairs=100)
    assert all(pairs.shape[1] <= 100 for pairs in data.predict_dataloader())


def test_negatives_are_never_known_and_can_be_held_out() -> None:
    data = make_data()
    drawn: set[tuple[int, ...]] = set()
    steps = mebns_steps(data)
    for epoch in range(10):
        for step in range(len(steps)):
            drawn |= drawn_pairs(steps[epoch, step])
    assert not drawn & pairs_of(data.split.observed)
    assert all(a != b for a, b in drawn)
    # An honest sampler cannot know held-out edges
    assert drawn & pairs_of(data.split.val)
    assert drawn & pairs_of(data.split.test)


def test_loader_workers_change_nothing() -> None:
    assert not differing(everything(make_data()), everything(make_data(num_workers=2)))


# --- what meta sets are collected from --------------------------------------------------------------------------------


def test_the_pool_is_made_of_meta_edges_and_legal_negatives() -> None:
    data = make_data()
    pairs, labels = meta_pool(data)
    positive = labels > 0.5
    assert pairs_of(pairs[:, positive]) == pairs_of(data.split.meta)
    assert 0 < int((~positive).sum()) <= 4 * int(positive.sum())
    assert not pairs_of(pairs[:, ~positive]) & pairs_of(data.split.observed)
    ends = set(data.split.meta.flatten().tolist())
    assert set(pairs[0, ~positive].tolist()) <= ends


def test_the_pool_is_keyed_by_the_epoch() -> None:
    one, same, later = (meta_pool(make_data(), epoch) for epoch in (2, 2, 3))
    assert not differing(tensors_of(one, "m"), tensors_of(same, "m"))
    assert differing(tensors_of(one, "m"), tensors_of(later, "m"))


# --- the probe ------------------------------------------------------------------------------------------------------


def test_probe_is_legal_and_half_structural() -> None:
    data = make_data()
    probe = data.probe(80)
    assert probe.shape == (2, 80)
    assert not bool(data.known.mask(probe[0], probe[1]).any())
    assert set(probe[0].tolist()) <= set(data.split.train.flatten().tolist())
    table = data.structure._nodes
    near = (table[probe[0]] == probe[1][:, None]).any(1)
    assert bool(near[40:].all())
    # Of the uniform half only some, by chance: 6 of some 34 legal nodes are near
    assert 0 < int(near[:40].sum()) < 25


def test_probe_does_not_depend_on_the_sampler() -> None:
    data = make_data()
    first = data.probe(50)
    for proposal in (DegreeProposal(), ProximityProposal(CommonNeighbors(), top=3), data.structure):
        plain_steps(data, proposal=proposal, num_candidates=2)
        assert torch.equal(data.probe(50), first)
    assert not torch.equal(make_data(seed=1).probe(50), first)
    assert not torch.equal(make_data(structure=ProximityProposal(CommonNeighbors(), 4)).probe(50), first)


def test_an_odd_probe_has_one_more_uniform_pair() -> None:
    assert make_data().probe(11).shape == (2, 11)


# --- evaluation and prediction --------------------------------------------------------------------------------------


@pytest.mark.parametrize("negatives", [RandomNegatives(8), HeartNegatives(num_per_end=4)], ids=["random", "heart"])
def test_evaluation_negatives_are_no_edges(negatives: RandomNegatives | HeartNegatives) -> None:
    data = make_data(eval_negatives=negatives)
    split = data.split
    for loader, positives, known in (
        (data.val_dataloader(), split.val, torch.cat([split.observed, split.val], dim=1)),
        (data.test_dataloader(), split.test, split.all),
    ):
        batches: list[EvalBatch] = list(loader)
        assert torch.equal(torch.cat([batch.positives for batch in batches], dim=1), positives)
        for batch in batches:
            assert batch.negatives.shape == (2, batch.positives.shape[1], 8)
            for drawn in (batch.negatives, batch.random_negatives):
                assert not pairs_of(drawn) & pairs_of(known)
                assert all(a != b for a, b in pairs_of(drawn))


def test_validation_negatives_know_nothing_of_test_edges() -> None:
    """With 8 of at most 40 nodes an end some of the test edges stand among the validation negatives."""
    data = make_data(eval_negatives=RandomNegatives(30))
    drawn = set().union(*(pairs_of(batch.negatives) for batch in data.val_dataloader()))
    assert drawn & pairs_of(data.split.test)


def test_predicted_pairs_are_no_edges() -> None:
    data = make_data()
    pairs = [pair for block in data.predict_dataloader() for pair in block.t().tolist()]
    assert len(pairs) == 41 * 40 // 2 - data.loaded.num_edges
    assert not {tuple(pair) for pair in pairs} & pairs_of(data.loaded.edges)


# --- seeds ----------------------------------------------------------------------------------------------------------


def test_the_seed_decides_all() -> None:
    torch.manual_seed(0)
    one = everything(make_data())
    torch.manual_seed(1)
    state = torch.get_rng_state()
    same, other = everything(make_data()), everything(make_data(seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert not differing(one, same)
    assert differing(one, other) == {"split", "batches", "probe", "meta", "val", "test"}
    assert not torch.equal(one["split.train"], other["split.train"])


def test_training_draws_change_with_the_seed_at_an_equal_split() -> None:
    one, other = make_data(), make_data(seed=1)
    other.split = one.split
    assert differing(everything(one), everything(other)) == {"batches", "probe", "meta", "val", "test"}


def test_the_splits_seed_decides_the_data_and_the_seed_the_training() -> None:
    coupled, one = everything(make_data(seed=3)), everything(make_data(seed=3, split_seed=3))
    assert not differing(coupled, one)  # without it both are of one seed
    other, weights = everything(make_data(seed=3, split_seed=4)), everything(make_data(seed=4, split_seed=3))
    assert {"split", "probe", "val", "test"} <= differing(one, other)
    assert differing(one, weights) == {"batches", "meta"}
    # Both are: what the data are is that of the split's seed, whatever the weights' seed is
    both = everything(make_data(seed=4))
    assert differing(both, everything(make_data(seed=3, split_seed=4))) == {"batches", "meta"}


def test_the_splits_seed_decides_the_supervision() -> None:
    share = SplitFractions(val=0.1, test=0.1, meta=0.15, supervision=0.5)

    def positives(**seeds: int) -> set[tuple[int, int]]:
        steps = epoch_of(plain_steps(make_data(split=share, **seeds)))
        return pairs_of(torch.cat([batch.positives for batch in steps], dim=1))

    assert positives(seed=1, split_seed=2) == positives(seed=5, split_seed=2)
    assert positives(seed=1, split_seed=2) != positives(seed=1, split_seed=3)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_of_the_split_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(
        ValueError, match=rf"split_seed: expected an integer in 0 ... 4,294,967,295 or null, got {seed}"
    ):
        make_data(split_seed=seed)


def test_a_split_by_time(tmp_path: Path) -> None:
    """Test edges are the latest, validation edges those before them; the column is named on the data module."""
    rows = [f"a{i},b{(7 * i) % 30},{1900 + i}" for i in range(60)]
    path = tmp_path / "edges.csv"
    path.write_text("\n".join(["source,target,year", *rows]))
    protocol = Protocol(TimeParting(val=0.1, test=0.2), GeneratedComparison(RandomNegatives(4)))
    data = LinkDataModule(graph=str(path), time_column="year", protocol=protocol)
    years = {frozenset(row.split(",")[:2]): int(row.split(",")[2]) for row in rows}
    names = data.loaded.node_names

    def span(edges: torch.Tensor) -> tuple[int, int]:
        found = [years[frozenset((names[u], names[v]))] for u, v in edges.t().tolist()]
        return min(found), max(found)

    assert (span(data.split.observed), span(data.split.val), span(data.split.test)) == (
        (1900, 1941),
        (1942, 1947),
        (1948, 1959),
    )
    assert data.test_dataloader().dataset.whole.negatives.shape == (2, 12, 4)
