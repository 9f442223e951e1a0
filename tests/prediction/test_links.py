"""Tables of links from Python: predicted ones under every restriction, and given pairs, also of unseen nodes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from mebns_pl import (
    GAT,
    GCN,
    SAGE,
    SEAL,
    EncoderDecoder,
    Heuristic,
    LinkDataModule,
    NearestPool,
    NeighborSampling,
    NewNodes,
    PredictionPairs,
    PredictionWriter,
    StructureMLP,
    TwoHopPool,
    predict_links,
    score_links,
)
from mebns_pl.datasets.files import read_edge_list
from mebns_pl.errors import DataError
from mebns_pl.pools.new_nodes import with_new_nodes
from mebns_pl.prediction.score_table import ScoreTable
from mebns_pl.systems.link_system import AbstractLinkSystem
from references.runs import fit, make_data, make_loaded, make_plain, make_trainer

ALL = 10**6


def numbers(data: LinkDataModule, table: pd.DataFrame) -> torch.Tensor:
    number = {name: i for i, name in enumerate(data.loaded.node_names)}
    return torch.tensor([[number[name] for name in table[end]] for end in ("source", "target")])


def trained() -> tuple[AbstractLinkSystem, LinkDataModule]:
    data = make_data()
    system = make_plain(data.spec)
    fit(system, data, epochs=2)
    return system, data


def predict(system: AbstractLinkSystem, data: LinkDataModule, *args: object, **options: object) -> pd.DataFrame:
    return predict_links(system, data, *args, trainer=make_trainer(), **options)


@pytest.fixture
def node_table(tmp_path: Path) -> str:
    path = tmp_path / "nodes.csv"
    path.write_text(
        "node,type\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(make_loaded().node_names))
    )
    return str(path)


def test_links_of_each_node_are_those_of_the_whole_list() -> None:
    system, data = trained()
    whole, lists = predict(system, data, ALL), predict(system, data, 4, per_node=True)
    turned = whole.rename(columns={"source": "target", "target": "source"})
    both = pd.concat([whole, turned])
    assert len(lists) == 4 * 41
    for name, found in lists.groupby("source"):
        expected = both[both["source"] == name].sort_values("logit", ascending=False, kind="stable").head(4)
        assert found["logit"].tolist() == pytest.approx(expected["logit"].tolist(), abs=1e-6)
        assert found["rank"].tolist() == [1, 2, 3, 4]
    assert lists["source"].drop_duplicates().tolist() == data.loaded.node_names


def test_chosen_nodes_types_and_forbidden_pairs(tmp_path: Path, node_table: str) -> None:
    system, data = trained()
    data.nodes = node_table
    whole = predict(system, data, ALL)
    logit = {frozenset(pair): value for *pair, value in whole[["source", "target", "logit"]].itertuples(index=False)}

    typed = predict(system, data, ALL, pairs=PredictionPairs(source_type="b", target_type="a"))
    ends = numbers(data, typed)
    assert bool((ends[0] % 2 == 1).all())
    assert bool((ends[1] % 2 == 0).all())
    expected = [pair for pair in logit if sum(int(name[5:]) for name in pair) % 2 == 1]
    assert {frozenset(pair) for pair in zip(typed["source"], typed["target"], strict=True)} == set(expected)
    assert typed["logit"].tolist() == pytest.approx(sorted((logit[pair] for pair in expected), reverse=True), abs=1e-6)

    forbidden = tmp_path / "forbidden.csv"
    worst = whole.iloc[:3][["target", "source"]].set_axis(["source", "target"], axis=1)
    worst.to_csv(forbidden, index=False)
    without = predict(system, data, ALL, pairs=PredictionPairs(forbidden=str(forbidden)))
    assert without["logit"].tolist() == pytest.approx(whole["logit"].tolist()[3:], abs=1e-6)

    chosen = predict(system, data, 5, pairs=PredictionPairs(nodes=["node 40", "node 3"]), per_node=True)
    assert chosen["source"].tolist() == ["node 3"] * 5 + ["node 40"] * 5
    overall = predict(system, data, 5, pairs=PredictionPairs(nodes=["node 40", "node 3"]))
    with_them = whole[whole["source"].isin(["node 40", "node 3"]) | whole["target"].isin(["node 40", "node 3"])]
    assert overall["logit"].tolist() == pytest.approx(with_them["logit"].tolist()[:5], abs=1e-6)
    assert predict(system, data, ALL).equals(whole)  # the module's own choice is back


@pytest.mark.parametrize("pool", [None, NearestPool(top=3), TwoHopPool()])
def test_larger_graphs_take_a_pool(monkeypatch: pytest.MonkeyPatch, pool: object) -> None:
    monkeypatch.setattr("mebns_pl.pools.union.MAX_NODES", 40)
    system, data = trained()
    whole = predict(system, data, ALL, pairs=PredictionPairs(pool=pool))
    parts = whole.attrs["pool"]
    if pool is None:
        assert [part["pool"] for part in parts] == ["two-hop", "PageRank, top 100", "nearest, top 100", "together"]
    assert len(whole) == parts[-1]["pairs"]
    assert 0 < whole.attrs["coverage"] == parts[-1]["coverage"] <= 1
    # The embeddings are the student's
    if isinstance(pool, NearestPool):
        z = system.student.embeddings(data.full_graph).detach()
        z = torch.nn.functional.normalize(z, dim=1)
        similar = (z @ z.t()).fill_diagonal_(-2)
        similar[data.full_graph.rows, data.full_graph.indices] = -2
        lists = similar.topk(3).indices
        expected = {frozenset((u, int(v))) for u in range(41) for v in lists[u]}
        assert {frozenset(pair) for pair in numbers(data, whole).t().tolist()} == expected


def test_a_student_without_embeddings_gets_no_nearest_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mebns_pl.pools.union.MAX_NODES", 40)
    data = make_data()
    links = predict(Heuristic(data.spec), data, 10)
    assert len(links) == 10
    assert [part["pool"] for part in links.attrs["pool"]] == ["two-hop", "PageRank, top 100", "together"]
    with pytest.raises(DataError, match="NearestPool needs a student that embeds nodes"):
        predict(Heuristic(data.spec), data, 10, pairs=PredictionPairs(pool=NearestPool()))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".pq"])
def test_files_hold_the_table(tmp_path: Path, suffix: str) -> None:
    system, data = trained()
    path = tmp_path / "new" / f"links{suffix}"
    writer = PredictionWriter(str(path), top_k=6)
    make_trainer(callbacks=[writer]).predict(system, data, return_predictions=False)
    assert writer.table is not None
    read = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert read["source"].tolist() == writer.table["source"].tolist()
    assert read["logit"].tolist() == pytest.approx(writer.table["logit"].tolist(), rel=1e-6)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_nothing_to_predict_is_an_empty_table() -> None:
    loaded = make_loaded()
    pairs = torch.combinations(torch.arange(41)).t()
    data = make_data(type(loaded)("whole", pairs[:, 1:], loaded.node_names, loaded.x))
    links = predict(make_plain(data.spec), data, 5)
    assert len(links) == 1
    data.pairs = PredictionPairs(nodes=["node 30"])
    assert len(predict(make_plain(data.spec), data, 5)) == 0


# --- given pairs ----------------------------------------------------------------------------------------------------


def test_given_pairs_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mebns_pl.data.batches.EVAL_PAIRS", 7)
    system, data = trained()
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(41, (40,), generator=generator)
    target = (source + torch.randint(1, 41, (40,), generator=generator)) % 41
    names = data.loaded.node_names
    asked = pd.DataFrame({"n": range(40), "target": [names[i] for i in target], "source": [names[i] for i in source]})
    asked.to_parquet(tmp_path / "pairs.parquet")
    table = score_links(system, data, tmp_path / "pairs.parquet", trainer=make_trainer())
    assert list(table.columns) == ["source", "target", "score", "logit", "known", "new_node", "rejected"]
    assert table[["source", "target"]].equals(asked[["source", "target"]])
    with torch.no_grad():
        expected = system.student(system.student.prepare(data.full_graph, torch.stack([source, target])))
    assert table["logit"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert table["score"].tolist() == pytest.approx(expected.sigmoid().tolist(), abs=1e-5)
    edges = {frozenset(edge) for edge in data.loaded.edges.t().tolist()}
    known = [frozenset(pair) in edges for pair in zip(source.tolist(), target.tolist(), strict=True)]
    assert 0 < sum(known) < 40
    assert table["known"].tolist() == known
    assert not table["new_node"].any()
    assert not table["rejected"].any()
    assert score_links(system, data, asked, trainer=make_trainer()).equals(table)
    assert data.given is None


def test_unknown_names_are_refused_with_a_way_out() -> None:
    system, data = trained()
    with pytest.raises(DataError, match=r"pairs: 1 name .*'x' \(row 1\).*come with a table of their features"):
        score_links(system, data, pd.DataFrame({"source": ["node 1", "x"], "target": ["node 2", "node 3"]}))
    with pytest.raises(DataError, match="no column 'target'"):
        score_links(system, data, pd.DataFrame({"source": ["node 1"]}))


@pytest.fixture
def own_graph(tmp_path: Path) -> Path:
    """The communities as files, with two nodes that training does not see."""
    loaded = make_loaded()
    names, x = loaded.node_names, loaded.x
    assert isinstance(x, torch.Tensor)
    pd.DataFrame([(names[u], names[v]) for u, v in loaded.edges.t().tolist()], columns=["source", "target"]).to_csv(
        tmp_path / "edges.csv", index=False
    )
    features = pd.DataFrame(x.numpy(), columns=list("pqrst"))
    features.insert(0, "node", names)
    features.to_csv(tmp_path / "nodes.csv", index=False)
    features.iloc[[5, 25]].assign(node=["new 5", "new 25"]).to_csv(tmp_path / "new.csv", index=False)
    (tmp_path / "new_edges.csv").write_text("source,target\nnew 5,node 2\nnew 5,new 25\nnode 7,new 5\n")
    pairs = [("new 5", "node 3"), ("node 35", "new 5"), ("new 5", "node 7"), ("new 25", "new 5"), ("node 0", "node 1")]
    pd.DataFrame(pairs, columns=["source", "target"]).to_csv(tmp_path / "pairs.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("encoder", [GCN, SAGE, GAT])
@pytest.mark.parametrize("edges", [True, False])
def test_unseen_nodes_are_scored_by_their_features(own_graph: Path, encoder: type, edges: bool) -> None:
    loaded = read_edge_list(own_graph / "edges.csv", own_graph / "nodes.csv")
    data = make_data(loaded, nodes=str(own_graph / "nodes.csv"))
    predictor = partial(EncoderDecoder, encoder=partial(encoder, hidden_channels=16))
    system = make_plain(data.spec, predictor=predictor)
    fit(system, data, epochs=2)
    new_edges = str(own_graph / "new_edges.csv") if edges else None
    new = NewNodes(str(own_graph / "new.csv"), new_edges)
    table = score_links(system, data, own_graph / "pairs.csv", new=new, trainer=make_trainer())
    assert table["new_node"].tolist() == [True, True, True, True, False]
    assert table["known"].tolist()[:4] == [False, False, edges, edges]
    graph, names = with_new_nodes(loaded, data.full_graph, own_graph / "nodes.csv", new.nodes, new_edges)
    number = {name: i for i, name in enumerate(names)}
    pairs = torch.tensor([[number[name] for name in table[end]] for end in ("source", "target")])
    with torch.no_grad():
        expected = system.student(system.student.prepare(graph, pairs)).tolist()
        z = system.student.embeddings(graph)
    assert table["logit"].tolist() == pytest.approx(expected, abs=1e-5)
    if not edges:  # known nodes are untouched then, and a node alone still has its own features
        alone = score_links(system, data, table.iloc[[4]][["source", "target"]], trainer=make_trainer())
        assert table["logit"][4] == pytest.approx(alone["logit"][0], abs=1e-5)
        assert not torch.allclose(z[-1], z[-2])


def test_unseen_nodes_of_a_large_graph(own_graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large graph the pairs' nodes alone are embedded, new ones among them."""
    loaded = read_edge_list(own_graph / "edges.csv", own_graph / "nodes.csv")
    data = make_data(loaded, nodes=str(own_graph / "nodes.csv"))
    predictor = partial(EncoderDecoder, encoder=partial(SAGE, hidden_channels=16))
    system = make_plain(data.spec, predictor=predictor, batching=NeighborSampling(fan_out=5, num_hops=2))
    new = NewNodes(str(own_graph / "new.csv"), str(own_graph / "new_edges.csv"))
    fit(system, data, epochs=1)
    whole = score_links(system, data, own_graph / "pairs.csv", new=new, trainer=make_trainer())
    monkeypatch.setattr("mebns_pl.models.batching.RESTRICTED", 1)
    part = score_links(system, data, own_graph / "pairs.csv", new=new, trainer=make_trainer())
    assert part["new_node"].tolist() == [True, True, True, True, False]
    assert part["logit"].tolist() == pytest.approx(whole["logit"].tolist(), abs=1e-5)


