"""The runs of a study: what each is made of, the name it has by that, and the files it needs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mebns_pl.errors import DataError
from mebns_pl.files import write_atomically
from mebns_pl.study.spec import TAKEN, ConfigFile, Options, Study, flat, stacked

CONFIGS = "configs"
"""Folder of a study with the configuration files of its runs, as they were when the runs were planned."""


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study.

    Args:
        run: its name: r and a hash of all that it is made of, so that a run that is done is known again.
        axes: short names of its values, by axis.
        split_seed: of the split, or None for that of the weights.
        seed: of the weights.
        config: all options that files and study set, by name.
        files: the stack, in order.
        options: on top of it, by name, in order.
        test: whether its best epoch is tested.
        search: the ranges of its trial, the trial's number and whether it may be pruned; or None.
    """

    run: str
    axes: dict[str, str]
    split_seed: int | None
    seed: int
    config: Options
    files: tuple[ConfigFile, ...] = field(repr=False)
    options: Options = field(repr=False)
    test: bool = True
    search: dict[str, Any] | None = None

    def arguments(self, folder: Path) -> list[str]:
        """What follows ``mebns fit`` on the command line.

        Args:
            folder: of the study, with the files that :func:`write_files` has written.
        """
        files = [part for file in self.files for part in ("-c", str(folder / CONFIGS / file_name(file)))]
        seeds = {"seed_everything": self.seed}
        if self.split_seed is not None:
            seeds["data.split_seed"] = self.split_seed
        return [*files, *as_arguments({**self.options, **seeds})]


def plan_runs(study: Study) -> list[PlannedRun]:
    """All runs of a study, one seed after the other, so that what is there early compares all combinations.

    Raises:
        DataError: two runs are the same under different names.
    """
    runs: list[PlannedRun] = []
    for split_seed, seed in study.seeds:
        for axes in study.combinations():
            parts = [study.base, *(study.axes[axis][name] for axis, name in axes.items())]
            files = tuple(file for part in parts for file in part.files)
            options: Options = {}
            for part in parts:
                options.update(part.options)
            for trial in range(study.search.trials if study.search else 1):
                search = None
                if study.search:
                    search = {"trial": trial, "ranges": study.search.ranges, "pruning": study.search.pruning}
                runs.append(_planned(axes, split_seed, seed, files, options, study.test and not search, search))
    known: dict[str, PlannedRun] = {}
    for run in runs:
        other = known.setdefault(run.run, run)
        if other is not run:
            raise DataError(f"study {study.name}: {_told(other.axes)} and {_told(run.axes)} are the same configuration")
    return runs


def _planned(
    axes: dict[str, str],
    split_seed: int | None,
    seed: int,
    files: tuple[ConfigFile, ...],
    options: Options,
    test: bool,
    search: dict[str, Any] | None,
) -> PlannedRun:
    config: Options = {}
    for layer in (*(file.options() for file in files), flat(options)):
        config = stacked(config, layer)
    config = {name: value for name, value in config.items() if not _is_taken(name)}
    whole = {"config": config, "seed": seed, "split_seed": split_seed, "test": test, "search": search}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()
    # Less deep names first: of a class before its arguments
    ordered = dict(sorted(options.items(), key=lambda item: item[0].count(".")))
    # A letter first: the command line would take 12e34 for a number
    return PlannedRun(f"r{digest[:11]}", axes, split_seed, seed, config, files, ordered, test, search)


def _is_taken(option: str) -> bool:
    return any(option == taken or option.startswith(f"{taken}.") for taken in TAKEN)


def _told(axes: dict[str, str]) -> str:
    return ", ".join(f"{axis}={name}" for axis, name in axes.items()) or "the base"


def as_arguments(options: Options) -> list[str]:
    """Options as the command line takes them.

    Example:
        >>> as_arguments({"model": "Plain", "data.protocol": None, "migration.lags": [1, 5]})
        ['--model=Plain', '--data.protocol=null', '--migration.lags=[1, 5]']
    """
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()]


def file_name(file: ConfigFile) -> str:
    """What a file of a stack is called in the study's folder: its name and a hash of what is in it."""
    words = re.sub(r"[^\w.-]+", "_", file.name).strip("_")
    return f"{words[-60:]}-{hashlib.sha256(file.text.encode()).hexdigest()[:8]}.yaml"


def write_files(runs: Sequence[PlannedRun], study: Study, folder: Path) -> None:
    """Writes the study and the files of its runs into its folder, so that what is edited later changes no run.

    Raises:
        OSError: they cannot be written.
    """
    write_atomically(folder / "study.yaml", study.text)
    for file in {file_name(file): file for run in runs for file in run.files}.values():
        path = folder / CONFIGS / file_name(file)
        if not path.exists():
            write_atomically(path, file.text)
