"""How alike the features of two nodes and round them are, in a few exact numbers, whether or not they are linked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.measures.rows import rounded, scores_by_source
from mebns_pl.graph.sparse import Features
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"

LIKENESS = ("features", "features and the other's surroundings", "surroundings")
"""The numbers of a pair."""

_ROUND_OFF = 1e-9  # cosines and lengths up to this are rounding errors of a zero

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FeatureTable:
    r"""What the numbers of pairs are made of, found once a graph; on the CPU.

    Args:
        own: CSR of :math:`x`, each node's weighted features, of length 1 or 0.
        near: CSR of :math:`a`, the sum of them over a node and its neighbours.
        weight: ``(N,)`` float64, what each node counts in these sums.
        lengths: ``(N, 3)`` float64: :math:`x \cdot x`, :math:`a \cdot x`, :math:`a \cdot a` of each node.
        edges: CSR ``(indptr, indices)`` of the graph.
        num_features: F.
    """

    own: Rows
    near: Rows
    weight: np.ndarray
    lengths: np.ndarray
    edges: tuple[np.ndarray, np.ndarray]
    num_features: int


def feature_table(graph: Graph) -> FeatureTable:
    r"""The table of a graph with features.

    Features are weighted by :math:`1 + \log((1 + N) / (1 + n))` where n nodes have one that is not 0 (Salton and
    Buckley, 1988), and brought to length 1. A node counts :math:`1 / \sqrt{d + 1}` in the sums, as in a layer of GCN.

    Cost: the features that are not 0, of all neighbours of all nodes. Memory: 12 bytes for each feature of a node that
    is not 0, and for each different one of a node and its neighbours; five times that while it is made. Dense features
    are taken as sparse ones.

    Raises:
        ValueError: the graph has no features.
    """
    if graph.x is None:
        raise ValueError("graph: it has no node features (x is None)")
    indptr, indices = structure(graph)
    x = _sparse(graph.x)
    n = x.shape[0]
    inverse = 1 + np.log((1 + n) / (1 + np.bincount(x.indices, minlength=x.shape[1])))
    if graph.feature_mask is not None:
        inverse = inverse * graph.feature_mask.cpu().double().numpy()
    x = x @ scipy.sparse.diags_array(inverse)
    length = np.sqrt(x.multiply(x).sum(axis=1))
    x = scipy.sparse.diags_array(np.divide(1.0, length, out=np.zeros(n), where=length > 0)) @ x
    weight = 1 / np.sqrt(np.diff(indptr) + 1.0)
    shares = scipy.sparse.csr_array((weight[indices], indices, indptr), shape=(n, n))
    near = shares @ x + scipy.sparse.diags_array(weight) @ x
    near.sort_indices()
    lengths = [left.multiply(right).sum(axis=1) for left, right in ((x, x), (near, x), (near, near))]
    return FeatureTable(_rows(x), _rows(near), weight, np.stack(lengths, axis=1), (indptr, indices), x.shape[1])


def pair_features(table: FeatureTable, pairs: Tensor) -> Tensor:
    """The numbers of :data:`LIKENESS` for each pair, on the graph without the edge between the two, if there is one.

    Three cosines: of the two nodes' features; of one's features and the sum over the other and its neighbours, the mean
    of both ways; of the two sums. Without the pair's own edge a training edge looks as a held-out one does: it is left
    out by calculation, of inner products that are there anyway.

    Cost: for each pair the features of one end and those of its neighbours that are not 0, for each different source
    the same once. Memory: O(N + F) for each thread.

    Args:
        table: of the graph.
        pairs: ``(2, M)`` int64.

    Returns:
        ``(M, 3)`` float32 in [-1, 1] on the device of ``pairs``, the same for ``(v, u)``.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3, x=x)
        >>> pair_features(feature_table(graph), torch.tensor([[0, 0], [1, 2]]))[:, 0].tolist()
        [1.0, 0.0]
    """

    def score(nodes: np.ndarray, starts: np.ndarray, targets: np.ndarray, out: np.ndarray) -> None:
        arguments = (table.edges, table.own, table.near, table.weight, table.lengths, table.num_features)
        _pair_features(nodes, starts, targets, *arguments, out)

    source, target = pairs.cpu()
    found = rounded(scores_by_source(score, source, target, (len(LIKENESS),)).numpy())
    return torch.from_numpy(np.where(np.abs(found) > _ROUND_OFF, found, 0.0)).float().to(pairs.device)


def _sparse(x: Tensor | Features) -> scipy.sparse.csr_array:
    if isinstance(x, Features):
        matrix = x.matrix.cpu()
        parts = matrix.values().double(), matrix.col_indices(), matrix.crow_indices()
        found = scipy.sparse.csr_array(tuple(part.numpy() for part in parts), shape=tuple(matrix.shape))
        found.eliminate_zeros()
        return found
    return scipy.sparse.csr_array(x.cpu().double().numpy())


def _rows(matrix: scipy.sparse.csr_array) -> Rows:
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data


@kernel
def _pair_features(
    nodes, starts, targets, edges, own, near, weight, lengths, num_features, out
):  # pragma: no cover (compiled)
    """``out[j]``: the numbers of ``nodes[i]`` and ``targets[j]``, ``starts[i] <= j < starts[i + 1]``."""
    indptr, indices = edges
    own_ptr, own_names, own_values = own
    near_ptr, near_names, near_values = near
    own_row, near_row = np.zeros(num_features), np.zeros(num_features)
    linked = np.zeros(indptr.shape[0] - 1, np.bool_)
    for row in range(nodes.shape[0]):
        u = nodes[row]
        for i in range(indptr[u], indptr[u + 1]):
            linked[indices[i]] = True
        for i in range(own_ptr[u], own_ptr[u + 1]):
            own_row[own_names[i]] = own_values[i]
        for i in range(near_ptr[u], near_ptr[u + 1]):
            near_row[near_names[i]] = near_values[i]
        for place in range(starts[row], starts[row + 1]):
            v = targets[place]
            own_own, near_own, own_near, near_near = 0.0, 0.0, 0.0, 0.0  # u's first, v's second
            for i in range(own_ptr[v], own_ptr[v + 1]):
                own_own += own_row[own_names[i]] * own_values[i]
                near_own += near_row[own_names[i]] * own_values[i]
            for i in range(near_ptr[v], near_ptr[v + 1]):
                own_near += own_row[near_names[i]] * near_values[i]
                near_near += near_row[near_names[i]] * near_values[i]
            uu, u_near_own, u_near_near = lengths[u, 0], lengths[u, 1], lengths[u, 2]
            vv, v_near_own, v_near_near = lengths[v, 0], lengths[v, 1], lengths[v, 2]
            if linked[v]:
                # The sums lose the other's features, and each end counts more in its own: a + p x_u - q x_v
                q_u, q_v = weight[v], weight[u]
                p_u = 1 / np.sqrt(indptr[u + 1] - indptr[u]) - weight[u]
                p_v = 1 / np.sqrt(indptr[v + 1] - indptr[v]) - weight[v]
                u_near_near += p_u * p_u * uu + q_u * q_u * vv
                u_near_near += 2 * (p_u * u_near_own - q_u * near_own - p_u * q_u * own_own)
                v_near_near += p_v * p_v * vv + q_v * q_v * uu
                v_near_near += 2 * (p_v * v_near_own - q_v * own_near - p_v * q_v * own_own)
                near_near += p_v * near_own - q_v * u_near_own + p_u * own_near - q_u * v_near_own
                near_near += (p_u * p_v + q_u * q_v) * own_own - p_u * q_v * uu - p_v * q_u * vv
                near_own += p_u * own_own - q_u * vv
                own_near += p_v * own_own - q_v * uu
            u_long = u_near_near > _ROUND_OFF
            v_long = v_near_near > _ROUND_OFF
            out[place, 0] = own_own
            if u_long:
                out[place, 1] += 0.5 * near_own / np.sqrt(u_near_near)
            if v_long:
                out[place, 1] += 0.5 * own_near / np.sqrt(v_near_near)
            if u_long and v_long:
                out[place, 2] = near_near / np.sqrt(u_near_near * v_near_near)
        for i in range(indptr[u], indptr[u + 1]):
            linked[indices[i]] = False
        for i in range(own_ptr[u], own_ptr[u + 1]):
            own_row[own_names[i]] = 0.0
        for i in range(near_ptr[u], near_ptr[u + 1]):
            near_row[near_names[i]] = 0.0
