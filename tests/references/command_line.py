"""Small runs of the command line in processes of their own, as tests of ranks, hosts and signals start them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[2]

SMALL = """
seed_everything: 3
trainer:
  accelerator: cpu
  max_epochs: 4
  check_val_every_n_epoch: 2
  logger: false
  enable_progress_bar: false
model:
  class_path: mebns_pl.MeBNS
  init_args:
    predictor:
      class_path: mebns_pl.EncoderDecoder
      init_args:
        encoder: {class_path: mebns_pl.GCN, init_args: {hidden_channels: 16}}
        decoder: {class_path: mebns_pl.DotDecoder}
    sampler: {num_candidates: 4}
    schedule: {warmup: 1}
    teaching: {class_path: mebns_pl.OwnLearning, init_args: {epochs: 1}}
data:
  graph: air_routes
  batch_size: 600
  eval_negatives: {class_path: mebns_pl.RandomNegatives, init_args: {num_negatives: 10}}
migration: {probe_size: 50}
"""


def write_small(folder: Path) -> Path:
    """The configuration of a run of seconds."""
    path = folder / "small.yaml"
    path.write_text(SMALL)
    return path


def environment(**changes: str) -> dict[str, str]:
    """Of a process that finds this package and the tests' helpers, and nothing of a cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC_"))}
    places = [str(REPOSITORY), str(REPOSITORY / "tests")]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(places),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHON": sys.executable,
        **changes,
    }


def weights_of(checkpoint: Path) -> dict[str, Tensor]:
    """Every learner's weights in a checkpoint."""
    found: dict[str, Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return found


class Signals(Callback):
    """Sends this process a signal in the middle of an epoch, where a file tells it to.

    Args:
        order: path of a file with ``RANK EPOCH STEP SIGNAL``; taken away as it is carried out.
    """

    def __init__(self, order: str) -> None:
        self.order = Path(order)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Sends it."""
        if not self.order.exists():
            return
        rank, epoch, step, name = self.order.read_text().split()
        if (trainer.global_rank, trainer.current_epoch, batch_idx) == (int(rank), int(epoch), int(step)):
            self.order.unlink()
            os.kill(os.getpid(), signal.Signals[name])


class Report(Callback):
    """Every rank writes the validation metrics that it knows into a file of its own.

    Args:
        folder: where to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes them."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{trainer.global_rank}.txt").write_text(repr(sorted(found.items())))
