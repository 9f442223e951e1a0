"""What is said beside the results: this package's notes are shown, what nobody can act on is not."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mebns_pl.escaping import visible


def quieten() -> None:
    """Silences what Lightning says at every run and nobody can act on."""
    for told in (
        "isinstance.treespec, LeafSpec",
        "The dirpath has changed from",
        "Checkpoint directory .* exists and is not empty",  # a run goes on
        "Experiment logs directory .* exists and is not empty",  # a run is tested once more
        "The `srun` command is available on your system but is not used",  # a cluster's login node, say
        "args parameter is intended to run from within Python",
        "does not have many workers which may be a bottleneck",
        "You're using the WeightAveraging callback, but loading a checkpoint outside",  # which holds the average
        "Unable to serialize instance cpu",  # a default of StochasticWeightAveraging
        "It is recommended to use `self.log.*sync_dist=True",  # what is logged is the same on all ranks
    ):
        warnings.filterwarnings("ignore", message=rf"[\s\S]*{told}")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tips)
    if not isinstance(threading.excepthook, _QuietLogs):
        threading.excepthook = _QuietLogs(threading.excepthook)
    show_notes()


@dataclass(frozen=True)
class _QuietLogs:
    """What ends the thread that writes TensorBoard's files is raised in the main thread, too, which tells it."""

    before: Callable[[threading.ExceptHookArgs], Any]

    def __call__(self, args: threading.ExceptHookArgs) -> None:
        if not (issubclass(args.exc_type, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            self.before(args)


class _StderrHandler(logging.Handler):
    """Writes to standard error as it is when something is said."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record, on the first of several processes; a warning on each task of a SLURM job."""
        others = "LOCAL_RANK" if "LOCAL_RANK" in os.environ or record.levelno >= logging.WARNING else "SLURM_PROCID"
        if int(os.environ.get(others, "0")) == 0:
            sys.stderr.write("".join(f"{visible(line)}\n" for line in record.getMessage().split("\n")))


def show_notes() -> None:
    """Shows what the package tells of its doings: what was dropped, made undirected, drawn twice."""
    logger = logging.getLogger("mebns_pl")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())


def _no_tips(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage() and "TPU available" not in record.getMessage()
