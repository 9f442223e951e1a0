"""The non-edges that held-out edges are ranked against.

Which edges are known here is not the samplers' rule: validation negatives avoid training and validation edges, test
negatives avoid every edge. The caller passes them; the positives themselves are always among them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mebns_pl.errors import DataError
from mebns_pl.graph.csr import Graph, check_ends
from mebns_pl.graph.known_edges import KnownEdges, fill_legal
from mebns_pl.graph.measures.abstract import AbstractMeasure
from mebns_pl.graph.measures.cosine import FeatureCosine
from mebns_pl.graph.measures.min_rank import MinRank
from mebns_pl.graph.measures.neighbors import ResourceAllocation
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.node_types import NodeTypes
from mebns_pl.graph.row_lists import BLOCK, in_blocks, lower_first, sorted_rows
from mebns_pl.keys import Key
from mebns_pl.progress import doing, with_progress

_TYPED = 4  # times as many of the nearest nodes are looked at, for those of a type among them
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
            them again. On a graph of types a node stands in for one of its own type.

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
        with doing("Known edges of held-out nodes"):
            known = _known_graph(positives, graph, known_edges)
        rows, types = torch.arange(positives.shape[1]), graph.types
        lists = []
        for end, count in enumerate(((self.num_negatives + 1) // 2, self.num_negatives // 2)):
            empty = torch.full((len(rows), count), -1)
            if types is None:
                lists.append(_filled(positives[end], rows, empty, known, key.child(end)))
            else:
                asked = positives[end], types.kind[positives[1 - end]]
                lists.append(_filled_by_type(*asked, rows, empty, known, types, key.child(end)))
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
        types, count = graph.types, self.num_per_end
        looked_at = count if types is None else min(_TYPED * count, graph.num_nodes)
        nearest = torch.cat([MinRank(measures).top(graph, block, looked_at, exclude=known)[0] for block in blocks])
        if types is None:
            lists = _filled(ends, ends, nearest, known, key)
            return ends_replaced(positives, lists[place[0]], lists[place[1]])
        # An end has a list for each type that it is linked to
        wanted = place * len(types.linked) + types.kind[positives.flip(0)]
        asked, place = torch.unique(wanted, return_inverse=True)
        of, kinds = asked // len(types.linked), asked % len(types.linked)
        near = _nearest_of_type(nearest[of], kinds, count, types)
        lists = _filled_by_type(ends[of], kinds, asked, near, known, types, key)
        return ends_replaced(positives, lists[place[0]], lists[place[1]])


def uniform_non_edges(
    num: int, num_nodes: int, known_edges: Tensor, key: Key, types: NodeTypes | None = None
) -> Tensor:
    """Independent uniform draws among the unordered pairs of different nodes that are no known edge.

    Args:
        num: how many.
        num_nodes: N.
        known_edges: ``(2, m)`` int64, pairs not to be drawn.
        key: the draw's key.
        types: of the nodes, where pairs are to be of types that are linked; None for any.

    Returns:
        ``(2, num)`` int64 with ``source < target``; a pair can occur more than once.

    Raises:
        DataError: every such pair is a known edge.
    """
    # The r-th of all ordered legal pairs, for a uniform r: one draw a pair, none is ever thrown away.
    if types is None:
        with doing("Degrees by known edges"):
            legal = num_nodes - 1 - degrees(known_edges, num_nodes)
    else:
        known = KnownEdges(Graph.from_edges(known_edges, num_nodes, types=types))
        legal = known.num_legal(torch.arange(num_nodes))
    ends = legal.cumsum(0)
    if not num_nodes or int(ends[-1]) == 0:
        which = f"the {num_nodes} nodes" if types is None else "linked types"
        raise DataError(f"known_edges: all pairs of {which} are edges; at least one non-edge is needed")
    rank = torch.randint(int(ends[-1]), (num,), generator=key.generator())
    source = torch.searchsorted(ends, rank, right=True)
    if types is None:  # edges of the drawn nodes are enough
        known = KnownEdges(Graph.from_edges(edges_at(source, known_edges, num_nodes), num_nodes))
    target = known.legal_node(source, rank - (ends[source] - legal[source]))
    return torch.stack([torch.minimum(source, target), torch.maximum(source, target)])


def non_edges_like(pairs: Tensor, num_nodes: int, types: NodeTypes, known_edges: Tensor, key: Key) -> Tensor:
    """A uniform non-edge for each pair, its ends of the same two types.

    Args:
        pairs: ``(2, m)`` int64.
        num_nodes: N.
        types: of the nodes.
        known_edges: ``(2, n)`` int64, pairs not to be drawn.
        key: the draw's key.

    Returns:
        ``(2, m)`` int64 with ``source < target``; a pair can occur more than once.

    Raises:
        DataError: every pair of two types is a known edge.
    """
    kinds = types.kind[pairs].sort(dim=0).values
    result = torch.empty_like(pairs)
    for first, second in torch.unique(kinds, dim=1).t().tolist():
        these = ((kinds[0] == first) & (kinds[1] == second)).nonzero().flatten()
        known = KnownEdges(Graph.from_edges(known_edges, num_nodes, types=types.only(first, second)))
        sources = (types.kind == first).nonzero().flatten()
        ends = known.num_legal(sources).cumsum(0)
        if int(ends[-1]) == 0:
            raise DataError("known_edges: all pairs of two types are edges; at least one non-edge of them is needed")
        generator = key.child(f"{first} {second}").generator()
        rank = torch.randint(int(ends[-1]), (len(these),), generator=generator)
        place = torch.searchsorted(ends, rank, right=True)
        source = sources[place]
        target = known.legal_node(source, rank - (ends[place] - known.num_legal(source)))
        result[:, these] = torch.stack([torch.minimum(source, target), torch.maximum(source, target)])
    return result


def num_of_type(known: Graph, types: NodeTypes, nodes: Tensor, kinds: Tensor) -> Tensor:
    """How many nodes of a kind each node is not linked to, itself left out.

    Args:
        known: the edges.
        types: of the nodes.
        nodes: ``(...)`` int64.
        kinds: ``(...)`` int64.
    """
    num_kinds = len(types.linked)
    cells = known.rows * num_kinds + types.kind[known.indices]
    linked = torch.bincount(cells, minlength=known.num_nodes * num_kinds)[nodes * num_kinds + kinds]
    return torch.bincount(types.kind, minlength=num_kinds)[kinds] - linked - (types.kind[nodes] == kinds).long()


def repeated_pairs(
    positives: Tensor, negatives: Tensor, num_nodes: int, known_edges: Tensor, types: NodeTypes | None = None
) -> Tensor | None:
    """Which negatives stand in their row before, where ends have fewer legal nodes than were asked for.

    Args:
        positives: ``(2, p)`` int64, held-out edges.
        negatives: ``(2, p, n)`` int64, as :meth:`AbstractEvalNegatives.generate` makes them.
        num_nodes: N.
        known_edges: ``(2, m)`` int64, what no negative may be, beside the positives.
        types: of the nodes, by which the negatives were made; or None.

    Returns:
        ``(p, n)`` bool, or None where no end has so few.
    """
    wanted = (negatives.shape[2] + 1) // 2
    if types is None and num_nodes - 1 - most_edges([known_edges, positives], num_nodes) >= wanted:
        return None
    known = Graph.from_edges(torch.cat([known_edges, positives], dim=1), num_nodes)
    if types is None:
        legal = num_nodes - 1 - known.degree[positives]
    else:
        legal = num_of_type(known, types, positives, types.kind[positives.flip(0)])
    few = (legal < wanted).any(dim=0)
    if not bool(few.any()):
        return None
    keys = negatives.min(dim=0).values[few] * num_nodes + negatives.max(dim=0).values[few]
    ordered, order = keys.sort(dim=1, stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = torch.zeros(negatives.shape[1:], dtype=torch.bool)
    repeated[few] = torch.zeros_like(again).scatter(1, order, again)
    return repeated if bool(repeated.any()) else None


def most_edges(parts: Sequence[Tensor], num_nodes: int) -> int:
    """The largest number of edges ``(2, m)`` of a node, repeated ones counted each time: no degree is above it."""
    ends = torch.zeros(num_nodes, dtype=torch.int64)
    for part in parts:
        ends += torch.bincount(part.flatten(), minlength=num_nodes)
    return int(ends.max())


def edges_at(nodes: Tensor, edges: Tensor, num_nodes: int) -> Tensor:
    """``(2, n)``: those of ``edges`` ``(2, m)`` that have an end among ``nodes``, in order; looked at in blocks."""
    asked = torch.zeros(num_nodes, dtype=torch.bool)
    asked[nodes.flatten()] = True
    return torch.cat([block[:, asked[block[0]] | asked[block[1]]] for block in edges.split(BLOCK, dim=1)], dim=1)


def degrees(edges: Tensor, num_nodes: int) -> Tensor:
    """``(N,)`` int64: of how many different ``edges`` ``(2, m)`` each node is an end, without rows in both directions.

    Raises:
        ValueError: an end that is no node, or a self-loop.

    Example:
        >>> degrees(torch.tensor([[0, 1, 1], [1, 0, 2]]), 4).tolist()
        [1, 2, 1, 0]
    """
    check_ends(edges, num_nodes)
    lower = np.int32 if num_nodes < 2**31 else np.int64
    indptr, columns = sorted_rows(lambda: lower_first(in_blocks(edges)), num_nodes, lower)
    found = torch.from_numpy(indptr).diff()
    for block in torch.from_numpy(columns).split(BLOCK):
        found += torch.bincount(block, minlength=num_nodes)
    return found


def _known_graph(positives: Tensor, graph: Graph, known_edges: Tensor) -> Graph:
    """What no negative may be, in the rows of the positives' ends; of a graph without types other rows lack edges."""
    types = graph.types
    near = edges_at(positives, known_edges, graph.num_nodes) if types is None else known_edges
    known = Graph.from_edges(torch.cat([near, positives], dim=1), graph.num_nodes)
    if types is not None:
        none = positives[num_of_type(known, types, positives, types.kind[positives.flip(0)]) == 0]
        if len(none):
            raise DataError(
                f"positives: node {int(none[0])} is linked to all nodes of the other end's type by known edges; an end "
                "of a positive needs at least one node of that type it is not linked to"
            )
        return known
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
    fill_legal(names[0], *names, key.integer(), known.num_nodes, *structure, filled.numpy())
    return filled


