"""A rank that fails ends the others, soon and with a message that names it; heartbeats by themselves."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch.distributed

from mebns_pl import RankWatch
from mebns_pl.distributed import heartbeats
from mebns_pl.distributed.heartbeats import Heartbeats, listen
from references import failures as reference
from references.processes import in_processes

KINDS = {
    "raises": (3, r"rank 1 of 2 on .* failed: ValueError: this batch is bad"),
    "killed": (
        -9,
        r"rank 0 of 2 on \S+ ends: rank 1 on \S+ has broken its connections: its process or its host has gone",
    ),
    "stopped": (
        -9,
        r"rank 0 of 2 on \S+ ends: rank 1 on \S+ has not been heard from for 6 seconds: its process is sto",
    ),
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failed")
    in_processes(reference.launch, str(folder), tuple(KINDS))
    return folder


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
@pytest.mark.parametrize("kind", KINDS)
def test_the_other_rank_ends_soon_and_says_why(kind: str, failed: Path) -> None:
    first, last, took = (failed / kind / "ended").read_text().split()
    code, message = KINDS[kind]
    assert int(last) == code
    assert int(first) in (1, 3)  # it raised, or where it hung in a collective it was ended
    assert float(took) < 60
    said = (failed / kind / "0.err").read_text()

    assert re.search(message, said), said[-2000:]


# --- heartbeats -----------------------------------------------------------------------------------------------------


class Group:
    """Heartbeats of several ranks in one process."""

    def __init__(self, size: int, begin: Sequence[int] | None = None, **options: float) -> None:
        self.told: dict[int, list[str]] = {rank: [] for rank in range(size)}
        listener, self.place = listen("127.0.0.1")
        settings: dict[str, Any] = {"interval": 0.05, "silence": 1.0, "grace": 0.1, **options}
        self.ranks = [
            Heartbeats(
                rank, size, lambda: self.place, None if rank else listener, on_host=lambda r: " there", **settings
            )
            for rank in range(size)
        ]
        for rank, beats in enumerate(self.ranks):
            beats.end_process = self.told[rank].append  # type: ignore[method-assign]
            if begin is None or rank in begin:
                beats.start()
        everyone = len(begin or self.ranks)
        assert self.ranks[0].until(lambda: len(self.ranks[0]._names) == everyone - 1, 10)

    def wait(self, *ranks: int) -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end and not all(self.told[rank] for rank in ranks):
            time.sleep(0.02)

    def stop(self) -> None:
        for beats in self.ranks:
            beats._stop.set()


HOST = socket.gethostname()
GONE = "has broken its connections: its process or its host has gone"


def test_ranks_that_beat_and_leave_are_not_missed() -> None:
    group = Group(3)
    time.sleep(0.3)
    leaving = [threading.Thread(target=beats.leave, args=(5.0,)) for beats in group.ranks]
    for thread in leaving:
        thread.start()
    for thread in leaving:
        thread.join()
    assert group.told == {0: [], 1: [], 2: []}


@pytest.mark.parametrize("failing", [0, 2])
def test_a_report_reaches_all_ranks_and_the_first_one_counts(failing: int) -> None:
    group = Group(3)
    told = f"rank {failing} failed: so"
    group.ranks[failing].report(told)
    group.wait(1, 2 - failing)
    group.ranks[1].report("rank 1 failed: otherwise")
    assert group.told[1] == group.told[2 - failing] == [told]
    assert group.told[failing] == []  # it has its own error to tell
    group.stop()


def test_one_that_begins_late_is_told_of_a_failure_before() -> None:
    group = Group(3, begin=[0, 1], grace=5.0)
    group.ranks[1].report("rank 1 failed: early")
    assert group.ranks[0].until(group.ranks[0].failure, 10)
    group.ranks[2]._grace = 0.1
    group.ranks[2].start()
    group.wait(2)
    assert group.told[2] == ["rank 1 failed: early"]
    group.stop()


@pytest.mark.parametrize("silent", [0, 1])
def test_a_silent_rank_is_named(silent: int) -> None:
    """Also rank 0, over which the others hear of each other."""
    group = Group(3)
    time.sleep(0.2)
    stopped = threading.Event()
    group.ranks[silent]._look = stopped.wait  # type: ignore[method-assign,assignment]
    group.wait(*{0, 1, 2} - {silent})
    told = f"rank {silent} on {HOST} has not been heard from for 1 seconds: its process is stopped, or its host cut off"
    for rank in {0, 1, 2} - {silent}:
        assert group.told[rank] == [told]
    group.stop()
    stopped.set()


@pytest.mark.parametrize("gone", [0, 2])
def test_a_rank_whose_connections_end_is_named_at_once(gone: int) -> None:
    group = Group(3, silence=30.0)
    assert all(beats.until(lambda beats=beats: HOST in str(beats._peers), 10) for beats in group.ranks)
    ended = threading.Event()
    group.ranks[gone]._look = ended.wait  # type: ignore[method-assign,assignment]
    time.sleep(0.2)
    for connection in list(group.ranks[gone]._peers):
        connection.shutdown(socket.SHUT_RDWR)
    group.wait(1, 2 - gone)
    assert group.told[1] == group.told[2 - gone] == [f"rank {gone} on {HOST} {GONE}"]
    group.stop()
    ended.set()


def test_one_that_never_begins_is_named() -> None:
    group = Group(3, begin=[0, 1], arrival=0.5)
    group.wait(0, 1)
    assert group.told[0] == group.told[1] == ["rank 2 there has not begun within 0 seconds"]
    group.stop()


def test_a_process_says_once_why_it_ends(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "_told", threading.Event())
    heartbeats.tell_end("rank 0 of 2 on a", "rank 1 failed: ValueError: two\nlines \x1b[31m")
    heartbeats.tell_end("rank 0 of 2 on a", "something else")
    assert capfd.readouterr().err == (
        "mebns: error: rank 0 of 2 on a ends: rank 1 failed: ValueError: two lines \\x1b[31m\n"
    )


def test_strangers_are_not_listened_to() -> None:
    group = Group(2)
    for words in (b'failed "so"\n', b'["wrong", 1, "here"]\n', b"\xff" * 100, b"[1]\n"):
        with socket.create_connection((group.place.host, group.place.port)) as stranger:
            stranger.sendall(words)
    time.sleep(0.3)
    assert group.told == {0: [], 1: []}
    group.stop()


def test_forked_processes_do_not_keep_connections_open() -> None:
    """Those of a killed rank would seem to live for as long as its loaders' workers."""
    group = Group(2)
    (connection,) = group.ranks[1]._peers
    duplicate = connection.dup()  # what a fork has
    group.ranks[1]._peers = {duplicate: group.ranks[1]._peers[connection]}
    group.ranks[1].close_in_fork()
    assert duplicate.fileno() == -1
    assert connection.fileno() != -1
    group.ranks[1]._peers = {connection: group.ranks[1]._peers[duplicate]}
    group.stop()


@pytest.mark.parametrize("options", [{"interval": 0.0}, {"silence": 2.0}, {"grace": -1.0}])
def test_bad_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected 0"):
        RankWatch(**options)
