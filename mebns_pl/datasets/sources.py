"""The graphs that are known by name: what they are, and where their files are looked for. Nothing is read here.

The listing of them must not wait for what reads them (:mod:`mebns_pl.datasets.catalog`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from mebns_pl.datasets import places
from mebns_pl.datasets.places import data_folders, find_benchmark


@dataclass(frozen=True)
class AbstractSource(ABC):
    """A graph of the catalogue: its sizes, and how it is found and read.

    Args:
        name: what it is called.
        num_nodes: N, isolated nodes included.
        num_edges: undirected edges, each counted once.
        num_features: features of a node; 0 where there are none.
        origin: where it comes from, for people to read.
        words: whether its features are bags of words.
    """

    name: str
    num_nodes: int
    num_edges: int
    num_features: int
    origin: str
    words: bool = field(default=False, kw_only=True)

    @abstractmethod
    def find(self, root: str | Path | None = None) -> Path | None:
        """Where its files are, or None. Nothing is read and nothing downloaded."""

    @abstractmethod
    def how_to_get(self) -> str:
        """How its files come where they are looked for, in a few words."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedSource(AbstractSource):
    """An edge list and a node table within the package.

    Args:
        edges: file name of the edge list.
        nodes: file name of the node table.
        node_column: its column of names.
    """

    edges: str
    nodes: str
    node_column: str

    def find(self, root: str | Path | None = None) -> Path | None:
        return Path(__file__).parent / self.edges

    def how_to_get(self) -> str:
        return "embedded"


@dataclass(frozen=True, kw_only=True)
class FileSource(AbstractSource):
    """Files in a data folder, downloaded into the cache where they are in none.

    Args:
        reader: which of the readers reads them, by its name in :mod:`mebns_pl.datasets.catalog`.
        folders: where the files may be, within a data folder; the first one is made by a download.
        files: their names; of one alone the reader gets the path, of several the folder.
        url: what the files' names are put behind to download them.
    """

    reader: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    url: str

    def find(self, root: str | Path | None = None) -> Path | None:
        return next((place for place in self.places(root) if place.exists()), None)

    def how_to_get(self) -> str:
        return "downloaded when first used"

    def places(self, root: str | Path | None) -> list[Path]:
        """Where it may be, first choice first."""
        return [self.within(data / folder) for data in data_folders(root) for folder in self.folders]

    def within(self, folder: Path) -> Path:
        """What the reader gets of a folder with the files."""
        return folder / self.files[0] if len(self.files) == 1 else folder


@dataclass(frozen=True, kw_only=True)
class OgbSource(AbstractSource):
    """A graph of the Open Graph Benchmark, through the ``ogb`` package."""

    def find(self, root: str | Path | None = None) -> Path | None:
        return find_benchmark(self.name, root)

    def how_to_get(self) -> str:
        return "downloaded when first used" if places.ogb_is_installed() else "needs the extra mebns_pl[ogb]"


PLANETOID_PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
"""What the files of a Planetoid graph end in."""
Sizes = tuple[int, int, int]
"""Nodes, edges and features."""


def _planetoid(name: str, folder: str, *sizes: *Sizes) -> FileSource:
    return FileSource(
        name,
        *sizes,
        "Planetoid (Yang et al., ICML 2016), citations",
        words=True,
        reader="planetoid",
        folders=(f"planetoid/{folder}/raw", f"{folder}/raw"),
        files=tuple(f"ind.{name}.{part}" for part in PLANETOID_PARTS),
        url="https://github.com/kimiyoung/planetoid/raw/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data",
    )


def _seal(name: str, file: str, num_nodes: int, num_edges: int, what: str) -> FileSource:
    return FileSource(
        name,
        num_nodes,
        num_edges,
        0,
        f"SEAL (Zhang and Chen, NeurIPS 2018), {what}",
        reader="matlab",
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
        reader="gnn-benchmark",
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
    reader="snap",
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
