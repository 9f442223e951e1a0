"""On a graph of types every sampler, and every negative of evaluation, is of the right side."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy.stats import chisquare

from mebns_pl import (
    AbstractAdaptiveProposal,
    AbstractStaticProposal,
    CommonNeighbors,
    FunctionProposal,
    GraphColumns,
    HeartNegatives,
    KHopProposal,
    LinkDataModule,
    MixtureProposal,
    Plain,
    PredictionPairs,
    ProximityProposal,
    RandomNegatives,
    SplitFractions,
    UniformProposal,
    WalkProposal,
    predict_links,
    score_links,
)
from mebns_pl.data.needs import Needs
from mebns_pl.errors import DataError
from mebns_pl.evaluation.negatives import AbstractEvalNegatives, non_edges_like, repeated_pairs, uniform_non_edges
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.graph.measures.abstract import AbstractMeasure
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import PROPOSALS
from mebns_pl.negatives.sampler import Sampler
from references.negatives import members
from references.runs import fit, make_plain, make_trainer
from references.typed import EDGES, LINKED, NAMES, legal, typed_graph

KEY = Key(0, "tests/typed")


def own_kind(graph: Graph, anchors: torch.Tensor, num_candidates: int, generator: torch.Generator) -> torch.Tensor:
    return anchors[:, None].expand(-1, num_candidates)


WAYS: dict[type, list[Callable[[], AbstractStaticProposal]]] = {
    FunctionProposal: [lambda: FunctionProposal(own_kind)],
    KHopProposal: [KHopProposal, lambda: KHopProposal(hops=3)],
    WalkProposal: [WalkProposal, lambda: WalkProposal(length=3)],
    ProximityProposal: [lambda: ProximityProposal(CommonNeighbors())],
    MixtureProposal: [lambda: MixtureProposal([UniformProposal(), KHopProposal()], [0.5, 0.5])],
}


@pytest.mark.parametrize("build", members(PROPOSALS, WAYS, AbstractStaticProposal))
def test_static_proposals(build: Callable[[], AbstractStaticProposal]) -> None:
    graph, proposal = typed_graph(), build()
    proposal.setup(graph, KnownEdges(graph))
    drawn = proposal.draw(torch.arange(24), 20, KEY)
    assert torch.equal(drawn, proposal.draw(torch.arange(24), 20, KEY))
    for anchor, row in enumerate(drawn.tolist()):
        assert set(row) <= set(legal(anchor)), anchor


@pytest.mark.parametrize("build", members(PROPOSALS, {}, AbstractAdaptiveProposal))
def test_adaptive_proposals(build: Callable[[], AbstractAdaptiveProposal]) -> None:
    graph, proposal = typed_graph(), build()
    with torch.random.fork_rng(devices=[]):
        proposal.build(graph.spec)
    proposal.start(graph, KnownEdges(graph), KEY)
    anchors = torch.arange(24)
    for step in range(5):
        key, score = KEY.at(0, step), lambda nodes: nodes.double().sin()
        drawn = proposal.propose(anchors, anchors, 6, score, key)
        for anchor, row in enumerate(drawn.tolist()):
            assert set(row) <= set(legal(anchor))
        proposal.update(anchors, anchors, drawn, score, lambda rows: rows, key)


def test_structure_finds_the_right_side_beyond_the_nearest() -> None:
    """Of the twelve nearest, user 0's items that it has no edge with."""
    graph = typed_graph()
    proposal = ProximityProposal(ByNumber(), top=3)
    proposal.setup(graph, KnownEdges(graph))
    drawn = set(proposal.draw(torch.tensor([0]), 50, KEY).flatten().tolist())
    assert drawn == {7, 10}


class ByNumber(AbstractMeasure):
    """Nodes by their numbers, the lowest first."""

    def top(self, graph, nodes, k, exclude=None):  # type: ignore[no-untyped-def]
        k = min(k, graph.num_nodes)
        return torch.arange(k).expand(len(nodes), -1), (graph.num_nodes - torch.arange(k).float()).expand(
            len(nodes), -1
        )


# --- evaluation ------------------------------------------------------------------------------------------------------