def _nearest_of_type(nearest: Tensor, kinds: Tensor, count: int, types: NodeTypes) -> Tensor:
    """The first ``count`` nodes of each row ``(n, k)`` that are of the row's kind; -1 where there are no more."""
    right = (nearest >= 0) & (types.kind[nearest.clamp_min(0)] == kinds[:, None])
    order = (~right).byte().argsort(dim=1, stable=True)[:, :count]
    found = nearest.masked_fill(~right, -1).gather(1, order)
    return torch.nn.functional.pad(found, (0, count - found.shape[1]), value=-1)


def _filled_by_type(
    anchors: Tensor, kinds: Tensor, rows: Tensor, lists: Tensor, known: Graph, types: NodeTypes, key: Key
) -> Tensor:
    """As :func:`_filled`, each row ``(n, k)`` with nodes of its kind ``(n,)`` alone."""
    filled = torch.empty_like(lists)
    own_kinds = types.kind[anchors]
    for own, kind in torch.unique(torch.stack([own_kinds, kinds]), dim=1).t().tolist():
        these = ((own_kinds == own) & (kinds == kind)).nonzero().flatten()
        members = (types.kind == kind).nonzero().flatten()
        number = torch.full((known.num_nodes,), len(members))  # of each node among those of the kind
        number[members] = torch.arange(len(members))
        inside = types.kind[known.indices] == kind
        counts = torch.bincount(known.rows[inside], minlength=known.num_nodes)
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).numpy()
        asked = anchors[these]
        part = torch.where(lists[these] >= 0, number[lists[these].clamp_min(0)], -1).contiguous()
        names = asked.numpy(), number[asked].numpy(), rows[these].contiguous().numpy()
        # An anchor of another kind is one node more, its own, which is never drawn
        size = len(members) + int(own != kind)
        fill_legal(*names, key.integer(), size, indptr, number[known.indices[inside]].numpy(), part.numpy())
        filled[these] = members[part]
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
