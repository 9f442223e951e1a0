"""Kills training runs at random moments, resumes them, and compares them with a run that nobody has killed.

Every run is a process that trains MeBNS on the embedded air-routes graph from the command line (``mebns fit``), dies by
SIGKILL, and goes on by ``mebns fit --resume``. Its last checkpoint (weights, optimizers, schedulers, meta set,
migration, early stopping, best score) and every value in its TensorBoard files must be those of the uninterrupted run,
to the last bit, and no temporary file may be left. Checkpoints are written after every step, so that many kills fall
into a write.

    python scripts/kill_campaign.py                    # 50 kills; started again, it goes on where it was stopped
    python scripts/kill_campaign.py --kills 3 --folder /tmp/kills --epochs 4

Processes are forked from one that has imported everything, which saves seconds a start; ``--fresh`` starts new ones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.utils.tensorboard  # every run would import it again
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from torch import Tensor

from mebns_pl.cli import main as cli
from mebns_pl.keys import Key

OPTIONS = """
trainer:
  accelerator: cpu
  check_val_every_n_epoch: 2
  enable_progress_bar: false
  callbacks:
    - class_path: EarlyStopping
      init_args: {monitor: val/mrr, mode: max, patience: 20}
model:
  class_path: mebns_pl.MeBNS
  init_args:
    predictor:
      class_path: mebns_pl.EncoderDecoder
      init_args:
        encoder: {class_path: mebns_pl.GCN, init_args: {hidden_channels: 16}}
    sampler: {num_candidates: 4}
    collector: {num_passes: 2}
    schedule:
      warmup: 1
      lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 2}}
      teacher_lr_scheduler:
        class_path: lightning.pytorch.cli.ReduceLROnPlateau
        init_args: {monitor: val/mrr, patience: 0}
      weight_net_lr_scheduler: {class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 7}}
data:
  batch_size: 400
  eval_negatives: {class_path: mebns_pl.RandomNegatives, init_args: {num_negatives: 10}}
migration: {probe_size: 100}
figures: {max_snapshots: 0}
last_checkpoint: {minutes: 0.0005}
"""
RUN = Path("logs/mebns/version_0")
LAST = RUN / "checkpoints" / "last.ckpt"
# Lightning does not bring it back; nothing reads it before it is set anew
FORGOTTEN = {"current_score"}


class Runs:
    """Starts runs of the command line as processes of their own.

    Args:
        fresh: whether each is a new interpreter rather than a fork of this one.
        epochs: length of a run.
    """

    def __init__(self, fresh: bool, epochs: int) -> None:
        self.fresh = fresh
        self.options = ["--config=options.yaml", f"--trainer.max_epochs={epochs}"]

    def warm_up(self, folder: Path) -> None:
        """Parses the options once, so that forks find the parsers' caches filled. Nothing is trained here."""
        if not self.fresh:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "options.yaml").write_text(OPTIONS)
            with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                cli.main(["fit", *self.options, "--print_config"])

    def start(self, folder: Path, *more: str) -> int:
        """Starts ``mebns fit`` in ``folder``; returns the process's number."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "options.yaml").write_text(OPTIONS)
        arguments = ["fit", *more, *self.options]
        with open(folder / "output.txt", "ab") as output:
            if self.fresh:
                command = [sys.executable, "-m", "mebns_pl", *arguments]
                return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output).pid
            sys.stdout.flush()
            child = os.fork()
            if child:
                return child
            status = 1
            try:
                os.chdir(folder)
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                cli.main(arguments)
                status = 0
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(status)

    def wait(self, child: int, seconds: float | None = None) -> int | None:
        """A process's exit status, negative where a signal ended it; None where it still runs after ``seconds``."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if end is not None and time.monotonic() >= end:
                return None
            time.sleep(0.002)

    def wait_for(self, child: int, path: Path) -> float:
        """Waits until a process has made a file; returns when that was."""
        while not path.exists():
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None and not path.exists():
                raise RuntimeError(f"a run ended before it had written {path}")
            time.sleep(0.002)
        return time.monotonic()

    def succeed(self, child: int, folder: Path) -> None:
        """Waits for a process's end."""
        if self.wait(child) != 0:
            raise RuntimeError(f"a run in {folder} failed:\n{(folder / 'output.txt').read_text()[-2000:]}")


def state(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a checkpoint, by where it stands, without the names of folders."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in FORGOTTEN and "path" not in str(key) and key != "best_k_models":
                yield from state(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from state(item, f"{name}.{place}")
    else:
        yield name, value


def same(a: object, b: object) -> bool:
    """Whether two values are the same to the last bit; NaN is NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    return repr(a) == repr(b)


def logged(folder: Path) -> dict[tuple[str, int], list[bytes]]:
    """Every scalar in a run's TensorBoard files: its values by name and step, more than one where it was redone."""
    found: dict[tuple[str, int], list[bytes]] = {}
    for path in sorted((folder / RUN).glob("events.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.HasField("simple_value"):
                    continue  # figures are drawn when there is time
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
    print(
        f"{good} of {len(results)} resumed runs are bit-identical to the uninterrupted one; {within} kills hit a write"
    )
    return 0 if good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
