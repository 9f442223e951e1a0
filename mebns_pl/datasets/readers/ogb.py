"""Graphs and splits of the Open Graph Benchmark, downloaded by the ``ogb`` package and read from its raw files."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mebns_pl.datasets.loaded import LoadedGraph, first_times, undirected_edges
from mebns_pl.datasets.places import cache_folder, data_folders, fetch, looked_in
from mebns_pl.datasets.readers.arrays import Archive
from mebns_pl.datasets.readers.checks import check_features, check_num_nodes, check_pairs
from mebns_pl.datasets.readers.saved import load_saved
from mebns_pl.errors import DataError

METRICS = {
    "ogbl-ddi": "hits@20",
    "ogbl-collab": "hits@50",
    "ogbl-ppa": "hits@100",
    "ogbl-citation2": "mrr",
    "ogbl-vessel": "auc",
}
"""What each benchmark selects and reports by."""
NAMES = tuple(METRICS)
PARTS = ("train", "valid", "test")
SPLITS = {
    "ogbl-ddi": "target",
    "ogbl-collab": "time",
    "ogbl-ppa": "throughput",
    "ogbl-citation2": "time",
    "ogbl-vessel": "spatial",
}
"""The folder that the official split of each graph is in."""
_DOWNLOADS = {
    "ogbl-ddi": "ddi", "ogbl-collab": "collab", "ogbl-ppa": "ppassoc", "ogbl-citation2": "citation-v2",
    "ogbl-vessel": "vessel",
}  # fmt: skip
_URL = "http://snap.stanford.edu/ogb/data/linkproppred/{}.zip"


def is_installed() -> bool:
    """Whether the ``ogb`` package is there; it is not imported."""
    return importlib.util.find_spec("ogb") is not None


def find(name: str, root: str | Path | None) -> Path | None:
    """The folder of a graph's raw files, or None: ``ogb/ogbl_...`` in one of the data folders."""
    return next((place for place in _places(name, root) if (place / "raw").is_dir()), None)


def read_graph(name: str, root: str | Path | None) -> LoadedGraph:
    """Reads the graph of a benchmark; all edges, those of the official validation and test parts included.

    Args:
        name: one of ``NAMES``.
        root: folder with data files.

    Raises:
        DataError: raw files that are broken, or absent and not to be downloaded.
    """
    return _read_folder(name, _folder(name, root))


def _read_folder(name: str, folder: Path) -> LoadedGraph:
    raw = folder / "raw"
    archive = _read_binary(raw / "data.npz") if (raw / "data.npz").is_file() else _read_csv(raw)
    num_nodes = check_num_nodes(archive["num_nodes"], f"{raw}, number of nodes")
    pairs = [check_pairs(archive["edge"], num_nodes, f"{raw}, edges")]
    years = [archive["edge_year"].reshape(-1)] if "edge_year" in archive else []
    split = _read_parts(name, folder)
    for part in ("valid", "test"):  # the raw graph is that of the training edges, as in ogbl-ddi, or of all
        where = f"{folder}, split {SPLITS[name]}, {part}"
        pairs.append(check_pairs(positives(split[part], where), num_nodes, where))
        years += [split[part]["year"].reshape(-1)] if "year" in split[part] else []
    ends = torch.cat(pairs, dim=1)
    edges, notes = undirected_edges(ends, num_nodes)
    times = np.concatenate(years) if years else np.zeros(0)
    x = check_features(archive["x"], num_nodes, f"{raw}, node features") if "x" in archive else None
    return LoadedGraph(
        name,
        edges,
        [str(i) for i in range(num_nodes)],
        x,
        [f"read from {folder}"] + [note for note in notes if "repeated" not in note],
        first_times(edges, ends, torch.from_numpy(times), num_nodes) if len(times) == ends.shape[1] else None,
    )


def read_split(name: str, root: str | Path | None) -> tuple[int, dict[str, dict[str, np.ndarray]], Path]:
    """The official split as its files have it.

    Args:
        name: one of ``NAMES``.
        root: folder with data files.

    Returns:
        N; for each of ``train``, ``valid``, ``test`` its arrays by name (``edge``, ``edge_neg``, ...); the folder.

    Raises:
        DataError: files that are broken, or absent and not to be downloaded.
    """
    folder = _folder(name, root)
    raw = folder / "raw"
    if (raw / "data.npz").is_file():
        num_nodes = check_num_nodes(_read_binary(raw / "data.npz")["num_nodes"], f"{raw}, number of nodes")
    else:
        num_nodes = check_num_nodes(_read_numbers(raw / "num-node-list.csv.gz"), f"{raw / 'num-node-list.csv.gz'}")
    return num_nodes, _read_parts(name, folder), folder


