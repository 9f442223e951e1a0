"""Every loader on good files of its format, and on broken ones: a DataError that says where, and no code is run."""

from __future__ import annotations

import gzip
import os
import pickle
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from mebns_pl.datasets.catalog import read_snap
from mebns_pl.datasets.files import read_edge_list, read_graph
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.readers import ogb
from mebns_pl.datasets.readers.matrices import read_gnn_benchmark
from mebns_pl.datasets.readers.planetoid import read_planetoid
from mebns_pl.datasets.readers.saved import load_saved
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features
from references.effort import examples

PAIRS = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0], [1, 3]])
EDGES = sorted((min(pair), max(pair)) for pair in PAIRS.tolist())
X = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [3.0, 0.5], [0.0, 1.0]], dtype=np.float32)
GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key id="d0" for="node" attr.name="age" attr.type="double"><default>7</default></key>
  <key id="d1" for="edge" attr.name="since" attr.type="int"/>
  <graph edgedefault="undirected">
    {nodes}
    {edges}
  </graph>
</graphml>"""


class Evil:
    """Its pickle makes a folder when it is loaded by an unpickler that runs what a pickle names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def write_csv(folder: Path) -> Path:
    path = folder / "g.csv"
    path.write_text("source,target\n" + "".join(f"{u},{v}\n" for u, v in PAIRS))
    return path


def write_csv_gz(folder: Path) -> Path:
    path = folder / "g.csv.gz"
    path.write_bytes(gzip.compress(write_csv(folder).read_bytes(), mtime=0))
    return path


def write_tsv(folder: Path) -> Path:
    path = folder / "g.tsv"
    path.write_text(write_csv(folder).read_text().replace(",", "\t"))
    return path


def write_parquet(folder: Path) -> Path:
    path = folder / "g.parquet"
    pd.DataFrame(PAIRS, columns=["source", "target"]).to_parquet(path)
    return path


def graphml(pairs: list[list[int]] | None = None, nodes: int = 5) -> str:
    node = '<node id="{0}"><data key="d0">{0}.5</data></node>'
    edge = '<edge source="{0}" target="{1}"><data key="d1">{2}</data></edge>'
    return GRAPHML.format(
        nodes="\n    ".join(node.format(i) for i in range(nodes)),
        edges="\n    ".join(
            edge.format(*pair, 2000 + i) for i, pair in enumerate(PAIRS.tolist() if pairs is None else pairs)
        ),
    )


def write_graphml(folder: Path) -> Path:
    path = folder / "g.graphml"
    path.write_text(graphml())
    return path


def write_graphml_gz(folder: Path) -> Path:
    path = folder / "g.graphml.gz"
    path.write_bytes(gzip.compress(graphml().encode(), mtime=0))
    return path


def write_npz(folder: Path, **arrays: object) -> Path:
    path = folder / "g.npz"
    both = np.concatenate([PAIRS, PAIRS[:, ::-1]]).T
    np.savez(path, **({"edge_index": both, "x": X, "num_nodes": 5} | arrays))
    return path


def write_saved(folder: Path, **fields: object) -> Path:
    path = folder / "g.pt"
    both = torch.from_numpy(np.concatenate([PAIRS, PAIRS[:, ::-1]]).T.copy())
    torch.save(Data(**({"edge_index": both, "x": torch.from_numpy(X), "num_nodes": 5} | fields)), path)
    return path


def write_mat(folder: Path) -> Path:
    path = folder / "g.mat"
    matrix = np.zeros((5, 5))
    matrix[PAIRS[:, 0], PAIRS[:, 1]] = matrix[PAIRS[:, 1], PAIRS[:, 0]] = 1
    scipy.io.savemat(path, {"net": scipy.sparse.csc_matrix(matrix)})
    return path


def write_snap(folder: Path) -> Path:
    path = folder / "g.txt.gz"
    lines = "# from\tto\r\n" + "".join(f"{10 * u}\t{10 * v}\r\n" for u, v in [*PAIRS, *PAIRS[:, ::-1]])
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))
    return path


def csr(prefix: str, matrix: np.ndarray) -> dict[str, np.ndarray]:
    found = scipy.sparse.csr_matrix(matrix)
    parts = {"data": found.data, "indices": found.indices, "indptr": found.indptr, "shape": np.array(found.shape)}
    return {prefix + name: part for name, part in parts.items()}


