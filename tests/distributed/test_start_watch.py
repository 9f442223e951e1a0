"""Ranks that torchrun starts on several hosts end together when one fails before they have met."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import torch.distributed

from mebns_pl.distributed.heartbeats import Heartbeats
from mebns_pl.distributed.start_watch import StartWatch
from references.ranks import free_port

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")


VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE", "WORLD_SIZE", "RANK")
Watch = Callable[..., StartWatch]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Makes the watch of a rank of two, among whose variables is the store of torchrun's first agent."""
    port = free_port()
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)

    def make(rank: int, silence: float = 5.0) -> StartWatch:
        for name, value in zip(VARIABLES, ("127.0.0.1", str(port), "True", "2", str(rank)), strict=True):
            monkeypatch.setenv(name, value)
        return StartWatch(interval=0.05, silence=silence)

    yield make
    del store


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a process would have been ended for."""
    problems: list[str] = []
    monkeypatch.setattr(Heartbeats, "end_process", lambda _, problem: problems.append(problem))
    return problems


def wait_for(told: list[str]) -> str:
    end = time.monotonic() + 20
    while not told and time.monotonic() < end:
        time.sleep(0.02)
    return told[0]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_before_the_ranks_have_met_reaches_the_others(watch: Watch, told: list[str], failing: int) -> None:
    with watch(1 - failing):  # it waits for the other, which has not begun yet
        time.sleep(0.3)
        assert told == []
        with pytest.raises(ValueError, match="bad data"), watch(failing):
            raise ValueError("bad data")
        problem = wait_for(told)
    assert problem.startswith(f"rank {failing} of 2 on ")
    assert problem.endswith(" failed before the ranks had met: ValueError: bad data")


def test_a_rank_that_falls_silent_is_named(watch: Watch, told: list[str]) -> None:
    killed = watch(1, silence=0.5).__enter__()
    with watch(0, silence=0.5):
        time.sleep(0.2)
        assert killed.beats is not None
        killed.beats.stop()
        assert wait_for(told) == "rank 1 has not been heard from for 0 seconds"


def fail_after_meeting(watch: StartWatch) -> None:
    """RankWatch sees to it then."""
    watch.setup(None, None, "fit")  # type: ignore[arg-type]
    raise ValueError("later")


def test_ranks_that_meet_or_end_well_are_not_missed(watch: Watch, told: list[str]) -> None:
    with watch(0, silence=0.3) as first:
        with pytest.raises(SystemExit), watch(1):
            raise SystemExit(0)
        time.sleep(0.6)
        first.setup(None, None, "fit")  # type: ignore[arg-type]
        assert first.beats is None
    assert told == []
    met = watch(0)
    with pytest.raises(ValueError, match="later"), met:
        fail_after_meeting(met)
    with watch(1):
        time.sleep(0.3)
    assert told == []


def test_other_launchers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for variables in ({}, {"WORLD_SIZE": "2", "RANK": "0"}, {"TORCHELASTIC_USE_AGENT_STORE": "True"}):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with StartWatch() as alone:
                assert alone.beats is None
