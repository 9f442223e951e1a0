"""Jobs on a real SLURM: what goes wrong is noticed, nothing is lost, and the end has the bits of an undisturbed run.

``make test-slurm``; each test leaves what its job has said in ``build/slurm``, and a line of the table of faults.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mebns_pl.study.store import read_results
from references.command_line import REPOSITORY, weights_of, write_small
from references.slurm import Job, Slurm, submit

LOCAL_SLURM = REPOSITORY / "scripts" / "cluster" / "local_slurm.py"
BUILD = REPOSITORY / "build" / "slurm"

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    """Three nodes. One such cluster at a time can be on a machine: others wait here for their turn."""
    if reason := runpy.run_path(str(LOCAL_SLURM))["missing"]():
        pytest.skip(reason)
    root = Path(tempfile.mkdtemp(prefix="mebns-slurm-"))
    with (Path(tempfile.gettempdir()) / "mebns-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        slurm = Slurm(root / "cluster", root / "work")
        slurm.work.mkdir()
        try:
            slurm.manage("up", "--nodes=3")
            yield slurm
        finally:
            slurm.manage("down")
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def small(cluster: Slurm) -> list[str]:
    return ["-c", str(write_small(cluster.work))]


@pytest.fixture(scope="module")
def whole(cluster: Slurm, small: list[str]) -> dict[str, Tensor]:
    """The weights at the end of a job that nothing has disturbed."""
    job = submit(cluster, cluster.work / "whole", small)
    assert job.wait_for_end() == "COMPLETED", job.said()
    keep_log("undisturbed", job)
    return final(job)


def final(job: Job) -> dict[str, Tensor]:
    return weights_of(job.folder / "last.ckpt")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def keep_log(name: str, *jobs: Job) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    said = "\n".join(job.said() for job in jobs)
    (BUILD / f"{name}.log").write_text(said.replace(f"{jobs[0].slurm.work}/", ""))


def row(fault: str, noticed: float, again: float, job: Job) -> None:
    """A line of the table: when it was noticed, when the run was going on, and what was done a second time."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "table.md").open("a") as out:
        out.write(f"| {fault} | {noticed:.1f} | {again:.0f} | {job.done_twice()} | {job.about('Restarts')} |\n")


def disturb(
    name: str, fault: str, cluster: Slurm, small: list[str], whole: dict[str, Tensor], what: Callable[[Job], object],
    words: str | None, options: tuple[str, ...] = (), pace: float = 0.3,
) -> Job:  # fmt: skip
    """Makes a fault in the second epoch, and waits for the job's end, which must be that of ``whole``.

    Without words by which it is noticed, the job being queued again tells so.
    """
    job = submit(cluster, cluster.work / name, small, options, pace)
    job.wait_for_step(1, 1)
    before = len(job.said())
    began = time.time()
    what(job)
    if words is not None:
        noticed = job.wait(lambda: re.search(words, job.said()[before:])) - began
    queued_again = job.wait(lambda: int(job.about("Restarts")) > 0) - began
    done = len(job.steps())
    cluster.tell("scontrol", "update", f"JobId={job.number}", "TimeLimit=60")
    going_on = job.wait(lambda: len(job.steps()) > done, 300) - began
    assert job.wait_for_end() == "COMPLETED", job.said()
    keep_log(name, job)
    row(fault, queued_again if words is None else noticed, going_on, job)
    assert same(final(job), whole)
    assert not list(job.folder.rglob(".*.tmp"))
    return job


STOPS = r"training stops after step"
LOST = r"ends: rank \d"


def test_two_nodes_with_two_ranks_each(whole: dict[str, Tensor]) -> None:
    assert whole
    assert all(bool(value.isfinite().all()) for value in whole.values())


def test_a_signal_queues_the_job_again(cluster: Slurm, small: list[str], whole: dict[str, Tensor]) -> None:
    job = disturb("signal", "`scancel --signal=USR1`", cluster, small, whole,
                  lambda job: cluster.tell("scancel", "--signal=USR1", job.number), STOPS)  # fmt: skip
    assert job.done_twice() == 0
    assert job.about("Restarts") == "1"


def test_scontrol_requeue(cluster: Slurm, small: list[str], whole: dict[str, Tensor]) -> None:
    job = disturb("requeue", "`scontrol requeue`", cluster, small, whole,
                  lambda job: cluster.tell("scontrol", "requeue", job.number), STOPS)  # fmt: skip
    assert job.done_twice() == 0
    assert job.about("Restarts") == "1"


def test_the_time_limit(cluster: Slurm, small: list[str], whole: dict[str, Tensor]) -> None:
    """The limit is moved near, so that the signal that was asked for 100 seconds before it comes in these seconds."""

    def near(job: Job) -> None:
        hours, minutes, seconds = map(int, job.about("RunTime").split(":"))
        limit = 60 * hours + minutes + math.ceil(seconds / 60) + 1
        cluster.tell("scontrol", "update", f"JobId={job.number}", f"TimeLimit={limit}")

    disturb("limit", "time limit", cluster, small, whole, near, STOPS, ("--time=60", "--signal=SIGUSR1@100"), 2.0)


@pytest.mark.parametrize(("name", "node"), [("node", -1), ("batch_node", 0)])
def test_a_node_without_power(cluster: Slurm, small: list[str], whole: dict[str, Tensor], name: str, node: int) -> None:
    """Its processes and its network are gone at once; with the first, the batch script and rank 0 are."""

    def cut(job: Job) -> None:
        nodes = cluster.tell("scontrol", "show", "hostnames", job.about("NodeList")).split()
        dead.append(nodes[node])
        cluster.manage("cut", dead[0])

    dead: list[str] = []
    try:
        disturb(name, f"node {'of the batch script and rank 0' if node == 0 else 'of the last ranks'} without power",
                cluster, small, whole, cut, LOST if node else None)  # fmt: skip
    finally:
        cluster.manage("revive", dead[0])
