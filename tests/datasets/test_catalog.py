from __future__ import annotations

import gzip
import importlib.util
import io
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console
from torch_geometric.io import read_npz, read_planetoid_data
from torch_geometric.utils import is_undirected

from mebns_pl.cli import main as cli
from mebns_pl.datasets import catalog, places
from mebns_pl.datasets.catalog import CATALOG, NAMES, load_graph, load_source, normalize_rows
from mebns_pl.datasets.listing import dataset_table
from mebns_pl.datasets.places import download_file
from mebns_pl.datasets.readers import ogb
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features

REPOSITORY = Path(__file__).resolve().parents[2]
EMBEDDED = ["air_routes.csv.gz", "air_routes_airports.csv.gz"]
# The data folder's names of the graphs
TITLES = {
    "US air routes, July 2026": "air_routes", "Cora": "cora", "CiteSeer": "citeseer", "PubMed": "pubmed",
    "USAir": "usair", "NS": "ns", "PB": "pb", "Yeast": "yeast", "C.ele": "celegans", "Power": "power",
    "Router": "router", "E.coli": "ecoli", "ogbl-ddi, official split": "ogbl-ddi", "Amazon Computers": "computers",
    "Amazon Photo": "photo", "Enron e-mail (SNAP)": "enron",
}  # fmt: skip


def sizes_of_the_readme() -> list[tuple[str, int, int, int]]:
    """Title, nodes, edges, features (0: none, or not told as a number) as the data folder's table has them."""
    return [
        ("US air routes, July 2026", 352, 3_017, 0),
        ("Cora", 2_708, 5_278, 1_433),
        ("CiteSeer", 3_327, 4_552, 3_703),
        ("PubMed", 19_717, 44_324, 500),
        ("USAir", 332, 2_126, 0),
        ("NS", 1_589, 2_742, 0),
        ("PB", 1_222, 16_714, 0),
        ("Yeast", 2_375, 11_693, 0),
        ("C.ele", 297, 2_148, 0),
        ("Power", 4_941, 6_594, 0),
        ("Router", 5_022, 6_258, 0),
        ("E.coli", 1_805, 14_660, 0),
        ("ogbl-ddi, official split", 4_267, 1_334_889, 0),
        ("Amazon Computers", 13_752, 245_861, 767),
        ("Amazon Photo", 7_650, 119_081, 745),
        ("Enron e-mail (SNAP)", 36_692, 183_831, 0),
    ]


def test_air_routes():
    graph = load_graph("air_routes")
    assert (graph.name, graph.num_nodes, graph.num_edges) == ("air_routes", 352, 3017)
    assert graph.x.shape == (352, 6)
    torch.testing.assert_close(graph.x[:, :3].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert graph.x[:, 3:].sum(1).unique().tolist() == [1.0]
    assert graph.node_names == sorted(graph.node_names)
    number = {name[:3]: i for i, name in enumerate(graph.node_names)}
    assert graph.node_names[number["ATL"]] == "ATL - Hartsfield Jackson Atlanta International Airport"
    routes = {tuple(edge) for edge in graph.edges.t().tolist()}
    assert tuple(sorted((number["ATL"], number["LAX"]))) in routes
    assert tuple(sorted((number["ABE"], number["LAX"]))) not in routes
    assert graph.x[number["ANC"], 0] == graph.x[:, 0].topk(20).values.min() or graph.x[number["ANC"], 0] > 1


def test_air_routes_are_made_from_the_data_folder(data_root, tmp_path):
    path = REPOSITORY / "scripts" / "make_air_routes.py"
    script = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("make_air_routes", path))
    spec.loader.exec_module(script)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        script.make_air_routes(data_root / "air_routes", tmp_path / name)
    for name in EMBEDDED:
        made = (tmp_path / "one" / name).read_bytes()
        assert made == (tmp_path / "two" / name).read_bytes()
        assert made[4:8] == bytes(4)  # no time stamp
        embedded = (Path(catalog.__file__).parent / name).read_bytes()
        # The text, not the compressed bytes: those are another zlib's right to choose.
        assert gzip.decompress(made) == gzip.decompress(embedded)


@pytest.mark.parametrize(("title", "nodes", "edges", "features"), sizes_of_the_readme())
def test_sizes_equal_the_table_of_the_data_folder(data_root, title, nodes, edges, features):
    source = CATALOG[TITLES[title]]
    graph = load_graph(source.name, data_root)
    assert graph.name == source.name
    assert (graph.num_nodes, graph.num_edges, graph.spec.num_features) == (
        nodes,
        edges,
        features or source.num_features,
    )
    assert (source.num_nodes, source.num_edges, source.num_features) == (nodes, edges, graph.spec.num_features)
    low, high = graph.edges
    assert bool((low < high).all())
    assert bool(((low * nodes + high).diff() > 0).all())
    assert graph.spec.sparse == source.words


