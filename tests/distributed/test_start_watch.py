"""Ranks that torchrun starts on several hosts end together when one fails before they have met."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch.distributed

from mebns_pl.distributed.heartbeats import Heartbeats
from mebns_pl.distributed.start_watch import StartWatch
from mebns_pl.errors import DataError
from references.command_line import environment
from references.ranks import free_port

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")


VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE", "WORLD_SIZE", "RANK", "LOCAL_RANK")
Watch = Callable[..., StartWatch]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Makes the watch of a rank of two, among whose variables is the store of torchrun's first agent."""
    port = free_port()
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)

    def make(rank: int, silence: float = 5.0) -> StartWatch:
        for name, value in zip(VARIABLES, ("127.0.0.1", str(port), "True", "2", str(rank), "0"), strict=True):
            monkeypatch.setenv(name, value)
        return StartWatch(interval=0.05, silence=silence, grace=0.1, arrival=5.0)

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
        killed.beats._look = lambda: time.sleep(0.01)  # type: ignore[method-assign]
        killed.beats._tell = lambda line: None  # type: ignore[method-assign]
        end = time.monotonic() + 20
        # On a busy machine the other one, whose thread still runs in this process, may say the same of rank 0 first
        while not any(problem.startswith("rank 1") for problem in told) and time.monotonic() < end:
            time.sleep(0.02)
        (problem,) = (problem for problem in told if problem.startswith("rank 1"))
        assert problem.startswith(f"rank 1 on {socket.gethostname()} has not been heard from for 0 seconds")
        killed.beats.stop()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_never_begins_is_named(watch: Watch, told: list[str], rank: int) -> None:
    waiting = watch(rank)
    waiting.arrival = 0.5
    with waiting:
        assert wait_for(told) == f"rank {1 - rank} of node {1 - rank} has not begun within 0 seconds"


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan"])
def test_seconds_are_a_number(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBNS_ARRIVAL", given)
    with pytest.raises(DataError, match=f"MEBNS_ARRIVAL: got '{given}'; allowed is a number of seconds above 0"):
        StartWatch()


LAUNCHED = """
import os, subprocess, sys, time
from mebns_pl.distributed.start_watch import watch_launcher

if len(sys.argv) == 1:
    watch_launcher()
    subprocess.Popen([sys.executable, __file__, "child"], env={**os.environ, "LOCAL_RANK": "1"})
    time.sleep(30)
print("begun", flush=True)
watch_launcher(grace=0.1)
time.sleep(30)
"""


@pytest.mark.slow
def test_a_process_ends_with_the_one_that_has_started_it(tmp_path: Path) -> None:
    (tmp_path / "launched.py").write_text(LAUNCHED)
    command = [sys.executable, str(tmp_path / "launched.py")]
    with (tmp_path / "told").open("w") as told:
        first = subprocess.Popen(command, env=environment(), stdout=told, stderr=told)
    end, said = time.monotonic() + 60, ""
    while time.monotonic() < end and "is gone" not in said:
        said = (tmp_path / "told").read_text()
        if "begun" in said and first.poll() is None:
            first.kill()
        time.sleep(0.05)
    first.wait()
    assert f"rank 1 on {socket.gethostname()} ends: rank 0, process {first.pid}, which has started it, is gone" in said


def fail_after_meeting(watch: StartWatch) -> None:
    """RankWatch sees to it then."""
    watch.setup(None, None, "fit")  # type: ignore[arg-type]
    raise ValueError("later")


def test_ranks_that_meet_or_end_well_are_not_missed(
    watch: Watch, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with watch(0, silence=0.3) as first:
        with pytest.raises(SystemExit), watch(1):
            raise SystemExit(0)
        time.sleep(0.6)
        first.setup(None, None, "fit")  # type: ignore[arg-type]
        assert first.beats is None
    assert told == []
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with watch(1):
        met = watch(0, silence=0.3)
        with pytest.raises(ValueError, match="later"), met:
            fail_after_meeting(met)
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