def test_students_that_learned_the_nodes_refuse_unseen_ones(own_graph: Path) -> None:
    loaded = read_edge_list(own_graph / "edges.csv")
    data = make_data(loaded)
    new = NewNodes(str(own_graph / "new.csv"))
    message = "no node features, so the encoder learned an embedding of each training node; train with a node table"
    with pytest.raises(DataError, match=message) as refused:
        score_links(make_plain(data.spec), data, own_graph / "pairs.csv", new=new, trainer=make_trainer())
    assert "or train StructureMLP or SEAL, which learn nothing of single nodes" in str(refused.value)
    assert data.given is None


@pytest.mark.parametrize("predictor", [StructureMLP, SEAL])
def test_students_that_learned_structure_score_unseen_nodes_by_their_edges(own_graph: Path, predictor: type) -> None:
    """As the refusal says: without features, and of a table of names alone."""
    data = make_data(read_edge_list(own_graph / "edges.csv"))
    pd.read_csv(own_graph / "new.csv")[["node"]].to_csv(own_graph / "names.csv", index=False)
    new = NewNodes(str(own_graph / "names.csv"), str(own_graph / "new_edges.csv"))
    system = make_plain(data.spec, predictor=predictor)
    fit(system, data, epochs=1)
    linked = score_links(system, data, own_graph / "pairs.csv", new=new, trainer=make_trainer())
    assert linked["new_node"].tolist() == [True, True, True, True, False]
    alone = score_links(system, data, own_graph / "pairs.csv", new=NewNodes(new.nodes), trainer=make_trainer())
    assert (linked["logit"] != alone["logit"]).any()


