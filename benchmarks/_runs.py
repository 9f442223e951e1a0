"""What the benchmarks share: how a process is set up, and rows of a CSV file, so that a stopped one goes on."""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def begin(threads: int = 1) -> None:
    """Sets this process up for a run: so many threads, memory kept as under the command line, no chatter."""
    import torch

    from mebns_pl.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def read(path: Path) -> list[dict[str, str]]:
    """The rows that are there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, rows: Sequence[dict[str, Any]], fields: Sequence[str], digits: int = 6) -> None:
    """Adds rows at once, under a header where the file is new; floats with so many significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            writer.writeheader()
        for row in rows:
            short = {name: f"{value:.{digits}g}" if isinstance(value, float) else value for name, value in row.items()}
            writer.writerow(short)
