"""Graph files as other libraries write them, and as people have them: read, or refused with what to do instead."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import torch
import torch_geometric.transforms as T
from torch_geometric.data import Data, TemporalData

from mebns_pl.datasets.files import read_edge_list, read_graph
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.readers.options import GraphColumns
from mebns_pl.errors import DataError

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
RING = [(i, (i + step) % 12) for i in range(12) for step in (1, 2)]
EDGES = sorted(tuple(sorted(pair)) for pair in RING)


def message_of(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edges_of(graph: LoadedGraph) -> list[tuple[int, ...]]:
    return [tuple(edge) for edge in graph.edges.t().tolist()]


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path


# Comments: SNAP, KONECT

PLAIN = "".join(f"{u}\t{v}\n" for u, v in RING)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("snap.txt", f"# Undirected graph: a\n# Nodes: 12 Edges: 24\n# FromNodeId\tToNodeId\n{PLAIN}"),
        ("snap.txt.gz", f"# FromNodeId\tToNodeId\r\n{PLAIN}".replace("\n", "\r\n")),
        ("konect.tsv", f"% sym unweighted\n% 24 12 12\n{PLAIN}".replace("\t", " ")),
        ("konect.txt", f"% bip weighted\n{PLAIN}".replace("\t", " ").replace("\n", " 1\t1082040961\n")),
        ("konect.txt", f"% sym\n  {PLAIN}".replace("\t", "  \t ").replace("\n", "\t\n")),
        ("commas.csv", f"# made by hand\n\n{PLAIN}".replace("\t", ",")),
        ("header.csv", f"# made by hand\nsource,target\n{PLAIN}".replace("\t", ",")),
        ("named.txt", f"# source\ttarget\n{PLAIN}"),
        ("named.txt", "# weight\ttarget\tsource\n" + "".join(f"1\t{v}\t{u}\n" for u, v in RING)),
        ("spaces.txt", '# quoted\n"0" "1"\n' + PLAIN.replace("\t", " ")),
    ],
)
def test_comments_at_the_beginning_are_passed_over(tmp_path: Path, name: str, text: str) -> None:
    graph = read_graph(written(tmp_path / name, text))
    assert graph.node_names == [str(i) for i in range(12)]
    assert edges_of(graph) == EDGES


def test_names_that_look_like_comments_below_the_first_lines_are_names(tmp_path: Path) -> None:
    path = written(tmp_path / "tags.csv", "# tags\nsource,target\n#red,#blue\n#blue,green\n")
    assert read_graph(path).node_names == ["#blue", "#red", "green"]
    path = written(tmp_path / "tags.csv", "source,target\n#red,#blue\n%a,#blue\n")
    assert read_graph(path).node_names == ["#blue", "#red", "%a"]
    for end in ("\u2028", "\x0b", "\x1c"):  # no ends of lines
        path = written(tmp_path / "tags.csv", f"# a{end}# b\n1,2\n2,3\n3,4\n")
        assert read_graph(path).num_edges == 3
    path = written(tmp_path / "tags.csv", "# a\n1,2\n2,3,4\n")
    assert "line 3: 3 fields" in message_of(lambda: read_graph(path))
    assert "below" not in message_of(lambda: read_graph(written(tmp_path / "tags.csv", "# only\n# comments\n")))


def test_columns_of_a_commented_file_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "g.txt", "# FromNodeId\tToNodeId\tsince\n1\t2\t7\n2\t3\t8\n")
    graph = read_graph(path, columns=GraphColumns("FromNodeId", "ToNodeId"), time_column="since")
    assert graph.times is not None
    assert (edges_of(graph), graph.times.tolist()) == ([(0, 1), (1, 2)], [7.0, 8.0])
    assert "no column 'Nowhere'" in message_of(lambda: read_graph(path, columns=GraphColumns("Nowhere", "ToNodeId")))
    graph = read_graph(path, columns=GraphColumns(1, 2))
    assert graph.node_names == ["2", "3", "7", "8"]


def test_a_header_of_other_names_below_comments_is_no_edge(tmp_path: Path) -> None:
    path = written(tmp_path / "g.csv", "# export\nid,protein_a,protein_b\n1,A,B\n2,B,C\n")
    assert "no column 'source'" in message_of(lambda: read_graph(path))
    assert read_graph(path, columns=GraphColumns("protein_a", "protein_b")).node_names == ["A", "B", "C"]
    path = written(tmp_path / "h.csv", "# export\nann,bob\nbob,cy\n")  # it may be one
    assert "no column 'source'" in message_of(lambda: read_graph(path))
    assert read_graph(path, columns=GraphColumns(0, 1)).node_names == ["ann", "bob", "cy"]


def test_comments_above_numbered_columns_are_told_and_can_be_edges(tmp_path: Path) -> None:
    path = written(tmp_path / "tags.csv", "#love,#sun\n#sea,#sun\nrain,wind\n")
    graph = read_graph(path, columns=GraphColumns(0, 1))
    assert graph.num_edges == 1
    assert any(note.startswith("2 lines of comments passed over at the beginning") for note in graph.notes)
    every = read_graph(path, columns=GraphColumns(0, 1, comment=""))
    assert (every.num_edges, every.notes) == (3, [])


def test_more_comments_than_are_read_at_once(tmp_path: Path) -> None:
    many = "".join(f"# {number} {'about ' * 20}\n" for number in range(1000))
    path = written(tmp_path / "long.csv", f"{many}1,2\n2,3\n")
    assert (read_graph(path).num_edges, read_graph(path).node_names) == (2, ["1", "2", "3"])


# Numbers as names


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0,1.0\n1,2.0\n2,3.0\n", ["line 2", "'1.0'", "'1'"]),
        ("0,1\n1,2\n2,1.\n", ["line 4", "'1.'", "'1'"]),
        ("0,1\n-3,2\n2,-3.00\n", ["line 4", "'-3.00'", "'-3'"]),
    ],
)
def test_a_number_written_in_two_ways_is_refused(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = written(tmp_path / "g.csv", f"source,target\n{text}")
    told = message_of(lambda: read_graph(path))
    assert all(part in told for part in [*parts, "Int64"]), told


@pytest.mark.parametrize("text", ["1.0,2.0\n2.0,3.0\n", "1.5,1\n1,2\n", "v1.0,1\n1,2\n", "007,7\n7,8\n"])
def test_other_fractions_are_names(tmp_path: Path, text: str) -> None:
    assert read_graph(written(tmp_path / "g.csv", f"source,target\n{text}")).num_edges == 2


# Bipartite edge lists


def test_bipartite_edge_lists_keep_equal_ids_apart(tmp_path: Path) -> None:
    path = written(tmp_path / "g.csv", "user,item\n1,1\n1,2\n2,1\n")
    graph = read_graph(path, columns=GraphColumns("user", "item", bipartite=True))
    assert graph.node_names == ["item:1", "item:2", "user:1", "user:2"]
    assert graph.node_types == ["item", "item", "user", "user"]
    assert graph.num_edges == 3
    nodes = written(tmp_path / "n.csv", "node,age\nuser:1,3\nuser:2,4\nitem:1,5\nitem:2,6\nuser:9,7\n")
    graph = read_graph(path, nodes, columns=GraphColumns("user", "item", bipartite=True))
    assert graph.node_types == ["user", "user", "item", "item", "user"]
    nodes = written(tmp_path / "n.csv", "node,age\nuser:1,3\nuser:2,4\nitem:1,5\nitem:2,6\n9,7\n")
    told = message_of(lambda: read_graph(path, nodes, columns=GraphColumns("user", "item", bipartite=True)))
    assert "node '9'" in told
    assert "'user:' or 'item:'" in told
    numbered = read_graph(written(tmp_path / "g.tsv", "1\t1\n2\t1\n"), columns=GraphColumns(0, 1, bipartite=True))
    assert numbered.node_names == ["source:1", "source:2", "target:1"]


def test_numbers_beside_themselves_bring_a_note(tmp_path: Path) -> None:
    both = written(tmp_path / "g.csv", "source,target\n1,1\n1,2\n2,1\n2,3\n3,2\n")
    assert any("columns.bipartite" in note for note in read_graph(both).notes)
    plain = written(tmp_path / "g.csv", "source,target\n1,2\n2,3\n")
    assert read_graph(plain).notes == []
    assert "columns.bipartite" in message_of(
        lambda: read_graph(written(tmp_path / "g.graphml", "<graphml/>"), columns=GraphColumns(bipartite=True))
    )


# Columns


def test_columns_of_edge_list_and_node_table(tmp_path: Path) -> None:
    edges = written(tmp_path / "e.csv", "a,b,w,weight\nx,y,2,9\ny,x,5,9\ny,z,1,9\n")
    nodes = written(tmp_path / "n.csv", "id,age,kind,free text\nx,1,p,some\ny,2,q,other\nz,3,p,words\n")
    columns = GraphColumns("a", "b", "id", ignore=["free text"], label="kind", weight="w")
    graph = read_graph(edges, nodes, columns=columns)
    assert graph.spec.num_features == 1
    assert graph.node_types == ["p", "q", "p"]
    assert graph.weights is not None
    assert dict(zip(edges_of(graph), graph.weights.tolist(), strict=True)) == {(0, 1): 5.0, (1, 2): 1.0}
    assert "column 'free text' left out, as told" in graph.notes
    chosen = read_graph(edges, nodes, columns=GraphColumns("a", "b", "id", features=["kind"]))
    assert chosen.spec.num_features == 2
    assert any("'weight' left out" in note for note in chosen.notes)
    for wrong, part in (
        (GraphColumns("a", "b", "id", ignore=["no"]), "no column 'no'"),
        (GraphColumns("a", "b", "id", label="no"), "no column 'no'"),
        (GraphColumns("a", "b", "id", weight="no"), "no column 'no'"),
        (GraphColumns("a", "b", "id", weight="b"), "finite weights of 0 or more"),
        (GraphColumns("a", "b", "id", weight=2), "columns.weight: got 2"),
    ):
        assert part in message_of(lambda wrong=wrong: read_graph(edges, nodes, columns=wrong))
    assert "without a node table" in message_of(lambda: read_graph(edges, columns=GraphColumns("a", "b", label="kind")))
    with pytest.raises(ValueError, match="columns.features: got 'kind'"):
        GraphColumns(features=["kind"], label="kind")


# Parquet


def test_times_and_lists_in_parquet(tmp_path: Path) -> None:
    edges, nodes = tmp_path / "e.parquet", tmp_path / "n.parquet"
    days = [date(1970, 1, 2), date(1970, 1, 1), date(1969, 12, 31)]
    nights = [datetime(day.year, day.month, day.day) for day in days]
    for when in (
        pa.array(days, pa.date32()),
        pa.array(days, pa.date64()),
        *(pa.array(nights, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
        pa.array(nights, pa.timestamp("us", "UTC")),
        pa.array([Decimal("86400.0"), Decimal("0.0"), Decimal("-86400.0")]),
    ):
        pq.write_table(pa.table({"source": [0, 1, 2], "target": [1, 2, 3], "when": when}), edges)
        graph = read_graph(edges, time_column="when")
        assert graph.times is not None
        assert graph.times.tolist() == [86400.0, 0.0, -86400.0], when.type
    absent = pa.table({"source": [0, 1], "target": [1, 2], "when": pa.array([days[0], None])})
    pq.write_table(absent, edges)
    assert "row 1" in message_of(lambda: read_graph(edges, time_column="when"))
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]]
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 2), pa.list_(pa.int64())):
        pq.write_table(pa.table({"node": ["0", "1", "2"], "emb": pa.array(rows, kind), "age": [1, 2, 4]}), nodes)
        graph = read_graph(edges, nodes)
        assert graph.spec.num_features == 3, kind
        assert read_graph(edges, nodes, feature_columns=["emb"]).spec.num_features == 2
        assert read_graph(edges, nodes, columns=GraphColumns(ignore=["emb"])).spec.num_features == 1
        plain = read_edge_list(edges, nodes, feature_columns=["emb"], standardize=False)
        assert isinstance(plain.x, torch.Tensor)
        assert plain.x.tolist() == rows
    for bad, part in (
        ([[1.0], [2.0, 3.0], [4.0]], "row 1: column 'emb' has 2 numbers; every row must have 1"),
        ([[1.0], None, [4.0]], "row 1: column 'emb' has no value"),
        ([[], [], []], "1 or more"),
        ([[1.0], [float("nan")], [4.0]], "row 1: column 'emb[0]' has 'nan'"),
    ):
        pq.write_table(pa.table({"node": ["0", "1", "2"], "emb": pa.array(bad, pa.list_(pa.float64()))}), nodes)
        assert part in message_of(lambda: read_graph(edges, nodes))
    pq.write_table(pa.table({"node": ["0", "1", "2"], "emb": pa.array([[[1.0]]] * 3)}), nodes)
    assert "type" in message_of(lambda: read_graph(edges, nodes))


def test_a_weight_column_of_parquet_is_told_though_it_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    pd.DataFrame({"source": [0, 1], "target": [1, 2], "Weight": [1.0, 2.0]}).to_parquet(path)
    assert read_graph(path).notes == ["column 'Weight' left out: edges count alike (columns.weight reads it)"]


# GraphML


def named_graph() -> nx.Graph:
    graph = nx.Graph()
    graph.add_edges_from((f"p{u}", f"p{v}") for u, v in RING)
    return graph


def test_attributes_that_networkx_declares_once_for_each_type(tmp_path: Path) -> None:
    graph = named_graph()
    for place, (u, v) in enumerate(graph.edges):
        graph.edges[u, v]["weight"] = 1 if place % 2 else 0.5
    for place, node in enumerate(graph):
        graph.nodes[node].update(flag=place % 2 == 0, level=place if place % 3 else place + 0.5)
    nx.write_graphml(graph, tmp_path / "g.graphml")
    assert (tmp_path / "g.graphml").read_text().count('attr.name="weight"') == 2
    read = read_graph(tmp_path / "g.graphml")
    assert read.spec == (12, 2, False)
    assert (read.num_edges, read.node_names[0]) == (24, "p0")
    weighted = read_graph(tmp_path / "g.graphml", columns=GraphColumns(weight="weight"))
    assert weighted.weights is not None
    assert set(weighted.weights.tolist()) == {0.5, 1.0}
    only = read_graph(tmp_path / "g.graphml", columns=GraphColumns(ignore=["level"]))
    assert only.spec.num_features == 1


APOC = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key id="label" for="node" attr.name="label"/><key id="name" for="node" attr.name="name"/>
<key id="born" for="node" attr.name="born"/><key id="label" for="edge" attr.name="label"/>
<graph id="G" edgedefault="directed">{}
{}</graph></graphml>"""


