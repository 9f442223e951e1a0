"""The non-edges that held-out edges are ranked against.

Which edges are known here is not the samplers' rule: validation negatives avoid training and validation edges, test
negatives avoid every edge. The caller passes them; the positives themselves are always among them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.errors import DataError
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges, fill_legal
from mebns_pl.graph.measures.abstract import AbstractMeasure
from mebns_pl.graph.measures.cosine import FeatureCosine
from mebns_pl.graph.measures.min_rank import MinRank
from mebns_pl.graph.measures.neighbors import ResourceAllocation
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.keys import Key
from mebns_pl.progress import with_progress

_ENDS = 1024  # nodes between two steps of the progress bar; how they are cut shows in no result


class AbstractEvalNegatives(ABC):
    """A way to choose the negatives of each held-out edge, once and without a model."""

    @abstractmethod
    def generate(self, positives: Tensor, graph: Graph, known_edges: Tensor, key: Key) -> Tensor:
        """Chooses negatives.

        Args:
            positives: ``(2, p)`` int64, held-out edges.
            graph: the *training* graph with its features, on the CPU.
            known_edges: ``(2, m)`` int64, edges that no negative may be; the positives count as known too.
            key: the draw's key.

        Returns:
            ``(2, p, n)`` int64. In the first half of a row (the larger one when n is odd) the positive's source is kept
            in ``[0]``, in the second half its target in ``[1]``. Within a half no node stands twice, unless the kept
            end has fewer legal nodes than are asked for: then all of them are there, and the others are drawn from
            them again.

        Raises:
            DataError: an end of a positive is linked to every other node, so it has no negative.
        """


@dataclass(frozen=True)
class RandomNegatives(AbstractEvalNegatives):
    """Uniform legal nodes in place of each end.

    Args:
        num_negatives: n, for each positive.

    Raises:
        ValueError: fewer than 1.

    Example:
        >>> edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> graph = Graph.from_edges(edges[:, :2], num_nodes=6)
        >>> RandomNegatives(4).generate(edges[:, 2:], graph, edges, Key(0, "docs")).shape
        torch.Size([2, 1, 4])
    """

    num_negatives: int = 100

    def __post_init__(self) -> None:
        if self.num_negatives < 1:
            raise ValueError(f"num_negatives: got {self.num_negatives}; allowed is 1 or more")

    def generate(self, positives: Tensor, graph: Graph, known_edges: Tensor, key: Key) -> Tensor:
        known = _known_graph(positives, graph, known_edges)
        rows = torch.arange(positives.shape[1])
        lists = []
        for end, count in enumerate(((self.num_negatives + 1) // 2, self.num_negatives // 2)):
            empty = torch.full((len(rows), count), -1)
            lists.append(_filled(positives[end], rows, empty, known, key.child(end)))
        return ends_replaced(positives, *lists)


class HeartNegatives(AbstractEvalNegatives):
    """Hard negatives: the nodes nearest to each end (HeaRT, Li et al., NeurIPS 2023, arXiv 2306.10453).

    For a positive (u, v) these are ``num_per_end`` pairs (u, w) and as many (w, v), with w the nodes of best
    :class:`~mebns_pl.graph.measures.min_rank.MinRank`
    for the kept end under resource allocation, personalised PageRank and
    feature cosine (left out where the graph has no features). Ends with fewer such nodes get uniform legal ones
    besides. The benchmark's released files were made by a generator that overwrites similarities by their ranks in
    place; this one does not, so that results on the two cannot be compared.

    Args:
        num_per_end: negatives for each end, n / 2.
        alpha: restart probability of PageRank.
        eps: precision of PageRank.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        >>> graph = Graph.from_edges(edges[:, :3], num_nodes=5)
        >>> HeartNegatives(num_per_end=1).generate(edges[:, 3:], graph, edges, Key(0, "docs"))[:, 0, 0].tolist()
        [3, 1]
    """

    def __init__(self, num_per_end: int = 250, alpha: float = 0.15, eps: float = 1e-5) -> None:
        if num_per_end < 1:
            raise ValueError(f"num_per_end: got {num_per_end}; allowed is 1 or more")
        self.num_per_end = num_per_end
        self._page_rank = PersonalizedPageRank(alpha, eps)

    def generate(self, positives: Tensor, graph: Graph, known_edges: Tensor, key: Key) -> Tensor:
        known = _known_graph(positives, graph, known_edges)
        measures: list[AbstractMeasure] = [ResourceAllocation(), self._page_rank]
        measures += [] if graph.x is None else [FeatureCosine()]
        ends, place = torch.unique(positives, return_inverse=True)
        blocks = with_progress(ends.split(_ENDS), -(-len(ends) // _ENDS), "HeaRT negatives")
        nearest = [MinRank(measures).top(graph, block, self.num_per_end, exclude=known)[0] for block in blocks]
        lists = _filled(ends, ends, torch.cat(nearest), known, key)
        return ends_replaced(positives, lists[place[0]], lists[place[1]])


def uniform_non_edges(num: int, num_nodes: int, known_edges: Tensor, key: Key) -> Tensor:
    """Independent uniform draws among the unordered pairs of different nodes that are no known edge.

    Args:
        num: how many.
        num_nodes: N.
        known_edges: ``(2, m)`` int64, pairs not to be drawn.
        key: the draw's key.

    Returns:
        ``(2, num)`` int64 with ``source < target``; a pair can occur more than once.

    Raises:
        DataError: every pair is a known edge.
    """
    known = KnownEdges(Graph.from_edges(known_edges, num_nodes))
    # The r-th of all ordered legal pairs, for a uniform r: one draw a pair, none is ever thrown away.
    ends = known.num_legal(torch.arange(num_nodes)).cumsum(0)
    if not num_nodes or int(ends[-1]) == 0:
        raise DataError(f"known_edges: all pairs of the {num_nodes} nodes are edges; at least one non-edge is needed")
    rank = torch.randint(int(ends[-1]), (num,), generator=key.generator())
    source = torch.searchsorted(ends, rank, right=True)
    target = known.legal_node(source, rank - (ends[source] - known.num_legal(source)))
    return torch.stack([torch.minimum(source, target), torch.maximum(source, target)])


def repeated_pairs(positives: Tensor, negatives: Tensor, num_nodes: int, known_edges: Tensor) -> Tensor | None:
    """Which negatives stand in their row before, where ends have fewer legal nodes than were asked for.

    Args:
        positives: ``(2, p)`` int64, held-out edges.
        negatives: ``(2, p, n)`` int64, as :meth:`AbstractEvalNegatives.generate` makes them.
        num_nodes: N.
        known_edges: ``(2, m)`` int64, what no negative may be, beside the positives.

    Returns:
        ``(p, n)`` bool, or None where no end has so few.
    """
    known = Graph.from_edges(torch.cat([known_edges, positives], dim=1), num_nodes)
    legal = num_nodes - 1 - known.degree[positives]
    few = (legal < (negatives.shape[2] + 1) // 2).any(dim=0)
    if not bool(few.any()):
        return None
    keys = negatives.min(dim=0).values[few] * num_nodes + negatives.max(dim=0).values[few]
    ordered, order = keys.sort(dim=1, stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = torch.zeros(negatives.shape[1:], dtype=torch.bool)
    repeated[few] = torch.zeros_like(again).scatter(1, order, again)
    return repeated if bool(repeated.any()) else None


def _known_graph(positives: Tensor, graph: Graph, known_edges: Tensor) -> Graph:
    known = Graph.from_edges(torch.cat([known_edges, positives], dim=1), graph.num_nodes)
    full = positives[known.degree[positives] == graph.num_nodes - 1]
    if len(full):
        raise DataError(
            f"positives: node {int(full[0])} is linked to all other {graph.num_nodes - 1} nodes by known edges; "
            "an end of a positive needs at least one node it is not linked to"
        )
    return known


def _filled(anchors: Tensor, rows: Tensor, lists: Tensor, known: Graph, key: Key) -> Tensor:
    """``lists`` ``(n, k)`` with its -1 replaced by legal nodes; a row draws by the key and its name in ``rows``."""
    filled = lists.clone()
    names, structure = (anchors.contiguous().numpy(), rows.numpy()), (known.indptr.numpy(), known.indices.numpy())
    fill_legal(*names, key.integer(), known.num_nodes, *structure, filled.numpy())
    return filled


def ends_replaced(positives: Tensor, of_source: Tensor, of_target: Tensor) -> Tensor:
    """The pairs of each end with the nodes that stand in for the other.

    Args:
        positives: ``(2, p)``.
        of_source: ``(p, n)``, what each source is paired with.
        of_target: ``(p, m)``, what each target is paired with.

    Returns:
        ``(2, p, n + m)``.
    """
    source = torch.cat([positives[0][:, None].expand_as(of_source), of_target], dim=1)
    target = torch.cat([of_source, positives[1][:, None].expand_as(of_target)], dim=1)
    return torch.stack([source, target])
