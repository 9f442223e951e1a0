"""What is looked at before a run begins: one that cannot come to its end must not start, and leaves nothing behind."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from mebns_pl.bounded_yaml import load_yaml
from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.checks import fits
from mebns_pl.cli.run_folder import numbers_itself
from mebns_pl.cli.seal import check_seal
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.data.needs import Needs
from mebns_pl.datasets.readers.contents import text_lines
from mebns_pl.errors import DataError
from mebns_pl.evaluation.protocols import GeneratedComparison
from mebns_pl.prediction.writer import PredictionWriter
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.trainer_options import check_monitors, check_trainer

log = logging.getLogger(__name__)

_SECTIONS = ("trainer", "data", "model", "checkpoint", "last_checkpoint", "migration", "predictions", "data.split")
_CKPT_WORDS = ("best", "last", "hpc")
"""What Lightning takes in place of a checkpoint's path, and looks for where this run would write."""
_CHECKPOINT_COPIES = 2 * 4
"""Best and last checkpoint, with Adam's two moments beside each parameter, and a margin."""


def check_run(
    stage: str, system: AbstractLinkSystem, data: LinkDataModule, trainer: Trainer, ckpt_path: str | None = None
) -> None:
    """Finds out what would stop a run later, before anything is written. What it computes the run takes over.

    Args:
        stage: "fit", "validate", "test" or "predict".
        system: what is to be run.
        data: what it is run on.
        trainer: what runs it.
        ckpt_path: the checkpoint that is to be loaded, or None.

    Raises:
        DataError: data that cannot be parted, learned from or evaluated on; no such checkpoint.
        ValueError: an optimizer that does not go with the system, or an option of the trainer's that nothing runs with.
        TypeError: a system that does not do what is asked for.
        OSError: a folder that cannot be written to, or a disk without room.
    """
    if ckpt_path is not None:
        _check_checkpoint(str(ckpt_path), trainer)
    every = trainer.check_val_every_n_epoch
    if every is not None and every < 1:
        raise ValueError(f"trainer.check_val_every_n_epoch: got {every}; allowed is an integer of 1 or more, or null")
    check_trainer(trainer, system.num_learners)
    if stage != "fit":
        data.refuse_oracle(stage)
    _check_sizes(stage, system, data, trainer)
    checkpoints = stage == "fit" and bool(trainer.checkpoint_callbacks)
    room = _CHECKPOINT_COPIES * sum(param.nbytes for param in system.parameters()) if checkpoints else 0
    for name, folder in _folders(stage, trainer):
        check_folder(folder, name, room)
    if stage == "fit":
        system.configure_optimizers()  # refuses what cannot be trained, or not so
        data.check_pairs(system.needs)
        system.batching.resident(data.train_graph, "cpu")
        data.train_steps(system.needs)
        validated = bool(trainer.limit_val_batches and data.split.val.shape[1])
        if validated:
            data.eval_set("val")
        if trainer.limit_val_batches:
            check_monitors(trainer, [f"val/{name}" for name in system.stages["val"].names] * validated)
        elif trainer.check_val_every_n_epoch == 1:  # else it never looks at what is not there
            check_monitors(trainer, [], EarlyStopping)
        if told := data.unrankable("test"):
            log.warning("%s; `mebns test` would refuse it", told)
    elif stage in ("validate", "test"):
        data.eval_set(stage.removesuffix("idate"))


def _check_checkpoint(given: str, trainer: Trainer) -> None:
    """Refuses what is not there; where Lightning finds nothing for a word, it begins anew."""
    if given in _CKPT_WORDS and not _stands_for_one(given, trainer):
        raise DataError(
            f"ckpt_path: got {given!r}, and there is no such checkpoint where this run writes; allowed is a file, and "
            "`mebns fit --resume` goes on with the newest run"
        )
    elsewhere = given in _CKPT_WORDS or given.startswith("registry") or "://" in given
    if not (elsewhere or Path(given).exists()):
        raise DataError(f"ckpt_path: no such file: {given!r}")


def _stands_for_one(word: str, trainer: Trainer) -> bool:
    if word == "hpc":
        return trainer._checkpoint_connector._hpc_resume_path is not None
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    if word == "best":
        return any(callback.best_model_path for callback in callbacks)
    new_folder = bool(trainer.loggers) and numbers_itself(trainer.loggers[0])
    return any(callback._find_last_checkpoints(trainer) for callback in callbacks if callback.dirpath or not new_folder)


_PAIR_BYTES = 40
"""Of a pair of nodes that is drawn and scored: two numbers, its name, its logit and gradient."""


