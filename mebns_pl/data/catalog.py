"""Graphs by name: the embedded air routes and the Planetoid citation graphs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mebns_pl.data.files import DataError, LoadedGraph, read_edge_list, unique_edges
from mebns_pl.graph.csr import Features

PLANETOID = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}
NAMES = ("air_routes", *PLANETOID)
_PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")


def load_graph(name: str, root: str | Path | None = None, normalize_features: bool = False) -> LoadedGraph:
    """Loads a graph by its name.

    - ``air_routes``: 352 US airports and 3,017 routes flown in July 2026, embedded in the package. Features: latitude,
      longitude and altitude (standardised) and the size class (one-hot).
    - ``cora``, ``citeseer``, ``pubmed``: citation graphs (Yang et al., "Revisiting semi-supervised learning with graph
      embeddings", ICML 2016) with bags of words as sparse features. The raw files are read from
      ``root/planetoid/<Name>/raw`` or ``root/<Name>/raw``, where nothing is written; where neither is there, they are
      downloaded once into :func:`cache_folder`.

    Args:
        name: one of ``NAMES``.
        root: folder with data files; None takes the environment variable ``MEBNS_DATA``, or else the cache.
            ``air_routes`` needs none.
        normalize_features: whether each bag of words is divided by its sum. False gives the raw values, with which
            encoders learn several times faster. ``air_routes`` has no bag of words and is not changed.

    Raises:
        DataError: an unknown name; raw files that are incomplete, or absent and not to be downloaded.

    Example:
        >>> graph = load_graph("air_routes")
        >>> graph.num_nodes, graph.num_edges, tuple(graph.x.shape)
        (352, 3017, (352, 6))
        >>> graph.node_names[0]
        'ABE - Lehigh Valley International Airport'
    """
    if name not in NAMES:
        raise DataError(f"name: no graph {name!r}; allowed are {', '.join(NAMES)}")
    if name == "air_routes":
        folder = Path(__file__).parent
        return read_edge_list(folder / "air_routes.csv.gz", folder / "air_routes_airports.csv.gz", node_column="name")
    return _load_planetoid(PLANETOID[name], root, normalize_features)


def normalize_rows(x: Tensor) -> Tensor:
    """Each row of a non-negative ``(N, F)`` matrix divided by its sum; rows of zeros stay."""
    total = x.sum(dim=1, keepdim=True)
    return x / total.masked_fill(total == 0, 1.0)


def cache_folder() -> Path:
    """Where downloads are kept: the environment variable ``MEBNS_CACHE``, or ``~/.cache/mebns_pl``."""
    return Path(os.environ.get("MEBNS_CACHE") or Path.home() / ".cache" / "mebns_pl")


def _load_planetoid(name: str, root: str | Path | None, normalize_features: bool) -> LoadedGraph:
    from torch_geometric.io import read_planetoid_data  # slow to import, and the embedded graph does without

    raw = _raw_folder(name, root)
    missing = [part for part in _PARTS if not (raw / f"ind.{name.lower()}.{part}").is_file()]
    if missing:
        raise DataError(f"{raw}: no file ind.{name.lower()}.{missing[0]}; all of {', '.join(_PARTS)} are needed")
    data = read_planetoid_data(str(raw), name.lower())
    edges, notes = unique_edges(data.edge_index[:, data.edge_index[0] < data.edge_index[1]], data.num_nodes)
    x = normalize_rows(data.x) if normalize_features else data.x
    graph = LoadedGraph(name.lower(), edges, [str(i) for i in range(data.num_nodes)], Features.of(x.to_sparse()), notes)
    isolated = graph.num_nodes - len(torch.unique(edges))
    facts = [f"read from {raw}", "bags of words divided by their sums" if normalize_features else "raw bags of words"]
    return replace(graph, notes=facts + [f"{isolated} nodes without an edge"] * bool(isolated) + notes)


def _raw_folder(name: str, root: str | Path | None) -> Path:
    root = root or os.environ.get("MEBNS_DATA")
    cached = cache_folder() / name / "raw"
    places = [] if root is None else [Path(root) / "planetoid" / name / "raw", Path(root) / name / "raw"]
    for place in [*places, cached]:
        if place.is_dir():
            return place
    from torch_geometric.datasets import Planetoid

    try:
        Planetoid(str(cache_folder()), name)
    except Exception as error:  # any of a network's many errors
        looked = ", ".join(str(place) for place in [*places, cached])
        raise DataError(
            f"root: got {root!r}; {name}'s raw files are in none of {looked}, and the download failed ({error})"
        ) from error
    return cached
