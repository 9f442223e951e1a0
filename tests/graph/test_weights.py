"""Weights of edges: from a table to what encoders sum, against sums in plain words; told where they are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.nn import GCNConv

from mebns_pl import GCN, SAGE, LinearGCN, LinkDataModule, NeighborSampling, Plain
from mebns_pl.cli.preflight import check_run
from mebns_pl.datasets.files import read_graph
from mebns_pl.datasets.readers.options import GraphColumns
from mebns_pl.errors import DataError
from mebns_pl.graph.csr import Graph
from mebns_pl.pools.new_nodes import with_new_nodes
from references.runs import fit, make_loaded, make_trainer

EDGES = torch.tensor([[0, 1, 2, 0, 3], [1, 2, 0, 3, 4]])
WEIGHTS = torch.tensor([2.0, 0.5, 1.0, 0.0, 3.0])
WEIGHTED = GraphColumns(weight="w")


def dense(edges: Tensor, weights: Tensor, size: int) -> Tensor:
    matrix = torch.zeros(size, size)
    for (u, v), weight in zip(edges.t().tolist(), weights.tolist(), strict=True):
        matrix[u, v] = matrix[v, u] = weight
    return matrix


@pytest.mark.parametrize("gone", [[], [0], [1, 4]])
def test_sums_over_neighbours_are_weighted(gone: list[int]) -> None:
    graph, h = Graph.from_edges(EDGES, 5, weight=WEIGHTS), torch.randn(5, 3)
    matrix = dense(EDGES, torch.where(torch.isin(torch.arange(5), torch.tensor(gone)), 0, WEIGHTS), 5)
    graph = graph.without(EDGES[:, gone]) if gone else graph
    torch.testing.assert_close(graph.neighbor_sum(h), matrix @ h)
    torch.testing.assert_close(graph.strength, matrix.sum(1))
    hat = matrix + torch.eye(5)
    root = hat.sum(1).rsqrt()
    torch.testing.assert_close(graph.normalized_sum(h), root[:, None] * (hat @ (root[:, None] * h)))
    assert graph.edge_weight is not None
    rebuilt = torch.zeros(5, 5)
    rebuilt[graph.edge_index[0], graph.edge_index[1]] = graph.edge_weight
    torch.testing.assert_close(rebuilt, matrix)


def test_gcn_is_that_of_pyg_with_the_same_weights() -> None:
    graph = Graph.from_edges(EDGES, 5, torch.randn(5, 4), WEIGHTS)
    encoder, theirs = GCN(graph.spec, hidden_channels=6, num_layers=1), GCNConv(4, 6)
    with torch.no_grad():
        for ours, its in zip(encoder.parameters(), (theirs.lin.weight, theirs.bias), strict=True):
            ours.copy_(its.t() if its.shape != ours.shape else its)
        torch.testing.assert_close(encoder(graph), theirs(graph.x, graph.edge_index, graph.edge_weight))


@pytest.mark.parametrize("encoder", [GCN, SAGE, LinearGCN])
def test_equal_weights_change_nothing_and_others_do(encoder: type) -> None:
    x = torch.randn(5, 4)
    plain, ones, other = (Graph.from_edges(EDGES, 5, x, w) for w in (None, torch.ones(5), WEIGHTS))
    model = encoder(plain.spec, hidden_channels=6)
    torch.testing.assert_close(model(plain), model(ones))
    assert not torch.allclose(model(plain), model(other))
    assert bool(model(other).isfinite().all())


def test_of_edges_that_stand_twice_the_greatest_weight_counts() -> None:
    graph = Graph.from_edges(torch.tensor([[0, 1, 1], [1, 0, 2]]), 3, weight=torch.tensor([1.0, 4.0, 2.0]))
    assert graph.weight is not None
    assert graph.weight.tolist() == [4.0, 4.0, 2.0, 2.0]


def write(path: Path, weights: object = None) -> None:
    loaded = make_loaded()
    table = pd.DataFrame(loaded.edges.t().numpy(), columns=["source", "target"])
    table["w"] = np.arange(len(table)) % 5 + 0.5 if weights is None else weights
    table.to_csv(path, index=False)


def test_weights_of_a_column_reach_training_and_prediction(tmp_path: Path) -> None:
    write(path := tmp_path / "e.csv")
    data = LinkDataModule(str(path), columns=WEIGHTED, batch_size=30)
    table = pd.read_csv(path)
    for graph in (data.train_graph, data.test_graph, data.full_graph):
        assert graph.weight is not None
        found = {(u, v): w for (u, v), w in zip(graph.edge_index.t().tolist(), graph.weight.tolist(), strict=True)}
        name = data.loaded.node_names.index
        wanted = {(name(str(int(u))), name(str(int(v)))): w for u, v, w in table.itertuples(index=False)}
        assert all(found[edge] == found[edge[::-1]] == wanted.get(edge, wanted.get(edge[::-1])) for edge in found)
    alike = LinkDataModule(str(path), batch_size=30)
    assert alike.train_graph.weight is None
    assert alike.digests["graph"] != data.digests["graph"]
    assert any("GCN, SAGE and LinearGCN sum neighbours" in note for note in data.loaded.notes)
    systems = []
    for module in (data, alike):
        torch.manual_seed(0)
        systems.append(Plain(module.spec))
        fit(systems[-1], module, 2)
    assert not torch.equal(*(next(system.parameters()) for system in systems))


@pytest.mark.parametrize("bad", ["-1", "nan", "inf", "much", ""])
def test_a_weight_that_is_none_is_refused_by_line(bad: str, tmp_path: Path) -> None:
    weights = ["1.5"] * make_loaded().num_edges
    weights[6] = bad
    write(path := tmp_path / "e.csv", weights)
    with pytest.raises(DataError, match=r"e\.csv, line 8.*allowed are finite weights of 0 or more"):
        read_graph(path, columns=WEIGHTED)


@pytest.mark.parametrize("name", ["weight", "Score", "rating", "combined_score"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_column_of_weights_that_is_not_named_is_told(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"e{suffix}"
    table = pd.DataFrame({"source": [0, 1], "target": [1, 2], name: [1.0, 2.0]})
    table.to_parquet(path) if suffix == ".parquet" else table.to_csv(
        path, sep={".csv": ","}.get(suffix, "\t"), index=False
    )
    assert read_graph(path).notes == [f"column {name!r} left out: edges count alike (columns.weight reads it)"]


def test_weights_of_saved_graphs_are_told(tmp_path: Path) -> None:
    pairs = np.array([[0, 1, 2], [1, 2, 0]])
    np.savez(tmp_path / "e.npz", edge_index=pairs, edge_weight=np.ones(3))
    assert "'edge_weight' left out: edges count alike" in read_graph(tmp_path / "e.npz").notes
    torch.save({"edge_index": torch.from_numpy(pairs), "edge_attr": torch.ones(3, 1)}, tmp_path / "e.pt")
    assert "'edge_attr' left out: edges count alike" in read_graph(tmp_path / "e.pt").notes


def test_neighbour_batches_are_refused_before_a_run(tmp_path: Path) -> None:
    write(path := tmp_path / "e.csv")
    data = LinkDataModule(str(path), columns=WEIGHTED)
    system = Plain(data.spec, batching=NeighborSampling(fan_out=3, num_hops=2))
    with pytest.raises(ValueError, match="NeighborSampling takes all edges alike, and these have weights"):
        check_run("fit", system, data, make_trainer(1))


def test_new_nodes_leave_the_weights_of_known_edges(tmp_path: Path) -> None:
    write(path := tmp_path / "e.csv")
    data = LinkDataModule(str(path), columns=WEIGHTED)
    (tmp_path / "new.csv").write_text("node\nnova\n")
    (tmp_path / "edges.csv").write_text("source,target\nnova,0\n")
    larger, _ = with_new_nodes(data.loaded, data.full_graph, None, tmp_path / "new.csv", tmp_path / "edges.csv")
    assert larger.weight is not None
    assert data.full_graph.weight is not None
    assert float(larger.weight.sum()) == pytest.approx(float(data.full_graph.weight.sum()) + 2)
