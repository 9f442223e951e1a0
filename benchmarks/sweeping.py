"""Runs an hour of a sweep against the same commands one by one: Cora, GCN + dot, DNS, 20 epochs, plain.

One by one is what one would type: ``mebns fit``, then ``mebns test`` on its best epoch, each a process that has all
cores. A sweep has one worker a core. Both train and write the same, and must end with the same test MRR. Prints a line
for each, and at last the ratio.

    python benchmarks/sweeping.py --root DATA
    python benchmarks/sweeping.py --runs 12 --singles 4 --workers 2     # the single ones vary little: a few will do
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _runs import head, line, parser_of

REPOSITORY = Path(__file__).resolve().parent.parent
STUDY = """
name: sweeping
base: base
options: {{trainer.max_epochs: 20, trainer.accelerator: cpu, figures.max_snapshots: 0}}
axes: {{graph: [cora], model: [gcn_dot], sampler: [dns], system: [Plain]}}
seeds: {runs}
"""
STACK = ("base", "data/cora", "model/gcn_dot", "sampler/dns")
OPTIONS = ("--model=Plain", "--trainer.max_epochs=20", "--trainer.accelerator=cpu", "--figures.max_snapshots=0")


def mebns(*arguments: str, cwd: Path, root: str | None) -> None:
    """Runs the command line in a process of its own.

    Raises:
        RuntimeError: it has failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **({"MEBNS_DATA": root} if root else {})}
    command = [sys.executable, "-m", "mebns_pl", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def one_by_one(folder: Path, runs: int, root: str | None) -> dict[int, float]:
    """Trains and tests so many seeds one after the other; returns their test MRR."""
    files = [part for name in STACK for part in ("-c", str(REPOSITORY / "configs" / f"{name}.yaml"))]
    own = [*files, *OPTIONS, "--trainer.enable_progress_bar=false", f"--trainer.logger.save_dir={folder}"]
    found = {}
    for seed in range(runs):
        run = folder / f"seed{seed}" / "version_0"
        logger = [f"--trainer.logger.name=seed{seed}", "--trainer.logger.version=0"]
        mebns("fit", *own, *logger, f"--seed_everything={seed}", cwd=folder, root=root)
        mebns("test", f"-c={run}/config.yaml", f"--ckpt_path={run}/checkpoints/best.ckpt", cwd=folder, root=root)
        found[seed] = json.loads((run / "metrics.json").read_text())["test"]["metrics"]["mrr"]
    return found


def swept(folder: Path, runs: int, workers: int, root: str | None) -> dict[int, float]:
    """The same as a sweep."""
    from mebns_pl.study.store import read_results

    study = folder / "sweeping.yaml"
    study.write_text(STUDY.format(runs=runs))
    mebns("sweep", str(study), "--out=swept", f"--workers={workers}", cwd=folder, root=root)
    table = read_results(folder / "swept")
    return dict(zip(table.seed, table["test/mrr"], strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures."""
    parser: argparse.ArgumentParser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=12, help="of the sweep")
    parser.add_argument("--singles", type=int, default=4, help="runs one by one")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    pace = {}
    head("how", "runs", "seconds", "CPU seconds", "runs an hour", numbers=True)
    with tempfile.TemporaryDirectory() as place:
        folder, root = Path(place), given.root and str(Path(given.root).resolve())
        found = {}
        for name, runs, work in (
            ("one by one", given.singles, lambda: one_by_one(folder, given.singles, root)),
            (f"a sweep, {given.workers} workers", given.runs, lambda: swept(folder, given.runs, given.workers, root)),
        ):
            begin, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            found[name] = work()
            seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
            pace[name] = 3600 * runs / seconds
            busy = (
                after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
            )  # tells where others are at work, too
            line(name, runs, f"{seconds:.1f}", f"{busy:.1f}", f"{pace[name]:.0f}")
    single, many = found.values()
    if any(abs(many[seed] - single[seed]) > 1e-6 for seed in single.keys() & many.keys()):
        raise RuntimeError(f"test MRR differs: {single} one by one, {many} in the sweep")
    one, other = pace.values()
    print(f"{other / one:.2f}")


if __name__ == "__main__":
    main()
