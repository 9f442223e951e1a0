"""Graphs by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import scipy.sparse
import torch

from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.readers.matrices import read_gnn_benchmark, read_mat
from mebns_pl.datasets.readers.planetoid import PARTS, read_planetoid
from mebns_pl.datasets.sources import AbstractSource, EmbeddedSource, FileSource, OgbSource, read_snap
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features


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
    values, columns, starts = x.matrix.values(), x.matrix.col_indices(), x.matrix.crow_indices()
    rows = scipy.sparse.csr_matrix((values.numpy(), columns.numpy(), starts.numpy()), shape=tuple(x.matrix.shape))
    # Added up as the rows of a dense matrix are, to the last bit; some at a time, for they are long
    blocks = [torch.from_numpy(rows[first : first + 1024].toarray()) for first in range(0, rows.shape[0], 1024)]
    total = torch.cat([block.sum(dim=1) for block in blocks])
    values = values / total.masked_fill(total == 0, 1.0).repeat_interleave(starts.diff())
    return Features.of(torch.sparse_csr_tensor(starts, columns, values, x.matrix.shape, check_invariants=False))


Sizes = tuple[int, int, int]
"""Nodes, edges and features."""


def _planetoid(name: str, folder: str, *sizes: *Sizes) -> FileSource:
    return FileSource(
        name,
        *sizes,
        "Planetoid (Yang et al., ICML 2016), citations",
        words=True,
        read=read_planetoid,
        folders=(f"planetoid/{folder}/raw", f"{folder}/raw"),
        files=tuple(f"ind.{name}.{part}" for part in PARTS),
        url="https://github.com/kimiyoung/planetoid/raw/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data",
    )


def _seal(name: str, file: str, num_nodes: int, num_edges: int, what: str) -> FileSource:
    return FileSource(
        name,
        num_nodes,
        num_edges,
        0,
        f"SEAL (Zhang and Chen, NeurIPS 2018), {what}",
        read=read_mat,
        folders=("seal",),
        files=(f"{file}.mat",),
        url="https://github.com/muhanzhang/SEAL/raw/ca1f019a15fb0c21796042165b4e6bee73981dd3/Python/data",
    )


def _shchur(name: str, folder: str, file: str, what: str, *sizes: *Sizes) -> FileSource:
    return FileSource(
        name,
        *sizes,
        f"Shchur et al. (2018), {what}",
        words=True,
        read=read_gnn_benchmark,
        folders=(folder,),
        files=(f"{file}.npz",),
        url="https://github.com/shchur/gnn-benchmark/raw/master/data/npz",
    )


def _ogb(name: str, what: str, *sizes: *Sizes) -> OgbSource:
    return OgbSource(name, *sizes, f"Open Graph Benchmark (Hu et al., NeurIPS 2020), {what}")


_AIR_ROUTES = EmbeddedSource(
    "air_routes",
    352,
    3_017,
    6,
    "OurAirports and US Bureau of Transportation Statistics, July 2026",
    edges="air_routes.csv.gz",
    nodes="air_routes_airports.csv.gz",
    node_column="name",
)
_ENRON = FileSource(
    "enron",
    36_692,
    183_831,
    0,
    "SNAP (Leskovec and Krevl, 2014), e-mails",
    read=read_snap,
    folders=("snap",),
    files=("email-Enron.txt.gz",),
    url="https://snap.stanford.edu/data",
)
_GOODS, _AUTHORS = "Amazon, goods bought together", "Microsoft Academic Graph, co-authors"
_SOURCES: tuple[AbstractSource, ...] = (
    _AIR_ROUTES,
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
    _shchur("computers", "amazon/Computers/raw", "amazon_electronics_computers", _GOODS, 13_752, 245_861, 767),
    _shchur("photo", "amazon/Photo/raw", "amazon_electronics_photo", _GOODS, 7_650, 119_081, 745),
    _shchur("coauthor_cs", "coauthor/CS/raw", "ms_academic_cs", _AUTHORS, 18_333, 81_894, 6_805),
    _shchur("coauthor_physics", "coauthor/Physics/raw", "ms_academic_phy", _AUTHORS, 34_493, 247_962, 8_415),
    _ogb("ogbl-ddi", "drug interactions", 4_267, 1_334_889, 0),
    # Sizes as published; repeated and reversed edges are counted there, and here kept once
    _ogb("ogbl-collab", "collaborations", 235_868, 1_285_465, 128),
    _ogb("ogbl-ppa", "protein associations", 576_289, 30_326_273, 58),
    _ogb("ogbl-citation2", "citations", 2_927_963, 30_561_187, 128),
    _ogb("ogbl-vessel", "blood vessels", 3_538_495, 5_345_897, 3),
    _ENRON,
)

CATALOG: dict[str, AbstractSource] = {source.name: source for source in _SOURCES}
"""Every graph of the catalogue, by its name."""
NAMES = tuple(CATALOG)
