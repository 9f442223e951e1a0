"""A system's side of checkpoints: what it writes of itself into them, and whether one may be loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from mebns_pl.data.datamodule import data_of
from mebns_pl.systems.checkpoint_io import CheckpointError
from mebns_pl.systems.identity import (
    KEY,
    changed_options,
    describe_data,
    describe_system,
    differences,
    path_of,
    plain,
)
from mebns_pl.systems.trainer_options import callbacks_of


def run_folder(trainer: Trainer) -> str | None:
    """The folder that a run's files go into, or None without a logger; to be asked on all ranks.

    It is the first logger's. Loggers that send to a server (Weights & Biases, MLflow) share theirs among all their
    runs; there it is the one within it in which ``ModelCheckpoint`` keeps a run's checkpoints.
    """
    logger = trainer.logger
    if logger is None:
        return None
    if isinstance(logger, TensorBoardLogger | CSVLogger):
        return trainer.log_dir
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    folder = os.path.join(logger.save_dir or trainer.default_root_dir, str(logger.name), version)
    return trainer.strategy.broadcast(folder)


def describe_run(system: LightningModule) -> dict[str, Any]:
    """All that a checkpoint says of its run, in plain values: version, model, graph, split, seed and options."""
    trainer = system.trainer
    return {
        **describe_system(system),
        **describe_data(data_of(trainer)),
        "config": {**_options(system), "optimizers": [_optimizer(optimizer) for optimizer in trainer.optimizers]},
        "run_folder": _folder(trainer),
        "log_version": None if trainer.logger is None else trainer.logger.version,
        "stopped_early": stopped_early(trainer),
    }


def check_checkpoint(system: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Refuses a checkpoint that does not belong to a system and, within a trainer, to its data.

    Raises:
        CheckpointError: with what differs.
    """
    trainer = system._trainer
    stage = None if trainer is None or trainer.state.fn is None else trainer.state.fn.value
    present = describe_system(system)
    if trainer is not None:
        present |= describe_data(data_of(trainer))
    found = checkpoint.get(KEY)
    told = differences(found, present, stage)
    if told:
        where = "" if trainer is None or trainer.ckpt_path is None else f" {trainer.ckpt_path}"
        raise CheckpointError(f"checkpoint{where}: it cannot be used here. {'; '.join(told)}")
    if trainer is not None and stage == "fit":
        assert found is not None
        changed = changed_options(found["config"], _options(system))
        if changed:
            rank_zero_warn(
                "the run goes on with other options, so it is not the run that it would have been: "
                + "; ".join(changed)
            )
        if "current_model_state" in checkpoint and not callbacks_of(trainer, WeightAveraging):
            raise CheckpointError(
                f"checkpoint {trainer.ckpt_path}: its weights are averages, from which training does not go on; give "
                "trainer.callbacks the WeightAveraging that has made them"
            )
        _follow_a_moved_folder(trainer, checkpoint)


def between_epochs(trainer: Trainer, checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint is made where one epoch is all over and the next has not begun.

    There the count of epochs that are ready is set back in ``checkpoint``, for the next is made ready again.
    """
    progress: Any = trainer.fit_loop.epoch_progress.current
    if not progress.started == progress.processed == progress.completed:
        return False
    for count in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        count["ready"] = count["started"]
    return True


def begin_epoch_anew(trainer: Trainer) -> None:
    """Takes an epoch up at its very start.

    Lightning goes on behind the last batch of the epoch before, and would take the new epoch for one that is done.
    """
    trainer.fit_loop.restarting = False


def stopped_early(trainer: Trainer) -> bool:
    """Whether early stopping has ended the run."""
    # Where it has not had its min_epochs, it goes on all the same
    progress: Any = trainer.fit_loop.epoch_progress.current
    if not trainer.should_stop or progress.processed < (trainer.min_epochs or 0):
        return False
    return any(  # of a stop in epoch 0 the epoch says nothing; older Lightning does not say why
        stopper.stopped_epoch > 0 or getattr(stopper, "stopping_reason_message", None)
        for stopper in callbacks_of(trainer, EarlyStopping)
    )


def _folder(trainer: Trainer) -> str | None:
    """The folder of the first logger that has one on this machine's disk, by which commands find the run."""
    folders = (logger.log_dir for logger in trainer.loggers)
    return next((os.path.abspath(folder) for folder in folders if folder and "://" not in folder), None)


def _options(system: LightningModule) -> dict[str, Any]:
    """What the system and its data were made from: ``run_config``, which the command line sets, or their own."""
    given = getattr(system, "run_config", None)
    if given is not None:
        return {"from": "command line", **given}
    return {"from": "python", "model": plain(system), "data": plain(data_of(system.trainer))}


def _optimizer(optimizer: Optimizer) -> dict[str, Any]:
    return {"class_path": path_of(type(optimizer)), "init_args": plain(optimizer.defaults)}


def _follow_a_moved_folder(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Keeps the best score when the run's folder goes by another name now; Lightning would forget it."""
    for callback in trainer.checkpoint_callbacks:
        state = checkpoint["callbacks"].get(callback.state_key)
        if not isinstance(callback, ModelCheckpoint) or not state:
            continue
        _check_best(state)
        if callback.dirpath is None:
            continue
        folder = callback.dirpath
        if os.path.realpath(folder) == os.path.realpath(Path(str(trainer.ckpt_path)).parent):
            for name in _PATHS:
                state[name] = _moved(state[name], folder)
            best = {_moved(path, folder): score for path, score in state["best_k_models"].items()}
            state |= {"dirpath": folder, "best_k_models": best}


_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


def _check_best(state: dict[str, Any]) -> None:
    """Refuses what no run has written of its best checkpoints: it would show after an epoch of training.

    Raises:
        CheckpointError: with what is wrong.
    """
    found, worst = state.get("best_k_models"), state.get("kth_best_model_path")
    wrong = [name for name in _PATHS if not isinstance(state.get(name), str)]
    if not isinstance(found, dict) or not all(isinstance(score, Tensor) for score in found.values()):
        wrong.append("best_k_models")
    elif found and worst not in found:
        wrong.append("kth_best_model_path")
    if wrong:
        raise CheckpointError(f"checkpoint: what it says of the best checkpoints is damaged: {', '.join(wrong)}")


def _moved(path: str, folder: str | Path) -> str:
    return path and os.path.join(folder, os.path.basename(path))
