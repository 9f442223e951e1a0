"""From a run of the command line, its folder or a checkpoint of it, back to its options, its system and its data."""

from __future__ import annotations

import atexit
import os
import tempfile
from argparse import ArgumentError
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from mebns_pl.bounded_yaml import load_yaml
from mebns_pl.cli.preflight import check_config_file
from mebns_pl.cli.trust import only_trusted, refusal
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.errors import DataError
from mebns_pl.systems.checkpoint_io import AtomicCheckpointIO, CheckpointError
from mebns_pl.systems.identity import KEY, describe_data, describe_system, differences
from mebns_pl.systems.link_system import AbstractLinkSystem

CONFIG = "config.yaml"
_LOGGERS = ("BoardLogger", "TensorBoardLogger", "CSVLogger")


@dataclass(frozen=True)
class SavedRun:
    """A run that has been written down.

    Args:
        checkpoint: the checkpoint that was named, or the best of the folder that was, or its last.
        folder: the run's folder, with its ``config.yaml``; None where it is not found.
    """

    checkpoint: Path
    folder: Path | None

    @property
    def config(self) -> Path | None:
        """The run's options."""
        return None if self.folder is None else self.folder / CONFIG


def find_run(place: str | Path) -> SavedRun:
    """Finds what belongs to a checkpoint, or to a run's folder.

    A checkpoint's folder is the one above ``checkpoints``, or the one it lies in, or the one it says its run wrote
    its logs to.

    Args:
        place: a checkpoint, or a folder: a run's, or one of checkpoints.

    Raises:
        DataError: a folder without any checkpoint.
        CheckpointError: not a whole checkpoint.
    """
    path = Path(place)
    if path.is_dir():
        path = _checkpoint_in(path)
    for folder in (config_beside(path).parent, path.parent, Path(place)):
        if path.suffix and (folder / CONFIG).is_file():
            return SavedRun(path, folder)
    if not path.is_file():  # best, last: Lightning's words
        return SavedRun(path, None)
    named = _told_by(path).get("run_folder")
    return SavedRun(path, Path(named) if named and Path(named, CONFIG).is_file() else None)


def config_beside(checkpoint: str | Path) -> Path:
    """Where the command line has written the configuration of a checkpoint's run; there need not be one."""
    return Path(checkpoint).parent.parent / CONFIG


def options_of(run: SavedRun) -> Path | None:
    """A file with the options of a run: its ``config.yaml``, or else model, data and seed as its checkpoint has them.

    Raises:
        CheckpointError: the checkpoint alone is there, and what it says of its run is not what a run writes.
    """
    if run.config is not None or not run.checkpoint.is_file():
        return run.config
    told = _told_by(run.checkpoint)
    config = told.get("config", {})
    if config.get("from") != "command line":
        return None
    try:
        parts = {"seed_everything": told["seed"], "model": config["model"], "data": dict(config["data"])}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {run.checkpoint}: what it says of its run is damaged ({error})") from error
    parts["data"].pop("seed", None)
    handle, name = tempfile.mkstemp(suffix=".yaml", prefix="mebns_run_")
    atexit.register(Path(name).unlink, missing_ok=True)
    with os.fdopen(handle, "w") as file:
        yaml.safe_dump(parts, file)
    return Path(name)


def log_into(run: SavedRun, config: Namespace, command: str) -> None:
    """Has a command write its logs into the folder of the run it is about, in place of one of its own.

    TensorBoard adds to what is there; a CSV logger, which would begin its file anew, has a folder within. Where the
    command line names another place for the logs than the run's, that is kept.

    Args:
        run: the run.
        config: the command's options, changed here.
        command: its name.
    """
    logger = config.trainer.get("logger")
    if run.config is None or not isinstance(logger, Namespace) or "init_args" not in logger:
        return
    of_run = ((load_yaml(run.config.read_text("utf-8"), run.config) or {}).get("trainer") or {}).get("logger")
    kind = logger.class_path.rpartition(".")[2]
    same = isinstance(of_run, dict) and all(
        (of_run.get("init_args") or {}).get(name) == logger.init_args.get(name) for name in ("save_dir", "name")
    )
    if kind not in _LOGGERS or not same:
        return
    folder = run.config.parent
    logger.init_args.save_dir, logger.init_args.name = str(folder.parent), ""
    logger.init_args.version = folder.name if kind != "CSVLogger" else f"{folder.name}/{command}"


