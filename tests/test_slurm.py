"""Jobs on a real SLURM: what goes wrong is noticed, nothing is lost, and the end has the bits of an undisturbed run.

``make test-slurm``; each test leaves what its job has said in ``build/slurm``, and a line of the table of faults.
"""

from __future__ import annotations

import fcntl
import json
import math
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
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
    keep_text(name, jobs[0].slurm, *(job.said() for job in jobs))


def keep_text(name: str, slurm: Slurm, *said: str) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / f"{name}.log").write_text("\n".join(said).replace(f"{slurm.work}/", ""))


def write_row(fault: str, noticed: float, again: float, twice: int, restarts: str) -> None:
    """A line of the table: when it was noticed, when the run was going on, and what was done a second time."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "table.md").open("a") as out:
        out.write(f"| {fault} | {noticed:.1f} | {again:.0f} | {twice} | {restarts} |\n")


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
    going_on = job.wait(lambda: len(job.steps()) > done) - began
    assert job.wait_for_end() == "COMPLETED", job.said()
    keep_log(name, job)
    noticed = queued_again if words is None else noticed
    write_row(fault, noticed, going_on, job.done_twice(), job.about("Restarts"))
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
        for node_name in dead:
            cluster.manage("revive", node_name)


def test_two_jobs_at_once_in_one_folder(cluster: Slurm, small: list[str], whole: dict[str, Tensor]) -> None:
    """They share nodes, the folder of runs, and that of logs."""
    runs = cluster.work / "both"
    logger = [
        "--trainer.logger=lightning.pytorch.loggers.TensorBoardLogger",
        f"--trainer.logger.save_dir={runs}/logs",
        "--trainer.logger.name=mebns",
    ]
    jobs = [submit(cluster, runs, [*small, *logger]) for _ in range(2)]
    assert [job.wait_for_end() for job in jobs] == ["COMPLETED"] * 2, [job.said() for job in jobs]
    keep_log("two_jobs", *jobs)
    assert all(same(final(job), whole) for job in jobs)
    logs = sorted(path.parent.name for path in (runs / "logs/mebns").glob("version_*/config.yaml"))
    assert logs == ["version_0", "version_1"]


def test_a_job_array_of_a_sweep(cluster: Slurm, small: list[str]) -> None:
    """Two workers, of which one is told to stop in mid-run; the table is that of the same sweep without SLURM."""
    study = cluster.work / "pair.yaml"
    paced = {
        "class_path": "references.slurm.Paced",
        "init_args": {"file": str(cluster.work / "pair.txt"), "seconds": 0.3},
    }
    options = {"trainer": {"callbacks": [paced]}}
    study.write_text(json.dumps({"name": "pair", "base": ["small.yaml", options], "seeds": 2}))

    def sweep(out: str, *more: str) -> str:
        command = [sys.executable, "-m", "mebns_pl", "sweep", str(study), f"--out={cluster.work / out}", *more]
        done = subprocess.run(
            command, cwd=cluster.work, env=cluster.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    found = re.search(r"Submitted batch job (\d+)", sweep("array", "--slurm", "--workers=2"))
    assert found
    job = Job(cluster, f"{found[1]}_0", cluster.work / "array")
    steps = cluster.work / "pair.txt"
    job.wait(lambda: steps.exists() and len(steps.read_text().splitlines()) > 4)
    began = time.time()
    cluster.tell("scancel", "--batch", "--signal=USR1", job.number)
    output = cluster.work / "array" / f"slurm-{job.number}.out"
    told = cluster.work / "array" / "runs"
    job.wait(lambda: any(re.search(STOPS, path.read_text()) for path in told.glob("*/output.txt")))
    noticed = time.time() - began
    job.wait(lambda: (read_results(cluster.work / "array")["status"] == "done").all())
    again = time.time() - began
    job.wait(lambda: not cluster.tell("squeue", "--noheader"))
    keep_text("array", cluster, *(path.read_text() for path in sorted(output.parent.glob("slurm-*.out"))))
    write_row("a worker of a job array, `scancel --batch --signal=USR1`", noticed, again, 0, job.about("Restarts"))
    sweep("alone", "--workers=1")
    array, alone = (read_results(cluster.work / name) for name in ("array", "alone"))
    measured = [name for name in alone if name.startswith(("val/", "test/"))]
    assert measured
    pd.testing.assert_frame_equal(array[["run", *measured]], alone[["run", *measured]], check_exact=True)
