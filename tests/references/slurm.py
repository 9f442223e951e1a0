"""Jobs on the SLURM of ``scripts/cluster/local_slurm.py``, as tests send them, watch them and make them fail."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from references.command_line import REPOSITORY, environment

SCRIPT = REPOSITORY / "scripts" / "cluster" / "slurm.sbatch"
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


class Paced(Callback):
    """Steps that take their time, and a file that tells when each was done: ``EPOCH STEP SECONDS``, of rank 0.

    Args:
        file: where to.
        seconds: that a step takes longer.
    """

    def __init__(self, file: str, seconds: float = 0.1) -> None:
        self.file, self.seconds = Path(file), seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes a line and waits."""
        if trainer.is_global_zero:
            with self.file.open("a") as out:
                out.write(f"{trainer.current_epoch} {batch_idx} {time.time()}\n")
        time.sleep(self.seconds)


@dataclass(frozen=True)
class Slurm:
    """A cluster that is up.

    Args:
        folder: of its files.
        work: where jobs are submitted.
    """

    folder: Path
    work: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """Of a user of the cluster."""
        kept = environment(MEBNS=f"{sys.executable} -m mebns_pl", SLURM_CONF=str(self.folder / "slurm.conf"), **changes)
        del kept["GLOO_SOCKET_IFNAME"]  # a node's name leads to its address
        return kept

    def tell(self, *command: str) -> str:
        """Runs a command of SLURM's, and gives back what it says."""
        done = subprocess.run(
            command, cwd=self.work, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def manage(self, *arguments: str) -> None:
        """``scripts/cluster/local_slurm.py``, of this cluster: ``cut``, ``unplug`` or ``revive``, and a node."""
        what, *others = arguments
        script = REPOSITORY / "scripts" / "cluster" / "local_slurm.py"
        subprocess.run([sys.executable, str(script), what, str(self.folder), *others], check=True)


@dataclass(frozen=True)
class Job:
    """A job that was submitted.

    Args:
        slurm: where.
        number: its number.
        runs: the folder of runs that it was given.
    """

    slurm: Slurm
    number: str
    runs: Path

    @property
    def folder(self) -> Path:
        """Where its run is."""
        return self.runs / self.number

    @property
    def output(self) -> Path:
        """What it says."""
        return self.slurm.work / f"slurm-{self.number}.out"

    def said(self) -> str:
        """What it has said so far."""
        return self.output.read_text() if self.output.exists() else ""

    def about(self, name: str) -> str:
        """What ``scontrol show job`` has under a name."""
        told = self.slurm.tell("scontrol", "show", "job", self.number)
        found = re.search(rf"\b{name}=(\S+)", told)
        assert found, told
        return found[1]

    def steps(self) -> list[tuple[int, int, float]]:
        """Epoch, step and time of all steps that were done."""
        file = self.runs / "steps.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(epoch), int(step), float(at)) for epoch, step, at in map(str.split, lines)]

    def done_twice(self) -> int:
        """How many steps were done a second time."""
        steps = [(epoch, step) for epoch, step, _ in self.steps()]
        return len(steps) - len(set(steps))

    def wait(self, what: Callable[[], object], patience: float = 900.0) -> float:
        """Waits until something is so.

        Returns:
            When it was.

        Raises:
            AssertionError: it was not in time, or the job is over.
        """
        until = time.time() + patience
        while not what():
            assert time.time() < until, f"job {self.number} after {patience:g} s: {self.said()[-3000:]}"
            time.sleep(0.1)
        return time.time()

    def wait_for_step(self, epoch: int, step: int) -> None:
        """Waits until a step is done."""
        self.wait(lambda: any(done[:2] >= (epoch, step) for done in self.steps()))

    def wait_for_words(self, words: str, patience: float = 900.0) -> float:
        """Waits until it has said something, a regular expression; gives back when."""
        return self.wait(lambda: re.search(words, self.said()), patience)

    def wait_for_end(self, patience: float = 900.0) -> str:
        """Waits until it is over; gives back its state."""
        self.wait(lambda: self.about("JobState") in OVER, patience)
        return self.about("JobState")


def submit(slurm: Slurm, runs: Path, arguments: Sequence[str], options: Sequence[str] = (), pace: float = 0.1) -> Job:
    """``sbatch scripts/cluster/slurm.sbatch``: two nodes with two ranks each, unless options say otherwise."""
    runs.mkdir(exist_ok=True)
    paced = [
        "--trainer.callbacks+=references.slurm.Paced",
        f"--trainer.callbacks.file={runs}/steps.txt",
        f"--trainer.callbacks.seconds={pace}",
    ]
    command = [
        "sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1", *options, str(SCRIPT),
        *arguments, *paced,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=slurm.work, env=slurm.environment(RUNS=str(runs)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Job(slurm, done.stdout.strip(), runs)
