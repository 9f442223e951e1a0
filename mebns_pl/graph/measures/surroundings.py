"""How alike the features of two nodes and their neighbours are."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import AbstractPairMeasure
from mebns_pl.graph.pair_features import feature_table, pair_features


class SurroundingsCosine(AbstractPairMeasure):
    r"""The cosine of :math:`\hat A x` at two nodes, x rare features weighted up, without the pair's own edge.

    What one layer of GCN makes of features, with nothing learned: see
    :func:`~mebns_pl.graph.pair_features.pair_features`. Cost: the features of a node and its neighbours that are not 0
    for each pair.

    Raises (in ``pairs``):
        ValueError: the graph has no features.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3, x=x)
        >>> SurroundingsCosine().pairs(graph, torch.tensor([0, 0]), torch.tensor([1, 2]))
        tensor([0.7071, 1.0000])
    """

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        table = feature_table(graph) if graph.keep is not None else graph.once_each("feature table", feature_table)
        return pair_features(table, torch.stack([source, target]))[:, 2]