def _places(name: str, root: str | Path | None) -> list[Path]:
    return [folder / "ogb" / name.replace("-", "_") for folder in data_folders(root)]


def _folder(name: str, root: str | Path | None) -> Path:
    found = find(name, root)
    if found is not None:
        return found
    places = _places(name, root)
    if not is_installed():
        raise DataError(
            f"{name}: {looked_in(places)}, and the package `ogb`, which downloads it, is not installed; "
            "pip install 'mebns_pl[ogb]'"
        )
    fetch(places[-1], lambda folder: _download(name, folder), name)
    return cache_folder() / "ogb" / name.replace("-", "_")


def _download(name: str, folder: Path) -> None:
    from ogb.utils.url import decide_download, download_url, extract_zip

    url = _URL.format(_DOWNLOADS[name])
    if not decide_download(url):
        raise DataError(f"{name}: the download was declined")
    archive = Path(download_url(url, str(folder)))
    extract_zip(str(archive), str(folder))
    archive.unlink()
    inner = folder / _DOWNLOADS[name]
    if not (inner / "raw").is_dir():
        raise DataError(f"{name}: the download from {url} has no folder {_DOWNLOADS[name]}/raw")
    for item in inner.iterdir():
        item.rename(folder / item.name)
    inner.rmdir()
    _read_folder(name, folder)  # what was cut off ends here, and not in the cache


def _read_csv(raw: Path) -> dict[str, np.ndarray]:
    arrays = {"edge": _read_numbers(raw / "edge.csv.gz"), "num_nodes": _read_numbers(raw / "num-node-list.csv.gz")}
    for key, name in (("x", "node-feat"), ("edge_year", "edge_year")):
        path = raw / f"{name}.csv.gz"
        if path.is_file():
            arrays[key] = _read_numbers(path)
    if "edge_year" in arrays and len(arrays["edge_year"]) != len(arrays["edge"]):
        raise DataError(
            f"{raw / 'edge_year.csv.gz'}: {len(arrays['edge_year']):,} lines for {len(arrays['edge']):,} edges"
        )
    return arrays


def _read_binary(path: Path) -> dict[str, np.ndarray]:
    with Archive(path) as archive:
        arrays = {"edge": archive["edge_index"].T, "num_nodes": archive["num_nodes_list"]}
        return arrays | ({"x": archive["node_feat"]} if "node_feat" in archive else {})


def _read_numbers(path: Path) -> np.ndarray:
    """A headless CSV file of numbers, by pandas: some have tens of millions of lines."""
    import pandas as pd

    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        array: np.ndarray = pd.read_csv(path, header=None).to_numpy()
    except (ValueError, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if array.dtype.kind not in "iuf":
        raise DataError(f"{path}: got {array.dtype}; allowed are lines of numbers")
    return array


def _read_parts(name: str, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    place = folder / "split" / SPLITS[name]
    whole = place / "split_dict.pt"
    saved = load_saved(whole) if whole.is_file() else {}
    parts = {}
    for part in PARTS:
        path = whole if whole.is_file() else place / f"{part}.pt"
        item = saved.get(part) if isinstance(saved, dict) and saved else load_saved(path)
        if not isinstance(item, dict):
            raise DataError(f"{path}, {part}: got {type(item).__name__}; allowed is a dictionary of arrays")
        parts[part] = {str(key): _array(value, f"{path}, {key}") for key, value in item.items()}
    return parts


def _array(value: Any, where: str) -> np.ndarray:
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        value = value.detach().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "iufb":
        raise DataError(f"{where}: got {array.dtype}; allowed are arrays of numbers")
    return array


def positives(part: dict[str, np.ndarray], where: str) -> np.ndarray:
    """``(m, 2)``: the edges of a part, which it has as pairs or, directed, as sources and targets.

    Raises:
        DataError: it has neither.
    """
    if "edge" in part:
        return part["edge"]
    ends = [part[key] for key in ("source_node", "target_node") if key in part]
    if len(ends) != 2 or ends[0].ndim != 1 or ends[0].shape != ends[1].shape:
        raise DataError(
            f"{where}: got {', '.join(part) or 'nothing'}; allowed are edge, or source_node and target_node"
        )
    return np.stack(ends, axis=1)
