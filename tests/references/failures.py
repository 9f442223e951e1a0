"""Runs in which one rank fails: each a process of its own, as ``tests/distributed/test_failures.py`` starts them."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mebns_pl import RankWatch
from references.ranks import free_port
from references.runs import fit, make_data, make_plain


class Fails(Callback):
    """In the second step of the second epoch the last rank raises, is killed, or stops without a word."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) != (1, 1) or trainer.global_rank != trainer.world_size - 1:
            return
        (self.folder / "failed").write_text(repr(time.time()))
        if self.kind == "raises":
            raise ValueError("this batch is bad")
        os.kill(os.getpid(), {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[self.kind])


def rank_main(rank: int, size: int, port: int, kind: str, folder: str) -> None:
    """One rank; what it says goes to a file, and so does the time at which it ends."""
    place = Path(folder)
    with (place / f"{rank}.err").open("w") as out:
        os.dup2(out.fileno(), 2)
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    os.environ |= {**names, "NODE_RANK": "0", "LOCAL_RANK": str(rank), "RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = make_data()
    # Quick enough for a test, and slow enough for a busy machine
    watch = RankWatch(interval=0.5, silence=6.0, grace=2.0)
    try:
        fit(make_plain(data.spec), data, 4, [watch, Fails(kind, place)], devices=size, strategy="ddp")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(3)
    os._exit(0)


def launch(_: int, folder: str, kinds: tuple[str, ...]) -> None:
    """For each kind two ranks, forked off a fresh process, all at once; their exit codes and times go to a file."""
    fork = multiprocessing.get_context("fork")
    runs = {}
    for kind in kinds:
        place = Path(folder) / kind
        place.mkdir()
        port = free_port()
        runs[kind] = [fork.Process(target=rank_main, args=(rank, 2, port, kind, str(place))) for rank in range(2)]
        for process in runs[kind]:
            process.start()
    ended: dict[str, float] = {}
    latest = time.monotonic() + 120
    while len(ended) < len(runs) and time.monotonic() < latest:
        ended |= {kind: time.time() for kind, ranks in runs.items() if kind not in ended and not ranks[0].is_alive()}
        time.sleep(0.05)
    for kind, (first, last) in runs.items():
        place = Path(folder) / kind
        took = ended.get(kind, math.inf) - float((place / "failed").read_text())
        if last.pid is not None and kind == "stopped":
            os.kill(last.pid, signal.SIGKILL)
        last.join(timeout=30)
        (place / "ended").write_text(f"{first.exitcode} {last.exitcode} {took}")
        first.kill()
        last.kill()
