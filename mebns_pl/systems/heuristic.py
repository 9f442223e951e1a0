"""A heuristic with the evaluation of every other system, and nothing to train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn

from mebns_pl.graph.measures.abstract import AbstractPairMeasure
from mebns_pl.models.measure_predictor import MeasurePredictor
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.types import GraphSpec


class Heuristic(AbstractEvaluation):
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

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Refuses ``fit`` at its very start."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.configure_optimizers()
        return super().configure_callbacks()

    def configure_optimizers(self) -> NoReturn:
        """Refuses ``fit``.

        Raises:
            TypeError: always.
        """
        raise TypeError("model: a Heuristic learns nothing and cannot fit; allowed are validate, test and predict")