def test_the_table_of_the_data_folder_was_found(data_root):
    text = (data_root / "README.md").read_text("utf-8")
    for title in TITLES:
        assert f"| {title} |" in text
    for title, nodes, edges, _ in sizes_of_the_readme():
        assert re.search(rf"\| {re.escape(title)} \|.*\| {nodes:,} \| {edges:,} \|", text)


@pytest.mark.parametrize("name", ["cora", "citeseer", "pubmed"])
@pytest.mark.parametrize("normalize", [False, True])
def test_planetoid_is_what_pyg_reads_to_the_last_bit(data_root, name, normalize):
    folder = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}[name]
    raw = read_planetoid_data(str(data_root / "planetoid" / folder / "raw"), name)
    x = raw.x / raw.x.sum(1, keepdim=True).masked_fill(raw.x.sum(1, keepdim=True) == 0, 1.0) if normalize else raw.x
    expected = Features.of(x.to_sparse())
    graph = load_graph(name, data_root, normalize_features=normalize)
    for found, wanted in ((graph.x.matrix, expected.matrix), (graph.x.transposed, expected.transposed)):
        assert torch.equal(found.crow_indices(), wanted.crow_indices())
        assert torch.equal(found.col_indices(), wanted.col_indices())
        assert torch.equal(found.values().view(torch.int32), wanted.values().view(torch.int32))


@pytest.mark.parametrize("name", ["Computers", "Photo"])
def test_amazon_is_what_pyg_reads(data_root, name):
    path = data_root / "amazon" / name / "raw" / f"amazon_electronics_{name.lower()}.npz"
    raw = read_npz(str(path), to_undirected=True)
    graph = load_graph(name.lower(), data_root)
    assert torch.equal(graph.edges, raw.edge_index[:, raw.edge_index[0] < raw.edge_index[1]])
    assert torch.equal(graph.x.to_dense(), raw.x)
    assert any(note.startswith("directed: made undirected") for note in graph.notes)


def test_planetoid_equals_the_raw_files(data_root):
    raw = read_planetoid_data(str(data_root / "planetoid" / "CiteSeer" / "raw"), "citeseer")
    graph = load_graph("citeseer", data_root, normalize_features=False)
    assert isinstance(graph.x, Features)
    assert torch.equal(graph.x.to_dense(), raw.x)
    assert graph.x.matrix.values().unique().tolist() == [1.0]
    assert is_undirected(raw.edge_index)
    assert {tuple(e) for e in graph.edges.t().tolist()} == {tuple(sorted(e)) for e in raw.edge_index.t().tolist()}
    assert "48 nodes without an edge" in graph.notes


def test_citeseer_has_the_numbers_of_the_released_split(data_root):
    folder = data_root / "heart" / "citeseer"
    released = np.concatenate(
        [np.loadtxt(folder / f"{part}_pos.txt", dtype=int) for part in ("train", "valid", "test")]
    )
    expected = {(min(e), max(e)) for e in released.tolist() if e[0] != e[1]}
    assert {tuple(e) for e in load_graph("citeseer", data_root).edges.t().tolist()} == expected


def test_other_place_and_nothing_is_written(data_root, tmp_path):
    os.symlink(data_root / "planetoid" / "Cora", tmp_path / "Cora")
    before = sorted((data_root / "planetoid" / "Cora").rglob("*"))
    assert load_graph("cora", tmp_path).num_edges == 5278
    assert sorted((data_root / "planetoid" / "Cora").rglob("*")) == before


def test_the_cache_is_looked_into(data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path))
    os.symlink(data_root / "planetoid" / "Cora", tmp_path / "Cora")
    assert load_graph("cora").num_edges == 5278
    assert load_graph("cora", tmp_path / "elsewhere").num_edges == 5278


def test_unknown_names_are_refused():
    with pytest.raises(DataError, match="no graph 'Cora'; allowed are air_routes, cora, citeseer, pubmed, usair"):
        load_graph("Cora")


def test_names():
    assert NAMES == tuple(CATALOG) == tuple(source.name for source in CATALOG.values())
    assert {"coauthor_cs", "coauthor_physics", *ogb.NAMES} == set(NAMES) - set(TITLES.values()) | {"ogbl-ddi"}


def test_incomplete_raw_files_are_named(tmp_path):
    (tmp_path / "PubMed" / "raw").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no file ind\.pubmed\.x; all of"):
        load_graph("pubmed", tmp_path)


@pytest.mark.parametrize("name", ["cora", "usair", "photo", "coauthor_cs", "enron"])
def test_a_failed_download_says_where_it_looked_and_leaves_nothing(name, tmp_path, monkeypatch):
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(DataError) as caught:
        load_graph(name, tmp_path / "root")
    folder = CATALOG[name].folders[0]
    for part in (tmp_path / "root" / folder, tmp_path / "cache" / folder, "no route to host"):
        assert str(part) in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")]
    assert CATALOG[name].find(tmp_path / "root") is None


