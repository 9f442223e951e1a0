"""Runs of the command line in processes forked from one that has imported everything, and their states compared.

Each start saves seconds that way.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch.utils.tensorboard  # noqa: F401  (every run would import it again)
from torch import Tensor

from mebns_pl.cli import main as cli

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
FORGOTTEN = {"current_score", "best_k_models", "run_folder", "seconds"}


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

    def start(self, folder: Path, *more: str, prepare: Callable[[], object] = tuple) -> int:
        """Starts ``mebns fit`` in ``folder``; returns the process's number.

        Args:
            folder: its working folder; what it says is added to ``output.txt`` there.
            more: further arguments.
            prepare: called in the process before it begins, if it is forked.
        """
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
                prepare()
                cli.run(arguments)
                status = 0
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1
            except BaseException:
                with contextlib.suppress(OSError):
                    os.write(2, traceback.format_exc().encode())
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
    """Everything in a checkpoint, by where it stands, without the names of folders and how long it took."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in FORGOTTEN and "path" not in str(key):
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
