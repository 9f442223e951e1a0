"""Steps of every kind on one rank of several: run by ``tests/mebns/test_exactness.py`` in processes of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor

from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.distributed.group import AbstractGroup, DistributedGroup
from mebns_pl.keys import Key
from references import step as reference
from references.group import ENGINES, cut
from references.step import Setting, State

KEY = Key(6, "tests/exactness")
STEPS = 20
FEW = 4  # one epoch: ranks take turns on few cores, so the normal run must be short
# Four batches an epoch, the last one short: of three rows, one of four ranks gets none
BATCH_SIZES = (7, 7, 7, 3)
Name = tuple[str, str, str]
MATRIX: list[Name] = list(product(("GCN", "GAT"), ("sgd", "adam"), ("higher", "directional")))
SOME: list[Name] = [("GCN", "adam", "higher"), ("GAT", "sgd", "directional")]
NAIVE: Name = ("GCN", "adam", "naive")


def batch_of(step: int) -> TrainBatch:
    """The union batch of a step."""
    return reference.make_batch(step, size=BATCH_SIZES[step % len(BATCH_SIZES)])


def run(name: Name, group: AbstractGroup, steps: int) -> State:
    """The learners after ``steps`` steps, the last of which is as well the last short batch of an epoch."""
    encoder, optimizer, engine = name
    setting = Setting(encoder=encoder, optimizer=optimizer)
    state = reference.make_state(setting)
    if optimizer == "sgd":  # small gradients: at the others' rate its weights would hardly move
        state.weight_net.optimizer.param_groups[0]["lr"] = 10.0
    for step in range(steps):
        key = KEY.at(step // len(BATCH_SIZES), step % len(BATCH_SIZES))
        batch, meta_batch = cut(batch_of(step), group), reference.make_meta(step)
        result = reference.fast_gradients(state, setting, batch, meta_batch, key, ENGINES[engine], group)
        reference.apply_all(state, setting, result)
    return state


def parameters(state: State) -> dict[str, Tensor]:
    """Teacher's, student's and weight net's."""
    return {
        f"{learner}.{name}": value.detach().clone()
        for learner in state.names
        for name, value in getattr(state, learner).module.named_parameters()
    }


def worker(rank: int, folder: str, names: Sequence[Name], steps: int, sizes: Sequence[int]) -> None:
    """Runs as one of so many ranks, for each size in turn, and saves what came out."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    for size in sizes:
        if rank >= size:
            continue
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meet{size}", rank=rank, world_size=size
        )
        group = DistributedGroup()
        torch.save({name: parameters(run(name, group, steps)) for name in names}, Path(folder) / f"{size}-{rank}.pt")
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def launch(_: int, folder: str, names: Sequence[Name], steps: int, sizes: Sequence[int]) -> None:
    """Forks the ranks off a fresh process: imports are paid once, and the tests' own process is not safe to fork."""
    torch.multiprocessing.start_processes(
        worker, args=(folder, names, steps, sizes), nprocs=max(sizes), start_method="fork"
    )
