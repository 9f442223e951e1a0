"""Ends a run that torchrun has started on all ranks when one fails before they have met."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from mebns_pl.distributed.heartbeats import Heartbeats


class StartWatch(Callback):
    """Watches the ranks from the program's start until they meet; from then on :class:`RankWatch` does.

    The agents of torchrun on several hosts do not tell each other of a rank that has failed, so the others would wait
    for it for the process group's timeout. Here the ranks beat over the agents' store. Elsewhere it does nothing:
    Lightning's own launcher and ``srun --kill-on-bad-exit`` see to it.

    Used as a context, in which the program runs, and given to the trainer as a callback.

    Args:
        interval: seconds between beats.
        silence: seconds without a beat after which a rank counts as failed.
        grace: seconds that the main thread has to end by itself once a failure is known.

    Attributes:
        beats: this rank's heartbeats while it is watched, or None.

    Example:
        >>> with StartWatch() as watch:
        ...     watch.beats is None
        True
    """

    def __init__(self, interval: float = 1.0, silence: float = 50.0, grace: float = 2.0) -> None:
        self.interval, self.silence, self.grace = interval, silence, grace
        self.beats: Heartbeats | None = None

    def __enter__(self) -> StartWatch:
        """Begins, where torchrun's agents hold a store."""
        given = os.environ
        if given.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or int(given.get("WORLD_SIZE", "1")) == 1:
            return self
        wait = timedelta(seconds=self.silence)
        store = TCPStore(given["MASTER_ADDR"], int(given["MASTER_PORT"]), is_master=False, timeout=wait)
        # A restarted group of processes finds the same store
        own = PrefixStore(f"mebns_pl/start/{given.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        rank, size = int(given["RANK"]), int(given["WORLD_SIZE"])
        self.beats = Heartbeats(own, rank, size, self.interval, self.silence, self.grace)
        self.beats.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Tells the others of an error."""
        if self.beats is None:
            return
        self.beats.noticed.set()
        bad = error is not None and not (isinstance(error, SystemExit) and not error.code)
        told = f"{self.beats.name} failed before the ranks had met: {type(error).__name__}: {error}"
        self._leave(told if bad else "")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The ranks have met."""
        self._leave()

    def _leave(self, problem: str = "") -> None:
        beats, self.beats = self.beats, None
        if beats is not None:
            with suppress(RuntimeError):  # the store has gone with its agent: nobody is left to be told
                if problem and not beats.failure():
                    beats.report(problem)
                beats.leave(patience=0)
            beats.stop()
