"""A rank that fails ends the others, soon and with a message that names it; heartbeats by themselves."""

from __future__ import annotations

import re
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed

from mebns_pl import RankWatch
from mebns_pl.distributed.heartbeats import Heartbeats
from references import failures as reference
from references.processes import in_processes

KINDS = {
    "raises": (3, r"rank 1 of 2 on .* failed: ValueError: this batch is bad"),
    "killed": (-9, "rank 1 has broken its connections: its process or its host has gone"),
    "stopped": (-9, "rank 1 has not been heard from for 6 seconds"),
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

    def __init__(self, size: int, interval: float = 0.05, silence: float = 1.0) -> None:
        self.told: dict[int, list[str]] = {rank: [] for rank in range(size)}
        store = torch.distributed.HashStore()
        store.set_timeout(timedelta(seconds=5))
        self.ranks = [Heartbeats(store, rank, size, interval, silence, grace=1.0) for rank in range(size)]
        for rank, beats in enumerate(self.ranks):
            beats.end_process = self.told[rank].append  # type: ignore[method-assign]
            beats.start()

    def wait(self, *ranks: int) -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end and not all(self.told[rank] for rank in ranks):
            time.sleep(0.02)


def test_ranks_that_beat_and_leave_are_not_missed() -> None:
    group = Group(3)
    time.sleep(0.3)
    leaving = [threading.Thread(target=beats.leave, args=(5.0,)) for beats in group.ranks]
    for thread in leaving:
        thread.start()
    for thread in leaving:
        thread.join()
    assert group.told == {0: [], 1: [], 2: []}


def test_a_report_reaches_all_ranks_and_the_first_one_counts() -> None:
    group = Group(3)
    group.ranks[2].report("rank 2 failed: so")
    group.ranks[1].report("rank 1 failed: otherwise")
    group.wait(0, 1)
    assert group.told[0] == group.told[1] == ["rank 2 failed: so"]
    for beats in group.ranks:
        beats.stop()


def test_a_silent_rank_is_named() -> None:
    group = Group(3)
    time.sleep(0.2)
    group.ranks[1].stop()
    group.wait(0, 2)
    assert group.told[0] == group.told[2] == ["rank 1 has not been heard from for 1 seconds"]
    for beats in group.ranks:
        beats.stop()


@pytest.mark.parametrize("options", [{"interval": 0.0}, {"silence": 2.0}, {"grace": -1.0}])
def test_bad_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected 0"):
        RankWatch(**options)
