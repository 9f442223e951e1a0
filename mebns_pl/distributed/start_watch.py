"""Ends a run on all ranks when one fails before they have met, or when what has started it is gone."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from dataclasses import asdict
from datetime import timedelta
from functools import partial

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from mebns_pl.distributed.heartbeats import Heartbeats, Place, RankError, listen, tell_end
from mebns_pl.errors import DataError

_LAUNCHER = "MEBNS_LAUNCHER"
"""The variable by which processes know the number of the one that has started them."""


class StartWatch(Callback):
    """Watches the ranks from the program's start until they meet; from then on :class:`RankWatch` does.

    The agents of torchrun on several hosts do not tell each other of a rank that has failed, so the others would wait
    for it for the process group's timeout. Here the ranks find each other by the agents' store, and watch each other.
    Elsewhere they do not: Lightning's own launcher and ``srun --kill-on-bad-exit`` see to it. A rank ends when the
    agent that has started it, or Lightning's first process, is gone.

    Used as a context, in which the program runs, and given to the trainer as a callback.

    Args:
        interval: seconds between beats.
        silence: seconds without a beat after which a rank counts as failed.
        grace: seconds that the main thread has to end by itself once a failure is known.
        arrival: seconds after this rank's begin within which all others must have begun; by default those of the
            environment variable ``MEBNS_ARRIVAL``, or 40.

    Raises:
        DataError: ``MEBNS_ARRIVAL`` is no such number.

    Attributes:
        beats: this rank's heartbeats while it is watched, or None.

    Example:
        >>> with StartWatch() as watch:
        ...     watch.beats is None
        True
    """

    def __init__(
        self, interval: float = 1.0, silence: float = 20.0, grace: float = 2.0, arrival: float | None = None
    ) -> None:
        self.interval, self.silence, self.grace = interval, silence, grace
        self.arrival = _arrival() if arrival is None else arrival
        self.beats: Heartbeats | None = None

    def __enter__(self) -> StartWatch:
        """Begins, where torchrun's agents hold a store."""
        watch_launcher()
        given = os.environ
        if given.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or int(given.get("WORLD_SIZE", "1")) == 1:
            return self
        rank, size = int(given["RANK"]), int(given["WORLD_SIZE"])
        listener, place = listen(given["MASTER_ADDR"]) if rank == 0 else (None, None)
        self.beats = Heartbeats(
            rank,
            size,
            partial(_meet, place, self.silence, self.arrival),
            listener,
            interval=self.interval,
            silence=self.silence,
            grace=self.grace,
            arrival=self.arrival,
            on_host=_on_host,
        )
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
            if problem:
                beats.report(problem)
            beats.leave(self.silence)


def _arrival() -> float:
    given = os.environ.get("MEBNS_ARRIVAL", "40")
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise DataError(f"MEBNS_ARRIVAL: got {given!r}; allowed is a number of seconds above 0")
    return seconds


def _on_host(rank: int) -> str:
    return f" of node {rank // int(os.environ.get('LOCAL_WORLD_SIZE', '1'))}"


def _meet(place: Place | None, silence: float, arrival: float) -> Place:
    """Writes where rank 0 listens into the store of torchrun's agents, or reads it there."""
    given = os.environ
    host, port, end = given["MASTER_ADDR"], int(given["MASTER_PORT"]), time.monotonic() + arrival
    try:
        store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=silence))
        # A restarted group of processes finds the same store
        own = PrefixStore(f"mebns_pl/start/{given.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        if place is not None:
            own.set("place", json.dumps(asdict(place)))
            return place
        while not own.check(["place"]):
            if time.monotonic() > end:
                raise RankError(f"rank 0{_on_host(0)} has not begun within {arrival:.0f} seconds")
            time.sleep(0.1)
        return Place(**json.loads(own.get("place")))
    except RankError:
        raise
    except RuntimeError as error:
        told = f"torchrun's agent on {host}, port {port}, by which ranks find each other, has gone"
        raise RankError(f"rank 0{_on_host(0)} cannot be reached: {told}") from error


def watch_launcher(grace: float = 5.0) -> None:
    """Has a process end when the one that has started it is gone: torchrun's agent, or Lightning's first process.

    Neither ends the processes that it leaves behind, and they would go on training.

    Args:
        grace: seconds that this process still has then.
    """
    given = os.environ
    if "LOCAL_RANK" not in given:  # those that Lightning starts from here
        given[_LAUNCHER] = str(os.getpid())
        return
    torchrun = "TORCHELASTIC_RUN_ID" in given
    if not (torchrun or _LAUNCHER in given) or not hasattr(os, "pidfd_open"):
        return
    launcher = int(given.get(_LAUNCHER) or os.getppid())
    if launcher == os.getpid():
        return
    who = "torchrun's agent" if torchrun else "rank 0"
    name = f"rank {given.get('RANK', given['LOCAL_RANK'])} on {socket.gethostname()}"

    def wait() -> None:
        try:
            select.select([os.pidfd_open(launcher)], [], [])
        except ProcessLookupError:
            pass
        except OSError:  # not on this system
            return
        time.sleep(grace)
        tell_end(name, f"{who}, process {launcher}, which has started it, is gone")
        os._exit(1)

    threading.Thread(target=wait, name="launcher watch", daemon=True).start()
