"""By which code, and where, a run is made."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def about_this_machine() -> dict[str, str | None]:
    """Commit and version of the package, and the machine; no commit where the package is not its repository's own."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor()}, {os.cpu_count()} cores"
    return {"commit": commit_of(PACKAGE), "version": version("mebns_pl"), "machine": f"{platform.node()}: {device}"}


def processor() -> str:
    """What the system calls its processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit_of(package: Path) -> str | None:
    """The commit of a package that is its repository's own, or None.

    An environment may lie in the repository of another project, whose commits say nothing of this code.
    """
    ask = ["git", "rev-parse", "HEAD", "--show-toplevel"]
    try:
        found = subprocess.run(ask, cwd=package, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git here
        return None
    if found.returncode:
        return None
    commit, top = found.stdout.splitlines()
    return commit if Path(top).resolve() == package.parent else None
