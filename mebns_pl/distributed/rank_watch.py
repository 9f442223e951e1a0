"""Ends a run on all ranks when one has failed, and says which and why."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from functools import partial

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from mebns_pl.checks import at_least, expect
from mebns_pl.distributed.heartbeats import Heartbeats, named

log = logging.getLogger(__name__)

# What gloo and NCCL say when a peer has gone
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL", "Timed out waiting")


class RankWatch(Callback):
    """Without it a rank that fails leaves the others waiting for it, for up to the process group's timeout.

    Every rank beats in a thread. An exception on one rank is told to all; a rank that is killed, stopped or cut off is
    noticed by its broken connections or by its silence. The others then end with an error that names the rank: by the
    exception which their collective raises, or, where that does not return, by ending the process. The systems attach
    it to every run on several ranks; give one of your own to change its settings.

    Args:
        interval: seconds between beats, above 0.
        silence: seconds without a beat after which a rank counts as failed; more than two intervals. Code that holds
            Python's interpreter lock for longer would be taken for dead.
        grace: seconds that the main thread has to end by itself once a failure is known, 0 or more.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> RankWatch(silence=20).silence
        20
    """

    def __init__(self, interval: float = 1.0, silence: float = 30.0, grace: float = 5.0) -> None:
        within = "0 < 2 interval < silence, in seconds"
        expect(0 < 2 * interval < silence, within, interval=interval, silence=silence)
        at_least(0, "seconds", grace=grace)
        self.interval, self.silence, self.grace = interval, silence, grace
        self._beats: Heartbeats | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The ranks meet at a store that rank 0 holds, on any free port."""
        if trainer.world_size == 1:
            return
        host, wait = os.environ.get("MASTER_ADDR", "127.0.0.1"), timedelta(seconds=self.silence)
        meet = partial(TCPStore, host, wait_for_workers=False, timeout=wait)
        store = meet(0, is_master=True) if trainer.is_global_zero else None
        port = trainer.strategy.broadcast(store.port if store else 0)
        store = store or meet(port, is_master=False)
        rank, size = trainer.global_rank, trainer.world_size
        self._beats = Heartbeats(store, rank, size, self.interval, self.silence, self.grace)
        trainer.strategy.barrier("heartbeats")
        self._beats.start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """All ranks leave."""
        if self._beats is not None:
            self._beats.leave(self.silence)
            self._beats = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tells the others of an error of this rank; to an error that came from another rank it adds that rank's."""
        if self._beats is None:
            return
        beats, self._beats = self._beats, None
        beats.noticed.set()
        error = f"{type(exception).__name__}: {exception}"
        try:
            cause = self._cause(beats) if _lost(exception) else beats.failure()
            if not cause:
                beats.report(f"{beats.name} failed: {error}")
            elif not cause.endswith(error):  # otherwise all ranks have found the same
                exception.add_note(f"{beats.name} ends since another has failed: {cause}")
                log.error("%s ends since another has failed: %s", beats.name, cause)
            beats.leave(2 * self.interval)
        except RuntimeError:
            exception.add_note(f"{beats.name} ends since rank 0 cannot be reached: its process or its host has gone")
            beats.stop()

    def _cause(self, beats: Heartbeats) -> str:
        """Who broke a connection: a rank that reported itself, or else one that has fallen silent."""
        if problem := beats.until(beats.failure, 3 * self.interval):
            return problem
        silent = beats.silent(2 * self.interval)
        who = named(silent) if silent else "a rank"
        return f"{who} has broken its connections: its process or its host has gone"


def _lost(exception: BaseException) -> bool:
    """Whether an exception says that a peer has gone."""
    return isinstance(exception, DistError) or (
        isinstance(exception, RuntimeError) and any(sign in str(exception) for sign in _LOST)
    )