def _checkpoint_in(folder: Path) -> Path:
    places = [folder / "checkpoints", folder]
    config = folder / CONFIG
    if config.is_file():
        elsewhere = ((load_yaml(config.read_text("utf-8"), config) or {}).get("checkpoint") or {}).get("dirpath")
        places += [Path(elsewhere)] if elsewhere else []
    for place in places:
        for name in ("best.ckpt", "last.ckpt"):
            if (place / name).is_file():
                return place / name
    looked = ", ".join(f"{place}/best.ckpt" for place in places)
    raise DataError(f"ckpt_path: no checkpoint in {str(folder)!r}; looked for {looked}, and last.ckpt there")


def _told_by(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of its run."""
    told: dict[str, Any] = AtomicCheckpointIO().load_checkpoint(checkpoint).get(KEY) or {}
    return told


def load_run(checkpoint: str | Path, trust: bool = False) -> tuple[AbstractLinkSystem, LinkDataModule]:
    """Builds model and data of a run anew from the ``config.yaml`` beside its checkpoint, and loads the weights.

    Global random numbers are left as they are.

    Args:
        checkpoint: ``<run>/checkpoints/<name>.ckpt``, as ``mebns fit`` writes it.
        trust: whether the configuration may name classes other than this package's and well-known ones, which run
            code of their own; see the page "What is trusted".

    Raises:
        DataError: no such file, no configuration beside it, or one that names other classes and is not trusted.
        CheckpointError: the checkpoint is damaged, or belongs to another model, graph or split than the configuration.

    Example:
        >>> load_run("logs/mebns/version_0/checkpoints/no.ckpt")
        Traceback (most recent call last):
            ...
        mebns_pl.errors.DataError: ckpt: no such file: 'logs/mebns/version_0/checkpoints/no.ckpt'
    """
    path, config = Path(checkpoint), config_beside(checkpoint)
    if not path.is_file():
        raise DataError(f"ckpt: no such file: {str(path)!r}")
    if not config.is_file():
        raise DataError(
            f"ckpt: got {str(path)!r}, without the configuration of its run at {str(config)!r}; "
            "allowed are checkpoints where `mebns fit` has written them"
        )
    check_config_file(config)
    with torch.random.fork_rng(devices=[]), nullcontext() if trust else only_trusted(config):
        system, data = _instantiated(config)
    loaded = AtomicCheckpointIO().load_checkpoint(path)
    told = differences(loaded.get(KEY), {**describe_system(system), **describe_data(data)}, "test")
    if told:
        raise CheckpointError(f"checkpoint {path}: it does not belong to {config}. {'; '.join(told)}")
    system.load_state_dict(loaded["state_dict"])
    return system, data


def _instantiated(config: Path) -> tuple[AbstractLinkSystem, LinkDataModule]:
    """Model and data of a configuration; its trainer and callbacks are left out."""
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_lightning_class_args(LinkDataModule, "data")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.link_arguments("seed_everything", "data.seed")
    parser.link_arguments("data.spec", "model.init_args.spec", apply_on="instantiate")
    options = load_yaml(config.read_text("utf-8"), config)
    missing = [name for name in ("seed_everything", "data", "model") if name not in options]
    if missing:
        raise DataError(f"{config}: no section `{missing[0]}:`; allowed is what `mebns fit` has written")
    try:
        parts = parser.parse_object({name: options[name] for name in ("seed_everything", "data", "model")})
        made = parser.instantiate_classes(parts)
    except (ArgumentError, TypeError, ValueError) as error:
        if told := refusal(str(error)):
            raise DataError(told) from error
        raise
    return made["model"], made["data"]
