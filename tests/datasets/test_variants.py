"""Graph files in the states in which people have them: read with the right numbers, or refused by one line that helps.

| what people have | outcome |
|---|---|
| a byte order mark; line ends of Windows and old Macs; quoted commas and line ends; an empty last column | read |
| UTF-16 and Latin-1 of spreadsheets; gzip, zip, a web page, a Git LFS pointer named .csv | what it seems to be |
| semicolons, spaces, tabs in .csv; no header; Gephi's Source and Target | the options that read it |
| ids 1E+05 beside 100000; 1.2E+11; nan among names | refused; told; told |
| ids with zeros in front, negative, above 2^63; thousands of dots | names, as they are spelt |
| the rows' numbers of pandas as a column; numbers with decimal commas; dates with slashes | left out, told; refused |
| a folder of Parquet; .zip, .bz2, .xlsx, .gml, .gexf, .net, .json, .feather, .npy, .pkl | what to do instead |
| .edges, .edgelist, out.konect | an edge list, where the delimiter is given |
| Matrix Market, pattern or real, symmetric or general, gzipped | read, numbered from 1 |
| Parquet of categories, large strings, decimals, 64-bit unsigned; fractions as names | read; refused |
| times with zones, ties, before 1970; weights of 0, below 0, NaN, of edges given twice | read; refused; the greatest |
| two nodes, loops alone, both directions, a node table in another order, with more or fewer nodes | read or refused |
| PyG: sparse, whole, half, 64-bit features, NaN; labels of edges; TemporalData, EdgeIndex; weights | read or told |
| PyG's HeteroData of one relation or several, with their reverses, features of some types, to_dict | read by types |
| GraphML with several relations, as Neo4j writes labels of edges | one is predicted |
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse
import torch
import torch_geometric.transforms as T
from torch_geometric import EdgeIndex
from torch_geometric.data import Data, HeteroData, TemporalData

from mebns_pl.datasets.files import read_graph
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.readers.options import GraphColumns
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features

RING = [(i, (i + step) % 12) for i in range(12) for step in (1, 2)]
EDGES = sorted(tuple(sorted(pair)) for pair in RING)
INDEX = torch.tensor(RING).t()
BOTH = torch.cat([INDEX, INDEX.flip(0)], dim=1)
X = torch.arange(24.0).view(12, 2)
HEAD, LINES = "source,target\n", "".join(f"{u},{v}\n" for u, v in RING)


def edges_of(graph: LoadedGraph) -> list[tuple[int, ...]]:
    return [tuple(edge) for edge in graph.edges.t().tolist()]


def refused(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def zipped(text: str) -> bytes:
    content = io.BytesIO()
    np.savez(content, text=text)
    return content.getvalue()


# Text


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEAD + LINES,
        (HEAD + LINES).replace("\n", "\r\n"),
        (HEAD + LINES).replace("\n", "\r"),
        (HEAD + LINES).replace("\n", ",\n"),
        "source , target\n" + LINES.replace(",", ", "),
        "".join(f'"{line}"\n'.replace(",", '","') for line in (HEAD + LINES).split()),
        ",source,target\n" + "".join(f"{i},{u},{v}\n" for i, (u, v) in enumerate(RING)),
    ],
)
def test_ways_to_write_a_table(tmp_path: Path, text: str) -> None:
    graph = read_graph(written(tmp_path / "g.csv", text))
    assert (edges_of(graph), graph.node_names[-1], graph.notes) == (EDGES, "11", [])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ((HEAD + LINES).encode("utf-16"), "UTF-16, as Excel's 'Unicode Text' is; save it as 'CSV UTF-8'"),
        ((HEAD + "Zürich,Bern\n").encode("latin-1"), "of another encoding, it has to be saved as UTF-8"),
        (gzip.compress((HEAD + LINES).encode(), mtime=0), "gzip; its name should end with .gz"),
        (zipped(HEAD + LINES), "a zip archive or a spreadsheet"),
        (b"<!DOCTYPE html><html>\n<title>404</title></html>\n", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "`git lfs pull`"),
        ((HEAD + LINES).replace(",", ";"), "semicolons"),
        ((HEAD + LINES).replace(",", " "), "spaces"),
        ((HEAD + LINES).replace(",", "\t"), "tabs"),
        ((HEAD + LINES).replace(",", ";"), "columns.delimiter"),
        (LINES, "columns.source and columns.target name others, or are 0 and 1 where there is no header"),
        ("Source,Target,Type\n0,1,Undirected\n", "columns.source and columns.target name others"),
        (HEAD + "1E+05,2\n2,3\n3,100000\n", "line 2: node '1E+05', and '100000' elsewhere"),
        (HEAD + "1.5e+3,2\n2,3\n3,1500\n", "'1.5e+3', and '1500'"),
        (HEAD + "1,1\n2,2\n", "no edge between two different nodes in 2 lines"),
        (HEAD + "1,2\n2,\n", "line 3: no name in column 2"),
        (HEAD + "1,2,\n", "3 fields"),
    ],
)
def test_texts_that_are_refused(tmp_path: Path, content: str | bytes, told: str) -> None:
    assert told in refused(lambda: read_graph(written(tmp_path / "g.csv", content)))


def test_what_is_told_of_names(tmp_path: Path) -> None:
    (note,) = read_graph(written(tmp_path / "g.csv", HEAD + "1.23457E+11,2\n2,3\n")).notes
    assert "'1.23457E+11': a spreadsheet may have shortened" in note
    (note,) = read_graph(written(tmp_path / "g.csv", HEAD + "nan,2\n2,NA\n")).notes
    assert note.startswith("'nan' is taken for a name")
    ids = ["-5", "007", "7", str(2**63), str(2**64 + 1), "1,000", "1E10"]
    text = HEAD + "".join(f'"{a}","{b}"\n' for a, b in pairwise(ids))
    graph = read_graph(written(tmp_path / "g.csv", text))
    assert (sorted(graph.node_names), graph.num_edges, graph.notes) == (sorted(ids), 6, [])


def test_the_smallest_graphs(tmp_path: Path) -> None:
    graph = read_graph(written(tmp_path / "g.csv", HEAD + "a,b\nb,a\na,a\n"))
    assert (edges_of(graph), graph.notes) == ([(0, 1)], ["1 self-loop dropped", "1 repeated edge dropped"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("g.csv.bz2", "unpack it first"),
        ("g.csv.zip", "unpack it first"),
        ("g.xlsx", "save the sheet"),
        ("g.gml", "networkx.read_gml(path)"),
        ("g.gexf", "networkx.read_gexf(path)"),
        ("g.net", "networkx.read_pajek(path)"),
        ("g.json", "networkx.node_link_graph("),
        ("g.feather", "Parquet"),
        ("g.npy", "numpy.savez('graph.npz', edges=numpy.load(path))"),
        ("g.pkl", "can run code"),
        ("g.edgelist", "columns.delimiter"),
    ],
)
def test_other_formats_are_refused_with_what_to_do(tmp_path: Path, name: str, told: str) -> None:
    message = refused(lambda: read_graph(written(tmp_path / name, b"x")))
    assert told in message
    assert "allowed are .csv" in message


@pytest.mark.parametrize("name", ["g.edges", "g.edgelist", "out.konect", "g"])
def test_any_text_of_edges_is_read_where_the_delimiter_is_given(tmp_path: Path, name: str) -> None:
    text = "".join(f"{u} {v} {{'weight': 2.0}}\n" for u, v in RING)
    assert edges_of(read_graph(written(tmp_path / name, text), columns=GraphColumns(0, 1, delimiter=" "))) == EDGES


# Node tables


def nodes_read(folder: Path, text: str) -> LoadedGraph:
    return read_graph(written(folder / "e.csv", HEAD + "a,b\nb,c\nc,a\n"), written(folder / "n.csv", text))


def test_node_tables(tmp_path: Path) -> None:
    other = nodes_read(tmp_path, "node,age\nc,1\na,2\nb,3\nd,4\n")
    assert (other.node_names, edges_of(other)) == (["c", "a", "b", "d"], [(0, 1), (0, 2), (1, 2)])
    for name in ("", "Unnamed: 0"):
        graph = nodes_read(tmp_path, f"{name},node,age\n0,a,1\n1,b,2\n2,c,4\n")
        assert graph.spec.num_features == 1
        assert f"column {name!r} left out: numbers of rows, as pandas writes them" in graph.notes
    for text, told in (
        ("node,age\na,1\nb,2\n", "line 3: node 'c' is not in the node table"),
        ("node,age\na,1\na,1\nb,2\nc,3\n", "line 3: node 'a' is also on line 2"),
        ("node,age\na,1\nb,\nc,3\n", "line 3: column 'age' has no value"),
        ("node,age\na,1\nb,NA\nc,3\n", "line 3: column 'age' has 'NA', but '1'"),
        ("node,age\na,1\nb,inf\nc,3\n", "allowed are finite"),
        ('node,age\na,"1,5"\nb,"-2,0"\nc,",5"\n', "line 2: column 'age' has '1,5'; allowed are numbers with a point"),
        ("Id;Label\na;A\n", "it seems to be separated by semicolons"),
    ):
        assert told in refused(lambda text=text: nodes_read(tmp_path, text)), text
    assert nodes_read(tmp_path, 'node,at\na,"1,5 km"\nb,"2,5 km"\nc,"3,5"\n').spec.num_features == 3


# Times and weights


def with_column(folder: Path, values: list[str], **options: Any) -> LoadedGraph:
    pairs = [(1, 2), (2, 3), (3, 4), (2, 1)]
    text = "".join(f"{u},{v},{value}\n" for (u, v), value in zip(pairs, values, strict=False))
    return read_graph(written(folder / "g.csv", f"source,target,c\n{text}"), **options)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["1970-01-01T02:00:00+02:00", "1970-01-01T00:00:01Z", "1970-01-01"], [0, 1, 0]),
        (["1970-01-01 00:00:05", "1969-12-31 23:59:59", "1970-01-01 00:00:05"], [5, -1, 5]),
        (["7", "7", "7"], [7, 7, 7]),
        (["1262304000000", "-3", "2.5", "1"], [1, -3, 2.5]),
    ],
)
def test_times(tmp_path: Path, values: list[str], seconds: list[float]) -> None:
    times = with_column(tmp_path, values, time_column="c").times
    assert times is not None
    assert times.tolist() == seconds


@pytest.mark.parametrize("value", ["01/02/2020", "", "nan", "yesterday"])
def test_times_that_are_none(tmp_path: Path, value: str) -> None:
    assert "line 3: column 'c' has" in refused(lambda: with_column(tmp_path, ["1", value, "2"], time_column="c"))


def test_weights(tmp_path: Path) -> None:
    columns = GraphColumns(weight="c")
    graph = with_column(tmp_path, ["1", "0", "2", "3"], columns=columns)
    assert graph.weights is not None
    assert (graph.weights.tolist(), graph.notes[0]) == (
        [3.0, 0.0, 2.0],
        "1 repeated edge dropped, of weights the greatest kept",
    )
    for value in ("nan", "-1", "inf", "", '"0,5"'):
        told = refused(lambda value=value: with_column(tmp_path, ["1", value, "2"], columns=columns))
        assert "line 3: column 'c' has" in told


# Parquet


def test_types_of_parquet(tmp_path: Path) -> None:
    path, texts = tmp_path / "g.parquet", [[f"n{u}" for u, _ in RING], [f"n{v}" for _, v in RING]]
    numbers = [[u for u, _ in RING], [v for _, v in RING]]
    for columns in (
        [pa.array(each).dictionary_encode() for each in texts],
        [pa.array(each, pa.large_string()) for each in texts],
        [pa.array(each).dictionary_encode() for each in numbers],
        [pa.array(map(Decimal, each), pa.decimal128(38, 0)) for each in numbers],
        [pa.array([number + 2**63 for number in each], pa.uint64()) for each in numbers],
    ):
        pq.write_table(pa.table(columns, names=["source", "target"]), path)
        graph = read_graph(path)
        assert (graph.num_nodes, graph.num_edges) == (12, 24)
        assert len(graph.node_names[0]) in (1, 2, 19)
    for columns, told in (
        (
            [pa.array(map(float, each)) for each in numbers],
            "of type double; allowed are integers and texts (pandas has Int64",
        ),
        ([pa.array([Decimal("1.5")] * 24)] * 2, "decimal128(2, 1)"),
        ([pa.array([b"a"] * 24)] * 2, "type binary"),
        ([pa.array([None, *texts[0][1:]]), texts[1]], "row 0: no name in column 1"),
    ):
        pq.write_table(pa.table(columns, names=["source", "target"]), path)
        assert told in refused(lambda: read_graph(path))
    zone = timezone(timedelta(hours=2))
    times = pa.array([datetime(1970, 1, 1, 2 + i % 2, tzinfo=zone) for i in range(24)])
    pq.write_table(pa.table([*texts, times], names=["source", "target", "t"]), path)
    found = read_graph(path, time_column="t").times
    assert found is not None
    assert set(found.tolist()) == {0.0, 3600.0}
    pq.write_table(pa.table([*texts, pa.array([timedelta(1)] * 24)], names=["source", "target", "t"]), path)
    assert "duration" in refused(lambda: read_graph(path, time_column="t"))
    (tmp_path / "d.parquet").mkdir()
    assert "no file in this folder ends in .parquet" in refused(lambda: read_graph(tmp_path / "d.parquet"))
    pd.DataFrame({"source": [0, 1], "target": [1, 2]}, index=[5, 6]).to_parquet(path)
    pd.DataFrame({"node": [0, 1, 2], "age": [1, 2, 4]}, index=[5, 6, 7]).to_parquet(tmp_path / "n.parquet")
    assert read_graph(path, tmp_path / "n.parquet").spec.num_features == 1


# Matrices

SYMMETRIC = "".join(f"{max(u, v) + 1} {min(u, v) + 1}\n" for u, v in RING)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("kind", "entries", "notes"),
    [
        ("coordinate pattern symmetric", SYMMETRIC, 0),
        ("coordinate real symmetric", SYMMETRIC.replace("\n", " 0.5\n"), 0),
        ("coordinate integer general", "".join(f"{u + 1} {v + 1} {u + 1}\n" for u, v in RING), 2),
    ],
)
def test_matrix_market(tmp_path: Path, kind: str, entries: str, notes: int, packed: bool) -> None:
    text = f"%%MatrixMarket matrix {kind}\n% made by hand\n12 12 24\n{entries}".encode()
    path = written(tmp_path / f"g.mtx{'.gz' * packed}", gzip.compress(text, mtime=0) if packed else text)
    graph = read_graph(path)
    assert (edges_of(graph), graph.node_names, len(graph.notes)) == (EDGES, [str(i) for i in range(1, 13)], notes)
    if notes:
        assert "directed" in refused(lambda: read_graph(path, undirected=False))


def test_matrix_market_as_scipy_writes_it(tmp_path: Path) -> None:
    matrix = scipy.sparse.coo_matrix((np.ones(48), BOTH.numpy()), shape=(13, 13))
    for written_so in (matrix, matrix.toarray()):
        scipy.io.mmwrite(tmp_path / "g.mtx", written_so)
        graph = read_graph(tmp_path / "g.mtx", undirected=False)
        assert (edges_of(graph), graph.num_nodes) == (EDGES, 13)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0 1\n", "cannot be read as Matrix Market"),
        ("%%MatrixMarket matrix coordinate pattern general\n12 12 24\n1 2\n", "cannot be read as Matrix Market"),
        ("%%MatrixMarket matrix coordinate pattern general\n2 2 1\n0 1\n", "Matrix Market"),
        ("%%MatrixMarket matrix coordinate pattern general\n2 2 1\n3 1\n", "Matrix Market"),
        ("%%MatrixMarket matrix coordinate pattern general\n2 3 1\n1 2\n", "square"),
        ("%%MatrixMarket matrix coordinate pattern general\n2 2 900000000\n1 2\n", "900,000,000 rows"),
        ("%%MatrixMarket matrix array real general\n9000000 9000000\n1\n", "rows"),
        ("%%MatrixMarket matrix coordinate real general\n2 2 1\n1 2 nan\n", "finite"),
        ("%%MatrixMarket matrix coordinate complex general\n2 2 1\n1 2 1 1\n", "complex"),
        ("%%MatrixMarket matrix coordinate pattern general\n2 2 0\n", "no edge"),
        ("", "cannot be read as Matrix Market"),
    ],
)
def test_matrices_that_are_none(tmp_path: Path, text: str, told: str) -> None:
    assert told in refused(lambda: read_graph(written(tmp_path / "g.mtx", text)))


# PyG


def saved(path: Path, item: object) -> Path:
    torch.save(item, path)
    return path


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize(
    "x",
    [X > 3, X.long(), X.double(), X.half(), X.bfloat16(), X.to_sparse(), X.to_sparse_csr(), torch.nn.Parameter(X)],
    ids=str,
)
def test_features_of_any_type(tmp_path: Path, x: torch.Tensor) -> None:
    found = read_graph(saved(tmp_path / "g.pt", Data(x=x, edge_index=BOTH))).x
    dense = found.to_dense() if isinstance(found, Features) else found
    assert dense is not None
    assert torch.equal(dense, x.detach().to_dense().float())


@pytest.mark.filterwarnings("ignore:Sparse")
def test_other_fields_of_pyg(tmp_path: Path) -> None:
    path = tmp_path / "g.pt"
    for data in (
        Data(edge_index=BOTH.int(), num_nodes=12),
        T.ToSparseTensor()(Data(edge_index=BOTH, num_nodes=12)),
    ):
        graph = read_graph(saved(path, data))
        assert (edges_of(graph), graph.x, graph.num_nodes) == (EDGES, None, 12)
    split = T.RandomLinkSplit(is_undirected=True, add_negative_train_samples=True)(Data(x=X, edge_index=BOTH))[0]
    assert "'edge_label_index' left out" in read_graph(saved(path, split)).notes
    weighted = saved(path, Data(edge_index=INDEX, edge_weight=torch.arange(24), num_nodes=12))
    assert "'edge_weight' left out: edges count alike" in read_graph(weighted).notes
    weights = read_graph(weighted, columns=GraphColumns(weight="edge_weight")).weights
    assert weights is not None
    expected = {tuple(sorted(pair)): float(place) for place, pair in enumerate(RING)}
    assert weights.tolist() == [expected[edge] for edge in EDGES]
    np.savez(tmp_path / "g.npz", edges=np.array(RING), w=np.arange(24))
    archive = read_graph(tmp_path / "g.npz", columns=GraphColumns(weight="w"))
    assert archive.weights is not None
    assert archive.weights.tolist() == weights.tolist()
    for item, told in (
        (Data(x=X / 0, edge_index=BOTH), "x, row 0, column 0: got nan"),
        (Data(x=X.double() * 1e300, edge_index=BOTH), "allowed are finite float32"),
        (Data(x=X[:, :0], edge_index=BOTH), "got float32 of shape (12, 0)"),
        (Data(x=X[:, 0], edge_index=BOTH), "allowed is a tensor of shape (N, F)"),
        (Data(x=X[:5], edge_index=BOTH), "allowed are 0 ... 4"),
        (Data(edge_index=BOTH.float()), "allowed are integers"),
        (TemporalData(src=INDEX[0], dst=INDEX[1], t=torch.arange(24)), "Data(edge_index=torch.stack([data.src"),
        (Data(edge_index=EdgeIndex(BOTH)), "edge_index.as_tensor()"),
        (BOTH, "got Tensor"),
    ):
        assert told in refused(lambda item=item: read_graph(saved(path, item)))
    saved(path, Data(edge_index=INDEX, edge_weight=torch.arange(24), num_nodes=12))
    told = refused(lambda: read_graph(weighted, columns=GraphColumns(weight="w")))
    assert "no 'w'; it has edge_index, edge_weight" in told
    assert "columns.predicted" in refused(lambda: read_graph(weighted, columns=GraphColumns(predicted="to")))
    assert "columns.label: .pt files" in refused(lambda: read_graph(weighted, columns=GraphColumns(label="y")))
    negative = saved(path, Data(edge_index=BOTH, w=-torch.ones(48)))
    assert "weights of 0 or more" in refused(lambda: read_graph(negative, columns=GraphColumns(weight="w")))


def shop() -> HeteroData:
    """Five users, of whom two know each other, buy three items, which have features; an item that nobody buys."""
    data = HeteroData()
    data["user"].num_nodes = 5
    data["item"].x = torch.arange(8.0).view(4, 2)
    data["user", "buys", "item"].edge_index = torch.tensor([[0, 1, 2, 3, 4], [0, 0, 1, 2, 2]])
    data["user", "buys", "item"].t = torch.tensor([5, 4, 3, 2, 1])
    data["user", "buys", "item"].w = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    data["user", "knows", "user"].edge_index = torch.tensor([[0, 1, 3], [1, 0, 3]])
    data["user", "viewed", "item"].edge_index = torch.tensor([[0, 1], [0, 3]])
    return data


NAMES = [*(f"user:{i}" for i in range(5)), *(f"item:{i}" for i in range(4))]


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("predicted", ["buys", "user__buys__item"])
def test_one_relation_of_hetero_data_is_predicted(tmp_path: Path, predicted: str, as_dict: bool) -> None:
    item = shop().to_dict() if as_dict else shop()
    columns = GraphColumns(predicted=predicted, weight="w")
    graph = read_graph(saved(tmp_path / "g.pt", item), time_column="t", columns=columns)
    assert (graph.node_names, graph.node_types) == (NAMES, ["user"] * 5 + ["item"] * 4)
    assert edges_of(graph) == [(0, 5), (1, 5), (2, 6), (3, 7), (4, 7)]
    assert graph.times is not None
    assert graph.weights is not None
    assert (graph.times.tolist(), graph.weights.tolist()) == ([5, 4, 3, 2, 1], [1, 2, 3, 4, 5])
    assert graph.context is not None
    assert graph.context.t().tolist() == [[0, 1], [1, 8]]  # user 0 has bought what she viewed
    assert isinstance(graph.x, torch.Tensor)
    assert torch.equal(graph.x, torch.cat([torch.zeros(5, 2), torch.arange(8.0).view(4, 2)]))
    assert "types without features: 'user'" in graph.notes
    assert not any("directed" in note for note in graph.notes)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_features_of_types_stand_side_by_side(tmp_path: Path) -> None:
    data = shop()
    data["user"].x = torch.ones(5, 1)
    wide = read_graph(saved(tmp_path / "g.pt", data), columns=GraphColumns(predicted="knows"))
    expected = torch.block_diag(torch.ones(5, 1), torch.arange(8.0).view(4, 2))
    assert isinstance(wide.x, torch.Tensor)
    assert torch.equal(wide.x, expected)
    assert edges_of(wide) == [(0, 1)]
    for kind, x in (("user", torch.ones(5, 1).to_sparse()), ("item", None)):
        data[kind].x = x
        sparse = read_graph(saved(tmp_path / "g.pt", data), columns=GraphColumns(predicted="knows")).x
        assert isinstance(sparse, Features)
        assert torch.equal(sparse.to_dense(), expected if x is not None else expected[:, :1])
        data["item"].num_nodes = 4
    data["user"].x, data["user"].node_names = None, list("abcde")
    bare = read_graph(saved(tmp_path / "g.pt", data), columns=GraphColumns(predicted="knows"))
    assert (bare.x, bare.node_names[:6]) == (None, [*(f"user:{name}" for name in "abcde"), "item:0"])


def test_reverses_that_pyg_adds_are_no_relations(tmp_path: Path) -> None:
    data = shop()
    del data["user", "knows", "user"], data["user", "viewed", "item"]
    plain = read_graph(saved(tmp_path / "g.pt", data))
    turned = read_graph(saved(tmp_path / "g.pt", T.ToUndirected()(data)))
    assert edges_of(plain) == edges_of(turned)
    assert turned.context is not None
    assert turned.context.shape == (2, 0)  # else each edge would pass messages while it is held out
    assert plain.context is None
    del data["item"].x
    assert read_graph(saved(tmp_path / "g.pt", data)).num_nodes == 8  # as many as edges tell


def test_hetero_data_that_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "g.pt", shop())
    told = refused(lambda: read_graph(path))
    assert "allowed is one of its relations, user__buys__item, user__knows__user, user__viewed__item" in told
    assert "got 'sells'" in refused(lambda: read_graph(path, columns=GraphColumns(predicted="sells")))
    assert "columns.bipartite" in refused(lambda: read_graph(path, columns=GraphColumns(bipartite=True)))
    for change, told in (
        ({"user": {"num_nodes": 3}}, "edges of user, pair"),
        ({"item": {"x": X[:, 0]}}, "item: x: got"),
        ({("user", "buys", "item"): {"edge_index": torch.zeros(3, 2)}}, "user__buys__item: edge_index"),
        ({("user", "buys", "item"): {"edge_index": -torch.ones(2, 2).long()}}, "user__buys__item: edge_index, pair 0"),
        ({("user", "buys", "item"): {"edge_index": torch.zeros(2, 0).long()}}, "no edge"),
        ({("user", "buys", "item"): None}, "got 'buys'"),
        ({"user": {"node_names": list("aabcd")}}, "user: node_names: 'a' is empty or stands twice"),
    ):
        saved(path, shop().to_dict() | change)
        assert told in refused(lambda: read_graph(path, columns=GraphColumns(predicted="buys"))), change


# GraphML


def test_one_relation_of_graphml_is_predicted(tmp_path: Path) -> None:
    graph = nx.DiGraph()
    graph.add_edges_from((("a", "b"), ("b", "c"), ("c", "d")), label="KNOWS")
    graph.add_edges_from((("a", "c"), ("d", "a")), label="LIKES")
    nx.write_graphml(graph, tmp_path / "g.graphml")
    read = read_graph(tmp_path / "g.graphml", columns=GraphColumns(relation="label", predicted="KNOWS"))
    assert edges_of(read) == [(0, 1), (1, 2), (2, 3)]
    assert read.context is not None
    assert read.context.t().tolist() == [[0, 2], [0, 3]]
    for relation, predicted, told in (
        ("label", "HATES", "has 'KNOWS', 'LIKES'"),
        ("kind", "KNOWS", "no column 'kind'"),
    ):
        columns = GraphColumns(relation=relation, predicted=predicted)
        assert told in refused(lambda columns=columns: read_graph(tmp_path / "g.graphml", columns=columns))


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, scipy.sparse.coo_matrix])
def test_entries_of_a_matrix_are_weights_of_its_own_pairs(tmp_path: Path, make: Callable[..., Any]) -> None:
    """Whatever the order in which the file has them."""
    path = tmp_path / "g.npz"
    entries = np.array([5.0, 1.0, 3.0, 4.0]), (np.array([0, 2, 0, 1]), np.array([2, 3, 1, 3]))
    scipy.sparse.save_npz(path, make(entries, shape=(4, 4)))
    found = read_graph(path, columns=GraphColumns(weight="data"))
    assert found.weights is not None
    told = {tuple(pair): weight for pair, weight in zip(found.edges.t().tolist(), found.weights.tolist(), strict=True)}
    assert told == {(0, 1): 3.0, (0, 2): 5.0, (1, 3): 4.0, (2, 3): 1.0}
    assert "adjacency matrix" in refused(lambda: read_graph(path, time_column="data"))
    assert "'data', the matrix's entries" in refused(lambda: read_graph(path, columns=GraphColumns(weight="row")))


def test_a_column_that_graphml_does_not_have(tmp_path: Path) -> None:
    edges = b'<node id="a"/><node id="b"/><node id="c"/><edge source="a" target="b"/><edge source="b" target="c"/>'
    path = written(tmp_path / "g.graphml", b'<graphml><graph edgedefault="undirected">' + edges + b"</graph></graphml>")
    assert "'w'" in refused(lambda: read_graph(path, columns=GraphColumns(weight="w")))