def test_graphml_of_neo4j(tmp_path: Path) -> None:
    nodes = "".join(
        f'<node id="n{i}" labels=":A"><data key="labels">:{"AB"[i % 2]}</data><data key="name">Name {i}</data>'
        + ('<data key="born">1950</data>' if i % 2 else "")
        + "</node>"
        for i in range(12)
    )
    edges = "".join(
        f'<edge id="e{k}" source="n{u}" target="n{v}" label="KNOWS"><data key="label">KNOWS</data></edge>'
        for k, (u, v) in enumerate(RING)
    )
    graph = read_graph(written(tmp_path / "g.graphml", APOC.format(nodes, edges)))
    assert graph.node_names == [f"Name {i}" for i in range(12)]
    assert graph.spec.num_features == 2
    assert "attribute 'born' left out: 6 of 12 nodes have no value" in graph.notes
    typed = read_graph(tmp_path / "g.graphml", columns=GraphColumns(label="labels"))
    assert (typed.spec.num_features, typed.node_types) == (0, [":A", ":B"] * 6)
    told = message_of(lambda: read_graph(tmp_path / "g.graphml", columns=GraphColumns(features=["born"])))
    assert "line 5: column 'born' has no value" in told


def test_names_in_attributes_as_igraph_and_gephi_write_them(tmp_path: Path) -> None:
    for attribute in ("name", "label"):
        graph = named_graph()
        nx.set_node_attributes(graph, {node: f"Ms. {node}" for node in graph}, attribute)
        nx.set_node_attributes(graph, {node: place for place, node in enumerate(graph)}, "size")
        nx.write_graphml(graph, tmp_path / "g.graphml")
        read = read_graph(tmp_path / "g.graphml")
        assert read.node_names[:2] == ["Ms. p0", "Ms. p1"]
        assert read.spec.num_features == 1
        assert f"nodes named by attribute '{attribute}'" in read.notes
    nx.set_node_attributes(graph, "same", "label")
    nx.write_graphml(graph, tmp_path / "g.graphml")
    assert read_graph(tmp_path / "g.graphml").node_names[0] == "p0"
    told = message_of(lambda: read_graph(tmp_path / "g.graphml", columns=GraphColumns(node="label")))
    assert "node 'same' is also on line" in told
    assert "no column 'title'" in message_of(
        lambda: read_graph(tmp_path / "g.graphml", columns=GraphColumns(node="title"))
    )
    numbered = read_graph(tmp_path / "g.graphml", columns=GraphColumns(node="size"))
    assert numbered.node_names[:2] == ["0", "1"]


