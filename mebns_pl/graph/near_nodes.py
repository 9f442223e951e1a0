"""The nodes that are near both ends of a pair, by personalised PageRank, whether or not the two are linked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.csr_kernels import place_in_row
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.measures.rows import best_of_rows
from mebns_pl.graph.row_sets import RowSets
from mebns_pl.graph.sparse import entries_of, starts_of
from mebns_pl.kernels import kernel
from mebns_pl.progress import in_threads, slices
from mebns_pl.types import to_device

# mypy: disable-error-code="no-untyped-def"

COMMON, ONE_HOP, FARTHER = range(3)
"""The groups of nodes: neighbours of both ends, of one of them, of neither."""


@dataclass(frozen=True)
class PageRankTable:
    """Nodes with the highest personalised PageRank for each of n nodes, and the edges it was found on; on the CPU.

    Args:
        ptr: ``(n + 1,)`` int64, where each node's list starts.
        nodes: ``(m,)`` int32, the nodes of each list, ascending.
        ranks: ``(m,)`` float64, their PageRank, above 0.
        own: ``(n,)`` float64, each node's PageRank for itself, which its list does not hold.
        edges: CSR ``(indptr, indices)`` of the graph, neighbours ascending.
        alpha: restart probability.
    """

    ptr: np.ndarray
    nodes: np.ndarray
    ranks: np.ndarray
    own: np.ndarray
    edges: tuple[np.ndarray, np.ndarray]
    alpha: float


def page_rank_table(
    graph: Graph, measure: PersonalizedPageRank, top: int, nodes: Tensor | None = None
) -> PageRankTable:
    """The ``top`` nodes by PageRank of each of ``nodes`` ``(n,)``, of all by default.

    Cost: a push for each node (see :class:`PersonalizedPageRank`), in threads. Memory: 12 bytes an entry, so at most
    12 ``top`` a node; twice that while it is made.

    Args:
        graph: on any device; edges left out of its message passing do not count.
        measure: with its restart probability and precision.
        top: entries of a node, 1 or more; of equal ones those of a fixed hash.
        nodes: ``(n,)`` int64 on the CPU, or None.
    """
    names = np.arange(graph.num_nodes) if nodes is None else nodes.numpy()
    rows, nothing = measure.rows(graph), (np.zeros(graph.num_nodes + 1, np.int64), np.zeros(0, np.int64))
    width = max(1, min(top, graph.num_nodes - 1))

    def lists(part: slice) -> Iterator[tuple[np.ndarray, ...]]:
        for block, ptr, columns, values in rows(names[part]):
            own, num = names[part][block], block.stop - block.start
            index, score = np.empty((num, width), np.int32), np.empty((num, width))
            best_of_rows(own, ptr, columns, values, nothing, index, score)
            order = np.where(index < 0, graph.num_nodes, index).argsort(axis=1)
            index, score = np.take_along_axis(index, order, 1), np.take_along_axis(score, order, 1)
            there = index >= 0
            yield there.sum(axis=1), index[there], score[there], values[ptr[:-1]]  # a row begins with the node itself

    parts = slices(len(names)) or [slice(0, 0)]
    found: dict[int, list[tuple[np.ndarray, ...]]] = {}

    def fill(part: slice) -> None:
        found[part.start] = list(lists(part))

    in_threads(fill, parts)
    blocks = [block for part in parts for block in found[part.start]]
    sizes, index, score, own = (np.concatenate(columns) for columns in zip(*blocks, strict=True))
    ptr = starts_of(torch.from_numpy(sizes)).numpy()
    return PageRankTable(ptr, index, score, own, structure(graph), measure.alpha)


def page_rank_lists(
    graph: Graph, measure: PersonalizedPageRank, top: int, pairs: Tensor
) -> tuple[PageRankTable, Tensor]:
    """The table of all that pairs ``(2, M)`` ask for, kept with the graph, and where in it their ends are ``(2, M)``.

    Of a graph of which few nodes are present it has the pairs' ends alone.
    """
    nodes, places = None, pairs
    if graph.present is not None:
        nodes, places = pairs.unique(return_inverse=True)
        nodes = nodes.cpu()
    name = f"PageRank {measure.alpha} {measure.eps} {top}"
    return graph.once(name, partial(page_rank_table, measure=measure, top=top, nodes=nodes)), places


@dataclass(frozen=True)
class NearNodes:
    """For each of M pairs the nodes near both ends, parted into groups.

    Args:
        sets: the nodes of each pair.
        groups: ``(m,)`` int64, the group of each, :data:`COMMON`, :data:`ONE_HOP` or :data:`FARTHER`.
        ranks: ``(m, 2)`` float64, its PageRank for the two ends, the end with the smaller number first.
    """

    sets: RowSets
    groups: Tensor
    ranks: Tensor

    @property
    def counts(self) -> Tensor:
        """``(M, 3)`` int64, how many nodes of each group a pair has."""
        pair = torch.repeat_interleave(torch.arange(self.sets.num_sets, device=self.groups.device), self.sets.sizes)
        return torch.bincount(pair * 3 + self.groups, minlength=3 * self.sets.num_sets).view(-1, 3)

    def select(self, index: Tensor | slice) -> NearNodes:
        """The pairs at ``index`` (int64 positions, bool mask, or slice), in that order."""
        _, places = entries_of(self.sets.ptr, torch.arange(self.sets.num_sets, device=self.sets.ptr.device)[index])
        return NearNodes(self.sets.select(index), self.groups[places], self.ranks[places])

    def to(self, device: torch.device | str) -> NearNodes:
        """The same on ``device``."""
        return replace(to_device(self, device), sets=self.sets.to(device))


def near_nodes(
    table: PageRankTable, pairs: Tensor, places: Tensor, num_nodes: int, thresholds: tuple[float, float, float]
) -> NearNodes:
    r"""The nodes in both ends' lists whose PageRank for both is high enough, on the graph without the pair's own edge.

    Without it a training edge looks as a held-out one does. The edge is left out by calculation: it changes two rows
    of the walk's matrix P, and with :math:`\pi_u` row u of :math:`\alpha (I - (1 - \alpha) P)^{-1}` the new
    :math:`\pi_u(w)` is, by Woodbury's identity, a combination of :math:`\pi_u(w)` and :math:`\pi_v(w)` with factors
    that depend on the pair alone. It is exact where the lists are.

    Cost: the two lists' lengths and a search among the ends' neighbours for each node of both.

    Args:
        table: lists of all the pairs' ends.
        pairs: ``(2, M)`` int64.
        places: ``(2, M)`` int64, where in the table the two ends' lists are.
        num_nodes: N.
        thresholds: for each group the least PageRank that counts, for both ends.

    Returns:
        The nodes, the ends themselves not among them, in the same order for ``(v, u)``; on the device of ``pairs``.
    """
    turned = pairs[0] > pairs[1]
    ends, lists = (torch.where(turned, both.flip(0), both).cpu().numpy() for both in (pairs, places))
    width, num = int(np.diff(table.ptr).max(initial=0)), pairs.shape[1]
    found, group = np.empty((num, width), np.int64), np.empty((num, width), np.int64)
    ranks, sizes = np.empty((num, width, 2)), np.zeros(num, np.int64)
    least = np.array(thresholds, np.float64)

    def pick(part: slice) -> None:
        arrays = table.ptr, table.nodes, table.ranks, table.own
        out = found[part], group[part], ranks[part], sizes[part]
        _pick(ends[:, part], lists[:, part], arrays, table.edges, table.alpha, least, out)

    in_threads(pick, slices(num))
    there = np.arange(width) < sizes[:, None]
    sets = RowSets(starts_of(torch.from_numpy(sizes)), torch.from_numpy(found[there]), num_nodes)
    return NearNodes(sets, torch.from_numpy(group[there]), torch.from_numpy(ranks[there])).to(pairs.device)


def page_rank_of_ends(table: PageRankTable, pairs: Tensor, places: Tensor) -> Tensor:
    r"""``(M,)`` float64: the PageRank of either end for the other, summed, on the graph without the pair's own edge.

    By the identity of :func:`near_nodes`: of the walk's inverse M, restricted to the two ends, the new one is
    :math:`M (I - (1 - \alpha) D M E)^{-1}`. Exact where the lists are: of a list that ends early, or a push that does,
    an error of that size is left.

    Cost: a search in each end's list and among an end's neighbours.

    Args:
        table: lists of all the pairs' ends.
        pairs: ``(2, M)`` int64.
        places: ``(2, M)`` int64, where in the table the two ends' lists are.

    Returns:
        On the device of ``pairs``; the same for ``(v, u)``, 0 for a node with itself.
    """
    turned = pairs[0] > pairs[1]
    ends, lists = (torch.where(turned, both.flip(0), both).cpu().numpy() for both in (pairs, places))
    found = np.empty(pairs.shape[1])
    arrays = table.ptr, table.nodes, table.ranks, table.own

    def fill(part: slice) -> None:
        _of_ends(ends[:, part], lists[:, part], arrays, table.edges, table.alpha, found[part])

    in_threads(fill, slices(pairs.shape[1]))
    return torch.from_numpy(found).to(pairs.device)


@kernel
def _of_ends(ends, lists, table, edges, alpha, found):  # pragma: no cover (compiled)
    for pair in range(ends.shape[1]):
        u, v, first, second = ends[0, pair], ends[1, pair], lists[0, pair], lists[1, pair]
        m = _between_ends(u, v, first, second, table, edges, alpha)
        if u != v and place_in_row(u, v, *edges) >= 0:
            m = m @ np.linalg.inv(np.eye(2) - (1.0 - alpha) * _changed(u, v, m, edges, alpha)[1])
        found[pair] = alpha * max(m[0, 1] + m[1, 0], 0.0)


@kernel
def _pick(ends, lists, table, edges, alpha, least, out):  # pragma: no cover (compiled)
    ptr, nodes, ranks, _ = table
    found, group, rank, sizes = out
    for pair in range(ends.shape[1]):
        u, v = ends[0, pair], ends[1, pair]
        first, second = lists[0, pair], lists[1, pair]
        factors = _without_edge(u, v, first, second, table, edges, alpha)
        i, j, count = ptr[first], ptr[second], 0
        while i < ptr[first + 1] and j < ptr[second + 1]:
            if nodes[i] != nodes[j]:
                if nodes[i] < nodes[j]:
                    i += 1
                else:
                    j += 1
                continue
            node = nodes[i]
            of_u = factors[0, 0] * ranks[i] + factors[0, 1] * ranks[j]
            of_v = factors[1, 0] * ranks[i] + factors[1, 1] * ranks[j]
            i += 1
            j += 1
            if node in (u, v):
                continue
            kind = 2 - (place_in_row(u, node, *edges) >= 0) - (place_in_row(v, node, *edges) >= 0)
            if min(of_u, of_v) > least[kind]:
                found[pair, count], group[pair, count] = node, kind
                rank[pair, count, 0], rank[pair, count, 1] = of_u, of_v
                count += 1
        sizes[pair] = count


@kernel
def _without_edge(u, v, first, second, table, edges, alpha):  # pragma: no cover (compiled)
    """The factors ``(2, 2)`` that make a node's PageRank for u and v on the graph without their edge of that with it.

    With M the walk's inverse, without the edge it is ``M + b M E (I - b D M E)^-1 D M``: b is 1 - alpha, E the two
    unit columns, D how the two rows of P change. Since ``b P_u M = M_u - e_u``, the rows of D M combine rows of M.
    """
    factors = np.eye(2)
    if u == v or place_in_row(u, v, *edges) < 0:
        return factors
    b, m = 1.0 - alpha, _between_ends(u, v, first, second, table, edges, alpha)
    change, between = _changed(u, v, m, edges, alpha)
    solved = np.linalg.solve(np.eye(2) - b * between, change)
    return factors + b * (m @ solved)


@kernel
def _between_ends(u, v, first, second, table, edges, alpha):  # pragma: no cover (compiled)
    """The walk's inverse ``(2, 2)`` between the two ends, from their lists."""
    ptr, nodes, ranks, own = table
    indptr = edges[0]
    degree_u, degree_v = max(indptr[u + 1] - indptr[u], 1), max(indptr[v + 1] - indptr[v], 1)
    of_u, of_v = _look_up(first, v, ptr, nodes, ranks), _look_up(second, u, ptr, nodes, ranks)
    # A hub's list may lack the other end: walks are reversible, degree(u) M_uv = degree(v) M_vu
    return np.array(
        [
            [own[first] / alpha, max(of_u, of_v * degree_v / degree_u) / alpha],
            [max(of_v, of_u * degree_u / degree_v) / alpha, own[second] / alpha],
        ]
    )


@kernel
def _changed(u, v, m, edges, alpha):  # pragma: no cover (compiled)
    """D M by the rows of M, and D M E, both ``(2, 2)``: how two linked ends' rows change without their edge."""
    b, indptr = 1.0 - alpha, edges[0]
    degree_u, degree_v = indptr[u + 1] - indptr[u], indptr[v + 1] - indptr[v]
    change = np.empty((2, 2))  # rows of D M, by M_u and M_v, away from the two ends themselves
    for end in range(2):
        degree = degree_u if end == 0 else degree_v
        change[end, end] = 1 / (b * (degree - 1)) if degree > 1 else 0.0
        change[end, 1 - end] = -1.0 / (degree - 1) if degree > 1 else -1.0
    between = change @ m  # D M E, but for M_u - e_u at the ends
    for end in range(2):
        between[end, end] -= change[end, end]
    return change, between


@kernel
def _look_up(row, node, ptr, nodes, ranks):  # pragma: no cover (compiled)
    """The PageRank of ``node`` in a list, 0 where it is not there."""
    place = place_in_row(row, node, ptr, nodes)
    return ranks[place] if place >= 0 else 0.0
