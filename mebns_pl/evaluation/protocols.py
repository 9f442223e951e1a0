"""The protocols of the field: how a graph is parted, and what its held-out edges are compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.official_splits import OfficialSplit, load_official_split
from mebns_pl.datasets.split import canonical_edges, split_edges
from mebns_pl.errors import DataError
from mebns_pl.evaluation.heart_released import HeartReleasedGenerator
from mebns_pl.evaluation.negative_cache import cached, describe, graph_parts
from mebns_pl.evaluation.negatives import AbstractEvalNegatives, non_edges_like, repeated_pairs, uniform_non_edges
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.node_types import NodeTypes
from mebns_pl.keys import Key, permutation
from mebns_pl.shares import floor_share
from mebns_pl.types import EdgeSplit, EvalBatch

STAGES = ("val", "test")


class AbstractParting(ABC):
    """A way to part a graph's edges into training, validation and test edges."""

    @abstractmethod
    def part(self, graph: LoadedGraph, root: str | Path | None, key: Key) -> OfficialSplit:
        """Parts the edges.

        Args:
            graph: the whole graph.
            root: folder with data files, for partings that are read.
            key: the draw's key, for partings that are drawn.

        Raises:
            DataError: the edges cannot be parted so.
        """


@dataclass(frozen=True)
class RandomParting(AbstractParting):
    """A random split.

    Args:
        val: share of all edges, in (0, 1).
        test: share of all edges, in (0, 1).

    Example:
        >>> from mebns_pl.datasets.catalog import load_graph
        >>> RandomParting().part(load_graph("air_routes"), None, Key(0, "docs")).test.shape
        torch.Size([2, 301])
    """

    val: float = 0.05
    test: float = 0.10

    def part(self, graph: LoadedGraph, root: str | Path | None, key: Key) -> OfficialSplit:
        split = split_edges(graph.edges, self.val, self.test, 0.0, key=key)
        return OfficialSplit(graph.name, graph.num_nodes, split.train, split.val, split.test)


@dataclass(frozen=True)
class TimeParting(AbstractParting):
    """The latest edges are for test, those before them for validation; where times are equal, chance decides.

    Args:
        val: share of all edges, in (0, 1).
        test: share of all edges, in (0, 1).

    Raises (in ``part``):
        DataError: edges without times, or too few of them.

    Example:
        >>> edges = torch.stack([torch.zeros(20, dtype=torch.long), torch.arange(1, 21)])
        >>> graph = LoadedGraph("star", edges, [str(i) for i in range(21)], times=torch.arange(20.0))
        >>> TimeParting().part(graph, None, Key(0, "docs")).test[1].tolist()
        [19, 20]
    """

    val: float = 0.05
    test: float = 0.10

    def part(self, graph: LoadedGraph, root: str | Path | None, key: Key) -> OfficialSplit:
        if graph.times is None:
            raise DataError(f"{graph.name}: its edges carry no times; a split by time needs a column of them")
        like = RandomParting(self.val, self.test).part(graph, root, key)
        sizes = [part.shape[1] for part in (like.train, like.val, like.test)]
        chance = permutation(graph.num_edges, key)
        order = chance[graph.times[chance].argsort(stable=True)]
        train, val, test = (canonical_edges(part, "edges") for part in graph.edges[:, order].split(sizes, dim=1))
        return OfficialSplit(graph.name, graph.num_nodes, train, val, test)


class OfficialParting(AbstractParting):
    """The published split of a graph: HeaRT's files, or the Open Graph Benchmark's.

    Example:
        >>> OfficialParting()  # doctest: +ELLIPSIS
        <mebns_pl.evaluation.protocols.OfficialParting object at ...>
    """

    def part(self, graph: LoadedGraph, root: str | Path | None, key: Key) -> OfficialSplit:
        parts = load_official_split(graph.name, root)
        if parts.num_nodes != graph.num_nodes:
            raise DataError(
                f"{graph.name}: the split is of {parts.num_nodes:,} nodes, the graph has {graph.num_nodes:,}"
            )
        return parts


