"""Heartbeats of ranks over a small key-value store: who has failed, and who is silent."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from torch.distributed import Store  # type: ignore[attr-defined]

log = logging.getLogger(__name__)

_DONE = "done"


class Heartbeats:
    """Beats for this rank in a thread, and watches the others; at the first failure it says so.

    Every rank writes a number that grows; rank 0 reads them all, the others read rank 0's and one key that names the
    failure. The cost is a few small messages an ``interval`` and rank.

    Args:
        store: reached by all ranks, held by rank 0.
        rank: this process's number.
        size: number of processes.
        interval: seconds between beats.
        silence: seconds without a beat after which a rank counts as failed.
        on_failure: called once, in the thread, with what is known of the failure.

    Example:
        >>> from torch.distributed import HashStore
        >>> beats = Heartbeats(HashStore(), rank=0, size=1, interval=0.01, silence=1.0, on_failure=print)
        >>> beats.start()
        >>> beats.leave(patience=1.0)
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        interval: float,
        silence: float,
        on_failure: Callable[[str], None],
    ) -> None:
        self._store, self._rank, self._size = store, rank, size
        self._interval, self._silence = interval, silence
        self._on_failure = on_failure
        self._count = 0
        self._reported = False
        self._heard: dict[int, tuple[str, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        store.set(f"beat/{rank}", "0")

    def start(self) -> None:
        """Begins; a rank that has not begun yet is not missed."""
        self._thread.start()

    def failure(self) -> str:
        """What has been reported so far, or nothing.

        Raises:
            RuntimeError: rank 0, which holds the store, cannot be reached.
        """
        return self._store.get("failure").decode() if self._store.check(["failure"]) else ""

    def report(self, problem: str) -> None:
        """Tells all ranks of a failure, unless one was reported before; waits a little until they have read it."""
        self._reported = True
        self._store.compare_set("failure", "", problem)
        others = self._size - 1
        end = time.monotonic() + 4 * self._interval
        while time.monotonic() < end and self._store.add("seen", 0) < others:
            time.sleep(self._interval / 10)

    def silent(self, seconds: float) -> list[int]:
        """The ranks that have not been heard from for so long, as far as this rank listens."""
        now = time.monotonic()
        return [rank for rank, (beat, since) in self._heard.items() if beat != _DONE and now - since > seconds]

    def leave(self, patience: float) -> None:
        """Ends; rank 0, which holds the store, waits so many seconds until the others have left."""
        self.stop()
        self._store.set(f"beat/{self._rank}", _DONE)
        end = time.monotonic() + patience
        others = [rank for rank in range(1, self._size)] if self._rank == 0 else []
        while others and time.monotonic() < end:
            others = [rank for rank in others if self._last_beat(rank) != _DONE]
            time.sleep(self._interval / 10 if others else 0)

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                problem = self._beat()
            except RuntimeError:
                problem = "rank 0 cannot be reached: its process or its host has gone"
            if self._stop.is_set():
                return
            if problem:
                self._on_failure(problem)
                return

    def _last_beat(self, rank: int) -> str | None:
        """None where the rank has not begun; to read a key that is not there would wait for it."""
        return self._store.get(f"beat/{rank}").decode() if self._store.check([f"beat/{rank}"]) else None

    def _beat(self) -> str:
        """Beats once and listens once; gives back a failure."""
        self._count += 1
        self._store.set(f"beat/{self._rank}", str(self._count))
        now = time.monotonic()
        for rank in range(1, self._size) if self._rank == 0 else [0]:
            beat = self._last_beat(rank)
            if beat is not None and (rank not in self._heard or self._heard[rank][0] != beat):
                self._heard[rank] = (beat, now)
        silent = self.silent(self._silence)
        if silent:
            names = ", ".join(map(str, silent))
            self._store.compare_set(
                "failure", "", f"rank {names} has not been heard from for {self._silence:.0f} seconds"
            )
        problem = self.failure()
        if problem and not self._reported:
            self._store.add("seen", 1)
        return problem


def end_process(problem: str, ending: threading.Event, grace: float) -> None:
    """Ends this process, which may hang in a collective that will never return.

    Args:
        problem: what happened, for people to read.
        ending: set where the main thread has noticed by itself, and nothing is to be done.
        grace: seconds in which it may notice.
    """
    if not ending.is_set():
        log.error("%s; so this rank ends, too", problem)
    if not ending.wait(grace):
        os._exit(1)
