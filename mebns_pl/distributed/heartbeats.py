"""Heartbeats of ranks over a small key-value store: who has failed, and who is silent."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from torch.distributed import Store  # type: ignore[attr-defined]

log = logging.getLogger(__name__)

_DONE = "done"

T = TypeVar("T")


class Heartbeats:
    """Beats for this rank in a thread, and watches the others; at the first failure it ends the process.

    Every rank writes a number that grows; rank 0 reads them all, the others read rank 0's and one key that names the
    failure. The cost is a few small messages an ``interval`` and rank.

    Args:
        store: reached by all ranks, held by rank 0.
        rank: this process's number.
        size: number of processes.
        interval: seconds between beats.
        silence: seconds without a beat after which a rank counts as failed.
        grace: seconds in which the main thread may end by itself once a failure is known; then the process is ended.

    Attributes:
        noticed: to be set where the main thread has noticed a failure by itself, and ends.

    Example:
        >>> from torch.distributed import HashStore
        >>> beats = Heartbeats(HashStore(), rank=0, size=1, interval=0.01, silence=1.0, grace=1.0)
        >>> beats.start()
        >>> beats.leave(patience=1.0)
    """

    def __init__(self, store: Store, rank: int, size: int, interval: float, silence: float, grace: float) -> None:
        self._store, self._rank, self._size = store, rank, size
        self._interval, self._silence, self._grace = interval, silence, grace
        self.name = f"rank {rank} of {size} on {socket.gethostname()}"
        self.noticed = threading.Event()
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
        return self._read("failure")

    def _read(self, key: str) -> str:
        """Nothing where the key is not there yet; to read it would wait for it."""
        return self._store.get(key).decode() if self._store.check([key]) else ""

    def report(self, problem: str) -> None:
        """Tells all ranks of a failure, unless one was reported before; waits a little until they have read it."""
        self._reported = True
        self._store.compare_set("failure", "", problem)
        self.until(lambda: self._store.add("seen", 0) >= self._size - 1, 4 * self._interval)

    def silent(self, seconds: float) -> list[int]:
        """The ranks that have not been heard from for so long, as far as this rank listens."""
        now = time.monotonic()
        return [rank for rank, (beat, since) in self._heard.items() if beat != _DONE and now - since > seconds]

    def until(self, done: Callable[[], T], seconds: float) -> T:
        """Asks again and again, for so many seconds at most; gives back the first answer that is true, or the last."""
        end = time.monotonic() + seconds
        while not (answer := done()) and time.monotonic() < end:
            time.sleep(self._interval / 10)
        return answer

    def leave(self, patience: float) -> None:
        """Ends; rank 0, which holds the store, waits so many seconds until the others have left."""
        self.stop()
        self._store.set(f"beat/{self._rank}", _DONE)
        if self._rank == 0:
            self.until(lambda: all(self._read(f"beat/{rank}") == _DONE for rank in range(1, self._size)), patience)

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
            if problem and not self._stop.is_set():
                self.end_process(problem)
                return

    def end_process(self, problem: str) -> None:
        """Ends this process, which may hang in a collective that will never return."""
        if not self.noticed.is_set():
            log.error("%s; so this rank ends, too", problem)
        if not self.noticed.wait(self._grace):
            os._exit(1)

    def _beat(self) -> str:
        """Beats once and listens once; gives back a failure."""
        now = time.monotonic()
        self._store.set(f"beat/{self._rank}", str(now))
        for rank in range(1, self._size) if self._rank == 0 else [0]:
            beat = self._read(f"beat/{rank}")
            if beat and self._heard.get(rank, ("",))[0] != beat:
                self._heard[rank] = (beat, now)
        if silent := self.silent(self._silence):
            problem = f"{named(silent)} has not been heard from for {self._silence:.0f} seconds"
            self._store.compare_set("failure", "", problem)
        problem = self.failure()
        if problem and not self._reported:
            self._store.add("seen", 1)
        return problem


def named(ranks: Iterable[int]) -> str:
    """Ranks in words."""
    return f"rank {', '.join(map(str, ranks))}"
