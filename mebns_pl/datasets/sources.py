"""Kinds of catalogue graphs: embedded in the package, in files of a data folder, or of the Open Graph Benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from mebns_pl.datasets.files import read_edge_list
from mebns_pl.datasets.loaded import LoadedGraph, graph_of_pairs
from mebns_pl.datasets.places import cache_folder, data_folders, download_file, fetch, looked_in
from mebns_pl.datasets.readers import ogb
from mebns_pl.datasets.readers.pairs import read_pairs
from mebns_pl.errors import DataError


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

    @abstractmethod
    def load(self, root: str | Path | None = None) -> LoadedGraph:
        """Reads it, after a download if need be.

        Raises:
            DataError: files that are broken, or absent and not to be downloaded.
        """


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

    def load(self, root: str | Path | None = None) -> LoadedGraph:
        folder = Path(__file__).parent
        return read_edge_list(folder / self.edges, folder / self.nodes, node_column=self.node_column)


@dataclass(frozen=True, kw_only=True)
class FileSource(AbstractSource):
    """Files in a data folder, downloaded into the cache where they are in none.

    Args:
        read: (name, file or folder) -> the graph.
        folders: where the files may be, within a data folder; the first one is made by a download.
        files: their names; of one alone ``read`` gets the path, of several the folder.
        url: what the files' names are put behind to download them.
    """

    read: Callable[[str, Path], LoadedGraph]
    folders: tuple[str, ...]
    files: tuple[str, ...]
    url: str

    def find(self, root: str | Path | None = None) -> Path | None:
        return next((place for place in self._places(root) if place.exists()), None)

    def how_to_get(self) -> str:
        return "downloaded when first used"

    def load(self, root: str | Path | None = None) -> LoadedGraph:
        place = self.find(root) or self._download(root)
        graph = self.read(self.name, place)
        return replace(graph, notes=[f"read from {place}", *graph.notes])

    def _places(self, root: str | Path | None) -> list[Path]:
        return [self._of(data / folder) for data in data_folders(root) for folder in self.folders]

    def _of(self, folder: Path) -> Path:
        return folder / self.files[0] if len(self.files) == 1 else folder

    def _download(self, root: str | Path | None) -> Path:
        folder = cache_folder() / self.folders[0]
        try:
            fetch(folder, self._fill, self.name)
        except DataError as error:
            looked = looked_in(self._places(root))
            raise DataError(f"root: got {root!r}; {self.name} {looked}; {error}") from error
        return self._of(folder)

    def _fill(self, folder: Path) -> None:
        for file in self.files:
            download_file(f"{self.url}/{file}", folder / file)
        self.read(self.name, self._of(folder))  # files that were cut off end here, and not in the cache


@dataclass(frozen=True, kw_only=True)
class OgbSource(AbstractSource):
    """A graph of the Open Graph Benchmark, through the ``ogb`` package."""

    def find(self, root: str | Path | None = None) -> Path | None:
        return ogb.find(self.name, root)

    def how_to_get(self) -> str:
        return "downloaded when first used" if ogb.is_installed() else "needs the extra mebns_pl[ogb]"

    def load(self, root: str | Path | None = None) -> LoadedGraph:
        return ogb.read_graph(self.name, root)


def read_snap(name: str, path: Path) -> LoadedGraph:
    """An edge list of SNAP's: two node numbers a line, comments behind ``#``; nodes are numbered 0 ... N - 1.

    Raises:
        DataError: a file that is missing or broken, or without an edge.
    """
    pairs = read_pairs(path)
    numbers, places = torch.unique(pairs, return_inverse=True)
    return graph_of_pairs(path, places, [str(i) for i in numbers.tolist()], name=name)