HELD_OUT = torch.tensor([[6, 12, 2, 18], [1, 4, 7, 10]])
ALL = torch.cat([EDGES, HELD_OUT], dim=1)


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("negatives", [RandomNegatives(6), RandomNegatives(31), HeartNegatives(3), HeartNegatives(9)])
def test_nodes_stand_in_for_their_own_type(negatives: AbstractEvalNegatives, features: bool) -> None:
    found = negatives.generate(HELD_OUT, typed_graph(features), ALL, KEY)
    known, half = {frozenset(pair) for pair in ALL.t().tolist()}, (found.shape[2] + 1) // 2
    for row, (source, target) in enumerate(HELD_OUT.t().tolist()):
        for end, columns in ((0, slice(0, half)), (1, slice(half, None))):
            kept, other = ((source, target), (target, source))[end]
            replaced = found[1 - end, row, columns].tolist()
            assert set(found[end, row, columns].tolist()) == {kept}
            right = {
                node
                for node in range(24)
                if NAMES[node] == NAMES[other] and node != kept and frozenset((kept, node)) not in known
            }
            assert set(replaced) <= right
            assert len(set(replaced)) == min(len(replaced), len(right))
    repeated = repeated_pairs(HELD_OUT, found, 24, ALL, typed_graph().types)
    twice = any(len(set(map(tuple, row))) < found.shape[2] for row in found.permute(1, 2, 0).tolist())
    assert (repeated is not None) == twice
    if repeated is not None:
        kept = (~repeated).sum(dim=1).tolist()
        assert kept == [len({frozenset(pair) for pair in row}) for row in found.permute(1, 2, 0).tolist()]


def test_a_node_that_is_linked_to_all_of_a_type_is_refused() -> None:
    items = [node for node in range(24) if NAMES[node] == "item"]
    known = torch.cat([ALL, torch.tensor([[6] * len(items), items])], dim=1)
    with pytest.raises(DataError, match="^positives: node 6 is linked to all nodes of the other end's type"):
        RandomNegatives(4).generate(HELD_OUT, typed_graph(), known, KEY)


def test_shared_non_edges_are_uniform_among_those_of_the_same_types() -> None:
    graph = typed_graph()
    assert graph.types is not None
    many = HELD_OUT.repeat(1, 2000)
    drawn = non_edges_like(many, 24, graph.types, ALL, KEY)
    known = {tuple(sorted(pair)) for pair in ALL.t().tolist()}
    for a, b in (("item", "user"), ("item", "tag")):
        every = itertools.combinations(range(24), 2)
        allowed = {pair for pair in every if {NAMES[node] for node in pair} == {a, b}} - known
        counts = Counter(pair for pair in map(tuple, drawn.t().tolist()) if {NAMES[pair[0]], NAMES[pair[1]]} == {a, b})
        assert set(counts) == allowed
        assert chisquare([counts[pair] for pair in sorted(allowed)]).pvalue > 1e-4
    pairs = zip(many.t().tolist(), drawn.t().tolist(), strict=True)
    assert all({NAMES[node] for node in pair} == {NAMES[node] for node in other} for pair, other in pairs)


def test_non_edges_are_uniform_among_those_of_linked_types() -> None:
    graph = typed_graph()
    assert graph.types is not None
    drawn = uniform_non_edges(60_000, 24, ALL, KEY, graph.types)
    known = {tuple(sorted(pair)) for pair in ALL.t().tolist()}
    allowed = {
        pair for pair in itertools.combinations(range(24), 2) if (NAMES[pair[0]], NAMES[pair[1]]) in LINKED
    } - known
    counts = Counter(map(tuple, drawn.t().tolist()))
    assert set(counts) == allowed
    assert chisquare([counts[pair] for pair in sorted(allowed)]).pvalue > 1e-4
    everything = torch.tensor(sorted(allowed | known)).t()
    with pytest.raises(DataError, match="all pairs of linked types are edges"):
        uniform_non_edges(1, 24, everything, KEY, graph.types)


# --- the whole way ---------------------------------------------------------------------------------------------------


def write_random(folder: Path) -> None:
    """60 users, 40 items, 500 edges at random; users have fewer edges each."""
    order = torch.randperm(2400, generator=torch.Generator().manual_seed(3))[:500]
    lines = [f"{int(pair) // 40},{int(pair) % 40}\n" for pair in order]
    (folder / "both.csv").write_text("user,item\n" + "".join(lines))


