"""What ``torch.save`` wrote, loaded without running any code that the file names."""

from __future__ import annotations

import _codecs
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mebns_pl.errors import DataError


def load_saved(path: str | Path) -> Any:
    """Loads tensors, NumPy arrays, plain containers and PyG's ``Data``; whatever else a file names is refused.

    Args:
        path: a file as ``torch.save`` writes it.

    Raises:
        DataError: no such file; a file that is damaged, or that holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with torch.serialization.safe_globals(_allowed()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how the pickle was made
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise DataError(
            f"{path}: cannot be loaded ({_reason(error)}); allowed are tensors, NumPy arrays and PyG's Data, "
            "as torch.save writes them"
        ) from error


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
