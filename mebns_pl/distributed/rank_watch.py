"""Ends a run on all ranks when one has failed, and says which and why."""

from __future__ import annotations

import os
import signal
import threading

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed import DistError

from mebns_pl.checks import at_least, expect
from mebns_pl.distributed.heartbeats import Heartbeats, Place, RankError, listen, tell_end

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
        >>> RankWatch(silence=60).silence
        60
    """

    def __init__(self, interval: float = 1.0, silence: float = 20.0, grace: float = 5.0) -> None:
        within = "0 < 2 interval < silence, in seconds"
        expect(0 < 2 * interval < silence, within, interval=interval, silence=silence)
        at_least(0, "seconds", grace=grace)
        self.interval, self.silence, self.grace = interval, silence, grace
        self._beats: Heartbeats | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The ranks connect to rank 0, on any free port."""
        if trainer.world_size == 1:
            return
        rank, size, main = trainer.global_rank, trainer.world_size, os.environ.get("MASTER_ADDR", "127.0.0.1")
        listener, own = listen(main) if rank == 0 else (None, None)
        place: Place = trainer.strategy.broadcast(own)  # type: ignore[assignment]
        self._beats = Heartbeats(
            rank, size, lambda: place, listener, interval=self.interval, silence=self.silence, grace=self.grace
        )
        self._beats.start()
        trainer.strategy.barrier("heartbeats")

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
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning would wait for ranks that have gone
        error = f"{type(exception).__name__}: {exception}"
        lost = _lost(exception)
        if lost and not beats.until(beats.failure, 3 * max(self.interval, 1)) and beats.silent(2 * self.interval):
            beats.until(beats.failure, self.silence)
        cause = beats.failure()
        if not cause:
            beats.report(f"{beats.name} failed: {error}")
        elif lost:
            tell_end(beats.name, cause)
            exception.__cause__ = RankError(f"{beats.name} ends: {cause}")
        elif not cause.endswith(error):  # otherwise all ranks have found the same
            exception.add_note(f"{beats.name} ends since another has failed: {cause}")
        beats.leave(2 * self.interval)


def _lost(exception: BaseException) -> bool:
    """Whether an exception says that a peer has gone."""
    return isinstance(exception, DistError) or (
        isinstance(exception, RuntimeError) and any(sign in str(exception) for sign in _LOST)
    )
