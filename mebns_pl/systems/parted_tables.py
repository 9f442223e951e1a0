"""Checkpoints of embedding tables whose rows are parted among ranks: each rank writes its own, beside the checkpoint.

``last.ckpt`` then holds everything else, and names the folder ``last.ckpt.tables.N`` of torch's distributed
checkpoints with the ranks' rows and their optimizer's state. It is complete before the checkpoint names it, and
that of before goes when the new checkpoint is in place; the two belong together, and are moved together. Any number of
ranks takes them up again.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from mebns_pl.distributed.row_shards import RowShards
from mebns_pl.models.layers import parted_of
from mebns_pl.systems.checkpoint_io import CheckpointError

KEY = "parted_tables"
_HERE = "rows"
"""Where a checkpoint has the ranks' rows before it is written."""


def take_rows_out(system: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Leaves in a checkpoint that is made what all ranks share, and sets aside what is this rank's."""
    parted = parted_of(system)
    if not parted:
        return
    rows: dict[str, Tensor] = {}
    shards: dict[str, RowShards] = {}
    for name, table in parted.items():
        assert table.shards is not None
        rows[name], shards[name] = checkpoint["state_dict"].pop(name), table.shards
    for optimizer, place, name in _moved(system):
        if "optimizer_states" not in checkpoint:
            break
        states = checkpoint["optimizer_states"][optimizer]["state"]
        own = {key: value for key, value in states.get(place, {}).items() if isinstance(value, Tensor) and value.dim()}
        if own:  # the dictionary is the optimizer's own
            states[place] = {key: value for key, value in states[place].items() if key not in own}
        for key, value in own.items():
            whole = f"optimizer/{optimizer}/{place}/{key}"
            rows[whole], shards[whole] = value, shards[name]
    sizes = {name: [shards[name].num_rows, rows[name].shape[1]] for name in rows}
    checkpoint[KEY] = {"sizes": sizes, _HERE: _whole(rows, shards)}


def write_rows_beside(trainer: Trainer) -> None:
    """Has a trainer's strategy write what :func:`take_rows_out` has set aside, on all ranks."""
    strategy = trainer.strategy
    if "save_checkpoint" in vars(strategy):
        return
    write = strategy.save_checkpoint

    def save_with_rows(checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        path = Path(filepath)
        about = checkpoint[KEY]
        folder = path.with_name(strategy.broadcast(_next_name(path)))
        with _quiet():
            save(about.pop(_HERE), checkpoint_id=folder)
        about["folder"] = folder.name
        write(checkpoint, filepath, storage_options)
        strategy.barrier("tables")
        if trainer.is_global_zero:
            for other in _folders(path):
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)

    vars(strategy)["save_checkpoint"] = save_with_rows


def put_rows_in(system: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Reads this rank's rows for a checkpoint that is loaded, on however many ranks they were written.

    Raises:
        CheckpointError: the rows are not where they belong, or there is no trainer, which parts them among ranks.
    """
    parted = parted_of(system)
    if not parted:
        return
    if system._trainer is None or any(table.shards is None for table in parted.values()):
        raise CheckpointError("checkpoint: its tables are parted among ranks; a trainer loads it (trainer.test, ...)")
    path = Path(str(system.trainer.ckpt_path))
    about = checkpoint.get(KEY) or {}
    folder = path.with_name(str(about.get("folder")))
    if not (folder / ".metadata").is_file():
        raise CheckpointError(f"checkpoint {path}: the folder of its tables, {folder}, is not beside it, or not whole")
    wanted = {name: size for name, size in about["sizes"].items() if name in parted or "optimizer_states" in checkpoint}
    shards = {
        name: RowShards(size[0], system.trainer.global_rank, system.trainer.world_size) for name, size in wanted.items()
    }
    dtype = system.get_parameter(next(iter(parted))).dtype
    counts = {name: part.own.stop - part.own.start for name, part in shards.items()}
    rows = {name: torch.zeros(counts[name], size[1], dtype=dtype) for name, size in wanted.items()}
    with _quiet():
        load(_whole(rows, shards), checkpoint_id=folder)
    for name, value in rows.items():
        if name in parted:
            checkpoint["state_dict"][name] = value
        else:
            _, optimizer, place, key = name.split("/")
            checkpoint["optimizer_states"][int(optimizer)]["state"].setdefault(int(place), {})[key] = value


def _moved(system: LightningModule) -> Iterator[tuple[int, int, str]]:
    """Number of the optimizer, place among its parameters, and name of every parted table that is trained."""
    names = {id(system.get_parameter(name)): name for name in parted_of(system)}
    for number, optimizer in enumerate(system.trainer.optimizers):
        params = [param for group in optimizer.param_groups for param in group["params"]]
        yield from ((number, place, names[id(param)]) for place, param in enumerate(params) if id(param) in names)


def _whole(rows: Mapping[str, Tensor], shards: Mapping[str, RowShards]) -> dict[str, Any]:
    """The ranks' rows as parts of whole tensors; the memory is the rows'."""
    size = next(iter(shards.values())).size
    if size == 1:
        return dict(rows)
    mesh = init_device_mesh("cpu", (size,))
    return {
        name: DTensor.from_local(
            value.cpu(), mesh, [Shard(0)], run_check=False,
            shape=torch.Size([shards[name].num_rows, value.shape[1]]), stride=(value.shape[1], 1),
        )
        for name, value in rows.items()
    }  # fmt: skip


def _folders(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.tables.*"))


def _next_name(path: Path) -> str:
    numbers = [int(folder.suffix[1:]) for folder in _folders(path) if folder.suffix[1:].isdecimal()]
    return f"{path.name}.tables.{max(numbers, default=-1) + 1}"


@contextmanager
def _quiet() -> Iterator[None]:
    """One process is no fault."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield
