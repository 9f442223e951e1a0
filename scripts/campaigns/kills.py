"""Kills training runs at random moments, resumes them, and compares them with a run that nobody has killed.

Every run is a process that trains MeBNS on the embedded air-routes graph from the command line (``mebns fit``), dies by
SIGKILL, and goes on by ``mebns fit --resume``. Its last checkpoint (weights, optimizers, schedulers, meta set,
migration, early stopping, best score) and every value in its TensorBoard files must be those of the uninterrupted run,
to the last bit, and no temporary file may be left. Checkpoints are written after every step, so that many kills fall
into a write.

    python scripts/campaigns/kills.py                    # 50 kills; started again, it goes on where it was stopped
    python scripts/campaigns/kills.py --kills 3 --folder /tmp/kills --epochs 4

Processes are forked from one that has imported everything, which saves seconds a start; ``--fresh`` starts new ones.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from forks import LAST, RUN, Runs, same, state
from mebns_pl.keys import Key


def logged(folder: Path) -> dict[tuple[str, int], list[bytes]]:
    """Every scalar in a run's TensorBoard files: its values by name and step, more than one where it was redone."""
    found: dict[tuple[str, int], list[bytes]] = {}
    for path in sorted((folder / RUN).glob("events.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.HasField("simple_value") or "_cost/" in value.tag:
                    continue  # figures are drawn when there is time, and times differ
                bits = torch.tensor(value.simple_value, dtype=torch.float32).numpy().tobytes()
                found.setdefault((value.tag, event.step), []).append(bits)
    return found


def faults(whole: Path, resumed: Path) -> list[str]:
    """In what a resumed run differs from the uninterrupted one, and what it has left lying about."""
    ours, theirs = (
        dict(state(torch.load(folder / LAST, weights_only=True, map_location="cpu"))) for folder in (resumed, whole)
    )
    told = [f"checkpoint{name}" for name in sorted(ours.keys() ^ theirs.keys())]
    told += [f"checkpoint{name}" for name in ours.keys() & theirs.keys() if not same(ours[name], theirs[name])]
    metrics, expected = logged(resumed), logged(whole)
    told += [f"logs {name}" for name in metrics.keys() ^ expected.keys()]
    told += [f"logs {name}" for name in metrics.keys() & expected.keys() if set(metrics[name]) != set(expected[name])]
    known = {"best.ckpt", "last.ckpt"}
    told += [f"left over: {path}" for path in (resumed / LAST.parent).iterdir() if path.name not in known]
    return told


def trial(number: int, runs: Runs, folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Kills one run and resumes it.

    Args:
        number: of the trial, it names the moment.
        runs: starts processes.
        folder: where the campaign is.
        seconds: how long a run trains: it is killed at a moment between 0 and this, from
            its first checkpoint on.
        seed: names the campaign.
    """
    place, attempt = folder / f"{number:03d}", 0
    while True:
        generator = Key(seed, f"kill/{number}/{attempt}").generator()
        moment = seconds * float(torch.rand((), generator=generator))
        subprocess.run(["rm", "-rf", str(place)], check=True)
        child = runs.start(place)
        runs.wait_for(child, place / LAST)
        if runs.wait(child, moment) is None:
            break
        attempt += 1  # it was done before the moment came
    os.kill(child, signal.SIGKILL)
    runs.wait(child)
    writing = bool(list(place.rglob(".*.tmp")))
    checkpoint = torch.load(place / LAST, weights_only=True, map_location="cpu")
    runs.succeed(runs.start(place, "--resume"), place)
    told = faults(folder / "whole", place)
    done = {"epochs": checkpoint["epoch"], "steps": checkpoint["global_step"]}
    return {"trial": number, "moment": moment, **done, "writing": writing, "faults": told}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the campaign; returns 0 when all trials agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path("kill_campaign"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="start a new interpreter for each run")
    given = parser.parse_args(arguments)
    folder, runs = given.folder.resolve(), Runs(given.fresh, given.epochs)
    ledger = folder / "trials.jsonl"
    if not ledger.is_file():
        if folder.exists() and not (folder / "whole").is_dir():
            parser.error(f"--folder: {folder} is there and holds no campaign")
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        runs.warm_up(folder / "whole")
        began = time.monotonic()
        child = runs.start(folder / "whole")
        setup = runs.wait_for(child, folder / "whole" / LAST) - began
        runs.succeed(child, folder / "whole")
        seconds = time.monotonic() - began - setup
        print(f"uninterrupted run: {setup:.1f} s to its first checkpoint, {seconds:.1f} s from there on", flush=True)
        ledger.write_text(json.dumps({"seconds": seconds}) + "\n")
    else:
        runs.warm_up(folder / "whole")
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    seconds, results = lines[0]["seconds"], lines[1:]
    for number in range(len(results), given.kills):
        result = trial(number, runs, folder, seconds, given.seed)
        with open(ledger, "a") as file:
            file.write(json.dumps(result) + "\n")
        results.append(result)
        where = f"after {result['epochs']} epochs, {result['steps']} steps" + (", while writing" * result["writing"])
        verdict = "bit-identical" if not result["faults"] else f"DIFFERS: {', '.join(result['faults'][:5])}"
        print(f"kill {number + 1:3d} at {result['moment']:.2f} s, {where}: {verdict}", flush=True)
        if not result["faults"]:
            subprocess.run(["rm", "-rf", str(folder / f"{number:03d}")], check=True)
    good = sum(not result["faults"] for result in results)
    within = sum(result["writing"] for result in results)
    print(f"kills: {len(results)} tried, {good} right, {len(results) - good} wrong; {within} of them hit a write")
    return 0 if good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
