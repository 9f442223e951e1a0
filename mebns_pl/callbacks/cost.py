"""What looking at a run costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Callback, LightningModule, Trainer


class Stopwatch:
    """Adds up seconds.

    Example:
        >>> watch = Stopwatch()
        >>> with watch.running():
        ...     pass
        >>> watch.seconds < 1
        True
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time within."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


class InspectionCost(Callback):
    """Logs what an epoch takes, and which share of it goes into looking at the run.

    ``cost/epoch_seconds``, all in all; ``cost/inspection_share``: the seconds of callbacks with a :class:`Stopwatch`
    named ``watch`` (migration monitor, record, figures, projector) over those of the rest of the epoch. They go to the
    loggers alone: no two runs have the same.

    Example:
        >>> InspectionCost().inspected
        0.0
    """

    def __init__(self) -> None:
        self.inspected = 0.0
        self._since: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count."""
        self._since, self.inspected = time.perf_counter(), inspected(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs; not of an epoch that was taken up in its middle."""
        if not trainer.is_global_zero or self._since is None:
            return
        seconds, inspection = time.perf_counter() - self._since, inspected(trainer) - self.inspected
        rest = max(seconds - inspection, 1e-9)
        for logger in trainer.loggers:
            logger.log_metrics(
                {"cost/epoch_seconds": seconds, "cost/inspection_share": inspection / rest}, trainer.global_step
            )


def inspected(trainer: Trainer) -> float:
    """Seconds that the callbacks of a run have taken so far to look at it."""
    watches = (getattr(callback, "watch", None) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return sum(watch.seconds for watch in watches if isinstance(watch, Stopwatch))
