"""Which graph it is, and what follows from it without any sampling: its split, its message-passing graphs."""

from __future__ import annotations

import logging
from abc import ABC
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule

from mebns_pl.datasets.catalog import CATALOG, load_graph
from mebns_pl.datasets.files import SUFFIXES, read_graph
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.official_splits import OfficialSplit
from mebns_pl.datasets.split import split_edges
from mebns_pl.errors import DataError
from mebns_pl.evaluation.negative_cache import digest, graph_parts
from mebns_pl.evaluation.protocols import Protocol, edge_split
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.types import EdgeSplit, GraphSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitFractions:
    """How edges are parted.

    Args:
        val: share of all edges held out for validation, in (0, 1).
        test: share of all edges held out for test, in (0, 1).
        meta: share of the remaining edges set apart for the meta set, in [0, 1).
        supervision: share of the training edges that losses are computed on, in (0, 1], drawn once; all of them pass
            messages. Predictors that are costly by the pair (SEAL) may not need them all.

    Raises:
        ValueError: a share outside its range.

    Example:
        >>> SplitFractions(val=0.1)
        SplitFractions(val=0.1, test=0.1, meta=0.02, supervision=1.0)
    """

    val: float = 0.05
    test: float = 0.10
    meta: float = 0.02
    supervision: float = 1.0

    def __post_init__(self) -> None:
        for name, value, good in (
            ("val", self.val, 0 < self.val < 1),
            ("test", self.test, 0 < self.test < 1),
            ("meta", self.meta, 0 <= self.meta < 1),
        ):
            if not good:
                raise ValueError(
                    f"split.{name}: got {value}; allowed is a number in {'[' * (name == 'meta') or '('}0, 1)"
                )
        if not self.val + self.test < 1:
            raise ValueError(f"split.val + split.test: got {self.val} + {self.test}; allowed is a sum below 1")
        if not 0 < self.supervision <= 1:
            raise ValueError(f"split.supervision: expected a share in (0, 1], got {self.supervision}")


class AbstractGraphData(LightningDataModule, ABC):
    """A graph, its split and the graphs that messages pass on, each made when it is first asked for.

    Args:
        graph: a name of the catalogue, or the path of a file.
        root: folder with the catalogue's raw files.
        nodes: path of a node table, or of a feature matrix.
        time_column: the edge list's column with times, or None.
        split: shares of the parts.
        protocol: a protocol of the field, or None.
        key: names all draws.
    """

    def __init__(
        self,
        graph: str,
        root: str | Path | None,
        nodes: str | Path | None,
        time_column: str | None,
        split: SplitFractions,
        protocol: Protocol | None,
        key: Key,
    ) -> None:
        super().__init__()
        self.graph_name = graph
        self.root = root
        self.nodes = nodes
        self.time_column = time_column
        self.fractions = split
        self.protocol = protocol
        self.key = key

    @cached_property
    def loaded(self) -> LoadedGraph:
        """The whole graph as it was read."""
        if Path(self.graph_name).suffix:
            loaded = read_graph(self.graph_name, self.nodes, time_column=self.time_column)
            isolated = loaded.num_nodes - len(torch.unique(loaded.edges))
            loaded.notes.extend([f"{isolated:,} nodes without an edge, kept"] * bool(isolated))
        elif self.nodes is not None:
            raise DataError(f"nodes: a node table goes with an edge list of one's own, got graph={self.graph_name!r}")
        elif self.graph_name not in CATALOG:
            raise DataError(
                f"graph: got {self.graph_name!r}; allowed are the path of a file ({', '.join(SUFFIXES)}) or "
                f"one of {', '.join(CATALOG)}"
            )
        elif self.time_column is not None:
            raise DataError(f"time_column: got {self.time_column!r}; it goes with a file, not with {self.graph_name!r}")
        else:
            loaded = load_graph(self.graph_name, self.root)
        for note in loaded.notes:
            log.info("%s: %s", loaded.name, note)
        return loaded

    @property
    def spec(self) -> GraphSpec:
        """What models need to know of the graph."""
        return self.loaded.spec

    @cached_property
    def split(self) -> EdgeSplit:
        """The frozen split; may be assigned before first use."""
        parts, key = self.fractions, self.key.child("split")
        if self.protocol is not None:
            return edge_split(self.protocol_parts, parts.meta, key.child("meta"))
        return split_edges(self.loaded.edges, parts.val, parts.test, parts.meta, key=key)

    @cached_property
    def protocol_parts(self) -> OfficialSplit:
        """The protocol's parts, in the order and direction that their negatives belong to."""
        assert self.protocol is not None
        parts = self.protocol.parting.part(self.loaded, self.root, self.key.child("split"))
        for note in parts.notes:
            log.info("%s: %s", parts.name, note)
        return parts

    @cached_property
    def train_graph(self) -> Graph:
        """Message passing in training and evaluation: training and meta edges."""
        return Graph.from_edges(self.split.observed, self.loaded.num_nodes, self.loaded.x)

    @cached_property
    def test_graph(self) -> Graph:
        """Message passing in test: the training graph, unless a protocol adds the validation edges."""
        if self.protocol is None or not self.protocol.val_in_test:
            return self.train_graph
        edges = torch.cat([self.split.observed, self.split.val], dim=1)
        return Graph.from_edges(edges, self.loaded.num_nodes, self.loaded.x)

    @cached_property
    def full_graph(self) -> Graph:
        """Message passing in prediction: every known edge."""
        return Graph.from_edges(self.split.all, self.loaded.num_nodes, self.loaded.x)

    @cached_property
    def known(self) -> KnownEdges:
        """What no negative may be: training and meta edges, and self-pairs. Held-out edges are unknown to samplers."""
        return KnownEdges(self.train_graph)

    @cached_property
    def digests(self) -> dict[str, str]:
        """What names the whole graph and its split in checkpoints: digests of edges and features, and of the parts."""
        split, loaded = self.split, self.loaded
        nodes_alone = Graph.from_edges(loaded.edges[:, :0], loaded.num_nodes, loaded.x)
        return {
            "graph": digest([*graph_parts(nodes_alone), loaded.edges]),
            "split": digest([split.train, split.meta, split.val, split.test]),
        }
