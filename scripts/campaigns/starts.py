"""Starts runs in the same folder at once: each must get a folder of its own, and be the run it would be alone.

Every process waits until all of them are about to choose their folder. Then each goes on with ``mebns fit``, all with
the same options and seed, and must end with the same checkpoint, to the last bit, in its own folder.

    python scripts/campaigns/starts.py                          # 20 at once
    python scripts/campaigns/starts.py --starts 4 --rounds 3 --folder /tmp/starts
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from forks import Runs, same, state
from mebns_pl.cli import run_folder


class Gate:
    """Where processes wait for each other.

    Args:
        folder: files in it tell who is there.
        starts: how many there are.
    """

    def __init__(self, folder: Path, starts: int) -> None:
        self.folder, self.starts = folder, starts
        folder.mkdir(parents=True)

    def close_for(self, number: int) -> None:
        """Has this process, the ``number``-th, wait where it would choose its folder."""
        claim = run_folder.claim_versions

        def wait(loggers: Any) -> None:
            (self.folder / str(number)).touch()
            while len(list(self.folder.iterdir())) < self.starts:
                time.sleep(0.001)
            claim(loggers)

        run_folder.claim_versions = wait


def trial(runs: Runs, folder: Path, starts: int) -> list[str]:
    """What is wrong with each of the runs; an empty text for one that is as it should be."""
    gate = Gate(folder / "gate", starts)
    place = folder / "runs"
    children = [runs.start(place, prepare=lambda number=n: gate.close_for(number)) for n in range(starts)]
    told = [f"exit status {code}" if (code := runs.wait(child)) else "" for child in children]
    found = sorted((place / "logs" / "mebns").glob("version_*"))
    first: dict[str, Any] | None = None
    for number, path in enumerate(found[:starts]):
        try:
            yaml.safe_load((path / "config.yaml").read_text())
            this = dict(state(torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)))
        except OSError as error:
            told[number] = told[number] or str(error)
            continue
        this = {name: value for name, value in this.items() if not name.endswith("log_version")}
        first = first or this
        if this.keys() != first.keys() or not all(same(value, first[name]) for name, value in this.items()):
            told[number] = told[number] or f"{path.name} differs from {found[0].name}"
    lost = starts - len(found)
    return told if lost <= 0 else [text or "no folder" if n < lost else text for n, text in enumerate(told)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the campaign; returns 0 when all is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=20, help="how many at once")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("start_campaign"))
    given = parser.parse_args(arguments)
    folder, runs, wrong = given.folder.resolve(), Runs(fresh=False, epochs=given.epochs), 0
    if folder.exists():
        parser.error(f"--folder: {folder} is there")
    runs.warm_up(folder / "runs")
    for number in range(given.rounds):
        told = [text for text in trial(runs, folder / f"{number:03d}", given.starts) if text]
        wrong += len(told)
        print(f"round {number + 1}: {', '.join(told) or 'every run has its own folder and the same bits'}", flush=True)
    tried = given.rounds * given.starts
    print(f"starts: {tried} tried, {tried - wrong} right, {wrong} wrong")
    if not wrong:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
