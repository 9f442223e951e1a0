"""Ranks that torchrun starts on several hosts end together when one fails before they have met."""

from __future__ import annotations

import time

import pytest
import torch.distributed

from mebns_pl.distributed.heartbeats import Heartbeats
from mebns_pl.distributed.start_watch import StartWatch
from references.ranks import free_port

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")


@pytest.fixture
def agent() -> tuple[torch.distributed.TCPStore, dict[str, str]]:
    """The store of torchrun's first agent, and the variables that it gives its processes."""
    port = free_port()
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return store, {**shared, "WORLD_SIZE": "2"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a process would have been ended for."""
    problems: list[str] = []
    monkeypatch.setattr(Heartbeats, "end_process", lambda _, problem: problems.append(problem))
    return problems


def watch(agent: tuple[torch.distributed.TCPStore, dict[str, str]], rank: int, silence: float = 5.0) -> StartWatch:
    return StartWatch(interval=0.05, silence=silence, variables={**agent[1], "RANK": str(rank)})


def wait_for(told: list[str]) -> str:
    end = time.monotonic() + 20
    while not told and time.monotonic() < end:
        time.sleep(0.02)
    return told[0]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_before_the_ranks_have_met_reaches_the_others(
    agent: tuple[torch.distributed.TCPStore, dict[str, str]], told: list[str], failing: int
) -> None:
    with watch(agent, 1 - failing):  # it waits for the other, which has not begun yet
        time.sleep(0.3)
        assert told == []
        with pytest.raises(ValueError, match="bad data"), watch(agent, failing):
            raise ValueError("bad data")
        problem = wait_for(told)
    assert problem.startswith(f"rank {failing} of 2 on ")
    assert problem.endswith(" failed before the ranks had met: ValueError: bad data")


def test_a_rank_that_falls_silent_is_named(
    agent: tuple[torch.distributed.TCPStore, dict[str, str]], told: list[str]
) -> None:
    killed = watch(agent, 1, silence=0.5).__enter__()
    with watch(agent, 0, silence=0.5):
        time.sleep(0.2)
        assert killed._beats is not None
        killed._beats.stop()
        assert wait_for(told) == "rank 1 has not been heard from for 0 seconds"


def fail_after_meeting(watch: StartWatch) -> None:
    """RankWatch sees to it then."""
    watch.setup(None, None, "fit")  # type: ignore[arg-type]
    raise ValueError("later")


def test_ranks_that_meet_or_end_well_are_not_missed(
    agent: tuple[torch.distributed.TCPStore, dict[str, str]], told: list[str]
) -> None:
    with watch(agent, 0, silence=0.3) as first:
        with pytest.raises(SystemExit), watch(agent, 1):
            raise SystemExit(0)
        time.sleep(0.6)
        first.setup(None, None, "fit")  # type: ignore[arg-type]
        assert not first.beating
    assert told == []
    met = watch(agent, 0)
    with pytest.raises(ValueError, match="later"), met:
        fail_after_meeting(met)
    with watch(agent, 1):
        time.sleep(0.3)
    assert told == []


def test_other_launchers_are_left_alone() -> None:
    for variables in ({}, {"WORLD_SIZE": "2", "RANK": "0"}, {"TORCHELASTIC_USE_AGENT_STORE": "True"}):
        with StartWatch(variables=variables) as alone:
            assert not alone.beating