def _check_sizes(stage: str, system: AbstractEvaluation, data: LinkDataModule, trainer: Trainer) -> None:
    """Refuses numbers of pairs that no memory holds; what each class can know by itself, it has checked.

    Raises:
        ValueError: they are such.
    """
    split, needs = data.split, getattr(system, "needs", Needs())
    rows = min(data.batch_size, split.train.shape[1])
    beside = f"with {rows:,} edges in a step"
    if stage == "fit":
        candidates = needs.sampler.num_candidates
        fits(_PAIR_BYTES * rows * candidates, beside, **{"model.sampler.num_candidates": candidates})
        if needs.teacher is not None:
            count = needs.teacher.count
            fits(_PAIR_BYTES * rows * count, beside, **{"model.std_generator.num_negatives": count})
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, MigrationMonitor):
                size = callback.probe_size
                fits(_PAIR_BYTES * size, **{"migration.probe_size": size})
    comparison = None if data.protocol is None else data.protocol.comparison
    if stage != "predict" and isinstance(comparison, GeneratedComparison | None):
        held_out = max(split.val.shape[1], split.test.shape[1])
        drawn = data.eval_negatives if comparison is None else comparison.negatives
        for name, ends in (("num_negatives", 1), ("num_per_end", 2)):
            count = getattr(drawn, name, 0)
            beside = f"with {held_out:,} held-out edges"
            fits(_PAIR_BYTES * held_out * ends * count, beside, **{f"data.eval_negatives.{name}": count})


_LAUNCHED: dict[type[ClusterEnvironment], tuple[str, tuple[str, ...]]] = {
    SLURMEnvironment: (
        "by srun in a SLURM job, as scripts/cluster/slurm.sbatch does it",
        ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
    ),
    TorchElasticEnvironment: (
        "by torchrun, as scripts/cluster/torchrun.sh does it",
        ("WORLD_SIZE", "RANK", "LOCAL_RANK", "GROUP_RANK"),
    ),
}
"""Who has to have started the process that makes such an environment, and the variables by which that shows."""


def check_launcher(plugins: Any) -> None:
    """Refuses an environment of a cluster where this process is none of its ranks.

    Args:
        plugins: the trainer's option: None, a plugin or several.

    Raises:
        DataError: it is such.
    """
    for plugin in plugins if isinstance(plugins, Sequence) else [plugins]:
        how, variables = _LAUNCHED.get(type(plugin), ("", ()))
        if unset := [name for name in variables if name not in os.environ]:
            raise DataError(
                f"trainer.plugins: {type(plugin).__name__} is for processes that are started {how}; this one was not "
                f"({unset[0]} is not set). On one host take configs/cluster/single_host.yaml"
            )


def check_config_file(path: str | Path) -> None:
    """Looks at the form of a configuration file: of sections that are none jsonargparse takes no notice.

    Args:
        path: the YAML file.

    Raises:
        DataError: no such file, no YAML, or a section that is a number, a list or the like.
    """
    path = Path(path)
    text = "".join(text_lines(path))
    check_seal(path, text)
    config = load_yaml(text, path)
    if not isinstance(config, dict):
        what = "the file is empty" if config is None else f"got {str(config)[:40]!r}"
        raise DataError(f"{path}: {what}; allowed are sections such as `data:` and `model:`")
    _check_sections(path, config, "")


def _check_sections(path: Path, section: dict[Any, Any], above: str) -> None:
    for key, value in section.items():
        name = f"{above}{key}"
        if (name in _SECTIONS or key == "init_args") and not isinstance(value, dict | str | None):
            raise DataError(f"{path}: {name}: got {str(value)[:40]!r}; allowed are options below it, `name: value`")
        if isinstance(value, dict):
            _check_sections(path, value, f"{name}.")


def check_folder(folder: str | Path, name: str, room: int = 0) -> None:
    """Writes a file into a folder, or into the nearest one above it that is there, and removes it.

    Args:
        folder: where something is to be written; it need not be there yet.
        name: the argument it was given by, for the message.
        room: bytes that checkpoints need there.

    Raises:
        OSError: it cannot be written to, or has less room.
    """
    place = Path(folder).absolute()
    try:
        while not os.path.lexists(place):
            place = place.parent
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(bytes(4096))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        reason = f"{name}: cannot write to {str(folder)!r}: {error.strerror} ({place})"
        raise OSError(error.errno, f"{reason}; allowed is a folder that can be written to") from error
    free = shutil.disk_usage(place).free
    if free < room:
        raise OSError(f"{name}: {free:,} bytes are free in {place}; checkpoints need about {room:,}")


def _folders(stage: str, trainer: Trainer) -> Iterator[tuple[str, Path]]:
    """Every folder that the run writes into, by the argument that names it."""
    for logger in trainer.loggers:
        # Asked for its folder, a logger would choose a number now, which another run may take meanwhile
        if folder := logger.root_dir if numbers_itself(logger) else logger.log_dir or logger.save_dir:
            yield "trainer.logger", Path(folder)
    if stage == "fit":
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath and "://" not in str(callback.dirpath):
                yield "checkpoint.dirpath", Path(callback.dirpath)
    if stage == "predict":
        for writer in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(writer, PredictionWriter) and writer.path is not None:
                yield "predictions.path", writer.path.parent
