"""What the benchmarks share: how a process is set up, and rows of a CSV file, so that a stopped one goes on."""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def begin(threads: int = 1) -> None:
    """Sets this process up for a run: so many threads, memory kept as under the command line, no chatter."""
    import torch

    from mebns_pl.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def told(values: Sequence[float] | np.ndarray, digits: int = 3) -> str:
    """Mean ± standard deviation of a number a seed, NaN where it is missing; says so where some are."""
    given = np.asarray(values, dtype=float)
    known = given[~np.isnan(given)]
    if not len(known):
        return "not run"
    spread = f" ± {known.std(ddof=1):.{digits}f}" if len(known) > 1 else ""
    missing = f" ({len(known)} of {len(given)} seeds)" if len(known) < len(given) else ""
    return f"{known.mean():.{digits}f}{spread}{missing}"


def gain(own: Sequence[float] | np.ndarray, control: Sequence[float] | np.ndarray) -> str:
    """Mean difference to the control's runs of the same seeds, with a 95 % t-interval; NaN where a seed is missing."""
    from scipy import stats

    gaps = np.asarray(own, dtype=float) - np.asarray(control, dtype=float)
    gaps = gaps[~np.isnan(gaps)]
    if len(gaps) < 2:
        return f"{gaps.mean():+.3f}" if len(gaps) else ""
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    return f"{gaps.mean():+.3f} ({gaps.mean() - half:+.3f}, {gaps.mean() + half:+.3f})"


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
