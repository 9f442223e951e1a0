"""Graphs and splits of the Open Graph Benchmark, downloaded by the ``ogb`` package and read from its raw files."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mebns_pl.datasets import places
from mebns_pl.datasets.loaded import LoadedGraph, graph_of_pairs
from mebns_pl.datasets.places import benchmark_places, fetch, find_benchmark, looked_in
from mebns_pl.datasets.readers.arrays import Archive
from mebns_pl.datasets.readers.checks import check_features, check_num_nodes, check_pairs
from mebns_pl.datasets.readers.contents import check_file, refusing
from mebns_pl.datasets.readers.saved import load_saved
from mebns_pl.errors import DataError


class _Benchmark(NamedTuple):
    """What it selects and reports by, the folder of its split, and the name of its download."""

    metric: str
    split: str
    download: str


_BENCHMARKS = {
    "ogbl-ddi": _Benchmark("hits@20", "target", "ddi"),
    "ogbl-collab": _Benchmark("hits@50", "time", "collab"),
    "ogbl-ppa": _Benchmark("hits@100", "throughput", "ppassoc"),
    "ogbl-citation2": _Benchmark("mrr", "time", "citation-v2"),
    "ogbl-vessel": _Benchmark("auc", "spatial", "vessel"),
}
NAMES = tuple(_BENCHMARKS)
METRICS = {name: benchmark.metric for name, benchmark in _BENCHMARKS.items()}
"""What each benchmark selects and reports by."""
SPLITS = {name: benchmark.split for name, benchmark in _BENCHMARKS.items()}
"""The folder that the official split of each graph is in."""
PARTS = ("train", "valid", "test")
_RAW = {
    "edge": ("edge_index", "edge.csv.gz"),
    "num_nodes": ("num_nodes_list", "num-node-list.csv.gz"),
    "x": ("node_feat", "node-feat.csv.gz"),
    "edge_year": ("edge_year", "edge_year.csv.gz"),
}
"""What the arrays of a raw graph are called in the archive of binary files, and their files of text."""
_URL = "http://snap.stanford.edu/ogb/data/linkproppred/{}.zip"


@dataclass(frozen=True)
class Parts:
    """An official split as its files have it.

    Args:
        num_nodes: N.
        arrays: for each of ``PARTS`` its arrays by name: ``edge``, ``edge_neg``, ...
        place: the archive or the folder that it is from.
    """

    num_nodes: int
    arrays: Mapping[str, Mapping[str, np.ndarray]]
    place: Path

    def at(self, part: str, key: str) -> str:
        """Where an array stands, for messages."""
        return f"{self.place}, {part}, {key}" if self.place.is_dir() else f"{self.place}, key '{part}_{key}'"

    def edges(self, part: str) -> Tensor:
        """``(2, m)`` int64: the edges of a part, which it has as pairs or, directed, as sources and targets.

        Raises:
            DataError: it has neither, or numbers of no node.
        """
        arrays = self.arrays[part]
        if "edge" in arrays:
            return check_pairs(arrays["edge"], self.num_nodes, self.at(part, "edge"))
        ends = [arrays[key] for key in ("source_node", "target_node") if key in arrays]
        if len(ends) != 2 or ends[0].ndim != 1 or ends[0].shape != ends[1].shape:
            raise DataError(
                f"{self.at(part, 'edge')}: got {', '.join(arrays) or 'nothing'}; "
                "allowed are edge, or source_node and target_node"
            )
        return check_pairs(np.stack(ends, axis=1), self.num_nodes, self.at(part, "source_node, target_node"))

    def negatives(self, part: str) -> Tensor | None:
        """``(2, m)`` int64: pairs that all edges of a part share as negatives, or None."""
        if "edge_neg" not in self.arrays[part]:
            return None
        return check_pairs(self.arrays[part]["edge_neg"], self.num_nodes, self.at(part, "edge_neg"))

    def false_targets(self, part: str) -> Tensor | None:
        """``(2, p, k)`` int64: each source with its false targets (ogbl-citation2), or None."""
        if "target_node_neg" not in self.arrays[part]:
            return None
        where = self.at(part, "target_node_neg")
        source, targets = self.arrays[part]["source_node"], self.arrays[part]["target_node_neg"]
        if targets.ndim != 2 or source.shape != targets.shape[:1]:
            raise DataError(f"{where}: got shape {targets.shape}; allowed is ({source.size}, k)")
        pairs = np.stack([np.broadcast_to(source[:, None], targets.shape), targets], axis=2)
        return check_pairs(pairs.reshape(-1, 2), self.num_nodes, where).view(2, *targets.shape)


def read_graph(name: str, root: str | Path | None) -> LoadedGraph:
    """Reads the graph of a benchmark; all edges, those of the official validation and test parts included.

    Args:
        name: one of ``NAMES``.
        root: folder with data files.

    Raises:
        DataError: files that are broken, or absent and not to be downloaded.
    """
    place = _place(name, root)
    return read_split_archive(name, place) if place.is_file() else _read_folder(name, place)


def read_split_archive(name: str, path: Path) -> LoadedGraph:
    """The union of the edges ``train_edge``, ``valid_edge`` and ``test_edge`` of an archive with ``num_nodes``.

    Raises:
        DataError: an archive that is missing or broken.
    """
    parts = _archive_parts(path)
    pairs = torch.cat([parts.edges(part) for part in PARTS], dim=1)
    graph = graph_of_pairs(path, pairs, parts.num_nodes, name=name, directed=False)
    return replace(graph, notes=[f"read from {path}", *graph.notes])


def read_split(name: str, root: str | Path | None) -> Parts:
    """The official split as its files have it.

    Args:
        name: one of ``NAMES``.
        root: folder with data files.

    Raises:
        DataError: files that are broken, or absent and not to be downloaded.
    """
    place = _place(name, root)
    if place.is_file():
        return _archive_parts(place)
    return _folder_parts(name, place, _read_raw(place / "raw", ["num_nodes"]))


def _archive_parts(path: Path) -> Parts:
    with Archive(path) as archive:
        num_nodes = check_num_nodes(archive["num_nodes"], archive.at("num_nodes"))
        keys = {part: [key for key in ("edge", "edge_neg") if f"{part}_{key}" in archive] for part in PARTS}
        arrays = {part: {key: archive[f"{part}_{key}"] for key in keys[part]} for part in PARTS}
    return Parts(num_nodes, arrays, path)


def _folder_parts(name: str, folder: Path, raw: Mapping[str, np.ndarray]) -> Parts:
    num_nodes = check_num_nodes(raw["num_nodes"], f"{folder / 'raw'}, number of nodes")
    place = folder / "split" / SPLITS[name]
    whole = place / "split_dict.pt"
    saved = load_saved(whole) if whole.is_file() else {}
    arrays = {}
    for part in PARTS:
        path = whole if whole.is_file() else place / f"{part}.pt"
        item = saved.get(part) if isinstance(saved, dict) and saved else load_saved(path)
        if not isinstance(item, dict):
            raise DataError(f"{path}, {part}: got {type(item).__name__}; allowed is a dictionary of arrays")
        arrays[part] = {str(key): _array(value, f"{path}, {key}") for key, value in item.items()}
    return Parts(num_nodes, arrays, folder)


def _read_folder(name: str, folder: Path) -> LoadedGraph:
    where, raw = folder / "raw", _read_raw(folder / "raw", list(_RAW))
    split = _folder_parts(name, folder, raw)
    num_nodes = split.num_nodes
    # The raw graph is that of the training edges, as in ogbl-ddi, or of all
    pairs = [check_pairs(raw["edge"], num_nodes, f"{where}, edges"), split.edges("valid"), split.edges("test")]
    told = [raw.get("edge_year"), *(split.arrays[part].get("year") for part in PARTS[1:])]
    years = [part.reshape(-1) for part in told if part is not None]
    if "edge_year" in raw and len(raw["edge_year"]) != len(raw["edge"]):
        raise DataError(f"{where / 'edge_year.csv.gz'}: {len(raw['edge_year']):,} lines for {len(raw['edge']):,} edges")
    ends = torch.cat(pairs, dim=1)
    times = torch.from_numpy(np.concatenate([np.zeros(0), *years]))
    x = check_features(raw["x"], num_nodes, f"{where}, node features") if "x" in raw else None
    graph = graph_of_pairs(folder, ends, num_nodes, x, times if len(times) == ends.shape[1] else None, name=name)
    return replace(graph, notes=[f"read from {folder}"] + [note for note in graph.notes if "repeated" not in note])


def _place(name: str, root: str | Path | None) -> Path:
    found = find_benchmark(name, root)
    if found is not None:
        return found
    looked = benchmark_places(name, root)
    if not places.ogb_is_installed():
        raise DataError(
            f"{name}: {looked_in(looked)}, and the package `ogb`, which downloads it, is not installed; "
            "pip install 'mebns_pl[ogb]'"
        )
    fetch(looked[-1], lambda folder: _download(name, folder), name)
    return looked[-1]


def _download(name: str, folder: Path) -> None:
    from ogb.utils.url import decide_download, download_url, extract_zip

    url = _URL.format(_BENCHMARKS[name].download)
    if not decide_download(url):
        raise DataError(f"{name}: the download was declined")
    archive = Path(download_url(url, str(folder)))
    extract_zip(str(archive), str(folder))
    archive.unlink()
    inner = folder / _BENCHMARKS[name].download
    if not (inner / "raw").is_dir():
        raise DataError(f"{name}: the download from {url} has no folder {inner.name}/raw")
    for item in inner.iterdir():
        item.rename(folder / item.name)
    inner.rmdir()
    _read_folder(name, folder)  # what was cut off ends here, and not in the cache


def _read_raw(raw: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of the raw graph, by keys of ``_RAW``; ``x`` and ``edge_year`` where they are there."""
    needed = ("edge", "num_nodes")
    if (raw / "data.npz").is_file():
        with Archive(raw / "data.npz") as archive:
            found = {key: archive[_RAW[key][0]] for key in keys if key in needed or _RAW[key][0] in archive}
        return {key: array.T if key == "edge" else array for key, array in found.items()}
    paths = {key: raw / _RAW[key][1] for key in keys}
    return {key: _read_numbers(path) for key, path in paths.items() if key in needed or path.is_file()}


def _read_numbers(path: Path) -> np.ndarray:
    """A headless CSV file of numbers, by pandas: some have tens of millions of lines."""
    import pandas as pd

    check_file(path)
    with refusing(path, (ValueError, OSError, EOFError, zlib.error)):
        array: np.ndarray = pd.read_csv(path, header=None).to_numpy()
    if array.dtype.kind not in "iuf":
        raise DataError(f"{path}: got {array.dtype}; allowed are lines of numbers")
    return array


def _array(value: Any, where: str) -> np.ndarray:
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        value = value.detach().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "iufb":
        raise DataError(f"{where}: got {array.dtype}; allowed are arrays of numbers")
    return array
