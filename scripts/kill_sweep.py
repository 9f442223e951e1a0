"""Kills a sweep, or one of its workers, at random moments, starts it again, and compares its table with another's.

Every kill is a SIGKILL; the other sweep is an undisturbed one. At the end there must be a row for every run, none run
twice after it was done, with the metrics, the chosen epoch, churn and unevenness of the undisturbed sweep, to the last
bit.

    python scripts/kill_sweep.py                  # 20 kills
    python scripts/kill_sweep.py --kills 2 --seeds 2 --folder /tmp/kill_sweep
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mebns_pl.study.store import read_results

REPOSITORY = Path(__file__).resolve().parent.parent
STUDY = """
name: kills
base:
  - base
  - trainer: {{max_epochs: 6, accelerator: cpu, check_val_every_n_epoch: 2}}
    model:
      init_args:
        predictor:
          class_path: mebns_pl.EncoderDecoder
          init_args: {{encoder: {{class_path: mebns_pl.GCN, init_args: {{hidden_channels: 16}}}}}}
        collector: {{num_passes: 2}}
        schedule: {{warmup: 2}}
        teaching: {{class_path: mebns_pl.OwnLearning, init_args: {{epochs: 3}}}}
    data:
      graph: air_routes
      eval_negatives: {{class_path: mebns_pl.RandomNegatives, init_args: {{num_negatives: 10}}}}
    migration: {{probe_size: 100}}
    figures: {{max_snapshots: 0}}
axes:
  system: [Plain, MeBNS]
seeds: {seeds}
"""
SAME = ("axis/", "val/", "test/")


def start(study: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """Starts the sweep."""
    command = [sys.executable, "-m", "mebns_pl", "sweep", str(study), f"--out={out}", f"--workers={workers}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with open(out.with_suffix(".txt"), "ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment)


def workers_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def working(out: Path, sweep: subprocess.Popen[bytes]) -> bool | None:
    """Whether workers of this start have taken runs; None where they have not yet, False where it is over."""
    if sweep.poll() is not None:
        return False
    try:
        with contextlib.closing(sqlite3.connect(out / "results.sqlite", timeout=30)) as connection:
            owners = [owner for (owner,) in connection.execute("SELECT owner FROM runs WHERE status = 'running'")]
    except sqlite3.Error:
        return None
    pids = {int(str(owner).rpartition("/")[2]) for owner in owners}
    return True if pids & set(workers_of(sweep.pid)) else None


def compared(out: Path) -> pd.DataFrame:
    """What must not depend on what has happened to a sweep."""
    table = read_results(out)
    kept = [name for name in table if name.startswith(SAME)]
    return table[["run", "status", *kept, "best_epoch", "epochs", "churn", "unevenness", "split_seed", "seed"]]


def campaign(given: argparse.Namespace) -> int:
    """Runs the campaign; returns how many tables differ."""
    random, folder = np.random.default_rng(given.seed), given.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    study = folder / "kills.yaml"
    study.write_text(STUDY.format(seeds=given.seeds))
    sweep = start(study, folder / "whole", given.workers)
    while working(folder / "whole", sweep) is None:
        time.sleep(0.1)
    began = time.monotonic()
    if sweep.wait():
        raise RuntimeError((folder / "whole.txt").read_text())
    seconds = time.monotonic() - began
    print(f"undisturbed: {2 * given.seeds} runs in {seconds:.0f} s after the start", flush=True)
    kills = rounds = wrong = 0
    while kills < given.kills:
        out = folder / f"round{rounds}"
        done_at: dict[str, str] = {}
        while True:
            moment, whom = float(random.uniform(0, seconds / 2)), random.random()
            sweep = start(study, out, given.workers)
            begun = working(out, sweep)
            if random.random() < 0.2:  # some before anything runs
                moment, begun = moment / 2, False
            while begun is None:
                time.sleep(0.1)
                begun = working(out, sweep)
            try:
                sweep.wait(moment if kills < given.kills else None)
                break  # all done
            except subprocess.TimeoutExpired:
                kills += 1
            children = workers_of(sweep.pid)
            if whom < 0.3 and children:  # the sweep replaces it
                os.kill(children[int(random.integers(len(children)))], signal.SIGKILL)
                if kills < given.kills:
                    time.sleep(2)
                    sweep.kill()
                    kills += 1
            else:
                sweep.kill()
            sweep.wait()
            table = read_results(out) if (out / "results.sqlite").exists() else pd.DataFrame({"run": [], "status": []})
            done = table[table.status == "done"]
            again = [
                run for run, at in zip(done.run, done.get("finished", ()), strict=False) if done_at.get(run, at) != at
            ]
            wrong += len(again)
            done_at |= dict(zip(done.run, done.get("finished", ()), strict=False))
            print(
                f"kill {kills}: {len(done)} of {2 * given.seeds} runs are done; run twice: {again or 'none'}",
                flush=True,
            )
        ours, theirs = compared(out), compared(folder / "whole")
        equal = ours.equals(theirs)
        wrong += not equal
        print(f"round {rounds}: {'the same table' if equal else 'ANOTHER TABLE'}", flush=True)
        if not equal:
            print(ours.compare(theirs) if ours.shape == theirs.shape else ours)
        rounds += 1
    print(f"{kills} kills in {rounds} rounds: {wrong} differences")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 0 when all tables are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("kill_sweep"))
    parser.add_argument("--seed", type=int, default=0)
    return int(campaign(parser.parse_args(arguments)) > 0)


if __name__ == "__main__":
    sys.exit(main())
