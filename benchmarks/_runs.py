"""What the benchmarks share: options, how a process is set up, training, tables, and rows of a CSV file."""

from __future__ import annotations

import argparse
import logging
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

QUIET: dict[str, Any] = {
    "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}  # fmt: skip
"""Options of a Trainer that says and keeps nothing."""


def parser_of(description: str | None, fills: bool = False) -> argparse.ArgumentParser:
    """A parser with ``--root`` and, where the benchmark fills a CSV file, ``--jobs`` and ``--report``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=None, help="folder with the graphs' files")
    if fills:
        parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
        parser.add_argument("--report", action="store_true", help="tables and figures only, of the runs that are there")
    return parser


def begin(threads: int = 1) -> None:
    """Sets this process up for a run: so many threads, memory kept as under the command line, no chatter."""
    import torch

    from mebns_pl.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    quieten()


def quieten() -> None:
    """No chatter of Lightning's, and no warnings."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def peak_gb() -> float:
    """The largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def train(
    system: Any, data: Any, epochs: int, metric: str = "mrr", every: int = 5, callbacks: Sequence[Any] = ()
) -> dict[str, Any]:
    """Trains on the CPU, without logs, and tests the epoch that is best on validation, which is looked at so often.

    Returns:
        The test's metrics by name (``test/mrr``), and ``val``, ``best_epoch``, ``seconds_per_epoch``, ``eval_seconds``.
    """
    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, monitor=f"val/{metric}", mode="max", filename="best")
        trainer = Trainer(
            max_epochs=epochs, check_val_every_n_epoch=every, accelerator="cpu", callbacks=[best, *callbacks],
            default_root_dir=folder, **QUIET,
        )  # fmt: skip
        start = time.perf_counter()
        trainer.fit(system, data)
        trained = time.perf_counter()
        best_epoch = torch.load(best.best_model_path, weights_only=True)["epoch"] + 1
        (metrics,) = trainer.test(system, data, ckpt_path=best.best_model_path, verbose=False)
        seconds = {"seconds_per_epoch": (trained - start) / epochs, "eval_seconds": time.perf_counter() - trained}
    return {**metrics, "val": float(best.best_model_score), "best_epoch": best_epoch, **seconds}


def told(values: Sequence[float] | np.ndarray, digits: int = 3) -> str:
    """Mean ± standard deviation of a number a seed, NaN where it is missing; says so where some are."""
    given = np.asarray(values, dtype=float)
    known = given[~np.isnan(given)]
    if not len(known):
        return "not run"
    spread = f" ± {known.std(ddof=1):.{digits}f}" if len(known) > 1 else ""
    missing = f" ({len(known)} of {len(given)} seeds)" if len(known) < len(given) else ""
    return f"{known.mean():.{digits}f}{spread}{missing}"


def gain(own: Sequence[float] | np.ndarray, control: Sequence[float] | np.ndarray, digits: int = 3) -> str:
    """Mean difference to the control's runs of the same seeds, with a 95 % t-interval; NaN where a seed is missing."""
    from scipy import stats

    gaps = np.asarray(own, dtype=float) - np.asarray(control, dtype=float)
    gaps = gaps[~np.isnan(gaps)]
    if len(gaps) < 2:
        return f"{gaps.mean():+.{digits}f}" if len(gaps) else ""
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    return f"{gaps.mean():+.{digits}f} ({gaps.mean() - half:+.{digits}f}, {gaps.mean() + half:+.{digits}f})"


def read(path: Path) -> list[dict[str, str]]:
    """The rows that are there."""
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") if path.exists() else []


def append(path: Path, rows: Sequence[dict[str, Any]], fields: Sequence[str], digits: int = 6) -> None:
    """Adds rows at once, under a header where the file is new; floats with so many significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=list(fields))
    table.to_csv(path, mode="a", header=not path.exists(), index=False, float_format=f"%.{digits}g")


def fill(
    path: Path,
    fields: Sequence[str],
    work: Callable[..., list[dict[str, Any]]],
    cells: Iterable[tuple[Any, ...]],
    jobs: int,
    fresh: bool = False,
    digits: int = 6,
) -> None:
    """Adds the rows of ``work(*cell)`` for every cell, as they come, in so many processes.

    With ``fresh`` each has a process of its own, so that the peak of its memory is its own.
    """
    own = {"max_tasks_per_child": 1, "mp_context": get_context("spawn")} if fresh else {}
    with ProcessPoolExecutor(jobs, **own) as pool:
        futures = [pool.submit(work, *cell) for cell in cells]
        for number, future in enumerate(as_completed(futures), start=1):
            append(path, future.result(), fields, digits)
            print(f"finished {number} of {len(futures)}", flush=True)


def line(*cells: object) -> None:
    """Prints a row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def head(*names: str, numbers: bool = False) -> None:
    """Prints the head of a Markdown table; with ``numbers`` all columns but the first are flush right."""
    line(*names)
    print(f"|---|{('---:|' if numbers else '---|') * (len(names) - 1)}")
