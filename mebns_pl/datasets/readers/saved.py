"""What ``torch.save`` wrote, loaded without running any code that the file names."""

from __future__ import annotations

import _codecs
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mebns_pl.datasets.readers.contents import check_file
from mebns_pl.errors import DataError
from mebns_pl.files import check_archive


def load_saved(path: str | Path) -> Any:
    """Loads tensors, NumPy arrays, plain containers and PyG's ``Data``; whatever else a file names is refused.

    Args:
        path: a file as ``torch.save`` writes it.

    Raises:
        DataError: no such file; a file that is damaged, or that holds anything else.
    """
    path = Path(path)
    check_file(path)
    try:
        with torch.serialization.safe_globals(_allowed()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how the pickle was made
            check_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise DataError(
            f"{path}: cannot be loaded ({_reason(error)}); allowed are tensors, NumPy arrays and PyG's Data, "
            "as torch.save writes them"
        ) from error


@dataclass(frozen=True)
class SavedData:
    """A saved PyG ``Data``, or the dictionary of one, which gives arrays as an ``Archive`` does.

    Args:
        path: the file.
        fields: what it has by name; sparse features as the parts of a CSR matrix, ``attr_...``.
    """

    path: Path
    fields: Mapping[str, Any]

    @staticmethod
    def load(path: Path) -> SavedData:
        """Loads what has an ``edge_index``, and features ``x`` of two dimensions, if any.

        Raises:
            DataError: the file holds something else.
        """
        from torch_geometric.data.data import Data
        from torch_geometric.data.storage import GlobalStorage

        saved = load_saved(path)
        if type(saved) is Data:
            store = vars(saved).get("_store")
            saved = vars(store).get("_mapping") if type(store) is GlobalStorage else None
        if not isinstance(saved, dict) or "edge_index" not in saved:
            what = f"a dictionary of {list(saved)[:8]}" if isinstance(saved, dict) else type(saved).__name__
            raise DataError(f"{path}: got {what}; allowed is PyG's Data, or a dictionary, with `edge_index`")
        x = saved.get("x")
        if x is not None and (not isinstance(x, Tensor | np.ndarray) or x.ndim != 2):
            raise DataError(f"{path}, x: got {type(x).__name__}; allowed is a tensor of shape (N, F)")
        if isinstance(x, Tensor) and x.layout in (torch.sparse_coo, torch.sparse_csr) and not x.dense_dim():
            x = x.to_sparse_csr()
            parts = {"indptr": x.crow_indices(), "indices": x.col_indices(), "data": x.values(), "shape": [*x.shape]}
            saved = {**saved, "x": None} | {f"attr_{part}": value for part, value in parts.items()}
        return SavedData(path, saved)

    def __contains__(self, key: str) -> bool:
        return self.fields.get(key) is not None

    def __getitem__(self, key: str) -> np.ndarray:
        """The field as an array.

        Raises:
            DataError: no such field, or none of real numbers or texts.
        """
        if key not in self:
            raise DataError(f"{self.path}: no {key!r}; it has {', '.join(map(str, self.fields))}")
        value = self.fields[key]
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex() or value.is_quantized:
                got = f"{value.dtype}, {value.layout}, on {value.device}"
                raise DataError(f"{self.at(key)}: got {got}; allowed are real dense tensors")
            return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).detach().numpy()
        if not isinstance(value, np.ndarray | int | list) or isinstance(value, bool):
            raise DataError(f"{self.at(key)}: got {type(value).__name__}; allowed is a tensor, an array or a list")
        try:
            return np.asarray(value)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{self.at(key)}: no array ({error})") from error

    def at(self, key: str) -> str:
        """Where a field stands, for messages."""
        return f"{self.path}, {'x' if key.startswith('attr_') else key}"


def _allowed() -> list[Any]:
    """The classes and functions that a saved ``Data`` or NumPy array is put together with; none of them runs code."""
    from torch_geometric.data.data import Data, DataEdgeAttr, DataTensorAttr  # slow to import
    from torch_geometric.data.storage import EdgeStorage, GlobalStorage, NodeStorage

    reconstruct = np.zeros(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?U"}
    return [
        *(Data, DataEdgeAttr, DataTensorAttr, GlobalStorage, NodeStorage, EdgeStorage),
        *(np.ndarray, np.dtype, *dtypes, _codecs.encode),
        (reconstruct, "numpy.core.multiarray._reconstruct"),  # as NumPy 1 calls it
        (reconstruct, "numpy._core.multiarray._reconstruct"),
    ]


def _reason(error: Exception) -> str:
    """What torch found wrong; not its advice, which is to load the file all the same."""
    parts = [part.strip() for part in str(error).split("\n\n") if part.strip()]
    if parts and parts[0].startswith("Weights only load failed") and len(parts) > 1:
        parts = parts[1:]
    what = parts[0].removeprefix("WeightsUnpickler error:").strip() if parts else ""
    return what.splitlines()[0][:200] if what else type(error).__name__
