"""Lets the disk run full at random moments of a run: one line must tell it, and the run must go on when there is room.

A limit on the size of files (``RLIMIT_FSIZE``) stands for the full disk: it is met at whichever write first comes to
it, that of a checkpoint, of logs or of options, at the start or in the middle of training. Such a run must end with one
line that names the place and no traceback, leave whole checkpoints and no unfinished files, and, resumed, end with the
bits of a run that nothing has happened to.

    python scripts/campaigns/full_disk.py               # 40 runs
    python scripts/campaigns/full_disk.py --trials 3 --folder /tmp/full
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from forks import LAST, RUN, Runs, same, state
from mebns_pl.callbacks.last_checkpoint import LastCheckpoint


def limit_after(steps: int, size: int) -> None:
    """From a step on, no file of this process grows beyond ``size`` bytes; at once with 0 steps."""

    def limit(*_: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def start(self: Any, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step >= steps:
            limit()

    if steps:
        LastCheckpoint.on_train_batch_start = start  # type: ignore[method-assign]
    else:
        limit()


def trial(runs: Runs, whole: Path, place: Path, steps: int, size: int) -> tuple[str, list[str]]:
    """How a run ended, and what is wrong with that."""
    expected = dict(state(torch.load(whole / LAST, weights_only=True)))
    code = runs.wait(runs.start(place, prepare=lambda: limit_after(steps, size)))
    said = (place / "output.txt").read_text().splitlines()
    errors = [line for line in said if line.startswith("mebns: error: ")]
    told = []
    if code and (len(errors) != 1 or not any(word in errors[0] for word in ("logs", "checkpoint", str(place)))):
        told.append(f"exit status {code}, said {said[-3:]}")
    if any("Traceback" in line for line in said):
        told.append("a traceback")
    told += [f"left over: {path}" for path in place.rglob(".*")]
    for path in place.rglob("*.ckpt"):
        try:
            torch.load(path, weights_only=True)
        except Exception as error:
            told.append(f"{path}: {error}")
    how = errors[0].partition(": ")[2].replace(f"{place}/", "") if errors else "not met"
    if code and not told:
        resumed = (place / LAST).exists()
        again = runs.wait(runs.start(place, *(["--resume"] if resumed else [])))
        last = LAST if resumed else max(place.rglob("last.ckpt"), default=place / LAST)
        found = dict(state(torch.load(place / last, weights_only=True))) if not again else {}
        names = [name for name in expected if not name.endswith("log_version")]
        if not all(name in found and same(found[name], expected[name]) for name in names):
            told.append(f"{'resumed' if resumed else 'begun'} again it differs")
    return how, told


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the campaign; returns 0 when all is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("disk_campaign"))
    given = parser.parse_args(arguments)
    folder, runs = given.folder.resolve(), Runs(fresh=False, epochs=given.epochs)
    if folder.exists():
        parser.error(f"--folder: {folder} is there")
    whole = folder / "whole"
    runs.warm_up(whole)
    runs.succeed(runs.start(whole), whole)
    largest = max(path.stat().st_size for path in (whole / RUN).rglob("*") if path.is_file())
    steps = torch.load(whole / LAST, weights_only=True)["global_step"]
    wrong, hows = 0, Counter[str]()
    for number in range(given.trials):
        dice = Random(f"{given.seed}/{number}")
        moment, size = dice.choice((0, dice.randrange(1, steps))), int(largest ** dice.uniform(0.6, 1.01))
        how, told = trial(runs, whole, folder / f"{number:03d}", moment, size)
        wrong += bool(told)
        hows[how] += 1
        print(f"{size:8,d} bytes from step {moment:2d} on: {how}{'; WRONG: ' if told else ''}{told or ''}", flush=True)
        if not told:
            shutil.rmtree(folder / f"{number:03d}")
    print(f"full disks: {given.trials} tried, {given.trials - wrong} right, {wrong} wrong")
    if not wrong:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
