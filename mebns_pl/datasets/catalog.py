"""Graphs by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.places import cache_folder
from mebns_pl.datasets.readers.matrices import read_gnn_benchmark, read_mat
from mebns_pl.datasets.readers.planetoid import PARTS, read_planetoid
from mebns_pl.datasets.sources import AbstractSource, EmbeddedSource, FileSource, OgbSource, read_snap
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features

__all__ = ["CATALOG", "NAMES", "cache_folder", "load_graph", "normalize_rows"]


def load_graph(name: str, root: str | Path | None = None, normalize_features: bool = False) -> LoadedGraph:
    """Loads a graph by its name.

    ``air_routes``, 352 US airports and 3,017 routes flown in July 2026, is embedded in the package. Its features are
    latitude, longitude and altitude (standardised) and the size class (one-hot). The files of all others are looked
    for in ``root``, where nothing is written, then in :func:`cache_folder`, into which those that are public in a
    lasting place are downloaded once. ``CATALOG`` tells of each where it comes from, and what its sizes are.

    Args:
        name: one of ``NAMES``.
        root: folder with data files; None takes the environment variable ``MEBNS_DATA``, or else the cache.
            ``air_routes`` needs none.
        normalize_features: whether each bag of words is divided by its sum. False gives the raw values, with which
            encoders learn several times faster. Graphs without bags of words are not changed.

    Raises:
        DataError: an unknown name; files that are broken or incomplete, or absent and not to be downloaded.

    Example:
        >>> graph = load_graph("air_routes")
        >>> graph.num_nodes, graph.num_edges, tuple(graph.x.shape)
        (352, 3017, (352, 6))
        >>> graph.node_names[0]
        'ABE - Lehigh Valley International Airport'
    """
    if name not in CATALOG:
        raise DataError(f"name: no graph {name!r}; allowed are {', '.join(NAMES)}")
    source = CATALOG[name]
    graph = source.load(root)
    notes = list(graph.notes)
    if source.words and isinstance(graph.x, Features):
        notes.append("bags of words divided by their sums" if normalize_features else "raw bags of words")
        if normalize_features:
            graph = replace(graph, x=normalize_rows(graph.x))
    isolated = graph.num_nodes - len(torch.unique(graph.edges))
    return replace(graph, notes=notes + [f"{isolated:,} nodes without an edge"] * bool(isolated))


def normalize_rows(x: Features) -> Features:
    """Each row of a non-negative ``(N, F)`` matrix divided by its sum; rows of zeros stay."""
    matrix = x.matrix
    counts = matrix.crow_indices().diff().long()
    rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
    total = torch.cat([_row_sums(matrix, first) for first in range(0, len(counts), 1024)])
    values = matrix.values() / total.masked_fill(total == 0, 1.0)[rows]
    place = torch.stack([rows, matrix.col_indices().long()])
    return Features.of(torch.sparse_coo_tensor(place, values, matrix.shape, check_invariants=False))


def _row_sums(matrix: Tensor, first: int) -> Tensor:
    """The sums of 1,024 rows, added up as those of a dense matrix are, to the last bit."""
    start, stop = matrix.crow_indices()[[first, min(first + 1024, matrix.shape[0])]].tolist()
    counts = matrix.crow_indices()[first : first + 1025].diff().long()
    dense = matrix.values().new_zeros(len(counts), matrix.shape[1])
    rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
    dense[rows, matrix.col_indices()[start:stop].long()] = matrix.values()[start:stop]
    return dense.sum(dim=1)


def _air_routes() -> EmbeddedSource:
    return EmbeddedSource(
        name="air_routes",
        num_nodes=352,
        num_edges=3_017,
        num_features=6,
        origin="OurAirports and US Bureau of Transportation Statistics, July 2026",
        edges="air_routes.csv.gz",
        nodes="air_routes_airports.csv.gz",
        node_column="name",
    )


def _planetoid(name: str, folder: str, num_nodes: int, num_edges: int, num_features: int) -> FileSource:
    return FileSource(
        name=name,
        num_nodes=num_nodes,
        num_edges=num_edges,
        num_features=num_features,
        origin="Planetoid (Yang et al., ICML 2016), citations",
        words=True,
        read=read_planetoid,
        folders=(f"planetoid/{folder}/raw", f"{folder}/raw"),
        files=tuple(f"ind.{name}.{part}" for part in PARTS),
        url="https://github.com/kimiyoung/planetoid/raw/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data",
    )


def _seal(name: str, file: str, num_nodes: int, num_edges: int, what: str) -> FileSource:
    return FileSource(
        name=name,
        num_nodes=num_nodes,
        num_edges=num_edges,
        num_features=0,
        origin=f"SEAL (Zhang and Chen, NeurIPS 2018), {what}",
        read=read_mat,
        folders=("seal",),
        files=(f"{file}.mat",),
        url="https://github.com/muhanzhang/SEAL/raw/ca1f019a15fb0c21796042165b4e6bee73981dd3/Python/data",
    )


def _shchur(name: str, folder: str, file: str, num_nodes: int, num_edges: int, num_features: int) -> FileSource:
    kind = "Amazon, goods bought together" if folder.startswith("amazon") else "Microsoft Academic Graph, co-authors"
    return FileSource(
        name=name,
        num_nodes=num_nodes,
        num_edges=num_edges,
        num_features=num_features,
        origin=f"Shchur et al. (2018), {kind}",
        words=True,
        read=read_gnn_benchmark,
        folders=(folder,),
        files=(f"{file}.npz",),
        url="https://github.com/shchur/gnn-benchmark/raw/master/data/npz",
    )


def _ogb(name: str, num_nodes: int, num_edges: int, num_features: int, what: str) -> OgbSource:
    return OgbSource(
        name=name,
        num_nodes=num_nodes,
        num_edges=num_edges,
        num_features=num_features,
        origin=f"Open Graph Benchmark (Hu et al., NeurIPS 2020), {what}",
    )


_ENRON = FileSource(
    name="enron",
    num_nodes=36_692,
    num_edges=183_831,
    num_features=0,
    origin="SNAP (Leskovec and Krevl, 2014), e-mails",
    read=read_snap,
    folders=("snap",),
    files=("email-Enron.txt.gz",),
    url="https://snap.stanford.edu/data",
)

_SOURCES: tuple[AbstractSource, ...] = (
    _air_routes(),
    _planetoid("cora", "Cora", 2_708, 5_278, 1_433),
    _planetoid("citeseer", "CiteSeer", 3_327, 4_552, 3_703),
    _planetoid("pubmed", "PubMed", 19_717, 44_324, 500),
    _seal("usair", "USAir", 332, 2_126, "US air lines"),
    _seal("ns", "NS", 1_589, 2_742, "network scientists"),
    _seal("pb", "PB", 1_222, 16_714, "political blogs"),
    _seal("yeast", "Yeast", 2_375, 11_693, "protein interactions"),
    _seal("celegans", "Celegans", 297, 2_148, "neurons (C.ele)"),
    _seal("power", "Power", 4_941, 6_594, "US power grid"),
    _seal("router", "Router", 5_022, 6_258, "internet routers"),
    _seal("ecoli", "Ecoli", 1_805, 14_660, "metabolites (E.coli)"),
    _shchur("computers", "amazon/Computers/raw", "amazon_electronics_computers", 13_752, 245_861, 767),
    _shchur("photo", "amazon/Photo/raw", "amazon_electronics_photo", 7_650, 119_081, 745),
    _shchur("coauthor_cs", "coauthor/CS/raw", "ms_academic_cs", 18_333, 81_894, 6_805),
    _shchur("coauthor_physics", "coauthor/Physics/raw", "ms_academic_phy", 34_493, 247_962, 8_415),
    _ogb("ogbl-ddi", 4_267, 1_334_889, 0, "drug interactions"),
    # Sizes as published; repeated and reversed edges are counted there, and here kept once
    _ogb("ogbl-collab", 235_868, 1_285_465, 128, "collaborations"),
    _ogb("ogbl-ppa", 576_289, 30_326_273, 58, "protein associations"),
    _ogb("ogbl-citation2", 2_927_963, 30_561_187, 128, "citations"),
    _ogb("ogbl-vessel", 3_538_495, 5_345_897, 3, "blood vessels"),
    _ENRON,
)

CATALOG: dict[str, AbstractSource] = {source.name: source for source in _SOURCES}
"""Every graph of the catalogue, by its name."""
NAMES = tuple(CATALOG)