def test_heuristics_score_unseen_nodes_by_their_edges(own_graph: Path) -> None:
    data = make_data(read_edge_list(own_graph / "edges.csv"))
    new = NewNodes(str(own_graph / "new.csv"), str(own_graph / "new_edges.csv"))
    table = score_links(Heuristic(data.spec), data, own_graph / "pairs.csv", new=new, trainer=make_trainer())
    names, graph = data.loaded.node_names, data.full_graph
    place = names.index("node 3")
    of_three = {names[i] for i in graph.indices[graph.indptr[place] : graph.indptr[place + 1]].tolist()}
    assert table["logit"][0] == len(of_three & {"node 2", "node 7"})
    assert table["logit"][3] == 0.0


def test_blocks_of_ranks_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank r of R holds every R-th block, from the r-th on."""
    data = make_data()
    blocks = list(torch.arange(9.0).split(2))
    system = make_plain(data.spec)
    pairs = torch.stack([torch.arange(9), torch.arange(9) + 10])
    data.given = SimpleNamespace(pairs=pairs, graph=data.full_graph, node_names=data.loaded.node_names, num_known=41)
    table = ScoreTable()
    trainer = SimpleNamespace(world_size=2, datamodule=data)

    def gather(out: list, own: list) -> None:
        out[:] = [blocks[0::2], blocks[1::2]]

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    table.on_predict_start(trainer, system)  # type: ignore[arg-type]
    table.on_predict_end(trainer, system)  # type: ignore[arg-type]
    assert table.table is not None
    assert table.table["logit"].tolist() == list(range(9))
