"""A heuristic as a link predictor: nothing is learned."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import AbstractPairMeasure
from mebns_pl.graph.measures.neighbors import CommonNeighbors
from mebns_pl.keys import Key
from mebns_pl.models.predictor import LinkPredictor, PairInputs
from mebns_pl.types import GraphSpec


class MeasurePredictor(LinkPredictor[PairInputs]):
    """Scores pairs by a measure of proximity; it has no parameters.

    The measure works on the CPU, whatever device the pairs are on.

    Args:
        spec: the graph's size, which no measure needs: predictors are made from it.
        measure: the heuristic; common neighbours by default.

    Example:
        >>> import torch
        >>> path = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
        >>> predictor = MeasurePredictor(path.spec)
        >>> predictor(predictor.prepare(path, torch.tensor([[0, 0], [2, 3]])))
        tensor([1., 0.])
    """

    def __init__(self, spec: GraphSpec, measure: AbstractPairMeasure | None = None) -> None:
        super().__init__()
        self.measure = measure or CommonNeighbors()

    def prepare(self, graph: Graph, pairs: Tensor, rows: Tensor | None = None, key: Key | None = None) -> PairInputs:
        """The pairs themselves."""
        return self.pair_inputs(graph, pairs, rows, key)

    def forward(self, inputs: PairInputs) -> Tensor:
        """Scores ``(M,)``: only their order matters."""
        return self.scorer(inputs.graph)(inputs)

    @property
    def inductive(self) -> bool:
        """Nothing was learned, so any node will do."""
        return True

    def scorer(self, graph: Graph, key: Key | None = None) -> Callable[[PairInputs], Tensor]:
        """Brings the graph to the CPU once."""
        on_cpu = graph.to("cpu")

        def score(inputs: PairInputs) -> Tensor:
            source, target = inputs.pairs.cpu()
            return self.measure.pairs(on_cpu, source, target).to(inputs.pairs.device)

        return score
