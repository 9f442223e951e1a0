"""``mebns fit --resume``: which checkpoint a stopped run goes on from, and where its logs are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities import rank_zero_info

from mebns_pl.cli.saved_run import config_beside
from mebns_pl.systems.checkpoint_io import AtomicCheckpointIO, CheckpointError
from mebns_pl.systems.identity import KEY
from mebns_pl.systems.trainer_options import callbacks_of

FILE = "last.ckpt"
_VERSION = re.compile(r"version_(\d+)")


def take_resume(given: list[str]) -> tuple[Resume | None, list[str]]:
    """Takes ``--resume``, ``--resume=RUN`` or ``--resume RUN`` out of the arguments of ``fit``.

    With ``RUN``, the options that it was started with come first, so that they need not be given again.

    Args:
        given: the arguments.

    Raises:
        CheckpointError: there is no such run.

    Example:
        >>> take_resume(["fit", "--resume", "--trainer.max_epochs=9"])
        (Resume(run=None), ['fit', '--trainer.max_epochs=9'])
    """
    names = [argument.partition("=")[0] for argument in given]
    if given[:1] != ["fit"] or "--resume" not in names:
        return None, given
    place = names.index("--resume")
    after, run = place + 1, given[place].partition("=")[2]
    if not run and after < len(given) and not given[after].startswith("-"):
        after, run = after + 1, given[after]
    rest = given[1:place] + given[after:]
    if not run:
        return Resume(), ["fit", *rest]
    path = newest(Path(run))
    config = config_beside(path)
    return Resume(path), ["fit", *([f"--config={config}"] if config.is_file() else []), *rest]


def newest(folder: Path) -> Path:
    """The newest ``last.ckpt`` of a run, or of several.

    Args:
        folder: a checkpoint, a folder with one, a run's folder (``version_3``), or a folder of runs.

    Raises:
        CheckpointError: there is none.
    """
    if folder.is_file():
        return folder
    patterns = (FILE, f"checkpoints/{FILE}", f"version_*/checkpoints/{FILE}")
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    if not found:
        raise CheckpointError(
            f"--resume: no checkpoint in {folder}; looked for {', '.join(patterns)}. Start the run without --resume, "
            "or name the folder of a run: --resume FOLDER"
        )
    return max(found, key=lambda path: (path.stat().st_mtime_ns, str(path)))


@dataclass(frozen=True)
class FoundCheckpoint:
    """The checkpoint that a run goes on from.

    Args:
        path: its file.
        epoch: epochs that are done.
        global_step: the student's steps that are done.
        stopped_early: whether early stopping has ended the run.
    """

    path: Path
    epoch: int
    global_step: int
    stopped_early: bool

    def is_finished(self, trainer: Trainer) -> bool:
        """Whether there is nothing left to do, which is said."""
        limits = (("epochs", trainer.max_epochs, self.epoch), ("steps", trainer.max_steps, self.global_step))
        why = [
            f"{done} of {limit} {what} are done; go on with a higher --trainer.max_{what}"
            for what, limit, done in limits
            if limit is not None and 0 <= limit <= done
        ]
        if self.stopped_early and callbacks_of(trainer, EarlyStopping):
            why = [
                f"early stopping ended it after {self.epoch} epochs; to go on, take it out of trainer.callbacks "
                "(null takes all out)"
            ]
        if why:
            rank_zero_info(f"The run of {self.path} is finished, nothing is changed: {why[0]}")
        return bool(why)


@dataclass(frozen=True)
class Resume:
    """How ``fit`` goes on with a run.

    Args:
        run: the checkpoint, or None for the newest in the logger's folder.
    """

    run: Path | None = None

    def find(self, config: Namespace) -> FoundCheckpoint:
        """Finds the checkpoint and sets the options so that the run goes on from it, in its own folder of logs.

        Args:
            config: the options of ``fit``, changed here.

        Raises:
            CheckpointError: there is no checkpoint, or it is not a whole one.
        """
        path = (self.run or newest(_folder(config))).resolve()
        checkpoint = AtomicCheckpointIO().load_checkpoint(path)
        state = checkpoint.get(KEY, {})
        if not isinstance(state, dict):
            raise CheckpointError(f"checkpoint {path}: {KEY!r} is a {type(state).__name__}; no system has written that")
        config.ckpt_path = str(path)
        _log_to(config, path, state.get("log_version"))
        done = checkpoint.get("epoch", 0), checkpoint.get("global_step", 0)
        rank_zero_info(f"Going on from {path}: {done[0]} epochs and {done[1]} steps are done")
        return FoundCheckpoint(path, *done, bool(state.get("stopped_early")))


def _logger(config: Namespace) -> Namespace | None:
    return next(iter(_loggers(config)), None)


def _loggers(config: Namespace) -> list[Namespace]:
    """Options of the first logger, and of those that write into the same place: they have one number together."""
    logger = config.trainer.get("logger")
    loggers = logger if isinstance(logger, list) else [logger]
    found = [item.init_args for item in loggers if isinstance(item, Namespace) and "init_args" in item]
    return [one for one in found if one is found[0] or _place(one) == _place(found[0]) is not None]


def _place(logger: Namespace) -> Path | None:
    return None if logger.get("save_dir") is None else _runs(logger)


def _folder(config: Namespace) -> Path:
    """Where the options of ``fit`` would put checkpoints."""
    logger = _logger(config)
    if config.checkpoint.get("dirpath") is not None:
        return Path(config.checkpoint.dirpath)
    if logger is None or logger.get("save_dir") is None:
        return Path(config.trainer.get("default_root_dir") or ".")
    version = logger.get("version")
    return _runs(logger) / (f"version_{version}" if isinstance(version, int) else version or "")


def _runs(logger: Namespace) -> Path:
    return Path(logger.save_dir, logger.get("name") or "lightning_logs")


def _log_to(config: Namespace, path: Path, version: int | str | None) -> None:
    """Goes on in the folder of the run's logs: where it is now, if the checkpoint lies in it."""
    folder = path.parent.parent
    named = _VERSION.fullmatch(folder.name)
    for logger in _loggers(config):
        if path.parent.name == "checkpoints" and named:
            logger.version = int(named[1])
            if folder.parent != _runs(logger).resolve():
                logger.save_dir, logger.name = str(folder.parent.parent), folder.parent.name
        elif version is not None:
            logger.version = version


def without_resume(config: Namespace) -> Namespace:
    """Options of a run without the checkpoint it goes on from and the number of its folder."""
    if config.get("ckpt_path") is None:
        return config
    config = config.clone()
    config.ckpt_path = None
    for logger in _loggers(config):
        if "version" in logger:
            logger.version = None
    return config
