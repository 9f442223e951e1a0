"""Lightning callbacks: migration, the table of results, the prediction writer."""

from mebns_pl.callbacks.hparams import HyperParameters
from mebns_pl.callbacks.last_checkpoint import LastCheckpoint
from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.callbacks.migration_figures import MigrationFigures
from mebns_pl.callbacks.predictions import PredictionWriter
from mebns_pl.callbacks.preemption import Preemption
from mebns_pl.callbacks.results import ResultTable

__all__ = [
    "HyperParameters",
    "LastCheckpoint",
    "MigrationFigures",
    "MigrationMonitor",
    "PredictionWriter",
    "Preemption",
    "ResultTable",
]
