"""The contract of candidate pools: a graph, and which pairs are allowed -> the pairs to score.

A pair is written as one int64, its *key* ``source * N + target`` with ``source < target``, so that pools of many
million pairs stay small and can be merged by sorting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mebns_pl.errors import DataError
from mebns_pl.families import Family
from mebns_pl.graph.csr import Graph, pair_keys
from mebns_pl.graph.node_types import NodeTypes

Embed = Callable[[Graph], Tensor | None]
"""A graph on the CPU -> the student's embeddings ``(N, C)`` on its device, or None where the student has none."""


@dataclass(frozen=True)
class AllowedPairs:
    """Which pairs may be predicted: from a source to a target node, and not forbidden.

    Args:
        sources: ``(N,)`` bool, nodes that links are wanted for.
        targets: ``(N,)`` bool, nodes they may be linked to.
        forbidden: ``(2, f)`` int64, pairs that are left out, in any direction; no self-pair.
        types: of the nodes, where pairs are to be of types that are linked; None for any.

    Example:
        >>> users, items = torch.tensor([True, True, False]), torch.tensor([False, False, True])
        >>> allowed = AllowedPairs(users, items, torch.empty(2, 0, dtype=torch.int64))
        >>> allowed.mask(torch.tensor([[0, 2], [1, 1]])).tolist(), allowed.oriented(torch.tensor([[2], [1]])).tolist()
        ([False, True], [[1], [2]])
    """

    sources: Tensor
    targets: Tensor
    forbidden: Tensor
    types: NodeTypes | None = None

    @staticmethod
    def all(num_nodes: int) -> AllowedPairs:
        """Every pair of ``num_nodes`` nodes."""
        every = torch.ones(num_nodes, dtype=torch.bool)
        return AllowedPairs(every, every, torch.empty(2, 0, dtype=torch.int64))

    @cached_property
    def rows(self) -> Tensor:
        """``(n,)`` int64 ascending, the source nodes."""
        return self.sources.nonzero().flatten()

    def groups(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Source nodes ``(n,)`` int64 ascending with their targets ``(N,)`` bool: all in one, or type by type."""
        if self.types is None:
            yield self.rows, self.targets
            return
        kinds = self.types.kind[self.rows]
        for kind in kinds.unique().tolist():
            yield self.rows[kinds == kind], self.targets & self.types.linked[kind][self.types.kind]

    def forward(self, pairs: Tensor) -> Tensor:
        """``(m,)`` bool, whether ``pairs`` ``(2, m)`` lead from a source to a target as they stand."""
        allowed = self.sources[pairs[0]] & self.targets[pairs[1]]
        return allowed if self.types is None else allowed & self.types.fit(pairs[0], pairs[1])

    def mask(self, pairs: Tensor) -> Tensor:
        """``(m,)`` bool, whether undirected ``pairs`` ``(2, m)`` are allowed."""
        allowed = self.forward(pairs) | self.forward(pairs.flip(0))
        if self.forbidden.shape[1]:
            num_nodes = len(self.sources)
            allowed &= ~torch.isin(undirected_keys(pairs, num_nodes), undirected_keys(self.forbidden, num_nodes))
        return allowed

    def oriented(self, pairs: Tensor) -> Tensor:
        """Allowed ``pairs`` ``(2, m)``, turned round where only that leads from a source to a target."""
        return torch.where(self.forward(pairs), pairs, pairs.flip(0))

    def left_out(self, graph: Graph) -> Graph:
        """The graph of all pairs that no pool may hold: the edges of ``graph``, and the forbidden pairs."""
        if not self.forbidden.shape[1]:
            return Graph(graph.indptr, graph.indices)
        edges = torch.cat([torch.stack([graph.rows, graph.indices]), self.forbidden], dim=1)
        return Graph.from_edges(edges, graph.num_nodes)


@dataclass(frozen=True)
class PoolRequest:
    """What a pool is made from.

    Args:
        graph: the graph on the CPU whose missing links are wanted, with all of its edges.
        allowed: which pairs may be in the pool.
        embed: the student's embeddings.
        max_pairs: the pool holds at most so many pairs; where a pool must be cut to that, its notes say how.
    """

    graph: Graph
    allowed: AllowedPairs
    embed: Embed
    max_pairs: int = 50_000_000

    @cached_property
    def left_out(self) -> Graph:
        """The pairs that no pool may hold."""
        return self.allowed.left_out(self.graph)

    @cached_property
    def embeddings(self) -> Tensor | None:
        """``(N, C)``, or None where the student has none."""
        return self.embed(self.graph)

    def bounded(self, top: int, name: str) -> tuple[int, list[str]]:
        """How many pairs of each source node fit into ``max_pairs``, at most ``top``; and a note where that is less.

        Raises:
            DataError: not even one fits.
        """
        num_sources = len(self.allowed.rows)
        room = self.max_pairs // max(1, num_sources)
        if room < 1:
            raise DataError(
                f"pairs.max_pairs: {name} may hold {self.max_pairs:,} pairs, fewer than one for each of "
                f"{num_sources:,} source nodes; raise it, or choose nodes (pairs.nodes)"
            )
        if room >= top:
            return top, []
        note = f"{name}: {room:,} of each node, not {top:,}, so that there are at most {self.max_pairs:,} pairs"
        return room, [note]


@dataclass(frozen=True)
class PoolPart:
    """Pairs of one kind.

    Args:
        name: what kind, for people to read.
        keys: ``(n,)`` int64 ascending, each pair once.
        notes: where the pool was cut, for people to read.
    """

    name: str
    keys: Tensor
    notes: list[str]


class AbstractPool(ABC):
    """Chooses the pairs to score. No pool holds an edge of the graph, a self-pair, or a pair that is not allowed."""

    @abstractmethod
    def parts(self, request: PoolRequest) -> list[PoolPart]:
        """The pool's pairs, in one part or, where pools are put together, in several that may overlap.

        Raises:
            DataError: this pool cannot be made of such a graph, or by such a student.
        """

    def check(self, num_nodes: int, embeds: bool) -> None:  # noqa: B027 (most pools can always be made)
        """Refuses a graph or student that :meth:`parts` would refuse, before anything is trained.

        Args:
            num_nodes: N.
            embeds: whether the student has embeddings.

        Raises:
            DataError: this pool cannot be made of such a graph, or by such a student.
        """

    def holds(self, request: PoolRequest, pairs: Tensor) -> list[Tensor]:
        """For each part, ``(m,)`` bool: which of ``pairs`` ``(2, m)`` are in it."""
        keys = undirected_keys(pairs, request.graph.num_nodes)
        return [torch.isin(keys, part.keys) for part in self.parts(request)]


POOLS = Family(AbstractPool, "--data.pairs.pool")
"""Every pool there is."""


def undirected_keys(pairs: Tensor, num_nodes: int) -> Tensor:
    """The keys ``(m,)`` of ``pairs`` ``(2, m)`` in any direction."""
    return pair_keys(torch.minimum(pairs[0], pairs[1]), torch.maximum(pairs[0], pairs[1]), num_nodes)


def pairs_of(keys: Tensor, num_nodes: int) -> Tensor:
    """The pairs ``(2, m)`` of ``keys`` ``(m,)``, with ``source < target``."""
    return torch.stack([keys // num_nodes, keys % num_nodes])
