"""Held-out edges against every node there is: the filtered ranking of knowledge graphs, without a draw."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.datasets.official_splits import OfficialSplit
from mebns_pl.evaluation.protocols import AbstractComparison, classes_of, held_out_of, known_to
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.types import EvalBatch


@dataclass(frozen=True)
class AllNodesBatch(EvalBatch):
    """Held-out edges whose negatives are made part by part, for all at once would not fit.

    Args:
        known: the graph of edges that are no negatives; the positives are among them.
    """

    known: Graph | None = None

    @property
    def num_negatives(self) -> int:
        """2 N: every node in place of either end; those that do not count are masked."""
        assert self.known is not None
        return 2 * self.known.num_nodes

    @property
    def nodes(self) -> Tensor | None:
        """None: every node."""
        return None

    def part(self, rows: slice) -> EvalBatch:
        """Makes their negatives: ``(2, p, 2 N)`` pairs, first (u, every node), then (every node, v)."""
        assert self.known is not None
        found, size = super().part(rows), self.known.num_nodes
        nodes, positives = torch.arange(size), found.positives
        kept = positives[:, :, None].expand(2, -1, size)
        free = nodes.expand(positives.shape[1], -1)
        negatives = torch.stack([torch.cat([kept[0], free], dim=1), torch.cat([free, kept[1]], dim=1)])
        masked = torch.zeros(positives.shape[1], 2 * size, dtype=torch.bool)
        for row, ends in enumerate(positives.t().tolist()):
            for half, node in enumerate(ends):
                start, stop = self.known.indptr[node : node + 2].tolist()
                masked[row, half * size + self.known.indices[start:stop]] = True
                masked[row, half * size + node] = True
                if self.known.types is not None:  # a node stands in for one of its own type
                    kind = self.known.types.kind
                    masked[row, half * size : (half + 1) * size] |= kind != kind[ends[1 - half]]
        return EvalBatch(positives, negatives, found.random_negatives, masked)


class AllNodesComparison(AbstractComparison):
    """Each edge against every node in place of either end, known edges left out ("filtered", Bordes et al., NIPS 2013).

    The ranks are exact: what any number of sampled negatives estimates. AUC and AP are against uniform non-edges. Where
    nodes have types that are linked apart, a node stands in for one of its own type.

    Cost: 2 N scores an edge, in blocks, whose memory grows with N alone; ranks of a run share the edges.

    Example:
        >>> pairs = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> parts = OfficialSplit("path", 6, train=pairs[:, :1], val=pairs[:, 1:2], test=pairs[:, 2:])
        >>> graph = Graph.from_edges(parts.train, 6)
        >>> batch = AllNodesComparison().compare("test", parts, graph, Key(0, "docs"))
        >>> (~batch.part(slice(0, 1)).repeated).sum(dim=1)  # of (2, 3): 3 and 4
        tensor([7])
    """

    def compare(self, stage: str, parts: OfficialSplit, graph: Graph, key: Key) -> EvalBatch:
        known = Graph.from_edges(known_to(stage, parts), parts.num_nodes, types=graph.types)
        return AllNodesBatch(held_out_of(parts, stage), None, classes_of(stage, parts, key, graph.types), known=known)