def make_data(folder: Path, **options: object) -> LinkDataModule:
    columns = GraphColumns(source="user", target="item", bipartite=True)
    settings: dict[str, object] = {
        "split": SplitFractions(val=0.1, test=0.3), "eval_negatives": RandomNegatives(20), "columns": columns,
    }  # fmt: skip
    return LinkDataModule(str(folder / "both.csv"), **(settings | options))  # type: ignore[arg-type]


def is_user(data: LinkDataModule) -> torch.Tensor:
    return torch.tensor([name.startswith("user") for name in data.loaded.node_names])


def crossing(data: LinkDataModule, pairs: torch.Tensor) -> bool:
    user = is_user(data)
    return bool((user[pairs[0]] != user[pairs[1]]).all())


def test_everything_that_is_drawn_crosses(tmp_path: Path) -> None:
    write_random(tmp_path)
    data = make_data(tmp_path)
    assert data.types is not None
    batch = data.train_steps(Needs(Sampler(num_candidates=9)))[0, 0]
    assert crossing(data, torch.stack([batch.candidate_anchors[:, None].expand(-1, 9), batch.candidates]))
    assert bool(batch.candidate_mask.all())
    base = UniformProposal()
    pool, labels = data.meta_pool(data.enhanced(base, 0.5), 4, KEY)
    assert len(labels) > 5 * 5 - 1
    assert crossing(data, pool)
    probe = data.probe(80)
    assert probe.shape == (2, 80)
    assert crossing(data, probe)
    for stage in ("val", "test"):
        made = data.eval_set(stage)
        assert made.negatives is not None
        assert crossing(data, made.negatives)
        assert crossing(data, made.random_negatives)
    assert crossing(data, data.build_pool(Needs()).allowed.oriented(data.predict_dataloader().dataset[0]))
    users = make_data(tmp_path, nodes=None, typed=False)
    assert users.types is None
    assert not crossing(users, users.eval_set("test").random_negatives)


def test_types_stand_in_a_node_table_or_are_none(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("source,target\n" + "".join(f"u{i % 9},i{i % 7}\n" for i in range(63)))
    names = [*(f"u{i}" for i in range(9)), *(f"i{i}" for i in range(9))]
    (tmp_path / "n.csv").write_text("node,type\n" + "".join(f"{name},{name[0]}\n" for name in names))
    data = LinkDataModule(str(tmp_path / "e.csv"), nodes=str(tmp_path / "n.csv"))
    assert data.types is not None
    assert data.types.linked.tolist() == [[False, True], [True, False]]
    assert LinkDataModule(str(tmp_path / "e.csv")).types is None
    chosen = PredictionPairs(source_type="u", target_type="u")
    asked = LinkDataModule(str(tmp_path / "e.csv"), nodes=str(tmp_path / "n.csv"), pairs=chosen)
    assert asked.build_pool(Needs()).report.total_size == 36


def write_relations(folder: Path) -> None:
    """Users like items; users follow users, and have seen all that they like and more."""
    likes = [(f"u{i % 9}", "likes", f"i{i % 7}") for i in range(50)]
    seen = [(f"u{i % 9}", "seen", f"i{i % 7}") for i in range(45, 60)]
    follows = [(f"u{i}", "follows", f"u{(i + 2) % 9}") for i in range(9)]
    lines = [",".join(row) for row in [*likes, *seen, *follows]]
    (folder / "r.csv").write_text("source,how,target\n" + "\n".join(lines) + "\n")


def test_one_relation_is_predicted_and_the_others_pass_messages(tmp_path: Path) -> None:
    write_relations(tmp_path)
    columns = GraphColumns(relation="how", predicted="likes")
    data = LinkDataModule(str(tmp_path / "r.csv"), columns=columns, eval_negatives=RandomNegatives(3))
    loaded = data.loaded
    names = [[loaded.node_names[node] for node in pair] for pair in loaded.edges.t().tolist()]
    assert {tuple(sorted(pair)) for pair in names} == {tuple(sorted((f"u{i % 9}", f"i{i % 7}"))) for i in range(50)}
    assert loaded.context is not None
    assert loaded.context.shape == (2, 9 + 10)
    assert any("5 more join pairs of the predicted relation, dropped" in note for note in loaded.notes)
    split = data.split
    assert split.all.shape[1] == 50
    for graph, edges in ((data.train_graph, split.observed), (data.full_graph, split.all)):
        assert graph.num_edges == 2 * (edges.shape[1] + 19)
    seen = loaded.context[:, 0]
    assert not bool(data.known.mask(seen[0], seen[1]))  # seen and not liked: a negative
    assert bool(data.known.mask(split.train[0], split.train[1]).all())
    without = LinkDataModule(str(tmp_path / "r.csv"))
    assert data.digests["graph"] != without.digests["graph"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"relation": "how", "predicted": "loves"},
            "no edge of columns.predicted 'loves'; column 'how' has 'follows', 'likes'",
        ),
        ({"relation": "hw", "predicted": "likes"}, "no column 'hw'"),
        (
            {"relation": 1, "predicted": "likes"},
            "columns.relation: got 1; allowed is a name where columns.source is one",
        ),
    ],
)
def test_relations_that_are_not_there_are_refused(tmp_path: Path, columns: dict[str, str], told: str) -> None:
    write_relations(tmp_path)
    with pytest.raises(DataError, match=told):
        LinkDataModule(str(tmp_path / "r.csv"), columns=GraphColumns(**columns)).loaded  # noqa: B018
    with pytest.raises(ValueError, match="^columns.relation, columns.predicted: got 'how' and None"):
        GraphColumns(relation="how")
    with pytest.raises(DataError, match="^columns.predicted: got 'likes' without columns.relation"):
        LinkDataModule(str(tmp_path / "r.csv"), columns=GraphColumns(predicted="likes")).loaded  # noqa: B018


