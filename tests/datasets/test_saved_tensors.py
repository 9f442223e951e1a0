"""Tensors in ``.pt`` files whose numbers are places: out of range, broken, expanded or odd, and never a crash."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mebns_pl.datasets.files import read_graph
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features

INDEX = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
ONES = torch.ones(2)
coo = partial(torch.sparse_coo_tensor, check_invariants=False)
csr = partial(torch.sparse_csr_tensor, check_invariants=False)
csc = partial(torch.sparse_csc_tensor, check_invariants=False)
BAD_STARTS = ([0, 5, 2, 10**9, 2], [0, -1, 2, 2, 2], [1, 1, 2, 2, 2], [0, 1, 2, 2, 9], [0, 0, 0, 0, 0], [0, 2, 1, 2, 2])
BAD_PLACES = ([0, 9], [0, -9], [0, 10**12], [-(2**63), 2**63 - 1])


def outcome(folder: Path, saved: object) -> str:
    """Why a file is refused, or ""."""
    torch.save(saved, folder / "g.pt")
    try:
        graph = read_graph(folder / "g.pt")
    except DataError as error:
        told = str(error)
        assert told.startswith(str(folder / "g.pt"))
        assert len(told.splitlines()) == 1
        return told
    values = graph.x.matrix.values() if isinstance(graph.x, Features) else graph.x
    assert values is None or bool(values.isfinite().all())
    return ""


@pytest.mark.parametrize("places", BAD_PLACES)
@pytest.mark.parametrize("key", ["x", "adj_t"])
def test_indices_out_of_range_are_refused(tmp_path: Path, places: list[int], key: str) -> None:
    for fields in ({"edge_index": INDEX}, {}):
        if key == "x" and not fields:
            continue
        size = (4, 4) if key == "adj_t" else (4, 3)
        good = torch.tensor([1, 2])
        for tensor in (
            coo(torch.stack([torch.tensor(places), good]), ONES, size),
            coo(torch.stack([good, torch.tensor(places)]), ONES, size),
            csr(torch.tensor([0, 1, 2, 2, 2]), torch.tensor(places), ONES, size),
            csc(torch.tensor([0, 1, 2, 2, 2][: size[1] + 1]), torch.tensor(places), ONES, size),
        ):
            told = outcome(tmp_path, {**fields, key: tensor})
            if "adj_t" in told or key == "x":
                assert "allowed are 0 ..." in told, (tensor.layout, told)


@pytest.mark.parametrize("starts", BAD_STARTS)
def test_broken_pointers_are_refused(tmp_path: Path, starts: list[int]) -> None:
    told = outcome(tmp_path, {"edge_index": INDEX, "x": csr(torch.tensor(starts), torch.tensor([0, 1]), ONES, (4, 3))})
    assert "indptr" in told
    turned = csc(torch.tensor(starts), torch.tensor([0, 1]), ONES, (3, 4))
    assert "indptr" in outcome(tmp_path, {"edge_index": torch.tensor([[0, 1], [1, 2]]), "x": turned})
    assert "indptr" in outcome(tmp_path, {"adj_t": csr(torch.tensor(starts), torch.tensor([0, 1]), ONES, (4, 4))})


def sparse(tensor: Tensor) -> Any:
    return {"edge_index": INDEX, "x": tensor}


@pytest.mark.parametrize(
    "x",
    [
        csr(torch.tensor([0, 1]), torch.tensor([0, 1]), ONES, (4, 3)),
        csr(torch.tensor([0, 1, 2, 2, 2]), torch.tensor([0]), ONES, (4, 3)),
        coo(torch.tensor([[0, 1]]), torch.ones(2, 3), (4, 3)),
        coo(torch.tensor([[0, 1], [1, 2]]), torch.tensor([torch.nan, 1]), (4, 3)),
        coo(torch.tensor([[0, 1], [1, 2]]), torch.ones(2, dtype=torch.complex64), (4, 3)),
        coo(torch.tensor([[0, 1], [1, 2]]), ONES, (4, 2**40)),
        coo(torch.tensor([[0, 1], [1, 2]]), ONES, (2**40, 3)),
        torch.ones(4, 4).to_sparse_bsr((2, 2)),
        torch.eye(4).expand(2, 4, 4).to_sparse_csr(),
        torch.ones(4, 3, device="meta"),
        torch.ones(4, 3, dtype=torch.complex64),
        torch.ones(1).expand(4, 10**10),
        torch.ones(4, 3, 2),
        torch.ones(4),
        torch.ones(3, 3),
        torch.ones(4, 0),
    ],
    ids=str,
)
def test_other_tensors_that_are_no_features(tmp_path: Path, x: Tensor) -> None:
    try:
        assert outcome(tmp_path, {"edge_index": INDEX, "x": x})
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"torch does not save it: {error}")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_no_features(tmp_path: Path) -> None:
    assert outcome(tmp_path, {"edge_index": INDEX, "x": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])})


ODD = {
    **{str(dtype): torch.ones(4, 3).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.bool)},
    **{str(dtype): torch.ones(4, 3).to(dtype) for dtype in (torch.uint8, torch.int8, torch.uint16, torch.int64)},
    **{str(dtype): torch.ones(4, 3).to(dtype) for dtype in (torch.float8_e4m3fn, torch.float8_e5m2)},
    "expanded": torch.ones(1).expand(4, 3),
    "turned": torch.ones(3, 4).t(),
    "every second": torch.ones(4, 6)[:, ::2],
    "negated": torch._neg_view(-torch.ones(4, 3)),
    "parameter": torch.nn.Parameter(torch.ones(4, 3)),
    "coo": torch.ones(4, 3).to_sparse_coo(),
    "csr": torch.ones(4, 3).to_sparse_csr(),
    "csc": torch.ones(4, 3).to_sparse_csc(),
    "twice": coo(torch.tensor([[0, 0], [1, 1]]), ONES / 2, (4, 3)) + torch.ones(4, 3).to_sparse_coo() * 0,
    "half csr": csr(torch.tensor([0, 3, 6, 9, 12]), torch.tensor([0, 1, 2] * 4), torch.ones(12).half(), (4, 3)),
    "array": np.ones((4, 3)),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("name", ODD)
def test_odd_dtypes_and_strides_are_read(tmp_path: Path, name: str) -> None:
    assert outcome(tmp_path, {"edge_index": INDEX, "x": ODD[name]}) == ""
    graph = read_graph(tmp_path / "g.pt")
    assert graph.x is not None
    if name != "twice":
        assert graph.x.to_dense().tolist() == [[1.0] * 3] * 4


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint64])
def test_edges_of_any_integers(tmp_path: Path, dtype: torch.dtype) -> None:
    assert outcome(tmp_path, {"edge_index": INDEX.to(dtype)}) == ""
    assert read_graph(tmp_path / "g.pt").num_edges == 4


@pytest.mark.parametrize(
    "edge_index",
    [INDEX.float(), INDEX.bool(), INDEX.to(torch.bfloat16), INDEX.to_sparse(), INDEX.t(), INDEX[0], INDEX - 1,
     torch.full((2, 2), -(2**63)), torch.tensor([[0], [1]]).expand(2, 10**10), torch.empty(2, 0, dtype=torch.int64)],
    ids=str,
)  # fmt: skip
def test_edges_that_are_none(tmp_path: Path, edge_index: Tensor) -> None:
    assert outcome(tmp_path, {"edge_index": edge_index})


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_the_transposed_adjacency_is_turned(tmp_path: Path) -> None:
    values, size = torch.ones(4), (4, 4)
    torch.save({"adj_t": torch.sparse_coo_tensor(INDEX.flip(0), values, size).to_sparse_csr()}, tmp_path / "g.pt")
    graph = read_graph(tmp_path / "g.pt")
    torch.save({"edge_index": INDEX}, tmp_path / "g.pt")
    assert torch.equal(graph.edges, read_graph(tmp_path / "g.pt").edges)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_weights_of_the_transposed_adjacency(tmp_path: Path) -> None:
    """PyG's ToSparseTensor has put them there; an edge of weight 0 is one."""
    values = torch.tensor([0.5, 2.0, 0.0, 1.0])
    torch.save({"adj_t": torch.sparse_coo_tensor(INDEX.flip(0), values, (4, 4)).to_sparse_csr()}, tmp_path / "g.pt")
    torch.save({"edge_index": INDEX, "edge_weight": values}, tmp_path / "w.pt")
    expected = read_graph(tmp_path / "w.pt")
    graph = read_graph(tmp_path / "g.pt")
    assert torch.equal(graph.edges, expected.edges)
    assert graph.notes == expected.notes
    assert any("'edge_weight' left out" in note for note in graph.notes)