def test_many_texts_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    graph = nx.cycle_graph(300)
    nx.set_node_attributes(graph, {node: f"words {node // 1}" for node in graph}, "about")
    nx.write_graphml(graph, tmp_path / "g.graphml")
    assert read_graph(tmp_path / "g.graphml").notes == [
        "attribute 'about' left out: 300 different texts, more than 256"
    ]
    told = message_of(lambda: read_graph(tmp_path / "g.graphml", feature_columns=["about"]))
    assert "300 different texts" in told


# PyG

INDEX = torch.tensor(RING + [(v, u) for u, v in RING]).t()
X = torch.arange(24.0).view(12, 2)


def transformed() -> dict[str, Any]:
    split = T.RandomLinkSplit(is_undirected=True, num_val=0.1, num_test=0.1)(Data(x=X, edge_index=INDEX))
    return {
        "ToUndirected": T.ToUndirected()(Data(x=X, edge_index=INDEX[:, :24])),
        "Compose": T.Compose([T.ToUndirected(), T.NormalizeFeatures(), T.AddSelfLoops()])(Data(x=X, edge_index=INDEX)),
        "LocalDegreeProfile": T.LocalDegreeProfile()(Data(x=X, edge_index=INDEX, y=torch.ones(12))),
        "RandomNodeSplit": T.RandomNodeSplit()(Data(x=X, edge_index=INDEX, y=torch.ones(12))),
        "ToSparseTensor": T.ToSparseTensor()(Data(x=X, edge_index=INDEX)),
        "RandomLinkSplit": split[0],
        "to_dict": T.ToUndirected()(Data(x=X, edge_index=INDEX)).to_dict(),
    }


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_what_transforms_of_pyg_leave_behind(tmp_path: Path) -> None:
    for name, data in transformed().items():
        torch.save(data, tmp_path / "g.pt")
        graph = read_graph(tmp_path / "g.pt")
        assert set(edges_of(graph)) <= set(EDGES), name
        assert graph.num_edges == (24 if name != "RandomLinkSplit" else 20), name


