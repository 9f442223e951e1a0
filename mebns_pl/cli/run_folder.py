"""The folders of a run: each has its own number, and is written into by one run at a time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeGuard

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from mebns_pl.callbacks.last_checkpoint import LastCheckpoint
from mebns_pl.files import locked, naming, sweep


@contextmanager
def run_folders(trainer: Trainer, stage: str) -> Iterator[None]:
    """Keeps the folders that a run writes into for it alone, from before it starts until it has ended.

    Loggers without a version get the next one that no other run has. What killed writes have left there is removed.
    The first rank does that for all: the others learn the folder from it. A full disk is told with the folder's name.

    Args:
        trainer: what runs it; its loggers' versions are set.
        stage: "fit", "validate", "test" or "predict".

    Raises:
        DataError: another run is at work in one of the folders.
        OSError: one cannot be made.
    """
    with ExitStack() as held:
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            claim_versions(trainer.loggers)
            for folder in _folders(trainer, stage):
                held.enter_context(locked(folder))
                held.enter_context(naming(folder))
                for place in (folder, folder / "checkpoints"):
                    sweep(place)
        yield


def claim_versions(loggers: Sequence[Logger]) -> None:
    """Makes the folder of the next version for loggers that number their runs; one for all of the same place.

    Lightning's loggers look which number is free and make the folder later, so that two runs can take the same.

    Raises:
        OSError: the folder cannot be made.
    """
    claimed: dict[str, int] = {}
    for logger in loggers:
        if not numbers_itself(logger):
            continue
        place = runs_folder(logger)
        if place not in claimed:
            os.makedirs(place, exist_ok=True)
            claimed[place] = next(
                number for number in itertools.count(logger._get_next_version()) if _made(place, f"version_{number}")
            )
        logger._version = claimed[place]
        if isinstance(logger, CSVLogger):
            _ = logger.experiment  # while the folder is empty: it warns of one that is not, as of one to be overwritten


def numbers_itself(logger: Logger) -> TypeGuard[TensorBoardLogger | CSVLogger]:
    """Whether a logger has yet to choose the number of its folder, on this machine's disk."""
    return (
        isinstance(logger, TensorBoardLogger | CSVLogger) and logger._version is None and "://" not in logger.root_dir
    )


def runs_folder(logger: TensorBoardLogger | CSVLogger) -> str:
    """The folder that holds a logger's numbered ones."""
    return os.path.abspath(os.path.expanduser(os.path.expandvars(logger.root_dir)))


def _made(place: str, name: str) -> bool:
    try:
        os.mkdir(os.path.join(place, name))
    except FileExistsError:  # of a run that was a moment earlier
        return False
    return True


def _folders(trainer: Trainer, stage: str) -> list[Path]:
    """What a run writes logs and checkpoints into, without folders within others of them."""
    found = [logger.log_dir for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | CSVLogger)]
    if stage == "fit":
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastCheckpoint) and (found or callback.dirpath or not trainer.loggers):
                found.append(str(callback.path(trainer).parent))
            elif isinstance(callback, ModelCheckpoint) and callback.dirpath:
                found.append(str(callback.dirpath))
    paths = sorted({Path(path).resolve() for path in found if "://" not in path})
    return [path for path in paths if not any(other in path.parents for other in paths)]
