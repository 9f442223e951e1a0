"""Features on disk: mapped and not read, checked, and given to batches row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mebns_pl import NeighborSampling, Plain
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.datasets.files import read_graph
from mebns_pl.datasets.readers.mapped import map_features
from mebns_pl.datasets.split import SplitFractions
from mebns_pl.errors import DataError

EDGES = [(a, b) for a in range(12) for b in range(a + 1, 12) if (a * b) % 3]


@pytest.fixture
def edges(tmp_path: Path) -> Path:
    """An edge list of nodes 1 ... 11; node 0 has no edge."""
    path = tmp_path / "edges.csv"
    path.write_text("source,target\n" + "".join(f"{a},{b}\n" for a, b in EDGES))
    return path


def save(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "x.npy", array)
    return folder / "x.npy"


def test_a_graph_with_features_on_disk(edges: Path, tmp_path: Path) -> None:
    x = np.arange(44, dtype=np.float32).reshape(11, 4)[:8]
    path = save(tmp_path, x)
    graph = read_graph(edges, path)
    assert graph.spec == (8, 4, False)
    assert isinstance(graph.x, torch.Tensor)
    assert torch.equal(graph.x, torch.from_numpy(x))
    assert graph.notes[-1] == f"features memory-mapped from {path}"
    # Mapped, not loaded: the memory is the file's
    name = str(path)
    assert any(line.endswith(name) for line in Path("/proc/self/maps").read_text().splitlines())
    # Writing to the tensor does not reach the file
    graph.x[0] = -1
    assert np.array_equal(np.load(path), x)


def test_batches_read_their_rows(edges: Path, tmp_path: Path) -> None:
    path = save(tmp_path, np.random.default_rng(0).standard_normal((8, 4), dtype=np.float32))
    data = LinkDataModule(str(edges), nodes=path, split=SplitFractions(0.1, 0.1, 0.1), batch_size=2)
    inputs = data.train_steps(Plain(data.spec, batching=NeighborSampling(2, 1)).needs)[0, 0].inputs
    assert torch.equal(inputs.graph.x, torch.from_numpy(np.load(path))[inputs.graph.node_ids])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 4)), "got float64 of shape (8, 4) in C order; features are float32"),
        (np.zeros(8, np.float32), "got float32 of shape (8,)"),
        (np.zeros((4, 8), np.float32).T, "in Fortran order"),
        (np.zeros((9, 4), np.float32), "has 9 rows; edges has 8 nodes"),
        (np.array([[{}]], dtype=object), "cannot be read as an .npy array"),
    ],
)
def test_refuses(edges: Path, tmp_path: Path, array: np.ndarray, message: str) -> None:
    path = save(tmp_path, array)
    with pytest.raises(DataError) as caught:
        read_graph(edges, path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_refuses_broken_files_and_two_sources(edges: Path, tmp_path: Path) -> None:
    broken = tmp_path / "x.npy"
    with pytest.raises(DataError, match=r"x\.npy: cannot be read"):
        map_features(broken)
    broken.write_bytes(save(tmp_path, np.zeros((8, 4), np.float32)).read_bytes()[:60])
    with pytest.raises(DataError, match=r"x\.npy: cannot be read"):
        read_graph(edges, broken)
    archive = tmp_path / "graph.npz"
    np.savez(archive, edge_index=np.array([[0, 1], [1, 2]]), x=np.zeros((3, 2), np.float32))
    path = save(tmp_path, np.zeros((3, 2), np.float32))
    with pytest.raises(DataError, match="brings its own; leave one of them out"):
        read_graph(archive, path)