def test_what_stays_refused_is_named_with_what_to_save(tmp_path: Path) -> None:
    old = Data.__new__(Data)
    vars(old).update(x=X, edge_index=INDEX, edge_attr=None, y=None)
    parts = T.RandomLinkSplit(is_undirected=True)(Data(x=X, edge_index=INDEX))
    for name, saved, told in (
        ("temporal", TemporalData(src=INDEX[0], dst=INDEX[1]), ["TemporalData", "torch.stack([data.src, data.dst])"]),
        ("PyG 1", old, ["PyG 1", "data.to_dict()"]),
        ("processed", ({"x": X, "edge_index": INDEX}, None, Data), ["tuple of 3", "dataset[0]"]),
        ("split", parts, ["tuple of 3", "dataset[0]"]),
        ("list", [Data(edge_index=INDEX)], ["list of 1", "dataset[0]"]),
        ("module", torch.nn.Linear(2, 2), ["torch.nn.modules.linear.Linear"]),
        ("path", {"edge_index": INDEX, "where": Path("a")}, ["pathlib"]),
    ):
        torch.save(saved, tmp_path / "g.pt")
        message = message_of(lambda: read_graph(tmp_path / "g.pt"))
        assert all(part in message for part in told), (name, message)
        assert "weights_only" not in message
        assert "safe_globals" not in message


