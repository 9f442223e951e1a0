"""How alike the features of two nodes and their neighbours are."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import AbstractMeasure, AbstractPairMeasure
from mebns_pl.graph.measures.rows import compiled_rows, rounded, top_lists
from mebns_pl.graph.pair_features import FeatureTable, feature_table, pair_features
from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"

_ROUND_OFF = 1e-9  # cosines and lengths up to this are rounding errors of a zero


class SurroundingsCosine(AbstractMeasure, AbstractPairMeasure):
    r"""The cosine of :math:`\hat A x` at two nodes, x rare features weighted up, without the pair's own edge.

    What one layer of GCN makes of features, with nothing learned: see
    :func:`~mebns_pl.graph.pair_features.pair_features`. Cost: the features of a node and its neighbours that are not 0
    for each pair; of a list, for each of these features the nodes that have it, or a neighbour with it.

    Raises (in ``top`` and ``pairs``):
        ValueError: the graph has no features.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3, x=x)
        >>> SurroundingsCosine().pairs(graph, torch.tensor([0, 0]), torch.tensor([1, 2]))
        tensor([0.7071, 1.0000])
        >>> SurroundingsCosine().top(graph, torch.tensor([0]), k=2)[0].tolist()
        [[2, 1]]
    """

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        table = _table(graph)
        near = scipy.sparse.csr_array(table.near[::-1], shape=(graph.num_nodes, table.num_features)).tocsc()
        turned = near.indptr, near.indices, near.data
        # Only neighbours have an edge to leave out: what they score is found apart
        indptr, indices = table.edges
        source = np.arange(graph.num_nodes).repeat(np.diff(indptr))
        linked = _cosines(table, torch.from_numpy(source), torch.from_numpy(indices)).double().numpy()
        arguments = (table.near, turned, table.lengths[:, 2].copy(), table.edges, linked)

        def fill(block: np.ndarray, ptr: np.ndarray, columns: np.ndarray, values: np.ndarray) -> int:
            filled: int = _cosine_rows(block, *arguments, ptr, columns, values)
            found = rounded(values[: ptr[filled]])
            values[: ptr[filled]] = np.where(found > _ROUND_OFF, found, 0.0)
            return filled

        return top_lists(compiled_rows(fill, graph.num_nodes), graph, nodes, k, exclude)

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The cosines ``(m,)`` float32 of given pairs."""
        return _cosines(_table(graph), source, target)


def _table(graph: Graph) -> FeatureTable:
    return feature_table(graph) if graph.keep is not None else graph.once_each("feature table", feature_table)


def _cosines(table: FeatureTable, source: Tensor, target: Tensor) -> Tensor:
    return pair_features(table, torch.stack([source, target]))[:, 2]


@kernel
def _cosine_rows(nodes, near, turned, lengths, edges, linked, ptr, columns, values):  # pragma: no cover (compiled)
    """See :data:`~mebns_pl.graph.measures.rows.Fill`; ``linked`` ``(E,)`` are the scores of the edges."""
    near_ptr, near_names, near_values = near
    turned_ptr, turned_nodes, turned_values = turned
    indptr, indices = edges
    num_nodes = indptr.shape[0] - 1
    total, seen = np.zeros(num_nodes), np.zeros(num_nodes, np.bool_)
    for row in range(nodes.shape[0]):
        node, count = nodes[row], ptr[row]
        if count + num_nodes > columns.shape[0]:
            return row
        for i in range(near_ptr[node], near_ptr[node + 1]):
            name, value = near_names[i], near_values[i]
            for j in range(turned_ptr[name], turned_ptr[name + 1]):
                other = turned_nodes[j]
                if not seen[other]:
                    seen[other] = True
                    columns[count] = other
                    count += 1
                total[other] += value * turned_values[j]
        for place in range(ptr[row], count):
            other = columns[place]
            long = lengths[node] > _ROUND_OFF and lengths[other] > _ROUND_OFF
            total[other] = total[other] / np.sqrt(lengths[node] * lengths[other]) if long else 0.0
        for i in range(indptr[node], indptr[node + 1]):
            other = indices[i]
            if not seen[other]:
                seen[other] = True
                columns[count] = other
                count += 1
            total[other] = linked[i]
        for place in range(ptr[row], count):
            other = columns[place]
            values[place] = total[other]
            total[other], seen[other] = 0.0, False
        ptr[row + 1] = count
    return nodes.shape[0]
