"""The product of degrees."""

from __future__ import annotations

from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import AbstractPairMeasure


class PreferentialAttachment(AbstractPairMeasure):
    """The product of the two degrees (Barabási and Albert, Science 1999).

    Example:
        >>> import torch
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> PreferentialAttachment().pairs(path, torch.tensor([0, 0]), torch.tensor([1, 2]))
        tensor([2., 1.], dtype=torch.float64)
    """

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        return graph.degree[source].double() * graph.degree[target].double()
