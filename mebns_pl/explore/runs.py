"""The runs that are laid side by side: found in folders, read, and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mebns_pl.analysis.probe_history import NAME, ProbeHistory, read_history
from mebns_pl.analysis.verdict import Evidence, Finding, same_probe, verdict
from mebns_pl.errors import DataError
from mebns_pl.escaping import visible
from mebns_pl.metrics_json import NAME as METRICS
from mebns_pl.metrics_json import load_metrics

CONFIG = "config.yaml"
MOST_RUNS = 7
"""That many colours can be told apart."""
_LANDSCAPE = ("name", "loss", "top_eigenvalue", "trace", "trace_error")


@dataclass(frozen=True)
class ExploredRun:
    """A run to be looked at.

    Args:
        name: what it is called on the page.
        history: of its probe.
        fit: the part of its ``metrics.json`` that tells of the fit.
        test: its test metrics.
        folder: where it is; None of a run that was never written.
        landscape: what ``mebns landscape`` has measured of its checkpoints: ``checkpoint``, ``loss``,
            ``top_eigenvalue``, ``trace``, ``trace_error``; or None.

    Example:
        >>> from mebns_pl.analysis.probe_history import toy_history
        >>> ExploredRun("plain", toy_history()).history.num_pairs
        4
    """

    name: str
    history: ProbeHistory
    fit: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    landscape: pd.DataFrame | None = None

    @property
    def evidence(self) -> Evidence:
        """What a verdict is made of."""
        return Evidence(self.fit, self.history)


def read_runs(folders: Sequence[str | Path], landscape: str | Path | None = None) -> list[ExploredRun]:
    """The runs at or below given folders, in their order.

    Args:
        folders: of runs, or folders that hold some.
        landscape: the folder that ``mebns landscape`` has written; None looks at ``landscape`` beside the runs.

    Raises:
        DataError: a folder is none, or holds no run with a probe; a file that cannot be read; runs whose probes
            differ, or more than seven.

    Example:
        >>> read_runs(["nowhere"])
        Traceback (most recent call last):
            ...
        mebns_pl.errors.DataError: nowhere: no such folder
    """
    found = [run for folder in folders for run in find_runs(Path(folder))]
    found = list({path.resolve(): path for path in found}.values())
    if len(found) > MOST_RUNS:
        raise DataError(f"run: got {len(found)} runs; allowed are {MOST_RUNS}, which can be told apart on one page")
    names = _names(found)
    runs = [_read(path, name, landscape) for path, name in zip(found, names, strict=True)]
    check_together(runs)
    return runs


def find_runs(folder: Path) -> list[Path]:
    """The runs with a probe at or below a folder.

    Raises:
        DataError: there is none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if (folder / NAME).is_file():
        return [folder]
    found = sorted((path.parent for path in folder.rglob(NAME)), key=lambda run: (run.parent, len(run.name), run.name))
    if found:
        return found
    if (folder / CONFIG).is_file():
        raise DataError(
            f"{folder}: the run has kept no probe ({NAME}): it is still at it, or was made with record.max_snapshots=0 "
            "or by an earlier version"
        )
    raise DataError(f"{folder}: no run in it; allowed is the folder of a run, with {CONFIG} and {NAME}")


def check_together(runs: Sequence[ExploredRun]) -> None:
    """Makes sure that runs have watched the same pairs.

    Raises:
        DataError: they have not, or there is none.
    """
    if not runs:
        raise DataError("run: got none; allowed are the folders of 1 run or more")
    for run in runs[1:]:
        if not same_probe(run.history, runs[0].history):
            raise DataError(
                f"{run.folder or run.name}: it has watched other pairs than {runs[0].folder or runs[0].name}; allowed "
                "are runs of one graph, split and probe (migration.probe_size, migration.share)"
            )


def _read(folder: Path, name: str, landscape: str | Path | None) -> ExploredRun:
    path = folder / METRICS
    metrics = load_metrics(path) if path.is_file() else {}
    return ExploredRun(
        name,
        read_history(folder / NAME),
        metrics.get("fit") or {},
        (metrics.get("test") or {}).get("metrics") or {},
        folder,
        read_landscape(folder, landscape),
    )


def read_landscape(run: Path, folder: str | Path | None = None) -> pd.DataFrame | None:
    """What ``mebns landscape`` has measured of a run's checkpoints, a row each; None where there is nothing.

    Raises:
        DataError: a file that is no such table; no such file, where ``folder`` is given.
    """
    run = run.resolve()
    path = (run.parent.parent / "landscape" if folder is None else Path(folder)) / "landscape.csv"
    if not path.is_file():
        if folder is not None:
            raise DataError(f"{path}: no such file; allowed is the folder that mebns landscape has written")
        return None
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no table of landscapes: {error}") from error
    if list(table.columns) != list(_LANDSCAPE):
        raise DataError(f"{path}: no table of landscapes; its columns are {', '.join(map(str, table.columns))}")
    begin = f"{run.parent.name}_{run.name}_"
    table = table[table["name"].astype(str).str.startswith(begin)]
    return None if table.empty else table.assign(checkpoint=table["name"].str.removeprefix(begin)).drop(columns="name")


def _names(folders: Sequence[Path]) -> list[str]:
    """The name of the folder above a version's, with the version's where several have it."""
    parents = [path.resolve().parent.name for path in folders]
    return [
        visible(parent if parents.count(parent) == 1 else f"{parent}/{path.resolve().name}")
        for parent, path in zip(parents, folders, strict=True)
    ]


def control_of(run: ExploredRun, runs: Sequence[ExploredRun]) -> ExploredRun | None:
    """The run among ``runs`` that another is held against, or None.

    Of MeBNS it is a plain run of the same sampler and seed, as far as there is one; of a plain run one that takes its
    negatives as they come, unless it does so itself.
    """
    mine = run.history.setting
    plain = [other for other in runs if other is not run and other.history.setting.system == "Plain"]
    if mine.system == "Plain":
        plain = [other for other in plain if _as_they_come(other) and not _as_they_come(run)]

    def distance(other: ExploredRun) -> tuple[bool, bool, bool]:
        its = other.history.setting
        unlike = mine.system != "Plain" and its.sampler != mine.sampler
        return unlike, not _as_they_come(other), its.seed != mine.seed

    return min(plain, key=distance, default=None)


def _as_they_come(run: ExploredRun) -> bool:
    return run.history.setting.sampler[1] == "FirstSelector"


def verdict_of(run: ExploredRun, runs: Sequence[ExploredRun]) -> list[Finding]:
    """What a run shows, beside its control among ``runs``."""
    control = control_of(run, runs)
    return verdict(run.evidence, None if control is None else control.evidence)