def test_other_packages_permissions_do_not_count(tmp_path: Path) -> None:
    """PyG, and whoever else, allows classes to torch's loader; here they stay refused, and theirs stay allowed."""
    before = set(torch.serialization.get_safe_globals())
    torch.save({"edge_index": INDEX, "more": TemporalData()}, tmp_path / "g.pt")
    assert "TemporalData" in message_of(lambda: read_graph(tmp_path / "g.pt"))
    assert set(torch.serialization.get_safe_globals()) == before


# SciPy


@pytest.mark.parametrize("kind", ["coo", "csr", "csc"])
@pytest.mark.parametrize("make", [scipy.sparse.coo_matrix, scipy.sparse.coo_array])
def test_adjacency_matrices_of_scipy(tmp_path: Path, kind: str, make: Callable[..., Any]) -> None:
    matrix = make((np.ones(48), INDEX.numpy()), shape=(13, 13)).asformat(kind)
    scipy.sparse.save_npz(tmp_path / "g.npz", matrix)
    graph = read_graph(tmp_path / "g.npz", undirected=False)
    assert (edges_of(graph), graph.num_nodes) == (EDGES, 13)
    np.savez(tmp_path / "g.npz", coords=INDEX.numpy(), data=np.ones(48), format="coo", shape=[13, 13])
    assert edges_of(read_graph(tmp_path / "g.npz")) == EDGES


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"row": INDEX[0].numpy() - 1}, "rows, entry 0: got -1; allowed are 0 ... 12"),
        ({"col": INDEX[1].numpy() + 9}, "allowed are 0 ... 12"),
        ({"row": INDEX[0].numpy()[:5]}, "as many of each"),
        ({"row": INDEX[0].numpy() + 0.5}, "allowed are integers"),
        ({"shape": np.array([13])}, "two integers"),
        ({"shape": np.array([13, 14])}, "square"),
        ({"data": np.full(48, np.nan)}, "finite"),
        ({"format": np.array("lil")}, "csr, csc and coo"),
    ],
)
def test_bad_entries_of_a_matrix_are_refused(tmp_path: Path, change: dict[str, Any], part: str) -> None:
    parts = {"row": INDEX[0].numpy(), "col": INDEX[1].numpy(), "data": np.ones(48), "shape": [13, 13], "format": "coo"}
    np.savez(tmp_path / "g.npz", **(parts | change))
    assert part in message_of(lambda: read_graph(tmp_path / "g.npz"))