class AbstractComparison(ABC):
    """What the held-out edges of a parting are compared with."""

    @abstractmethod
    def compare(self, stage: str, parts: OfficialSplit, graph: Graph, key: Key) -> EvalBatch:
        """The held-out edges of a stage with their negatives.

        Args:
            stage: "val" or "test".
            parts: the parting.
            graph: the training graph with its features, on the CPU.
            key: names all draws of the stage.

        Raises:
            DataError: the parting does not come with what is asked for.
        """


class UniformComparison(AbstractComparison):
    """As many uniform non-edges as held-out edges, shared by all (SEAL, Zhang and Chen, NeurIPS 2018).

    Validation negatives are no training or validation edges, test negatives are no edges.

    Example:
        >>> pairs = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> parts = OfficialSplit("path", 6, train=pairs[:, :1], val=pairs[:, 1:2], test=pairs[:, 2:])
        >>> graph = Graph.from_edges(parts.train, 6)
        >>> UniformComparison().compare("test", parts, graph, Key(0, "docs")).random_negatives.shape
        torch.Size([2, 1])
    """

    def compare(self, stage: str, parts: OfficialSplit, graph: Graph, key: Key) -> EvalBatch:
        positives = held_out_of(parts, stage)
        return EvalBatch(positives, None, _uniform(stage, parts, key, graph.types))


class OfficialComparison(AbstractComparison):
    """The negatives that belong to a published split: shared by all edges, or else each edge's own (ogbl-citation2).

    Example:
        >>> pairs = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> parts = OfficialSplit("path", 6, pairs[:, :1], pairs[:, 1:2], pairs[:, 2:], test_negatives=pairs + 2)
        >>> OfficialComparison().compare("test", parts, Graph.from_edges(parts.train, 6), Key(0, "docs")).negatives
    """

    def compare(self, stage: str, parts: OfficialSplit, graph: Graph, key: Key) -> EvalBatch:
        shared, hard = _shared(parts, stage), _hard(parts, stage)
        if shared is not None:
            return EvalBatch(held_out_of(parts, stage), None, shared)
        if hard is None:
            raise DataError(f"{parts.name}: its split comes without {stage} negatives; choose another comparison")
        return EvalBatch(held_out_of(parts, stage), hard, _uniform(stage, parts, key, graph.types))


class ReleasedComparison(AbstractComparison):
    """Each edge's own hard negatives, as HeaRT released them; AUC and AP are against the shared ones.

    Example:
        >>> ReleasedComparison()  # doctest: +ELLIPSIS
        <mebns_pl.evaluation.protocols.ReleasedComparison object at ...>
    """

    def compare(self, stage: str, parts: OfficialSplit, graph: Graph, key: Key) -> EvalBatch:
        hard = _hard(parts, stage)
        if hard is None:
            raise DataError(
                f"{parts.name}: no released hard negatives of {stage} edges; allowed are graphs with "
                "heart_valid_samples.npz and heart_test_samples.npz; heart_as_released makes them"
            )
        return EvalBatch(held_out_of(parts, stage), hard, classes_of(stage, parts, key, graph.types))


class AsReleasedComparison(AbstractComparison):
    """Each edge's own hard negatives, made anew in the way of HeaRT's generator, its slips included.

    Validation and test negatives are made together, and kept in a file.

    Args:
        generator: makes them; with the parameters of Cora and CiteSeer by default.
        folder: where files are kept; None takes ``negatives`` in the cache folder.

    Example:
        >>> AsReleasedComparison(HeartReleasedGenerator(eps=1e-5)).generator.num_per_end
        250
    """

    def __init__(self, generator: HeartReleasedGenerator | None = None, folder: str | Path | None = None) -> None:
        self.generator = generator or HeartReleasedGenerator()
        self.folder = folder

    def compare(self, stage: str, parts: OfficialSplit, graph: Graph, key: Key) -> EvalBatch:
        def build() -> dict[str, Tensor]:
            return dict(zip(STAGES, self.generator.generate(graph, parts.val, parts.test), strict=True))

        made = cached([describe(self.generator), parts.val, parts.test, *graph_parts(graph)], build, self.folder)
        return EvalBatch(held_out_of(parts, stage), made[stage], classes_of(stage, parts, key, graph.types))


