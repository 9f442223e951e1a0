from __future__ import annotations

import gzip
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.io import read_planetoid_data
from torch_geometric.utils import is_undirected

from mebns_pl.data import catalog
from mebns_pl.data.catalog import load_graph, normalize_rows
from mebns_pl.data.files import DataError
from mebns_pl.graph.csr import Features

REPOSITORY = Path(__file__).resolve().parents[2]
EMBEDDED = ["air_routes.csv.gz", "air_routes_airports.csv.gz"]
# name, nodes, edges, features: the table of the data folder's README
PLANETOID = [("cora", 2708, 5278, 1433), ("citeseer", 3327, 4552, 3703), ("pubmed", 19717, 44324, 500)]


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


@pytest.mark.parametrize(("name", "nodes", "edges", "features"), PLANETOID)
def test_planetoid_equals_the_readme(data_root, name, nodes, edges, features):
    graph = load_graph(name, data_root)
    assert (graph.name, graph.num_nodes, graph.num_edges) == (name, nodes, edges)
    assert graph.spec == (nodes, features, True)
    assert bool((graph.edges[0] < graph.edges[1]).all())
    total = graph.x.to_dense().sum(1)
    torch.testing.assert_close(total[total > 0], torch.ones(int((total > 0).sum())))


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
    with pytest.raises(DataError, match="no graph 'Cora'; allowed are air_routes, cora, citeseer, pubmed"):
        load_graph("Cora")


def test_incomplete_raw_files_are_named(tmp_path):
    (tmp_path / "PubMed" / "raw").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no file ind\.pubmed\.x; all of"):
        load_graph("pubmed", tmp_path)


def test_a_failed_download_says_where_it_looked(tmp_path, monkeypatch):
    def no_network(*_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("torch_geometric.datasets.Planetoid", no_network)
    with pytest.raises(DataError) as caught:
        load_graph("cora", tmp_path)
    for part in (tmp_path / "planetoid" / "Cora" / "raw", tmp_path / "cache" / "Cora" / "raw", "no route to host"):
        assert str(part) in str(caught.value)


def test_rows_of_zeros_stay():
    assert normalize_rows(torch.tensor([[1.0, 3.0], [0.0, 0.0]])).tolist() == [[0.25, 0.75], [0.0, 0.0]]
