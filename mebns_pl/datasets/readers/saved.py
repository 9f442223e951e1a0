"""What ``torch.save`` wrote, loaded without running any code that the file names."""

from __future__ import annotations

import _codecs
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from mebns_pl.datasets.limits import check_size
from mebns_pl.datasets.readers.checks import check_coo, check_csr
from mebns_pl.datasets.readers.contents import check_file, refusing
from mebns_pl.errors import DataError
from mebns_pl.files import check_archive

_INSTEAD = {
    "SparseTensor": "save the `edge_index` instead: torch.save(data.to_dict(), path), before ToSparseTensor",
    "Batch": "save one graph instead, as batch[0]",
    "TemporalData": "save Data(edge_index=torch.stack([data.src, data.dst]), t=data.t) instead",
    "EdgeIndex": "save a Data with edge_index.as_tensor() instead",
}
"""What to do about classes that people save."""


def load_saved(path: str | Path) -> Any:
    """Loads tensors, NumPy arrays, plain containers and PyG's ``Data``; whatever else a file names is refused.

    Args:
        path: a file as ``torch.save`` writes it.

    Raises:
        DataError: no such file; a file that is damaged, larger than allowed, or that holds anything else.
    """
    path = Path(path)
    _check_container(path)
    try:
        with _only(_allowed()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how the pickle was made
            check_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise DataError(
            f"{path}: cannot be loaded ({_reason(error)}); allowed are tensors, NumPy arrays and PyG's Data, "
            "as torch.save writes them"
        ) from error


@contextmanager
def _only(allowed: list[Any]) -> Iterator[None]:
    """Lets files name these and what torch itself allows; whatever other packages have allowed is set aside."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(allowed):
            yield
    finally:
        torch.serialization.add_safe_globals(others)


def _check_container(path: Path) -> None:
    """Looks at sizes before anything is unpacked: of the numbers, and of what has to be built piece by piece."""
    check_file(path)
    # A name in the archive that is no UTF-8 is a ValueError
    with refusing(path, (OSError, zipfile.BadZipFile, NotImplementedError, ValueError), "cannot be loaded"):
        if not zipfile.is_zipfile(path):  # as torch wrote before 1.6: one pickle, with the numbers behind it
            check_size(f"{path}, in the format of torch before 1.6", path.stat().st_size, "bytes of pickled objects")
            with path.open("rb") as stream:
                if stream.read(1) != b"\x80":
                    raise DataError(f"{path}: cannot be loaded (no file of torch.save); allowed is what it writes")
            return
        with zipfile.ZipFile(path) as archive:
            sizes = {item.filename: item.file_size for item in archive.infolist()}
    check_size(path, sum(sizes.values()), "bytes of arrays")
    check_size(path, sum(size for name, size in sizes.items() if name.endswith(".pkl")), "bytes of pickled objects")


@dataclass(frozen=True)
class SavedData:
    """A saved PyG ``Data``, a part of a ``HeteroData``, or the dictionary of one: gives arrays as an ``Archive`` does.

    Args:
        path: the file.
        fields: what it has by name; sparse features as the parts of a CSR matrix, ``attr_...``.
        part: which part it is, for messages; "" for the whole.
    """

    path: Path
    fields: Mapping[str, Any]
    part: str = ""

    @staticmethod
    def of(path: Path, fields: Mapping[str, Any], part: str = "") -> SavedData:
        """What has an ``edge_index`` or ``adj_t`` and features ``x`` of two dimensions, if any.

        Raises:
            DataError: one of them is something else.
        """
        where = f"{path}, {part}"
        if fields.get("edge_index") is None and fields.get("adj_t") is not None:
            turned = _sparse_matrix(fields["adj_t"], f"{where}adj_t").tocoo()
            fields = {**fields, "edge_index": np.stack([turned.col, turned.row])}
            if fields.get("edge_weight") is None and (turned.data != turned.data[:1]).any():
                fields["edge_weight"] = turned.data  # PyG's ToSparseTensor has put them there
        x = fields.get("x")
        if x is not None and (not isinstance(x, Tensor | np.ndarray) or x.ndim != 2):
            raise DataError(f"{where}x: got {_kind(x)}; allowed is a tensor of shape (N, F)")
        if isinstance(x, Tensor) and x.layout != torch.strided:
            matrix = _sparse_matrix(x, f"{where}x")
            parts = {"indptr": matrix.indptr, "indices": matrix.indices, "data": matrix.data, "shape": [*x.shape]}
            fields = {**fields, "x": None} | {f"attr_{name}": value for name, value in parts.items()}
        return SavedData(path, fields, part)

    def __contains__(self, key: str) -> bool:
        return self.fields.get(key) is not None

    def __getitem__(self, key: str) -> np.ndarray:
        """The field as an array.

        Raises:
            DataError: no such field, or none of real numbers or texts.
        """
        if key not in self:
            raise DataError(f"{self.path}: no {key!r}; it has {', '.join(map(str, list(self.fields)[:20]))}")
        value = self.fields[key]
        if isinstance(value, Tensor):
            return _array(value, self.at(key))
        if not isinstance(value, np.ndarray | int | list) or isinstance(value, bool):
            raise DataError(f"{self.at(key)}: got {type(value).__name__}; allowed is a tensor, an array or a list")
        if isinstance(value, np.ndarray):  # one number may stand for many, so that the file's size says nothing
            check_size(self.at(key), value.nbytes, "bytes of arrays")
        try:
            return np.asarray(value)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{self.at(key)}: no array ({error})") from error

    def at(self, key: str) -> str:
        """Where a field stands, for messages."""
        return f"{self.path}, {self.part}{'x' if key.startswith('attr_') else key}"


def saved_graph(path: Path) -> dict[Any, Any]:
    """What a saved ``Data`` or ``HeteroData`` has, as the dictionary that its ``to_dict`` gives.

    Raises:
        DataError: the file holds something else.
    """
    from torch_geometric.data import Data, HeteroData
    from torch_geometric.data.storage import BaseStorage, GlobalStorage

    saved = load_saved(path)
    if type(saved) is Data:
        store = vars(saved).get("_store")
        if type(store) is not GlobalStorage:
            raise DataError(
                f"{path}: got a Data of PyG 1, which PyG 2 cannot read; allowed is what PyG 2 saves: load it with "
                "PyG 1 and save its dictionary, torch.save(data.to_dict(), path)"
            )
        saved = vars(store).get("_mapping")
    elif type(saved) is HeteroData:
        stores = [vars(saved).get(f"_{what}_store_dict") for what in ("node", "edge")]
        saved = {kind: store for part in stores if isinstance(part, dict) for kind, store in part.items()}
        saved = {kind: vars(store).get("_mapping") for kind, store in saved.items() if isinstance(store, BaseStorage)}
    if isinstance(saved, tuple | list):
        raise DataError(
            f"{path}: got {type(saved).__name__} of {len(saved):,}, as PyG's InMemoryDataset and RandomLinkSplit "
            "make them; allowed is one graph, PyG's Data: save a part of it instead, torch.save(dataset[0], path)"
        )
    if not isinstance(saved, dict) or not (is_hetero(saved) or {"edge_index", "adj_t"} & _given(saved)):
        what = f"a dictionary of {list(saved)[:8]}" if isinstance(saved, dict) else type(saved).__name__
        raise DataError(f"{path}: got {what}; allowed is PyG's Data, or a dictionary, with `edge_index`")
    return saved


def is_hetero(saved: Mapping[Any, Any]) -> bool:
    """Whether a dictionary is that of a ``HeteroData``: its relations are named by two types and what joins them."""
    return any(isinstance(key, tuple) for key in saved)


def _given(saved: Mapping[Any, Any]) -> set[Any]:
    return {key for key, value in saved.items() if value is not None}


def _array(tensor: Tensor, where: str) -> np.ndarray:
    """A dense tensor as an array; of types that NumPy lacks as float32."""
    odd = tensor.is_nested or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu"
    if odd or tensor.layout != torch.strided:
        raise DataError(f"{where}: got {_kind(tensor)}; allowed are real dense tensors")
    check_size(where, tensor.numel() * tensor.element_size(), "bytes of arrays")
    tensor = tensor.detach().resolve_neg()
    with refusing(f"{where}: got {_kind(tensor)}", (TypeError, RuntimeError), "no array can be made of it"):
        short = tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64)
        return (tensor.float() if short else tensor).numpy()


def _sparse_matrix(tensor: object, where: str) -> scipy.sparse.csr_matrix:
    """A sparse tensor of two dimensions as CSR; all numbers are looked at before they are used as places."""
    sparse = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)
    if (
        not isinstance(tensor, Tensor)
        or tensor.ndim != 2
        or tensor.device.type != "cpu"
        or tensor.layout not in sparse
        or tensor.dense_dim()
    ):
        raise DataError(f"{where}: got {_kind(tensor)}; allowed is a sparse COO, CSR or CSC tensor of shape (N, F)")
    shape = np.array(tensor.shape)
    if tensor.layout == torch.sparse_coo:
        rows, columns = (_array(part, where) for part in tensor._indices())
        return check_coo(_array(tensor._values(), where), rows, columns, shape, where)
    if tensor.layout == torch.sparse_csr:
        parts = (tensor.values(), tensor.col_indices(), tensor.crow_indices())
        return check_csr((*(_array(part, where) for part in parts), shape), where)
    parts = (tensor.values(), tensor.row_indices(), tensor.ccol_indices())
    return check_csr((*(_array(part, where) for part in parts), shape[::-1]), where).T.tocsr()


def _kind(value: object) -> str:
    """What something is, for messages."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    shape = "nested" if value.is_nested else f"of shape {tuple(value.shape)}"
    return f"{value.dtype}, {value.layout}, {shape}, on {value.device}"


def _empty(*_: object) -> dict[Any, Any]:
    return {}


def _allowed() -> list[Any]:
    """The classes and functions that a saved ``Data`` or NumPy array is put together with; none of them runs code."""
    from torch_geometric.data import HeteroData  # slow to import
    from torch_geometric.data.data import Data, DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.feature_store import TensorAttr
    from torch_geometric.data.graph_store import EdgeAttr
    from torch_geometric.data.storage import AttrType, BaseStorage, EdgeStorage, GlobalStorage, NodeStorage

    reconstruct = np.zeros(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?U"}
    return [
        *(Data, DataEdgeAttr, DataTensorAttr, GlobalStorage, NodeStorage, EdgeStorage, AttrType, set),
        *(HeteroData, EdgeAttr, TensorAttr, BaseStorage),
        *((set, "__builtin__.set"), (_empty, "collections.defaultdict")),  # of names that a Data has looked up
        *(np.ndarray, np.dtype, *dtypes, _codecs.encode),
        (reconstruct, "numpy.core.multiarray._reconstruct"),  # as NumPy 1 calls it
        (reconstruct, "numpy._core.multiarray._reconstruct"),
    ]


def _reason(error: Exception) -> str:
    """What torch found wrong; not its advice, which is to load the file all the same."""
    text = " ".join(str(error).split())
    named = re.search(r"(?:GLOBAL|class|function|type|global) '?([\w.]*\w\.\w[\w.]*)", text)
    if named:
        name = named[1].rstrip(".")
        instead = _INSTEAD.get(name.rpartition(".")[2])
        return f"it holds {name}" + (f": {instead}" if instead else "")
    found = re.search(r"WeightsUnpickler error: (.{1,200}?)(?: Check the documentation|$)", text)
    what = found[1] if found else text[:200]
    return type(error).__name__ if not what or "weights_only" in what else what