def test_random_edges_are_as_likely_as_random_non_edges(tmp_path: Path) -> None:
    """AUC 0.5 within its 95 % interval; with negatives of either side it is far above."""
    write_random(tmp_path)
    found = {}
    for typed in (True, False):
        data = make_data(tmp_path, typed=typed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            system = Plain(data.spec, optimizer=partial(torch.optim.Adam, lr=0.01))
        trainer = fit(system, data, 30, limit_val_batches=0)
        trainer.test(system, data, verbose=False)
        found[typed] = float(trainer.callback_metrics["test/auc"])
    num = 150
    wide = 1.96 * ((2 * num + 1) / (12 * num * num)) ** 0.5
    assert abs(found[True] - 0.5) < wide
    assert found[False] > 0.65


def test_probabilities_where_two_types_are_linked_throughout(tmp_path: Path) -> None:
    """There is no non-edge of a region and the country; those of users and items are enough."""
    write_random(tmp_path)
    edges = [line.split(",") for line in (tmp_path / "both.csv").read_text().split()[1:]]
    rows = [*((f"u{u}", f"i{i}") for u, i in edges), *((f"r{number}", "c") for number in range(3))]
    (tmp_path / "e.csv").write_text("source,target\n" + "".join(f"{a},{b}\n" for a, b in rows))
    names = sorted({name for row in rows for name in row})
    (tmp_path / "n.csv").write_text("node,type\n" + "".join(f"{name},{name[0]}\n" for name in names))
    split = SplitFractions(val=0.1, test=0.3)
    data = LinkDataModule(str(tmp_path / "e.csv"), nodes=str(tmp_path / "n.csv"), split=split)
    assert data.types is not None
    system = make_plain(data.spec)
    trainer = make_trainer()
    links = predict_links(system, data, top_k=5, explain=True, trainer=trainer)
    assert links["probability"].between(0, 1).all()
    table = score_links(system, data, pd.DataFrame({"source": ["u1"], "target": ["u2"]}), trainer=trainer)
    assert table["known"].tolist() == [False]  # they can be no edge, and are none


def test_too_many_types_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"n{number}" for number in range(70)]
    (tmp_path / "e.csv").write_text("source,target\n" + "".join(f"{a},{b}\n" for a, b in itertools.pairwise(names)))
    (tmp_path / "n.csv").write_text("node,type\n" + "".join(f"{name},{name}\n" for name in names))
    data = LinkDataModule(str(tmp_path / "e.csv"), nodes=str(tmp_path / "n.csv"))
    with caplog.at_level(logging.WARNING, logger="mebns_pl"):
        assert data.types is None
    assert "nodes have 70 types, more than 64" in caplog.text
