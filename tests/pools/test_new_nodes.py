"""New nodes: features encoded as in training, edges, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mebns_pl.datasets.files import read_edge_list
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.tables import standardize_columns
from mebns_pl.errors import DataError
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.pools.new_nodes import with_new_nodes

NODES = "node,age,town,size\nann,20,Rome,1\nbob,30,Oslo,1\ncy,70,Rome,1\n"
NEW = "town,size,node,age\nOslo,5,dan,40\nRome,1,eve,20\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "edges.csv": "source,target\nann,bob\nbob,cy\n",
        "nodes.csv": NODES,
        "new.csv": NEW,
        "new_edges.csv": "source,target\ndan,ann\neve,dan\nann,dan\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def known(folder: Path) -> tuple[LoadedGraph, Graph]:
    loaded = read_edge_list(folder / "edges.csv", folder / "nodes.csv")
    return loaded, Graph.from_edges(loaded.edges, loaded.num_nodes, loaded.x)


def test_new_nodes_stand_behind_the_known_ones(folder: Path) -> None:
    loaded, graph = known(folder)
    larger, names = with_new_nodes(loaded, graph, folder / "nodes.csv", folder / "new.csv", folder / "new_edges.csv")
    assert names == ["ann", "bob", "cy", "dan", "eve"]
    edges = torch.stack([larger.rows, larger.indices])[:, larger.rows < larger.indices]
    assert edges.t().tolist() == [[0, 1], [0, 3], [1, 2], [3, 4]]
    assert isinstance(larger.x, torch.Tensor)
    assert torch.equal(larger.x[:3], loaded.x)
    mean, deviation = 40.0, (((20 - 40) ** 2 + (30 - 40) ** 2 + (70 - 40) ** 2) / 3) ** 0.5
    # age, then Oslo, Rome, then the constant size, which says nothing
    expected = [[0.0, 1, 0, 0], [(20 - mean) / deviation, 0, 1, 0]]
    torch.testing.assert_close(larger.x[3:], torch.tensor(expected))
    alone, _ = with_new_nodes(loaded, graph, folder / "nodes.csv", folder / "new.csv")
    assert alone.degree.tolist() == [1, 2, 1, 0, 0]


def test_a_known_row_given_anew_gets_the_same_features(folder: Path) -> None:
    (folder / "new.csv").write_text(NODES.replace("ann", "ann2").replace("bob", "bob2").replace("cy", "cy2"))
    loaded, graph = known(folder)
    larger, _ = with_new_nodes(loaded, graph, folder / "nodes.csv", folder / "new.csv")
    assert isinstance(larger.x, torch.Tensor)
    assert torch.equal(larger.x[3:], loaded.x)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_scaling_is_that_of_the_reference(scale: float) -> None:
    x = 5e9 + scale * torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 3] = 7
    assert torch.equal(standardize_columns(x[5:9], like=x), standardize_columns(x)[5:9])
    shifted = standardize_columns(x + 1, like=x)
    assert bool((shifted[:, 3] == 0).all())


def test_without_features_names_suffice(folder: Path) -> None:
    loaded = read_edge_list(folder / "edges.csv")
    graph = Graph.from_edges(loaded.edges, 3)
    larger, names = with_new_nodes(loaded, graph, None, folder / "new.csv", folder / "new_edges.csv")
    assert larger.x is None
    assert len(names) == larger.num_nodes == 5


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("new.csv", NEW.replace("dan", "ann"), r"new\.csv, line 2: node 'ann' is known already"),
        ("new.csv", NEW.replace("eve", "dan"), r"new\.csv, line 3: node 'dan' is known already or stands twice"),
        ("new.csv", NEW.replace("Oslo", "Bonn"), r"line 2: column 'town' has 'Bonn', .* allowed are 'Oslo', 'Rome'"),
        ("new.csv", NEW.replace("40", "forty"), r"line 2: column 'age' has 'forty'; allowed are finite numbers"),
        ("new.csv", NEW.replace("40", "nan"), r"line 2: column 'age' has 'nan'"),
        ("new.csv", NEW.replace("40", ""), r"line 2: column 'age' has ''"),
        ("new.csv", NEW.replace("age", "years"), r"no column 'age'"),
        ("new.csv", "name\ndan\n", r"no column 'node'"),
        ("new_edges.csv", "source,target\nann,bob\n", r"edge 'ann' - 'bob' joins two known nodes"),
        ("new_edges.csv", "source,target\nann,fay\n", r"1 name is of no node .*'fay' \(line 2\)"),
    ],
)
def test_bad_tables_are_refused(folder: Path, file: str, text: str, message: str) -> None:
    (folder / file).write_text(text)
    loaded, graph = known(folder)
    with pytest.raises(DataError, match=message):
        with_new_nodes(loaded, graph, folder / "nodes.csv", folder / "new.csv", folder / "new_edges.csv")


def test_features_that_are_of_no_table_are_refused(folder: Path) -> None:
    loaded, graph = known(folder)
    with pytest.raises(DataError, match=r"need features like those of edges, .* node table \(data\.nodes\)"):
        with_new_nodes(loaded, graph, None, folder / "new.csv")
    words = LoadedGraph("words", loaded.edges, loaded.node_names, Features.of(torch.eye(3).to_sparse()))
    with pytest.raises(DataError, match="need features like those of words"):
        with_new_nodes(words, graph, folder / "nodes.csv", folder / "new.csv")