def write_gnn_benchmark(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "g.npz"
    adjacency = np.zeros((5, 5), dtype=np.float32)
    adjacency[PAIRS[:, 0], PAIRS[:, 1]] = 1
    np.savez(path, **(csr("adj_", adjacency) | csr("attr_", X) | arrays))
    return path


def write_split_archive(folder: Path) -> Path:
    path = folder / "g.npz"
    parts = {"train_edge": PAIRS[:4], "valid_edge": PAIRS[4:5], "test_edge": PAIRS[5:]}
    np.savez(path, num_nodes=5, **{name: part.astype(np.int16) for name, part in parts.items()})
    return path


def write_planetoid(folder: Path, **parts: object) -> Path:
    """Numbers of the two test rows: 4 and 3."""
    neighbours: dict[int, list[int]] = defaultdict(list)
    for u, v in PAIRS.tolist():
        neighbours[u].append(v)
        neighbours[v].append(u)
    rows = {"allx": X[:3], "tx": X[[4, 3]], "x": X[:1]}
    objects = {name: scipy.sparse.csr_matrix(row) for name, row in rows.items()} | {"graph": neighbours}
    objects |= {name: np.zeros((1, 2), dtype=np.int32) for name in ("y", "ty", "ally")}
    for name, value in (objects | parts).items():
        (folder / f"ind.g.{name}").write_bytes(pickle.dumps(value, protocol=2))
    (folder / "ind.g.test.index").write_text("4\n3\n")
    return folder


def write_ogb(folder: Path) -> Path:
    place = folder / "ogb" / "ogbl_collab"
    (place / "raw").mkdir(parents=True, exist_ok=True)
    (place / "split" / "time").mkdir(parents=True, exist_ok=True)

    def table(name: str, array: np.ndarray) -> None:
        pd.DataFrame(array).to_csv(place / "raw" / f"{name}.csv.gz", header=False, index=False)

    table("edge", PAIRS[:4])
    table("edge_year", np.array([[2001], [2000], [2003], [2004]]))
    table("num-node-list", np.array([[5]]))
    table("node-feat", X)
    for part, rows in (("train", slice(0, 4)), ("valid", slice(4, 5)), ("test", slice(5, 6))):
        pairs = PAIRS[rows]
        item = {"edge": pairs, "year": np.full(len(pairs), 2017), "weight": np.ones(len(pairs), dtype=np.int64)}
        torch.save(item if part == "train" else item | {"edge_neg": PAIRS[:1] + 1}, place / "split/time" / f"{part}.pt")
    return place


# name -> (writes a good file or folder, reads it)
LOADERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], LoadedGraph]]] = {
    "csv": (write_csv, read_graph),
    "csv.gz": (write_csv_gz, read_graph),
    "tsv": (write_tsv, read_graph),
    "parquet": (write_parquet, read_graph),
    "graphml": (write_graphml, read_graph),
    "graphml.gz": (write_graphml_gz, read_graph),
    "npz": (write_npz, read_graph),
    "pt": (write_saved, read_graph),
    "mat": (write_mat, read_graph),
    "snap": (write_snap, lambda path: read_snap("g", path)),
    "gnn-benchmark": (write_gnn_benchmark, lambda path: read_gnn_benchmark("g", path)),
    "split archive": (write_split_archive, lambda path: ogb.read_split_archive("g", path)),
    "planetoid": (write_planetoid, lambda path: read_planetoid("g", path)),
    "ogb": (write_ogb, lambda path: ogb.read_graph("ogbl-collab", path.parents[1])),
}


def files_of(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]


def dense(graph: LoadedGraph) -> torch.Tensor:
    assert graph.x is not None
    return graph.x.to_dense()


def assert_whole(graph: LoadedGraph) -> None:
    """What every loader promises of every graph that it lets through."""
    low, high = graph.edges
    keys = low * graph.num_nodes + high
    assert graph.edges.dtype == torch.int64
    assert graph.num_edges >= 1
    assert bool((low < high).all())
    assert int(low.min()) >= 0
    assert int(high.max()) < graph.num_nodes
    assert bool((keys.diff() > 0).all())
    assert len(set(graph.node_names)) == graph.num_nodes
    if graph.x is not None:
        values = graph.x.matrix.values() if isinstance(graph.x, Features) else graph.x
        assert graph.spec.num_nodes == graph.num_nodes
        assert values.dtype == torch.float32
        assert bool(values.isfinite().all())


