"""The script that sends a study's workers out as a job array of SLURM."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from mebns_pl.errors import DataError

GRACE = 120
"""Seconds before a job's end, or its preemption, at which it is told, to write a last checkpoint."""


def sbatch_script(name: str, folder: Path, workers: int, options: str = "", cores: int = 1) -> str:
    """The script; a worker that is preempted is queued again, and goes on.

    Args:
        name: of the study.
        folder: of the study, on a file system that all hosts share.
        workers: jobs of the array, 1 or more.
        options: of sbatch, as on its command line, such as ``--partition=gpu --gres=gpu:1``.
        cores: of each worker.

    Raises:
        DataError: options that are none.

    Example:
        >>> print(sbatch_script("demo", Path("/shared/demo"), 4).splitlines()[2])
        #SBATCH --array=0-3
    """
    try:
        given = shlex.split(options)
    except ValueError as error:
        raise DataError(f"--sbatch: got {options!r} ({error}); allowed are options of sbatch") from error
    if wrong := [option for option in given if not option.startswith("-")]:
        raise DataError(f"--sbatch: got {wrong[0]!r}; allowed are options of sbatch, --name=value each")
    folder = folder.absolute()
    lines = [
        f"--job-name=mebns-{name}", f"--array=0-{workers - 1}", "--requeue", "--open-mode=append",
        f"--cpus-per-task={cores}", f"--signal=B:USR1@{GRACE}", f"--output={folder}/slurm-%A_%a.out", *given,
    ]  # fmt: skip
    directives = "\n".join(f"#SBATCH {line}" for line in lines)
    command = shlex.join([sys.executable, "-m", "mebns_pl.cli.worker", str(folder)])
    threads = f"${{SLURM_CPUS_PER_TASK:-{cores}}}"  # which options may have set
    return f"#!/bin/bash\n{directives}\nexport OMP_NUM_THREADS={threads}\nexec {command}\n"