# The cases as they were reported

READ = {
    "adj_coo.npz": 60,
    "apoc_label_undeclared.graphml": 60,
    "igraph_named_300.graphml": 300,
    "nx_edge_mixed.graphml": 60,
    "pyg_t_undirected.pt": 60,
    "snap.txt": 60,
    "ts.parquet": 60,
}


@pytest.mark.skipif(not CASES.is_dir(), reason="the reported files are not here")
def test_the_reported_files() -> None:
    for name, size in READ.items():
        assert read_graph(CASES / name).num_nodes == size
    for name in ("float_ids.csv", "pyg_v1_object.pt", "pyg_processed_new.pt"):
        message_of(lambda name=name: read_graph(CASES / name))
    assert read_graph(CASES / "ints.csv", CASES / "emb_nodes.parquet").spec.num_features == 8
    assert read_graph(CASES / "bip_same_ids.csv", columns=GraphColumns(bipartite=True)).num_edges == 600


def test_types_in_an_attribute_as_in_a_column(tmp_path: Path) -> None:
    graph = named_graph()
    nx.set_node_attributes(graph, {node: "ab"[place % 2] for place, node in enumerate(graph)}, "type")
    nx.write_graphml(graph, tmp_path / "g.graphml")
    assert read_graph(tmp_path / "g.graphml").node_types == ["a", "b"] * (len(graph) // 2)


def test_edges_of_other_relations_need_neither_weight_nor_time(tmp_path: Path) -> None:
    rows = ["a,b,likes,2.0,7", "b,c,likes,1.0,8", "a,c,follows,,", "c,d,likes,0.5,9"]
    path = written(tmp_path / "g.csv", "\n".join(["source,target,how,rating,at", *rows]) + "\n")
    columns = GraphColumns(relation="how", predicted="likes", weight="rating")
    graph = read_graph(path, columns=columns, time_column="at")
    assert graph.times is not None
    assert (graph.num_edges, graph.times.tolist()) == (3, [7, 8, 9])
    path = written(tmp_path / "h.csv", "\n".join(["source,target,how,rating,at", *rows, "d,a,likes,,9"]) + "\n")
    assert "line 6: column 'rating'" in message_of(lambda: read_graph(path, columns=columns))
