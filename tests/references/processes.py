"""Processes of their own for tests, which begin with this package imported.

They are forked off a server that has imported it once for all tests of a session: an interpreter and the imports take
seconds, and the tests' own process, which has threads, is not safe to fork.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.multiprocessing


def in_processes(function: Callable[..., Any], *args: Any, ranks: int = 1) -> None:
    """Calls ``function(rank, *args)`` in ``ranks`` processes and waits for their end.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one of them raised an error.
    """
    multiprocessing.set_forkserver_preload(["mebns_pl.cli.main"])
    torch.multiprocessing.start_processes(function, args=args, nprocs=ranks, start_method="forkserver")


def output_of(function: Callable[..., Any], *args: Any, into: Path) -> str:
    """What ``function(*args)`` writes to standard output in a process of its own, kept in the file ``into``.

    Raises:
        torch.multiprocessing.ProcessRaisedException: it raised an error.
    """
    in_processes(_into, str(into), function, args)
    return into.read_text()


def _into(_: int, path: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    with open(path, "w") as file:
        os.dup2(file.fileno(), 1)
    function(*args)
    os.fsync(1)
