"""What the structure round a pair of nodes is, in a few exact numbers, whether or not the two are linked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mebns_pl.checks import expect
from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.rows import rounded, scores_by_source
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"

STRUCTURE = {
    1: ("smaller degree", "larger degree", "common neighbors", "Adamic-Adar", "resource allocation"),
    2: ("one and two steps away", "two steps from both", "paths of length three", "paths of length three, weighted"),
}
"""The numbers of a pair, by the number of hops that they begin with."""

_WEIGHTED = ("Adamic-Adar", "resource allocation", "paths of length three, weighted")


@dataclass(frozen=True)
class StructureTable:
    """What the numbers of pairs are counted from, found once a graph; on the CPU.

    Args:
        indptr: ``(N + 1,)`` int64, CSR row starts.
        indices: ``(E,)`` uint32, neighbours; without a sign the loops need not look for negative places.
        weights: ``(3, N)`` float64: what a node between counts by Adamic-Adar, by resource allocation, on a path.
        cost: ``(N,)`` int64, the sum of the degrees of a node's neighbours.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray
    cost: np.ndarray


def structure_table(graph: Graph) -> StructureTable:
    """The table of a graph, without edges left out of its message passing. Memory: 4 bytes an edge, 40 a node."""
    indptr, indices = structure(graph)
    degree = np.diff(indptr)
    log_weight = np.where(degree > 1, 1 / np.log(np.maximum(degree, 2)), 0.0)
    weights = np.stack([log_weight, 1 / np.maximum(degree, 1), 1 / np.sqrt(np.maximum(degree, 1))])
    steps = np.concatenate([[0], degree[indices].cumsum()])
    return StructureTable(indptr, indices.astype(np.uint32), weights, steps[indptr[1:]] - steps[indptr[:-1]])


def pair_structure(graph: Graph, pairs: Tensor, num_hops: int = 2) -> Tensor:
    """The numbers of :data:`STRUCTURE` for each pair, on the graph without the edge between the two, if there is one.

    Without the pair's own edge a training edge looks as a held-out one does. The edge is left out by calculation, not
    from the graph: the degrees of the two, and what goes through it. Degrees of nodes between do not change.

    - Degrees, common neighbours, and these weighted by Adamic-Adar and resource allocation.
    - With two hops: nodes that are one step from one end and two from the other, or two from both, on shortest paths
      (as BUDDY estimates, Chamberlain et al., 2209.15486); paths u - a - b - v, counted and weighted
      ``1 / sqrt(degree(a) degree(b))``.

    Cost: with one hop d(v) a pair and d(u) for each different source. With two hops for each different source the
    degrees of its neighbours, for each pair the degrees of its other end's neighbours. Memory: O(N) for each thread.
    A graph without edges left out keeps its :func:`structure_table`; of another one it is made at each call.

    Args:
        graph: the graph on any device; edges left out of its message passing do not count.
        pairs: ``(2, M)`` int64.
        num_hops: 1 or 2.

    Returns:
        ``(M, 5)`` or ``(M, 9)`` float32 on the device of ``pairs``, 0 or more, each in the same order for ``(v, u)``.

    Raises:
        ValueError: ``num_hops`` is neither 1 nor 2.

    Example:
        >>> square = Graph.from_edges(torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]]), num_nodes=4)
        >>> pair_structure(square, torch.tensor([[0], [2]]), num_hops=1)[0].tolist()[:3]
        [2.0, 2.0, 2.0]
        >>> pair_structure(square, torch.tensor([[0], [1]])).tolist()  # linked, and 0 - 3 - 2 - 1 besides
        [[1.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 1.0, 0.5]]
    """
    expect(num_hops in STRUCTURE, "1 or 2", num_hops=num_hops)
    table = structure_table(graph) if graph.keep is not None else graph.once("structure table", structure_table)

    def score(nodes: np.ndarray, starts: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
        _pair_structure(nodes, starts, targets, table.indptr, table.indices, table.weights, num_hops == 2, out)

    names = [name for hop in range(1, num_hops + 1) for name in STRUCTURE[hop]]
    ends = _dearer_first(pairs.cpu(), torch.from_numpy(table.cost))
    found = scores_by_source(score, *ends, (len(names),))
    for column, name in enumerate(names):
        if name in _WEIGHTED:  # the same from either end, whatever the order of additions
            found[:, column] = torch.from_numpy(rounded(found[:, column].numpy()))
    return found.float().to(pairs.device)


def log_structure(found: Tensor) -> Tensor:
    """The numbers of :func:`pair_structure` on a scale for learning: ``log(1 + x)``, of weighted ones ``100 x``."""
    names = [name for hop in STRUCTURE for name in STRUCTURE[hop]][: found.shape[1]]
    scale = torch.tensor([100.0 if name in _WEIGHTED else 1.0 for name in names], device=found.device)
    return (found * scale).log1p()


def _dearer_first(pairs: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Turns pairs round, so that what is gone through once for many pairs is the end with more to go through: hubs."""
    source, target = pairs
    turned = cost[target] > cost[source]
    return torch.where(turned, target, source), torch.where(turned, source, target)


@kernel
def _pair_structure(nodes, starts, targets, indptr, indices, weights, two_hops, out):  # pragma: no cover (compiled)
    """``out[j]``: the numbers of ``nodes[i]`` and ``targets[j]``, ``starts[i] <= j < starts[i + 1]``."""
    num_nodes = indptr.shape[0] - 1
    near, middle, weight = np.zeros(num_nodes, np.bool_), np.zeros(num_nodes, np.int64), np.zeros(num_nodes)
    reached, seen = np.empty(num_nodes, np.int64), np.full(num_nodes, -1, np.int64)
    for row in range(nodes.shape[0]):
        node, count = nodes[row], 0
        for i in range(indptr[node], indptr[node + 1]):
            between = indices[i]
            near[between] = True
            if two_hops:
                for other in indices[indptr[between] : indptr[between + 1]]:
                    if middle[other] == 0:
                        reached[count] = other
                        count += 1
                    middle[other] += 1
                    weight[other] += weights[2, between]
        for place in range(starts[row], starts[row + 1]):
            target = targets[place]
            first, last, edge = indptr[target], indptr[target + 1], 1 if near[target] else 0
            degrees = indptr[node + 1] - indptr[node] - edge, last - first - edge
            out[place, 0], out[place, 1] = min(degrees), max(degrees)
            for i in range(first, last):
                between = indices[i]
                seen[between] = place
                if near[between]:
                    out[place, 2] += 1
                    out[place, 3] += weights[0, between]
                    out[place, 4] += weights[1, between]
            if not two_hops:
                continue
            seen[node] = seen[target] = place
            for i in range(first, last):
                between = indices[i]
                if between == node:
                    continue
                paths = middle[between] - edge  # one of them goes through the edge
                if paths > 0:
                    out[place, 7] += paths
                    out[place, 8] += (weight[between] - edge * weights[2, target]) * weights[2, between]
                    if not near[between]:
                        out[place, 5] += 1
                for other in indices[indptr[between] : indptr[between + 1]]:
                    if seen[other] != place:
                        seen[other] = place
                        if near[other]:
                            out[place, 5] += 1
                        elif middle[other] > 0:
                            out[place, 6] += 1
        for i in range(indptr[node], indptr[node + 1]):
            near[indices[i]] = False
        for i in range(count):
            middle[reached[i]], weight[reached[i]] = 0, 0.0