@pytest.mark.parametrize("name", LOADERS)
def test_a_good_file_gives_the_graph(name: str, tmp_path: Path) -> None:
    write, read = LOADERS[name]
    graph = read(write(tmp_path))
    assert_whole(graph)
    assert graph.edges.t().tolist() == [list(edge) for edge in EDGES]
    if name in ("npz", "pt", "planetoid", "ogb"):
        assert torch.equal(dense(graph), torch.from_numpy(X))


def outcome(read: Callable[[], LoadedGraph]) -> tuple[LoadedGraph | None, str]:
    """The graph, or the message of the DataError; any other error is a failure of the test."""
    try:
        return read(), ""
    except DataError as error:
        return None, str(error)


JUNK = b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe" + bytes(range(256))


@pytest.mark.parametrize("what", ["empty", "junk", "half", "last byte", "pickle"])
@pytest.mark.parametrize("name", LOADERS)
def test_broken_files_are_refused_and_named(name: str, what: str, tmp_path: Path) -> None:
    write, read = LOADERS[name]
    place = write(tmp_path)
    for path in files_of(place):
        good = path.read_bytes()
        proof = tmp_path / "code was run"
        broken = {
            "empty": b"",
            "junk": JUNK,
            "half": good[: len(good) // 2],
            "last byte": good[:-1],
            "pickle": pickle.dumps(Evil(proof)),
        }
        path.write_bytes(broken[what])
        # Half a text is a text, and what is not read is not found to be broken
        text = what in ("half", "last byte") and path.suffix in (".csv", ".tsv", ".index")
        lenient = text or path.suffix in (".x", ".y", ".ty", ".ally")
        graph, message = outcome(lambda: read(place))
        if graph is None:
            assert path.name in message or str(path.parent) in message
            assert len(message) < 1000
        else:
            assert lenient, f"{path.name} was accepted"
            assert_whole(graph)
        assert not proof.exists()
        path.write_bytes(good)
    assert sorted(files_of(place)) == sorted(files_of(write(tmp_path)))


@pytest.mark.parametrize("name", LOADERS)
@settings(max_examples=examples(25))
@given(data=st.data())
def test_damaged_files_give_a_graph_or_a_data_error(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes changed, left out, doubled: nothing but a whole graph or a DataError comes back."""
    write, read = LOADERS[name]
    folder = tmp_path_factory.getbasetemp() / f"damaged {name}"
    folder.mkdir(exist_ok=True)
    place = write(folder)
    path = data.draw(st.sampled_from(files_of(place)))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 12))
        new = data.draw(st.binary(max_size=12) | st.sampled_from([b"-1", b"nan", b"9" * 19, b"1e400", b"</", b"\x00"]))
        content[start : start + length] = new
    path.write_bytes(content)
    graph, message = outcome(lambda: read(place))
    assert message or graph is not None
    if graph is not None:
        assert_whole(graph)


def error_of(read: Callable[[], object], *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        read()
    for part in parts:
        assert part in str(caught.value)


BOTH = np.concatenate([PAIRS, PAIRS[:, ::-1]]).T


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"edge_index": BOTH.astype(float)}, ["'edge_index'", "float64", "integers"]),
        ({"edge_index": BOTH.T}, ["'edge_index'", "(12, 2)", "(2, m)"]),
        ({"edge_index": BOTH - 1}, ["'edge_index', pair 0", "[-1, 0]"]),
        ({"edge_index": BOTH * 3}, ["'edge_index', pair 1", "[3, 6]", "0 ... 4"]),
        ({"edge_index": BOTH[:, :0]}, ["no edge"]),
        ({"edge_index": np.zeros((2, 3), int)}, ["no edge"]),
        ({"edges": PAIRS}, ["edge_index, edges", "exactly one"]),
        ({"x": np.where(X == 3, np.nan, X)}, ["'x', row 3, column 0", "nan", "finite"]),
        ({"x": X.astype(complex)}, ["'x'", "complex"]),
        ({"x": np.full((5, 2), 1e300)}, ["'x', row 0, column 0", "float32"]),
        ({"x": X[:4]}, ["'x'", "4 nodes", "5"]),
        ({"num_nodes": 4.0}, ["'num_nodes'", "4.0", "integer"]),
        ({"num_nodes": 0}, ["'num_nodes'", "1 ..."]),
        ({"node_names": np.array(["a", "b", "a", "c", "d"])}, ["'node_names'", "'a'", "twice"]),
        ({"node_names": np.array(["a", "b"])}, ["'node_names'", "2 nodes"]),
    ],
)
def test_bad_arrays_are_refused_by_key_and_place(tmp_path: Path, arrays: dict, parts: list[str]) -> None:
    error_of(lambda: read_graph(write_npz(tmp_path, **arrays)), "g.npz", *parts)


def test_archives_without_edges_or_with_strange_members(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    np.savez(path, x=X)
    error_of(lambda: read_graph(path), "no key of edges", "it has x")
    np.savez(path, adj_data=np.ones(2), adj_indptr=np.array([0, 1, 2]))
    error_of(lambda: read_graph(path), "no key 'adj_indices'")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("edge_index", b"not an array")
    error_of(lambda: read_graph(path), "'edge_index'", "no array")
    error_of(lambda: read_graph(tmp_path / "none.npz"), "none.npz: no such file")
    path.write_bytes(pickle.dumps(PAIRS))
    error_of(lambda: read_graph(path), "no .npz archive")
    np.savez(path, edge_index=np.array([[0, 4 * 10**9], [1, 2]]))
    error_of(lambda: read_graph(path), "pair 1", "4000000000")
    np.savez(path, edge_index=np.array([[0, 2 * 10**9], [1, 2]]))
    error_of(lambda: read_graph(path), "pair 1", "num_nodes")


def test_pickled_objects_in_archives_are_refused_and_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "code was run"
    evil = np.empty(1, dtype=object)
    evil[0] = Evil(proof)
    for key in ("edge_index", "x", "num_nodes"):
        error_of(lambda key=key: read_graph(write_npz(tmp_path, **{key: evil})), "g.npz", f"'{key}'")
    error_of(lambda: read_gnn_benchmark("g", write_gnn_benchmark(tmp_path, attr_data=evil)), "'attr_data'")
    write_npz(tmp_path, unread=evil)
    assert read_graph(tmp_path / "g.npz").num_edges == 6
    assert not proof.exists()


def test_csr_archives(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    matrix = np.zeros((5, 5))
    matrix[PAIRS[:, 0], PAIRS[:, 1]] = 1
    scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(matrix + matrix.T))
    assert [tuple(edge) for edge in read_graph(path, undirected=False).edges.t().tolist()] == EDGES
    for kind in ("csc", "coo"):
        scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(matrix).asformat(kind))
        graph = read_graph(path)
        assert [tuple(edge) for edge in graph.edges.t().tolist()] == EDGES
        assert graph.notes == ["directed: made undirected, 6 of 6 edges came in one direction only"]
    scipy.sparse.save_npz(path, scipy.sparse.dia_matrix(matrix))
    error_of(lambda: read_graph(path), "no key of edges", "format")
    scipy.sparse.save_npz(path, scipy.sparse.bsr_matrix(matrix))
    error_of(lambda: read_graph(path), "'format'", "csr, csc and coo")
    parts = csr("adj_", matrix)
    for name, value, message in (
        ("adj_indices", parts["adj_indices"] + 9, "0 ... 4"),
        ("adj_indptr", parts["adj_indptr"][::-1].copy(), "ascending"),
        ("adj_indptr", parts["adj_indptr"][:-1], "6 ascending"),
        ("adj_data", parts["adj_data"] * np.nan, "finite"),
        ("adj_data", parts["adj_data"][:-1], "5 values"),
        ("adj_shape", np.array([5, 6]), "square"),
        ("adj_shape", np.array([5.0, 5.0]), "integers"),
        ("adj_data", parts["adj_data"] * 0, "no edge"),
    ):
        np.savez(path, **(parts | {name: value}))
        error_of(lambda: read_graph(path), "g.npz", message)


def test_names_times_and_edges_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    times = np.array([5, 4, 3, 2, 1, 0, 9])
    pairs = np.concatenate([PAIRS, [[1, 0]]])
    np.savez(path, edges=pairs, when=times, node_names=np.array(list("abcde")))
    graph = read_graph(path, time_column="when", undirected=False)
    assert graph.node_names == list("abcde")
    assert graph.notes == ["1 repeated edge dropped"]
    expected = {(0, 1): 5.0, (1, 2): 4.0, (2, 3): 3.0, (3, 4): 2.0, (0, 4): 1.0, (1, 3): 0.0}
    assert graph.times.tolist() == [expected[edge] for edge in EDGES]
    error_of(lambda: read_graph(path, time_column="then"), "no key 'then'")
    np.savez(path, edges=pairs, when=times[:3])
    error_of(lambda: read_graph(path, time_column="when"), "'when'", "7 numbers")
    np.savez(path, edges=pairs, when=np.full(7, np.inf))
    error_of(lambda: read_graph(path, time_column="when"), "'when'", "entry 0", "finite")


@pytest.mark.parametrize("name", ["npz", "pt", "graphml", "mat"])
def test_directed_files_are_made_undirected_and_say_so_or_are_refused(name: str, tmp_path: Path) -> None:
    one_way = PAIRS.T.copy()
    if name == "npz":
        path = write_npz(tmp_path, edge_index=one_way)
    elif name == "pt":
        path = write_saved(tmp_path, edge_index=torch.from_numpy(one_way))
    elif name == "graphml":
        (path := tmp_path / "g.graphml").write_text(graphml().replace('"undirected"', '"directed"'))
    else:
        matrix = np.zeros((5, 5))
        matrix[one_way[0], one_way[1]] = 1
        scipy.io.savemat(path := tmp_path / "g.mat", {"net": matrix})
    graph = read_graph(path)
    assert [tuple(edge) for edge in graph.edges.t().tolist()] == EDGES
    assert "directed: made undirected, 6 of 6 edges came in one direction only" in graph.notes
    error_of(lambda: read_graph(path, undirected=False), str(path), "6 of 6", "undirected")
    write, read = LOADERS[name]
    assert read_graph(write(tmp_path), undirected=False).num_edges == 6
    assert not any("directed" in note for note in read(tmp_path / path.name).notes)


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"edge_index": torch.rand(2, 3)}, ["edge_index", "float32", "integers"]),
        ({"edge_index": None}, ["['x', 'num_nodes']", "`edge_index`"]),
        ({"edge_index": torch.tensor([0, 1])}, ["edge_index", "(2,)", "(2, m)"]),
        ({"edge_index": torch.tensor([[0, 9], [1, 2]])}, ["edge_index, pair 1", "[9, 2]", "0 ... 4"]),
        ({"x": torch.tensor([[1.0], [2], [np.nan], [4], [5]])}, ["x, row 2, column 0", "nan"]),
        ({"x": torch.ones(5, dtype=torch.complex64)[:, None]}, ["x", "complex64"]),
        ({"x": torch.ones(4, 1)}, ["x", "4 nodes"]),
        ({"x": [1.0, 2.0]}, ["x", "list"]),
        ({"num_nodes": 2.5}, ["num_nodes"]),
        ({"node_names": ["a"] * 5}, ["node_names", "twice"]),
    ],
)
def test_bad_saved_data_are_refused_by_name_and_place(tmp_path: Path, fields: dict, parts: list[str]) -> None:
    error_of(lambda: read_graph(write_saved(tmp_path, **fields)), "g.pt", *parts)


def test_saved_data_with_sparse_half_or_no_features(tmp_path: Path) -> None:
    x = torch.from_numpy(X)
    for value in (x.to_sparse_coo(), x.to_sparse_csr(), x.half(), x.bfloat16(), x.double()):
        graph = read_graph(write_saved(tmp_path, x=value))
        assert torch.equal(dense(graph), x)
        assert isinstance(graph.x, Features) == (value.layout != torch.strided)
    graph = read_graph(write_saved(tmp_path, x=None, num_nodes=7, when=torch.arange(12)), time_column="when")
    assert (graph.num_nodes, graph.x, graph.notes) == (7, None, [])
    assert graph.times.tolist() == [0.0, 4.0, 1.0, 5.0, 2.0, 3.0]
    torch.save({"edge_index": torch.from_numpy(BOTH.copy()), "node_names": list("abcde")}, tmp_path / "g.pt")
    assert read_graph(tmp_path / "g.pt").node_names == list("abcde")
    torch.save([1, 2], tmp_path / "g.pt")
    error_of(lambda: read_graph(tmp_path / "g.pt"), "got list", "PyG's Data")


def test_code_in_saved_files_is_refused_and_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "code was run"
    path = tmp_path / "g.pt"
    for item in (
        Evil(proof),
        {"edge_index": Evil(proof)},
        Data(edge_index=torch.zeros(2, 1).long(), extra=Evil(proof)),
    ):
        torch.save(item, path)
        error_of(lambda: read_graph(path), "g.pt: cannot be loaded", "mkdir")
    error_of(lambda: load_saved(tmp_path / "none.pt"), "no such file")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("<key id", '<!DOCTYPE g [<!ENTITY a "b">]><key id', ["line 3"]),
        ('<?xml version="1.0" encoding="UTF-8"?>', '<!DOCTYPE g [<!ENTITY a "b">]>', ["line 1", "document type"]),
        ('target="2"', 'target="9"', ["line 12", "no node '9'", "5 nodes"]),
        ('<node id="3">', '<node id="2">', ["line 9", "'2' is also on line 8"]),
        ('<node id="3">', '<node id=" ">', ["line 9", "is empty"]),
        ('<node id="3">', "<node>", ["line 9", "without 'id'"]),
        ("<graph edge", "<graph edgedefault='directed'/><graph edge", ["line 5", "second or nested"]),
        ('edgedefault="undirected"', "", ["line 5", "without 'edgedefault'"]),
        ('"undirected"', '"both"', ["line 5", "'both'", "directed, undirected"]),
        ('key="d0">3.5', 'key="d7">3.5', ["line 9", "'d7'", "d0, d1"]),
        ("3.5", "nan", ["line 9", "'age'", "'nan'", "finite"]),
        ("3.5", "old", ["line 9", "'age'", "'old'"]),
        ("3.5", "", ["line 9", "'age' has no value"]),
        ("</graph>", "<hyperedge/></graph>", ["hyperedge"]),
        ("</node>", "", ["line 17", "mismatched tag"]),
        ("graphml", "html", ["line 2", "<html>"]),
        ('id="d1" for="edge"', 'id="d0" for="node"', ["line 4", "declared twice"]),
        ('id="d1" for="edge"', 'id="d0" for="all"', ["line 4", "declared twice"]),
    ],
)
def test_bad_graphml_is_refused_by_line(tmp_path: Path, old: str, new: str, parts: list[str]) -> None:
    path = tmp_path / "g.graphml"
    path.write_text(graphml().replace(old, new))
    error_of(lambda: read_graph(path), "g.graphml", *parts)


def test_graphml_attributes(tmp_path: Path) -> None:
    path = tmp_path / "g.graphml"
    path.write_text(graphml().replace('<data key="d0">3.5</data>', ""))
    graph = read_graph(path, time_column="since")
    age = torch.tensor([0.5, 1.5, 2.5, 7.0, 4.5])  # 7 is the default
    torch.testing.assert_close(dense(graph)[:, 0], (age - age.mean()) / age.std(correction=0))
    assert graph.times.tolist() == [2000.0, 2004.0, 2001.0, 2005.0, 2002.0, 2003.0]
    assert read_graph(path, feature_columns=[]).x is None
    error_of(lambda: read_graph(path, time_column="until"), "no column 'until'", "['since']")
    error_of(lambda: read_graph(path, feature_columns=["size"]), "no column 'size'")


def test_parquet_tables(tmp_path: Path) -> None:
    edges, nodes = tmp_path / "edges.parquet", tmp_path / "nodes.pq"
    frame = {"source": ["ann", "bob"], "target": ["bob", "cy"], "since": ["2021-01-01", "2020-01-01"], "when": [2, 1]}
    table = {"node": ["cy", "bob", "ann"], "age": [1.0, 2.0, 3.0], "in": [True, False, True], "job": list("xyx")}
    pd.DataFrame(frame).to_parquet(edges)
    pd.DataFrame(table).to_parquet(nodes)
    graph = read_graph(edges, nodes, time_column="since")
    assert graph.node_names == ["cy", "bob", "ann"]
    assert graph.edges.tolist() == [[0, 1], [1, 2]]
    assert graph.times.tolist() == [1577836800.0, 1609459200.0]
    assert dense(graph).shape == (3, 4)
    assert read_edge_list(edges, time_column="when").times.tolist() == [2.0, 1.0]
    error_of(lambda: read_edge_list(edges, source_column=0, target_column=1), "allowed are names")
    for bad, parts in (
        ({"source": [1.0, 2.0]}, ["'source'", "double", "integers and texts"]),
        ({"source": [None, "a"]}, ["row 0", "no name in column 1"]),
        ({"source": [b"a", b"b"]}, ["'source'", "binary"]),
        ({"since": ["2021-01-01", "soon"]}, ["row 1", "'soon'", "ISO 8601"]),
        ({"since": [1.0, np.nan]}, ["row 1", "'since'"]),
        ({"source": ["ann", "dee"]}, ["row 1", "'dee'", "nodes.pq"]),
    ):
        pd.DataFrame(frame | bad).to_parquet(edges)
        error_of(lambda: read_graph(edges, nodes, time_column="since"), "edges.parquet", *parts)
    pd.DataFrame(frame).drop(columns="target").to_parquet(edges)
    error_of(lambda: read_graph(edges), "no column 'target'", "['source', 'since', 'when']")
    pd.DataFrame(frame)[:0].to_parquet(edges)
    error_of(lambda: read_graph(edges), "edges.parquet")
    pd.DataFrame(frame).to_parquet(edges)
    for bad, parts in (
        ({"age": [1.0, np.nan, 2.0]}, ["row 1", "'age'"]),
        ({"age": [1.0, np.inf, 2.0]}, ["row 1", "'inf'", "finite"]),
        ({"node": ["cy", "bob", "cy"]}, ["row 2", "'cy' is also on row 0"]),
        ({"age": pd.to_timedelta([1] * 3)}, ["'age'", "duration", "numbers, truth values, texts, times and lists"]),
    ):
        pd.DataFrame(table | bad).to_parquet(nodes)
        error_of(lambda: read_graph(edges, nodes), "nodes.pq", *parts)


def test_bad_matrices_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.mat"
    square = np.zeros((5, 5))
    square[0, 1] = 1
    for variables, parts in (
        ({"A": square, "B": square}, ["no matrix 'net'", "it has A, B"]),
        ({"net": square[:, :4]}, ["'net'", "5 x 4", "square"]),
        ({"net": np.where(square, np.nan, 0)}, ["'net'", "nan"]),
        ({"net": scipy.sparse.csc_matrix(np.where(square, np.inf, 0))}, ["'net'", "inf"]),
        ({"net": square * 1j}, ["'net'", "real"]),
        ({"net": "text"}, ["'net'", "class 4"]),
        ({"net": square * 0}, ["no edge"]),
        ({"net": np.eye(5)}, ["no edge"]),
    ):
        scipy.io.savemat(path, variables)
        error_of(lambda: read_graph(path), "g.mat", *parts)
    scipy.io.savemat(path, {"net": square}, format="4")
    error_of(lambda: read_graph(path), "version 5")


@pytest.mark.parametrize("compress", [False, True])
@settings(max_examples=examples(25))
@given(data=st.data())
def test_matlab_files_equal_scipys_reading(
    compress: bool, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    from mebns_pl.datasets.readers.matlab import read_matlab_matrix

    path = tmp_path_factory.getbasetemp() / "any.mat"
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    count = shape[0] * shape[1]
    values = np.array(data.draw(st.lists(st.integers(-2, 2), min_size=count, max_size=count))).reshape(shape)
    kind = data.draw(st.sampled_from(["f8", "f4", "i2", "u1", "i8", "csc"]))
    matrix = scipy.sparse.csc_matrix(values.astype(float)) if kind == "csc" else values.astype(kind)
    scipy.io.savemat(path, {"first": "text", "net": matrix}, do_compression=compress)
    expected = scipy.io.loadmat(path)["net"]
    expected = expected.toarray() if scipy.sparse.issparse(expected) else expected
    assert np.array_equal(read_matlab_matrix(path, "net").toarray(), expected)


def test_bad_planetoid_files_are_refused(tmp_path: Path) -> None:
    proof = tmp_path / "code was run"
    for parts, messages in (
        ({"allx": Evil(proof)}, ["ind.g.allx", "mkdir", "not allowed"]),
        ({"graph": {0: [Evil(proof)]}}, ["ind.g.graph", "mkdir"]),
        ({"allx": np.ones((3, 2))}, ["ind.g.allx", "csr_matrix"]),
        ({"allx": scipy.sparse.csr_matrix(X[:3] * np.nan)}, ["ind.g.allx", "nan", "finite"]),
        ({"tx": scipy.sparse.csr_matrix(X)}, ["test.index", "5 x 2"]),
        ({"tx": scipy.sparse.csr_matrix(np.ones((2, 3)))}, ["test.index", "2 x 3"]),
        ({"graph": {0: [5]}}, ["ind.g.graph, pair 0", "[0, 5]", "0 ... 4"]),
        ({"graph": {0: [-1]}}, ["ind.g.graph, pair 0", "[0, -1]"]),
        ({"graph": {0: [1.5]}}, ["ind.g.graph", "whole numbers"]),
        ({"graph": {0: [10**30]}}, ["ind.g.graph", "int64"]),
        ({"graph": {}}, ["ind.g.graph", "one edge"]),
        ({"graph": [1, 2]}, ["ind.g.graph", "dictionary"]),
    ):
        error_of(lambda parts=parts: read_planetoid("g", write_planetoid(tmp_path, **parts)), *messages)
    assert not proof.exists()
    write_planetoid(tmp_path)
    for index, message in (
        ("4\nx\n", "line 2"),
        ("4\n4\n", "no other has it"),
        ("3\n99\n", "far beyond"),
        ("4\n2\n", "least"),
    ):
        (tmp_path / "ind.g.test.index").write_text(index)
        error_of(lambda: read_planetoid("g", tmp_path), "ind.g.test.index", message)


@pytest.mark.parametrize("line", ["1", "1 2 3", "a b", "1 -2", "1 2.5", "1_0 2", "\u0661 2", "9" * 30 + " 1", "nan 1"])
def test_bad_lines_of_node_numbers_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "g.txt"
    path.write_text(f"# comment\n1 2\n\n{line}\n")
    error_of(lambda: read_snap("g", path), "g.txt, line 4", "two node numbers")


def test_snap_numbers_nodes_anew_and_keeps_their_names(tmp_path: Path) -> None:
    graph = read_snap("g", write_snap(tmp_path))
    assert graph.node_names == ["0", "10", "20", "30", "40"]
    (tmp_path / "g.txt").write_text("3 3\n")
    error_of(lambda: read_snap("g", tmp_path / "g.txt"), "no edge")


def test_arguments_that_do_not_go_with_the_format(tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    error_of(lambda: read_graph(path, "nodes.csv"), "nodes: got 'nodes.csv'", "edge list")
    error_of(lambda: read_graph(path, feature_columns=["a"]), "feature_columns: got ['a']", ".npz")
    error_of(lambda: read_graph(write_mat(tmp_path), time_column="t"), "time_column: got 't'", ".mat")
    error_of(lambda: read_graph(tmp_path / "g.xlsx"), "'.xlsx'", ".csv, .tsv", ".graphml, .npz, .pt")
    error_of(lambda: read_graph(tmp_path / "g.npz.gz"), "'.npz.gz'")
    error_of(lambda: read_edge_list(write_csv(tmp_path), time_column=2), "time_column: got 2")


@settings(max_examples=examples(30))
@given(pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_all_formats_read_the_same_graph(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "same"
    folder.mkdir(exist_ok=True)
    expected = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    array = np.array(pairs)
    both = np.concatenate([array, array[:, ::-1]]).T.copy()
    matrix = np.zeros((7, 7))
    matrix[both[0], both[1]] = 1
    names = folder / "nodes.csv"
    names.write_text("node\n" + "".join(f"{i}\n" for i in range(7)))
    (folder / "g.csv").write_text("source,target\n" + "".join(f"{u},{v}\n" for u, v in pairs))
    pd.DataFrame(array, columns=["source", "target"]).to_parquet(folder / "g.parquet")
    (folder / "g.graphml").write_text(graphml([list(pair) for pair in pairs], nodes=7))
    np.savez(folder / "g.npz", edges=array, num_nodes=7)
    torch.save(Data(edge_index=torch.from_numpy(both), num_nodes=7), folder / "g.pt")
    scipy.io.savemat(folder / "g.mat", {"net": matrix})
    for suffix in ("csv", "parquet", "graphml", "npz", "pt", "mat"):
        path = folder / f"g.{suffix}"
        table = names if suffix in ("csv", "parquet") else None
        if expected:
            graph = read_graph(path, table, undirected=False)
            assert (graph.num_nodes, [tuple(edge) for edge in graph.edges.t().tolist()]) == (7, expected)
        else:
            error_of(lambda path=path, table=table: read_graph(path, table), "no edge")


def test_entries_too_small_for_float32_are_edges(tmp_path: Path) -> None:
    """As e-values are: the smallest are the strongest."""
    matrix = scipy.sparse.coo_array(([1e-60, 1e-180, 0.5, 0.0], ([0, 1, 2, 3], [1, 2, 3, 0])), shape=(4, 4))
    scipy.io.mmwrite(tmp_path / "g.mtx", matrix)
    scipy.sparse.save_npz(tmp_path / "g.npz", matrix.tocsr())
    for name in ("g.mtx", "g.npz"):
        assert read_graph(tmp_path / name).edges.tolist() == [[0, 1, 2], [1, 2, 3]]