@pytest.fixture
def served(data_root, tmp_path, monkeypatch):
    """A catalogue graph that is downloaded from a folder, and where it is kept."""
    shutil.copytree(data_root / "planetoid" / "Cora" / "raw", tmp_path / "served")
    for path in (tmp_path / "served").iterdir():
        path.chmod(0o644)
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEBNS_DATA", raising=False)
    return replace(CATALOG["cora"], url=(tmp_path / "served").as_uri()), tmp_path / "cache" / "planetoid/Cora/raw"


def test_a_download_is_kept(served, data_root):
    source, kept = served
    assert source.find() is None
    graph = load_source(source)
    assert torch.equal(graph.edges, load_graph("cora", data_root).edges)
    assert source.find() == kept
    assert sorted(path.name for path in kept.iterdir()) == sorted(source.files)
    assert [path.name for path in kept.parent.iterdir()] == ["raw"]


@pytest.mark.parametrize("how", ["missing", "cut off", "empty", "junk"])
def test_a_broken_download_is_not_kept(served, tmp_path, how):
    source, kept = served
    last = tmp_path / "served" / source.files[6]
    good = last.read_bytes()
    last.write_bytes({"missing": b"", "cut off": good[:-9], "empty": b"", "junk": b"<html>404</html>"}[how])
    if how == "missing":
        last.unlink()
    with pytest.raises(DataError, match=last.name):
        load_source(source)
    assert source.find() is None
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() or path.name.startswith(".")]
    last.write_bytes(good)
    assert load_source(source).num_edges == 5278
    assert source.find() == kept


def test_a_download_that_ends_early_is_noticed(tmp_path, monkeypatch):
    class Response(io.BytesIO):
        headers: ClassVar = {"Content-Length": "10"}

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Response(b"seven.."))
    with pytest.raises(OSError, match="7 of 10 bytes"):
        download_file("https://example.org/file", tmp_path / "file")


@pytest.mark.parametrize("name", ["ogbl-ddi", "ogbl-collab", "ogbl-ppa", "ogbl-citation2", "ogbl-vessel"])
def test_ogb_graphs_need_the_extra(name, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ogb_is_installed", lambda: False)
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=rf"{name}.*ogb.*not installed; pip install 'mebns_pl\[ogb\]'"):
        load_graph(name, tmp_path)
    assert not (tmp_path / "cache").exists()


def test_an_ogb_download_comes_whole_or_not_at_all(tmp_path, monkeypatch):
    """A stand-in for the package: what it unpacks is moved to the cache, or nothing is."""
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    utils = ModuleType("ogb.utils.url")
    utils.decide_download = lambda url: True
    utils.download_url = lambda url, folder: str(Path(folder, "collab.zip"))
    members = ["raw/edge.csv.gz"]

    def extract_zip(archive: str, folder: str) -> None:
        Path(archive).touch()
        for member in members:
            path = Path(folder, "collab", member)
            path.parent.mkdir(parents=True)
            path.touch()

    utils.extract_zip = extract_zip
    monkeypatch.setattr(places, "ogb_is_installed", lambda: True)
    for name, module in (("ogb", ModuleType("ogb")), ("ogb.utils", ModuleType("ogb.utils")), ("ogb.utils.url", utils)):
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(DataError, match=r"edge\.csv\.gz: cannot be read"):
        load_graph("ogbl-collab", tmp_path)
    assert not any((tmp_path / "cache" / "ogb").iterdir())
    members[:] = ["mapping/README.md"]
    with pytest.raises(DataError, match="no folder collab/raw"):
        load_graph("ogbl-collab", tmp_path)
    utils.decide_download = lambda url: sys.exit(-1)
    with pytest.raises(DataError, match="download failed"):
        load_graph("ogbl-collab", tmp_path)
    assert not any((tmp_path / "cache" / "ogb").iterdir())


def test_rows_of_zeros_stay():
    x = Features.of(torch.tensor([[1.0, 3.0], [0.0, 0.0]]).to_sparse())
    assert normalize_rows(x).to_dense().tolist() == [[0.25, 0.75], [0.0, 0.0]]


def test_the_list_tells_what_is_on_disk_without_reading_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(places, "ogb_is_installed", lambda: False)
    (tmp_path / "seal").mkdir()
    (tmp_path / "seal" / "USAir.mat").write_bytes(b"not read")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(dataset_table(tmp_path))
    lines = {line.split()[0]: line for line in console.export_text().splitlines()}
    assert set(lines) == {"name", *NAMES}
    assert re.search(r"usair +332 +2,126 +0 .*yes *$", lines["usair"])
    assert re.search(r"air_routes +352 +3,017 +6 .*yes *$", lines["air_routes"])
    assert re.search(r"no: downloaded when first used *$", lines["pb"])
    assert re.search(r"no: needs the extra mebns_pl\[ogb\] *$", lines["ogbl-ppa"])


def test_the_command_lists_the_catalogue(capsys, data_root, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        cli.main(["datasets", "--root", str(data_root)])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{name} .*yes *$", printed, re.M) for name in TITLES.values())
