"""Checkpoint files that are whole or not there: a run killed while it writes keeps the one it had before."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from mebns_pl.files import atomic_file, check_archive, sweep

_PARTS: dict[str, type] = {"epoch": int, "global_step": int, "state_dict": dict, "loops": dict, "callbacks": dict}
"""Of what kind some parts of a checkpoint are."""
_RESTORING = ("restore_datamodule", "restore_model", "restore_callbacks", "restore_training_state")
"""The trainer's steps of loading a checkpoint."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, cannot be read, or belongs to another run.

    Example:
        >>> try:
        ...     AtomicCheckpointIO().load_checkpoint("nowhere.ckpt")
        ... except CheckpointError as error:
        ...     str(error)
        'checkpoint nowhere.ckpt: no such file'
    """


class CheckpointWriteError(CheckpointError):
    """One that cannot be written; what was there before is as it was."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, to the disk, and then puts it there in one go.

    Systems of this package use it with every trainer that has no other plugin of the kind. At the first write into a
    folder, what killed writes have left there is removed.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(plugins=[AtomicCheckpointIO()], logger=False, accelerator="cpu")
    """

    def __init__(self) -> None:
        super().__init__()
        self._clean: set[Path] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes ``checkpoint`` to ``path``.

        Raises:
            CheckpointWriteError: it cannot be written: disk full, no right to write, ...; what was at ``path`` is kept.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        try:
            if path.parent not in self._clean:
                sweep(path.parent)
                self._clean.add(path.parent)
            save_atomically(checkpoint, path)
        except OSError as error:
            kept = "the one that is there is kept" if path.exists() else "there is none from before"
            reason = error.strerror or str(error)
            raise CheckpointWriteError(f"checkpoint {path}: cannot be written ({reason}); {kept}") from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads a checkpoint, tensors and plain values only unless ``weights_only`` is False.

        Raises:
            CheckpointError: there is no such file, or it is not a whole checkpoint.
        """
        check_checkpoint_file(path)
        with _telling(path):
            found: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only is not False)
        if not isinstance(found, dict) or "pytorch-lightning_version" not in found:
            raise CheckpointError(f"checkpoint {path}: not written by a trainer, so there is no run to go on with")
        for part, kind in _PARTS.items():
            if not isinstance(found.get(part, kind()), kind):
                got = type(found[part]).__name__
                raise CheckpointError(f"checkpoint {path}: {part!r} is of type {got}, not {kind.__name__}")
        return found


def check_checkpoint_file(path: Any) -> None:
    """Compares a checkpoint on this machine with its checksums.

    Args:
        path: the file; of addresses and open files no notice is taken.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    if isinstance(path, str | Path) and "://" not in str(path):
        with _telling(path):
            check_archive(path)


@contextmanager
def _telling(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path}: no such file") from error
    except Exception as error:  # a damaged file can raise anything
        told = f"checkpoint {path}: not a whole checkpoint of tensors and plain values ({_reason(error)})"
        raise CheckpointError(told) from error


def _reason(error: Exception) -> str:
    """What is wrong; torch's own words on what it has refused to unpickle advise to have it run."""
    told = " ".join(str(error).split())
    if "weights_only" not in told.lower().replace(" ", "_"):
        return told[:200]
    named = re.search(r"GLOBAL ([\w.]+)", told)
    return f"it names {named[1]}, which is neither" if named else "there is something else in it"


def save_atomically(value: Any, path: Path) -> None:
    """``torch.save`` to a file as of :func:`atomic_file`.

    Raises:
        OSError: it cannot be written; what was there is kept, and nothing else is left.
    """
    buffer = io.BytesIO()  # torch's own writer does not come through a full disk in good order
    torch.save(value, buffer)
    with atomic_file(path) as file:
        file.write(buffer.getbuffer())


def use_atomic_files(trainer: Trainer) -> None:
    """Has a trainer write its checkpoints atomically, unless it was given another plugin for files.

    What it finds wrong with the parts of one that is loaded it tells as a :class:`CheckpointError`.
    """
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    connector: Any = trainer._checkpoint_connector
    for name in _RESTORING:
        if name not in vars(connector):
            vars(connector)[name] = _told(getattr(connector, name), trainer)


def _told(restore: Callable[[], None], trainer: Trainer) -> Callable[[], None]:
    def restore_or_tell() -> None:
        try:
            restore()
        except (CheckpointError, MisconfigurationException, OSError):
            raise
        except Exception as error:  # a checkpoint that somebody has changed can hold anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise CheckpointError(f"checkpoint {trainer.ckpt_path}: cannot be taken up ({reason})") from error

    return restore_or_tell
