"""A whole graph as it was read, and the undirected edges it is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from mebns_pl.datasets.limits import check_size
from mebns_pl.errors import DataError
from mebns_pl.graph.csr import spec_of
from mebns_pl.graph.row_lists import in_blocks, lower_first, pairs_of_rows, sorted_rows
from mebns_pl.graph.sparse import Features
from mebns_pl.types import GraphSpec

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_PLAIN = re.compile(r"0|-?[1-9][0-9]{0,17}")  # as a number is written


@dataclass(frozen=True, eq=False)
class NumberNames(Sequence[str]):
    """Names of nodes that are numbers: texts are made where they are looked at, and no list of them is kept.

    Args:
        size: N.
        numbers: ``(N,)`` integers, ascending; None stands for 0 ... N - 1.

    Example:
        >>> NumberNames(3)[1:], NumberNames(2, np.array([5, 70]))[-1]
        (['1', '2'], '70')
        >>> NumberNames(2) == ["0", "1"]
        True
    """

    size: int
    numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = (range(self.size) if self.numbers is None else self.numbers)[index]
        return [str(number) for number in found] if isinstance(index, slice) else str(found)  # type: ignore[union-attr]

    def places(self, names: Sequence[str]) -> Tensor:
        """``(m,)`` int64: which node has each of m names, -1 where none has; no text of another node is made.

        Example:
            >>> NumberNames(3, np.array([-4, 5, 70])).places(["70", "07", "-4", "6"]).tolist()
            [2, -1, 0, -1]
        """
        plain = torch.tensor([bool(_PLAIN.fullmatch(name)) for name in names], dtype=torch.bool)
        asked = torch.tensor([int(name) if good else 0 for name, good in zip(names, plain.tolist(), strict=True)])
        asked = asked.long()  # of no name, too
        if self.numbers is None:
            return torch.where(plain & (asked >= 0) & (asked < self.size), asked, -1)
        numbers = torch.from_numpy(self.numbers)
        place = torch.searchsorted(numbers, asked).clamp_(max=self.size - 1)
        return torch.where(plain & (numbers[place] == asked), place, -1)

    def __eq__(self, other: object) -> bool:
        alike = isinstance(other, Sequence) and len(self) == len(other)
        return alike and all(a == b for a, b in zip(self, other, strict=True))  # type: ignore[call-overload]


@dataclass(frozen=True)
class LoadedGraph:
    """A whole graph as it was read, before it is split.

    Args:
        name: name of the graph.
        edges: ``(2, n)`` int64, undirected, each once with ``source < target``, sorted.
        node_names: N names, ``node_names[i]`` is that of node ``i``.
        x: node features: dense ``(N, F)`` float32, sparse :class:`~mebns_pl.graph.csr.Features`, or None.
        notes: what was done on the way (repeated edges dropped, columns encoded), for people to read.
        times: ``(n,)`` float64, when each edge came to be (its first time, where it was repeated), or None.
        weights: ``(n,)`` float64, weights of the edges (the greatest, where one was repeated), or None.
        node_types: N texts, the kind of thing that each node is, or None.
        context: ``(2, c)`` int64, edges of other relations, as ``edges`` and none of them: they pass messages alone; or
            None.
        origin: what names the files that it was read from, where what is made of it is kept on disk
            (:mod:`mebns_pl.datasets.prepared`); "" where nothing is.

    Example:
        >>> graph = LoadedGraph("path", torch.tensor([[0, 1], [1, 2]]), ["a", "b", "c"])
        >>> graph.num_nodes, graph.num_edges, graph.spec.num_features
        (3, 2, 0)
    """

    name: str
    edges: Tensor
    node_names: Sequence[str]
    x: Tensor | Features | None = None
    notes: list[str] = field(default_factory=list)
    times: Tensor | None = None
    weights: Tensor | None = None
    node_types: list[str] | None = None
    context: Tensor | None = None
    origin: str = ""

    @property
    def num_nodes(self) -> int:
        """N, isolated nodes included."""
        return len(self.node_names)

    @property
    def max_degree(self) -> int:
        """The most neighbours of a node."""
        ends = [torch.bincount(end, minlength=self.num_nodes) for end in self.edges]
        return int((ends[0] + ends[1]).max()) if self.num_nodes else 0

    @property
    def num_edges(self) -> int:
        """Number of undirected edges."""
        return self.edges.shape[1]

    @property
    def spec(self) -> GraphSpec:
        """What models need to know."""
        return spec_of(self.num_nodes, self.x)


def graph_of_pairs(
    path: Path,
    pairs: Tensor,
    nodes: list[str] | int,
    x: Tensor | Features | None = None,
    times: Tensor | None = None,
    notes: Sequence[str] = (),
    *,
    name: str = "",
    called: str = "pairs",
    directed: bool = True,
    undirected: bool = True,
    weights: Tensor | None = None,
    node_types: list[str] | None = None,
) -> LoadedGraph:
    """The undirected graph of the pairs that a file holds.

    Args:
        path: the file.
        pairs: ``(2, m)`` int64.
        nodes: names of the N nodes, or N, where their numbers are their names.
        x: their features.
        times: ``(m,)`` of the pairs.
        notes: what else there is to tell.
        name: name of the graph; "" takes the file's.
        called: what pairs are called in messages.
        directed: whether both directions of an edge are the rule (:func:`undirected_edges`), or a repetition.
        undirected: whether directed edges are made undirected; False refuses them.
        weights: ``(m,)`` of the pairs.
        node_types: kinds of the nodes.

    Raises:
        DataError: no pair of two different nodes; directed edges that are refused; more nodes or pairs than allowed.
    """
    check_size(path, nodes if isinstance(nodes, int) else len(nodes), "nodes")
    check_size(path, pairs.shape[1], "rows")
    names = NumberNames(nodes) if isinstance(nodes, int) else nodes
    if not bool((pairs[0] != pairs[1]).any()):
        found = f"no edge between two different nodes in {pairs.shape[1]:,} {called}"
        raise DataError(f"{path}: {found}; at least 1 is needed")
    if directed:
        edges, dropped = undirected_edges(pairs, len(names), "" if undirected else str(path))
    else:
        edges, dropped = unique_edges(pairs, len(names))
    first = None if times is None else first_times(edges, pairs, times, len(names))
    weighs = weights is not None and not bool((weights == weights[:1]).all())
    greatest = None if weights is None else -first_times(edges, pairs, -weights, len(names))
    told = [f"{note}, of weights the greatest kept" if weighs and "repeat" in note else note for note in dropped]
    told += notes
    return LoadedGraph(name or path.name.split(".")[0], edges, names, x, told, first, greatest, node_types)


def unique_edges(pairs: Tensor, num_nodes: int) -> tuple[Tensor, list[str]]:
    """Undirected edges, each once with ``source < target`` and sorted, and notes on what was dropped.

    Args:
        pairs: ``(2, m)`` int64, in any direction and number.
        num_nodes: N.
    """
    edges = pairs_of_rows(*sorted_rows(lambda: lower_first(in_blocks(pairs)), num_nodes, smallest_type(num_nodes)))
    return edges, _dropped(pairs, edges.shape[1], "repeated edge")


def undirected_edges(pairs: Tensor, num_nodes: int, refused_in: str = "") -> tuple[Tensor, list[str]]:
    """:func:`unique_edges` of directed pairs, of which both directions of an edge are the rule and not a repetition.

    Args:
        pairs: ``(2, m)`` int64, directed.
        num_nodes: N.
        refused_in: the file in which directed edges are refused; empty accepts them.

    Returns:
        The undirected edges, and notes: on self-loops and repeated pairs dropped, and, where not every edge is there
        in both directions, that they were made undirected.

    Raises:
        DataError: ``refused_in`` is given, and not every edge is there in both directions.
    """
    num_directed = len(sorted_rows(lambda: in_blocks(pairs), num_nodes, smallest_type(num_nodes))[1])
    notes = _dropped(pairs, num_directed, "repeated pair")
    edges, _ = unique_edges(pairs, num_nodes)
    one_way = 2 * edges.shape[1] - num_directed
    found = f"{one_way:,} of {edges.shape[1]:,} edges came in one direction only"
    if one_way and refused_in:
        raise DataError(f"{refused_in}: directed, {found}; without `undirected` each edge must be there in both")
    if one_way:
        notes.append(f"directed: made undirected, {found}")
    return edges, notes


def first_times(edges: Tensor, pairs: Tensor, times: Tensor, num_nodes: int) -> Tensor:
    """When each edge first came to be.

    Args:
        edges: ``(2, n)`` int64 as from :func:`unique_edges`.
        pairs: ``(2, m)`` int64, the pairs they were made from.
        times: ``(m,)`` of the pairs.
        num_nodes: N.

    Returns:
        ``(n,)`` float64, the earliest time of each edge's pairs.
    """
    kept = pairs[0] != pairs[1]
    place = torch.searchsorted(_edge_keys(edges, num_nodes), _edge_keys(pairs[:, kept], num_nodes))
    first = torch.full((edges.shape[1],), torch.inf, dtype=torch.float64)
    return first.scatter_reduce(0, place, times[kept].double(), "amin")


def name_order(name: str) -> tuple[int, int, str]:
    """The sorting key of node names: integers by value and before all others."""
    return (0, int(name), name) if _INTEGER.fullmatch(name) else (1, 0, name)


def smallest_type(num_nodes: int) -> type[np.integer]:
    """The smaller type that holds a node's number."""
    return np.int32 if num_nodes < 2**31 else np.int64


def _dropped(pairs: Tensor, num_unique: int, repeated: str) -> list[str]:
    loops = int((pairs[0] == pairs[1]).sum())
    return dropped_of(loops, pairs.shape[1] - loops - num_unique, repeated)


def dropped_of(loops: int, repetitions: int, repeated: str) -> list[str]:
    """Notes on what was dropped.

    Args:
        loops: how many self-loops.
        repetitions: how many pairs that stand before.
        repeated: what these are called.
    """
    counts = {"self-loop": loops, repeated: repetitions}
    return [f"{count:,} {what}{'s' * (count > 1)} dropped" for what, count in counts.items() if count]


def _edge_keys(pairs: Tensor, num_nodes: int) -> Tensor:
    return pairs.min(dim=0).values * num_nodes + pairs.max(dim=0).values