@dataclass(frozen=True)
class GeneratedComparison(AbstractComparison):
    """Each edge's own negatives, made by a generator; none of them is an edge that the stage may know.

    An edge whose ends have fewer legal nodes than are asked for is ranked against all of these, each once.

    Args:
        negatives: makes them.

    Example:
        >>> from mebns_pl.evaluation.negatives import RandomNegatives
        >>> GeneratedComparison(RandomNegatives(10)).negatives.num_negatives
        10
    """

    negatives: AbstractEvalNegatives

    def compare(self, stage: str, parts: OfficialSplit, graph: Graph, key: Key) -> EvalBatch:
        positives, known = held_out_of(parts, stage), known_to(stage, parts)
        negatives = self.negatives.generate(positives, graph, known, key.child("negatives"))
        repeated = repeated_pairs(positives, negatives, parts.num_nodes, known, graph.types)
        del known  # a copy of all edges, and another is about to be made
        return EvalBatch(positives, negatives, classes_of(stage, parts, key, graph.types), repeated)


class Protocol:
    """A parting with a comparison.

    Args:
        parting: how edges are parted.
        comparison: what held-out edges are compared with.
        val_in_test: whether test edges are scored on the graph of training *and* validation edges.

    Example:
        >>> Protocol(RandomParting(), UniformComparison()).val_in_test
        False
    """

    def __init__(self, parting: AbstractParting, comparison: AbstractComparison, val_in_test: bool = False) -> None:
        self.parting = parting
        self.comparison = comparison
        self.val_in_test = val_in_test


def edge_split(parts: OfficialSplit, meta_fraction: float, key: Key) -> EdgeSplit:
    """The parts as an :class:`EdgeSplit`, with a random share of the training edges set apart as meta edges.

    Args:
        parts: the parting.
        meta_fraction: in [0, 1); 0 sets none apart.
        key: the draw's key.

    Raises:
        DataError: a fraction out of its range.
    """
    if not 0 <= meta_fraction < 1:
        raise DataError(f"split.meta: got {meta_fraction}; allowed is a number in [0, 1)")
    split = parts.edge_split()
    num_edges = split.train.shape[1]
    order = permutation(num_edges, key)
    num_meta = floor_share(meta_fraction, num_edges)
    meta, train = order[:num_meta].sort().values, order[num_meta:].sort().values
    return replace(split, train=split.train[:, train], meta=split.train[:, meta])


def held_out_of(parts: OfficialSplit, stage: str) -> Tensor:
    """``(2, p)``: the edges of a stage."""
    return parts.val if stage == "val" else parts.test


def _shared(parts: OfficialSplit, stage: str) -> Tensor | None:
    return parts.val_negatives if stage == "val" else parts.test_negatives


def _hard(parts: OfficialSplit, stage: str) -> Tensor | None:
    return parts.val_hard if stage == "val" else parts.test_hard


def known_to(stage: str, parts: OfficialSplit) -> Tensor:
    """``(2, m)``: what no negative of a stage may be."""
    return torch.cat([parts.train, parts.val] + ([parts.test] if stage == "test" else []), dim=1)


def _uniform(stage: str, parts: OfficialSplit, key: Key, types: NodeTypes | None) -> Tensor:
    positives, known, key = held_out_of(parts, stage), known_to(stage, parts), key.child("random")
    if types is not None:
        return non_edges_like(positives, parts.num_nodes, types, known, key)
    return uniform_non_edges(positives.shape[1], parts.num_nodes, known, key)


def classes_of(stage: str, parts: OfficialSplit, key: Key, types: NodeTypes | None) -> Tensor:
    """What AUC and AP are measured against: the split's own shared negatives, or else uniform ones."""
    shared = _shared(parts, stage)
    return _uniform(stage, parts, key, types) if shared is None else shared
