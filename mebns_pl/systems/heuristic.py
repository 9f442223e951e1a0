"""A heuristic with the evaluation of every other system, and nothing to train."""

from __future__ import annotations

from typing import NoReturn

from mebns_pl.graph.measures.abstract import AbstractPairMeasure
from mebns_pl.models.measure_predictor import MeasurePredictor
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.types import GraphSpec, TrainBatch

_NOT_TRAINED = "model: a Heuristic learns nothing and cannot fit; allowed are validate, test and predict"


class Heuristic(AbstractLinkSystem):
    """Validates, tests and predicts by a measure of proximity, without training and without a checkpoint.

    Args:
        spec: the graph's size, given by the data module.
        measure: the heuristic; common neighbours by default.

    Example:
        >>> from mebns_pl.graph.measures.neighbors import AdamicAdar
        >>> sum(parameter.numel() for parameter in Heuristic(GraphSpec(num_nodes=3), AdamicAdar()).parameters())
        0
    """

    def __init__(self, spec: GraphSpec, measure: AbstractPairMeasure | None = None) -> None:
        super().__init__(MeasurePredictor(spec, measure))

    def configure_optimizers(self) -> NoReturn:
        """Refuses ``fit``.

        Raises:
            TypeError: always.
        """
        raise TypeError(_NOT_TRAINED)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> NoReturn:
        """Is not reached.

        Raises:
            TypeError: always.
        """
        raise TypeError(_NOT_TRAINED)
