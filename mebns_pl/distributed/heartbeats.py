"""Heartbeats of ranks over sockets of their own: who has failed, whose process has gone, and who is silent."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import selectors
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mebns_pl.escaping import visible

_LONGEST = 2**16
"""Bytes of a line that is not at its end; ranks send shorter ones."""
_ANSWER = 0.1
"""Seconds after which the thread looks for something else than messages."""

_LAST_WORDS = 10.0
"""Seconds that a rank which has failed waits to tell the others why."""

_told = threading.Event()
"""Whether this process has said why it ends: once is enough."""


class RankError(RuntimeError):
    """Why this rank ends: what has happened to another one, or to what has started it."""


@dataclass(frozen=True)
class Place:
    """Where rank 0 listens.

    Args:
        host: its address.
        port: its port.
        token: what others must know.
    """

    host: str
    port: int
    token: str


def listen(host: str) -> tuple[socket.socket, Place]:
    """Opens a port for the other ranks; on all of the machine's addresses, or on the local one.

    Args:
        host: the address by which the others know this machine.

    Raises:
        OSError: there is no port.
    """
    local = host in ("localhost", "127.0.0.1")
    family = socket.AF_INET if local or not socket.has_dualstack_ipv6() else socket.AF_INET6
    listener = socket.create_server(
        ("127.0.0.1" if local else "", 0), family=family, backlog=1024, dualstack_ipv6=family == socket.AF_INET6
    )
    return listener, Place(host, listener.getsockname()[1], secrets.token_hex(16))


@dataclass
class _Peer:
    """The other end of a connection; ``rank`` is None until it has said who it is."""

    connection: socket.socket
    rank: int | None = None
    name: str = ""
    heard: float = field(default_factory=time.monotonic)
    done: bool = False
    unread: bytes = b""

    def send(self, line: str) -> None:
        """Sends a line, unless the other end has gone, which is noticed in reading, or does not read."""
        with contextlib.suppress(OSError):
            self.connection.send(f"{line}\n".encode())

    def lines(self) -> Iterator[str]:
        """What has come.

        Raises:
            EOFError: the connection has ended.
        """
        try:
            came = self.connection.recv(_LONGEST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise EOFError from error
        if not came or len(self.unread) > _LONGEST:
            raise EOFError
        *lines, self.unread = (self.unread + came).split(b"\n")
        self.heard = time.monotonic()
        yield from (line.decode(errors="replace") for line in lines)


class Heartbeats:
    """Beats for this rank in a thread, and listens to the others; at the first failure it ends the process.

    Every rank has one connection to rank 0, over which both beat. When a process has gone, however it ended, the kernel
    closes its connections, which is noticed at once; one that is stopped, or whose host is cut off, by its silence.
    Rank 0 tells all of them. No rank ever waits for another's answer, so that a stopped one holds up nobody. The cost
    is a few bytes an ``interval`` and rank.

    Args:
        rank: this process's number.
        size: number of processes.
        meet: called in the thread; gives back where rank 0 listens.
        listener: of rank 0, the open port.
        interval: seconds between beats.
        silence: seconds without a beat after which a rank counts as failed.
        grace: seconds in which the main thread may end by itself once a failure is known; then the process is ended.
        arrival: seconds after which a rank that has not begun counts as failed; there is no limit by default.
        on_host: in words, where a rank is that has never begun.

    Attributes:
        noticed: to be set where the main thread has noticed a failure by itself, and ends.

    Example:
        >>> listener, place = listen("127.0.0.1")
        >>> beats = Heartbeats(0, 1, lambda: place, listener, interval=0.01, silence=1.0, grace=1.0)
        >>> beats.start()
        >>> beats.leave(patience=1.0)
    """

    def __init__(
        self,
        rank: int,
        size: int,
        meet: Callable[[], Place],
        listener: socket.socket | None = None,
        *,
        interval: float,
        silence: float,
        grace: float,
        arrival: float = math.inf,
        on_host: Callable[[int], str] = lambda rank: "",
    ) -> None:
        self._rank, self._size, self._meet, self._listener = rank, size, meet, listener
        self._interval, self._silence, self._grace = interval, silence, grace
        self._arrival, self._on_host = arrival, on_host
        self.name = f"rank {rank} of {size} on {socket.gethostname()}"
        self.noticed = threading.Event()
        self._token = ""
        self._failure = ""
        self._own = self._spoken = False
        self._begun = False
        self._leaving = False
        self._peers: dict[socket.socket, _Peer] = {}
        self._names: dict[int, str] = {}
        self._departed: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        _all.add(self)
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        """Begins."""
        _told.clear()
        self._thread.start()

    def failure(self) -> str:
        """What has been reported so far, or nothing."""
        return self._failure

    def report(self, problem: str) -> None:
        """Tells all ranks of a failure, unless one was reported before; those who have not begun, when they do."""
        if not self._failure:
            self._own, self._failure = True, problem

    def until(self, done: Callable[[], object], seconds: float) -> bool:
        """Waits until something is so, for so many seconds at most; gives back whether it is."""
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            time.sleep(min(self._interval / 10, _ANSWER))
        return bool(done())

    def silent(self, seconds: float) -> list[str]:
        """Names of the ranks that have not been heard from for so long, as far as this rank listens."""
        now = time.monotonic()
        peers = [peer for peer in list(self._peers.values()) if peer.rank is not None and not peer.done]
        return [peer.name for peer in peers if now - peer.heard > seconds]

    def leave(self, patience: float) -> None:
        """Ends; rank 0, over which the others hear of each other, waits so many seconds until they have left."""
        self._leaving = True
        if self._own or (self._rank == 0 and not self._failure):
            patience = min(patience, _LAST_WORDS) if self._own else patience
            self.until(lambda: self._free() or not self._thread.is_alive(), patience)
        elif not self._failure:
            self.until(lambda: self._begun or not self._thread.is_alive(), _LAST_WORDS)
        self.stop()

    def _free(self) -> bool:
        """Whether the others need this rank no more: they have left, or have been told of its failure."""
        if self._own:
            return self._spoken and (self._rank > 0 or len(self._names) == self._size - 1)
        return bool(self._failure) or len(self._departed) == self._size - 1

    def stop(self) -> None:
        """Ends the thread; one that waits for a connection ends with the process."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2.0)

    def end_process(self, problem: str) -> None:
        """Ends this process, which may hang in a collective that will never return."""
        os._exit(1)

    def _tell(self, line: str) -> None:
        for peer in list(self._peers.values()):
            if peer.rank is not None and not peer.done:
                peer.send(line)

    def _run(self) -> None:
        began = beaten = time.monotonic()
        ends = math.inf
        try:
            while not self._stop.is_set() and (self._own or time.monotonic() < ends):
                try:
                    # First what has come: a rank that was stopped itself finds there what became of the others
                    self._look() if self._begun else self._begin()
                except (OSError, RuntimeError) as error:
                    self._begun = True
                    told = str(error) if isinstance(error, RankError) else f"rank 0 cannot be reached: {error}"
                    self._failure = self._failure or told
                now = time.monotonic()
                if self._problem(now - began) and math.isinf(ends):
                    self._tell(self._failed())
                    self._spoken = True
                    if not self._own and not self._leaving:
                        tell_end(self.name, self._failure)
                    ends = now + self._grace
                if now - beaten >= self._interval:
                    beaten = now
                    self._tell("beat")
            if self._failure and not self._own and not self._stop.is_set() and not self.noticed.is_set():
                self.end_process(self._failure)
            self._stop.wait(self._grace)
        finally:
            self._close()

    def _look(self) -> None:
        for key, _ in self._selector.select(min(self._interval, _ANSWER)):
            self._accept() if key.fileobj is self._listener else self._hear(key.data)
        for peer in list(self._peers.values()):
            if peer.rank is None and time.monotonic() - peer.heard > self._silence:  # nobody of ours
                self._drop(peer)

    def _failed(self) -> str:
        return f"failed {json.dumps(self._failure)}"

    def _begin(self) -> None:
        place = self._meet()
        self._token = place.token
        if self._listener is not None:
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._begun = True
            return
        connection = socket.create_connection((place.host, place.port), timeout=self._silence)
        peer, self._begun = self._add(connection), True
        peer.rank, peer.name = 0, f"rank 0 on {place.host}"
        peer.send(json.dumps([place.token, self._rank, socket.gethostname()]))

    def _add(self, connection: socket.socket) -> _Peer:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = self._peers[connection] = _Peer(connection)
        self._selector.register(connection, selectors.EVENT_READ, peer)
        return peer

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):  # it has gone again
            self._add(self._listener.accept()[0])

    def _drop(self, peer: _Peer) -> None:
        self._selector.unregister(peer.connection)
        del self._peers[peer.connection]
        peer.connection.close()

    def _hear(self, peer: _Peer) -> None:
        try:
            for line in peer.lines():
                if peer.rank is None:
                    self._welcome(peer, line)
                elif line == "done":
                    peer.done = True
                    self._departed.add(peer.rank)
                elif line.startswith("named "):
                    peer.name = f"rank {peer.rank} on {json.loads(line.removeprefix('named '))}"
                elif line.startswith("failed ") and not self._failure:
                    self._failure = str(json.loads(line.removeprefix("failed ")))
        except EOFError:
            if peer.rank is not None and not peer.done and not self._failure:
                self._failure = f"{peer.name} has broken its connections: its process or its host has gone"
            self._drop(peer)
        except ValueError:  # nobody of ours
            self._drop(peer)

    def _welcome(self, peer: _Peer, line: str) -> None:
        """Finds out who has come.

        Raises:
            ValueError: nobody of this run.
        """
        token, rank, host = json.loads(line)
        if not (isinstance(token, str) and secrets.compare_digest(token.encode(), self._token.encode())):
            raise ValueError("another run's")
        peer.rank, peer.name = int(rank), f"rank {int(rank)} on {host}"
        self._names[peer.rank] = peer.name
        peer.send(f"named {json.dumps(socket.gethostname())}")
        if self._failure:
            peer.send(self._failed())

    def _problem(self, seconds: float) -> str:
        """A failure, if there is one by now, so many seconds after the begin."""
        if not self._failure and (silent := self.silent(self._silence)):
            self._failure = (
                f"{', '.join(silent)} has not been heard from for {self._silence:.0f} seconds: "
                "its process is stopped, or its host cut off"
            )
        late = self._rank == 0 and seconds > self._arrival
        missing = [rank for rank in range(1, self._size) if late and rank not in self._names]
        if missing and not self._failure and not self._leaving:
            who = ", ".join(f"rank {rank}{self._on_host(rank)}" for rank in missing)
            self._failure = f"{who} has not begun within {self._arrival:.0f} seconds"
        return self._failure

    def close_in_fork(self) -> None:
        """Closes what a process that was forked off has of the connections: they are to end with this one."""
        for connection in [*self._peers, *([] if self._listener is None else [self._listener])]:
            connection.close()

    def _close(self) -> None:
        """Closes the connections, when the others have had time to read the last words."""
        end = time.monotonic() + 1.0
        if self._leaving:
            self._tell("done")
        for peer in list(self._peers.values()):
            with contextlib.suppress(OSError):
                peer.connection.shutdown(socket.SHUT_WR)
                peer.connection.settimeout(max(end - time.monotonic(), 0.01))
                while peer.connection.recv(_LONGEST):
                    pass
            self._drop(peer)
        self._selector.close()
        if self._listener is not None:
            self._listener.close()


_all: weakref.WeakSet[Heartbeats] = weakref.WeakSet()


def _close_all() -> None:
    for beats in list(_all):
        beats.close_in_fork()


os.register_at_fork(after_in_child=_close_all)


def tell_end(name: str, problem: str) -> None:
    """Says in one line on standard error why a process ends; what is said later in the same process is left out."""
    if not _told.is_set():
        _told.set()
        told = visible(f"{name} ends: {' '.join(problem.split())}")
        sys.stderr.write(f"mebns: error: {told}\n")
        sys.stderr.flush()
