"""Protocols: how each parts a graph, what it compares with, and published numbers on the files of the field."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.datasets.catalog import load_graph
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.official_splits import OfficialSplit, load_official_split
from mebns_pl.datasets.split import SplitFractions
from mebns_pl.errors import DataError
from mebns_pl.evaluation.heart_released import HeartReleasedGenerator
from mebns_pl.evaluation.negatives import RandomNegatives
from mebns_pl.evaluation.protocols import (
    AbstractComparison,
    AbstractParting,
    AsReleasedComparison,
    GeneratedComparison,
    OfficialComparison,
    OfficialParting,
    Protocol,
    RandomParting,
    ReleasedComparison,
    TimeParting,
    UniformComparison,
    edge_split,
)
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.katz import Katz
from mebns_pl.graph.measures.neighbors import AdamicAdar, CommonNeighbors, ResourceAllocation
from mebns_pl.keys import Key
from mebns_pl.metrics.functional import auc, hits_above, mean_reciprocal_rank, ranks, ranks_shared
from mebns_pl.types import EvalBatch
from references.runs import FRACTIONS, make_data, make_loaded, tensors_of

KEY = Key(2, "tests/protocols")
MEASURES = {"cn": CommonNeighbors(), "aa": AdamicAdar(), "ra": ResourceAllocation()}


def pairs_of(edges: Tensor) -> set[tuple[int, ...]]:
    return {tuple(sorted(pair)) for pair in edges.flatten(1).t().tolist()}


def timed() -> LoadedGraph:
    loaded = make_loaded()
    times = torch.arange(loaded.num_edges, dtype=torch.float64).flip(0) // 10
    return LoadedGraph(loaded.name, loaded.edges, loaded.node_names, loaded.x, times=times)


class Given(AbstractParting):
    """A parting that comes with negatives."""

    def part(self, graph: LoadedGraph, root: str | Path | None, key: Key) -> OfficialSplit:
        parts = RandomParting(0.1, 0.1).part(graph, root, key)
        hard = [torch.stack([part, part.flip(0)], dim=2) for part in (parts.val, parts.test)]
        return OfficialSplit(
            graph.name,
            graph.num_nodes,
            parts.train.flip(0),
            parts.val.flip(0),  # direction is kept
            parts.test.flip(0),
            val_negatives=torch.tensor([[0, 1, 2], [40, 40, 40]]),
            test_negatives=torch.tensor([[3, 4], [40, 40]]),
            val_hard=hard[0],
            test_hard=hard[1],
            notes=["given"],
        )


def parts_of(parting: AbstractParting, loaded: LoadedGraph | None = None, key: Key = KEY) -> OfficialSplit:
    return parting.part(loaded or make_loaded(), None, key)


def compare(comparison: AbstractComparison, stage: str, parts: OfficialSplit) -> EvalBatch:
    graph = Graph.from_edges(parts.train, parts.num_nodes, make_loaded().x)
    return comparison.compare(stage, parts, graph, KEY.child(stage))


# --- partings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parting", [RandomParting(0.1, 0.2), TimeParting(0.1, 0.2)], ids=["random", "time"])
def test_partings_are_disjoint_and_complete(parting: AbstractParting) -> None:
    loaded = timed()
    parts = parts_of(parting, loaded)
    sets = [pairs_of(part) for part in (parts.train, parts.val, parts.test)]
    assert set().union(*sets) == pairs_of(loaded.edges)
    assert sum(map(len, sets)) == loaded.num_edges
    assert len(sets[1]) == loaded.num_edges // 10
    assert len(sets[2]) == loaded.num_edges // 5
    assert all(torch.equal(a, b) for a, b in zip(tensors(parts), tensors(parts_of(parting, loaded)), strict=True))
    other = parts_of(parting, loaded, Key(3, "other"))
    assert not torch.equal(other.test, parts.test)


def tensors(parts: OfficialSplit) -> list[Tensor]:
    return [parts.train, parts.val, parts.test]


def test_the_latest_edges_are_for_test() -> None:
    loaded = timed()
    parts = parts_of(TimeParting(0.1, 0.2), loaded)
    time = {tuple(edge): float(t) for edge, t in zip(loaded.edges.t().tolist(), loaded.times, strict=True)}
    train, val, test = ([time[pair] for pair in pairs_of(part)] for part in tensors(parts))
    assert max(train) <= min(val)
    assert max(val) <= min(test)
    assert max(train) < max(test)


def test_a_split_by_time_needs_times() -> None:
    with pytest.raises(DataError, match="communities: its edges carry no times"):
        parts_of(TimeParting())


def test_an_official_split_belongs_to_its_graph(data_root: Path) -> None:
    cora = LoadedGraph("citeseer", torch.tensor([[0], [1]]), ["a", "b"])
    with pytest.raises(DataError, match="citeseer: the split is of 3,327 nodes, the graph has 2"):
        OfficialParting().part(cora, data_root, KEY)
    with pytest.raises(DataError, match="no official split of 'communities'"):
        parts_of(OfficialParting())


@pytest.mark.parametrize("meta", [0.0, 0.25])
def test_meta_edges_are_training_edges(meta: float) -> None:
    parts = parts_of(Given())
    split = edge_split(parts, meta, KEY)
    assert pairs_of(split.train) | pairs_of(split.meta) == pairs_of(parts.train)
    assert not pairs_of(split.train) & pairs_of(split.meta)
    assert split.meta.shape[1] == int(meta * parts.train.shape[1])
    assert bool((split.all[0] < split.all[1]).all())
    assert torch.equal(split.val, parts.val.flip(0))


@pytest.mark.parametrize("meta", [-0.1, 1.0])
def test_meta_fractions_out_of_range_are_refused(meta: float) -> None:
    with pytest.raises(DataError, match=r"split\.meta: got .*; allowed is a number in \[0, 1\)"):
        edge_split(parts_of(Given()), meta, KEY)


# --- comparisons ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["val", "test"])
def test_uniform_negatives_are_shared_and_no_known_edges(stage: str) -> None:
    parts = parts_of(RandomParting(0.1, 0.1))
    batch = compare(UniformComparison(), stage, parts)
    assert batch.negatives is None
    assert batch.random_negatives.shape == batch.positives.shape
    known = pairs_of(parts.train) | pairs_of(parts.val) | (pairs_of(parts.test) if stage == "test" else set())
    assert not pairs_of(batch.random_negatives) & known


@pytest.mark.parametrize("stage", ["val", "test"])
def test_official_negatives_are_those_of_the_split(stage: str) -> None:
    parts = parts_of(Given())
    shared, hard, positives = {
        "val": (parts.val_negatives, parts.val_hard, parts.val),
        "test": (parts.test_negatives, parts.test_hard, parts.test),
    }[stage]
    official, released = compare(OfficialComparison(), stage, parts), compare(ReleasedComparison(), stage, parts)
    assert official.negatives is None
    assert torch.equal(official.random_negatives, shared)
    assert torch.equal(released.negatives, hard)
    assert torch.equal(released.random_negatives, shared)
    assert torch.equal(official.positives, positives)


def test_without_shared_negatives_each_edges_own_are_taken() -> None:
    given = parts_of(Given())
    parts = OfficialSplit("own", 41, given.train, given.val, given.test, val_hard=given.val_hard)
    batch = compare(OfficialComparison(), "val", parts)
    assert torch.equal(batch.negatives, given.val_hard)
    assert batch.random_negatives.shape == given.val.shape
    with pytest.raises(DataError, match="own: its split comes without test negatives"):
        compare(OfficialComparison(), "test", parts)
    with pytest.raises(DataError, match="own: no released hard negatives of test edges"):
        compare(ReleasedComparison(), "test", parts)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_generated_negatives_keep_the_house_rule(stage: str) -> None:
    parts = parts_of(RandomParting(0.1, 0.1))
    batch = compare(GeneratedComparison(RandomNegatives(8)), stage, parts)
    known = pairs_of(parts.train) | pairs_of(parts.val) | (pairs_of(parts.test) if stage == "test" else set())
    assert batch.negatives.shape == (2, batch.positives.shape[1], 8)
    assert not pairs_of(batch.negatives) & known
    assert not pairs_of(batch.random_negatives) & known


def test_as_released_validation_and_test_are_one_run_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of(Given())
    graph = Graph.from_edges(parts.train, 41, make_loaded().x)
    comparison = AsReleasedComparison(HeartReleasedGenerator(4), tmp_path)
    expected = HeartReleasedGenerator(4).generate(graph, parts.val, parts.test)
    assert torch.equal(compare(comparison, "test", parts).negatives, expected[1])
    monkeypatch.setattr(HeartReleasedGenerator, "generate", None)
    batch = compare(comparison, "val", parts)
    assert torch.equal(batch.negatives, expected[0])
    assert torch.equal(batch.random_negatives, parts.val_negatives)
    assert len(list(tmp_path.iterdir())) == 1


# --- in the data module ---------------------------------------------------------------------------------------------


def with_protocol(parting: AbstractParting, comparison: AbstractComparison, **changes: object) -> LinkDataModule:
    return make_data(protocol=Protocol(parting, comparison, **changes))


@pytest.mark.parametrize("comparison", [OfficialComparison(), ReleasedComparison()], ids=["shared", "own"])
def test_the_data_module_hands_a_protocol_out(comparison: AbstractComparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mebns_pl.data.batches.EVAL_PAIRS", 8)  # several chunks
    data = with_protocol(Given(), comparison)
    parts = data.protocol_parts
    assert pairs_of(data.split.observed) == pairs_of(parts.train)
    assert data.split.meta.shape[1] == int(FRACTIONS.meta * parts.train.shape[1])
    assert data.test_graph is data.train_graph
    for stage, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        batches: list[EvalBatch] = list(loader)
        assert len(batches) > 1
        whole = comparison.compare(stage, parts, data.train_graph, KEY)
        assert (data.eval_set(stage).negatives is None) is (whole.negatives is None)
        assert torch.equal(torch.cat([b.positives for b in batches], dim=1), whole.positives)
        assert torch.equal(torch.cat([b.random_negatives for b in batches], dim=1), whole.random_negatives)
        if whole.negatives is not None:
            assert torch.equal(torch.cat([b.negatives for b in batches], dim=1), whole.negatives)


def test_validation_edges_in_test_only_where_the_protocol_says_so() -> None:
    data = with_protocol(RandomParting(0.1, 0.1), UniformComparison(), val_in_test=True)
    assert pairs_of(data.train_graph.edge_index) == pairs_of(data.split.observed)
    assert pairs_of(data.test_graph.edge_index) == pairs_of(data.split.observed) | pairs_of(data.split.val)
    assert data.test_graph.x is data.loaded.x
    assert make_data().test_graph is not None


def test_without_a_protocol_nothing_changes() -> None:
    """A random parting with generated negatives differs from the default only by what it draws."""
    data = make_data()
    assert data.protocol is None
    assert data.eval_set("test").negatives is not None
    assert data.test_graph is data.train_graph


def test_the_seed_decides_a_protocols_draws() -> None:
    found = [
        tensors_of([list(data.val_dataloader()), list(data.test_dataloader())], "eval")
        for data in (
            make_data(seed=seed, protocol=Protocol(RandomParting(0.1, 0.1), UniformComparison())) for seed in (0, 0, 1)
        )
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not all(torch.equal(found[0][name], found[2][name]) for name in found[0])


# --- published numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "published"), [("cn", 8.42), ("aa", 10.82), ("ra", 10.84)])
def test_citeseer_released(name: str, published: float, data_root: Path) -> None:
    data = LinkDataModule(
        "citeseer",
        data_root,
        split=SplitFractions(meta=0.0),
        protocol=Protocol(OfficialParting(), ReleasedComparison()),
    )
    batches: list[EvalBatch] = list(data.test_dataloader())
    places = []
    for batch in batches:
        negative = MEASURES[name].pairs(data.test_graph, *batch.negatives.flatten(1)).view(batch.negatives.shape[1:])
        places.append(ranks(MEASURES[name].pairs(data.test_graph, *batch.positives), negative))
    assert 100 * float(mean_reciprocal_rank(torch.cat(places))) == pytest.approx(published, abs=0.01)


EXISTING = [
    ("citeseer", "cn", 28.34, 67.49), ("citeseer", "aa", 29.37, 67.49), ("citeseer", "ra", 27.61, 67.48),
    ("pubmed", "cn", 14.02, 63.90), ("pubmed", "aa", 16.66, 63.90), ("pubmed", "ra", 15.63, 63.90),
]  # fmt: skip


@pytest.mark.parametrize(("graph", "name", "mrr", "area"), EXISTING)
def test_existing_setting(graph: str, name: str, mrr: float, area: float, data_root: Path) -> None:
    parts = load_official_split(graph, data_root)
    train = Graph.from_edges(parts.train, parts.num_nodes)
    positive, negative = (MEASURES[name].pairs(train, *pairs) for pairs in (parts.test, parts.test_negatives))
    assert 100 * float(mean_reciprocal_rank(ranks_shared(positive, negative))) == pytest.approx(mrr, abs=0.01)
    assert 100 * float(auc(positive, negative)) == pytest.approx(area, abs=0.02)


@pytest.mark.slow
def test_ogbl_ddi(data_root: Path) -> None:
    parts = load_official_split("ogbl-ddi", data_root)
    train = Graph.from_edges(parts.train, parts.num_nodes)
    for name, published in (("cn", 17.73), ("aa", 18.61)):
        positive, negative = (MEASURES[name].pairs(train, *pairs) for pairs in (parts.test, parts.test_negatives))
        assert 100 * float(hits_above(positive, negative, 20)) == pytest.approx(published, abs=0.01)


# Published mean and standard deviation over ten splits; here three splits of the small graphs, so that the test is fast
SEAL = [
    ("usair", (93.80, 95.06, 95.77, 92.88), (1.2, 1.0, 0.9, 1.4)),
    ("ns", (94.42, 94.45, 94.45, 94.85), (1.0, 0.9, 0.9, 1.1)),
    ("celegans", (85.13, 86.95, 87.49, 86.34), (1.6, 1.4, 1.4, 1.9)),
    ("router", (56.43, 56.43, 56.43, 38.62), (0.5, 0.5, 0.5, 1.4)),
]


@pytest.mark.parametrize(("graph", "means", "deviations"), SEAL)
def test_seal_protocol(graph: str, means: tuple[float], deviations: tuple[float], data_root: Path) -> None:
    measures, found, loaded = [*MEASURES.values(), Katz(0.001)], [], load_graph(graph, data_root)
    for seed in range(3):
        data = LinkDataModule(seed=seed, protocol=Protocol(RandomParting(), UniformComparison(), val_in_test=True))
        data.loaded = loaded
        (batch,) = data.test_dataloader()
        pairs = batch.positives, batch.random_negatives
        found.append([100 * auc(*(measure.pairs(data.test_graph, *p) for p in pairs)) for measure in measures])
    for mean, published, deviation in zip(torch.tensor(found).mean(0).tolist(), means, deviations, strict=True):
        assert abs(mean - published) <= 2 * deviation
