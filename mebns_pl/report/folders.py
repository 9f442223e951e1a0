"""Folders of single runs, as the rows of a study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mebns_pl.bounded_yaml import check_yaml
from mebns_pl.config_files import dotted
from mebns_pl.errors import DataError
from mebns_pl.metrics_json import NAME, load_metrics
from mebns_pl.report.results import ABSENT, AXIS, GRAPH

# Where a run is written and how it is shown says nothing of what it is
_BESIDES = (
    *("seed_everything", "data.seed", "data.split_seed", "data.root", "data.num_workers", "model.class_path"),
    *("trainer.logger", "trainer.default_root_dir", "trainer.enable_", "trainer.callbacks", "ckpt_path"),
    *(
        "checkpoint.",
        "last_checkpoint.",
        "migration.",
        "figures.",
        "record.",
        "predictions.",
        "preemption.",
        "weights_only",
    ),
)


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The folders of runs at or below given ones: those that hold a ``config.yaml``.

    Args:
        folders: to look in.

    Raises:
        DataError: one is no folder, or holds neither a study nor runs.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; allowed are a study's folder, and folders of runs")
        runs = sorted((path.parent for path in folder.rglob("config.yaml")), key=_natural)
        if not runs:
            raise DataError(f"{folder}: no study (results.sqlite) and no runs (config.yaml with metrics.json) in it")
        found += [run for run in runs if run not in found]
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """version_2 before version_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in str(path).replace("_", "/").split("/")]


def frame_of_runs(folders: Iterable[Path]) -> pd.DataFrame:
    """Folders of single runs as the rows of a study; its axes are the system and the options in which runs differ.

    Options that are in one system alone are no axes, and of options that always change together the first one is.

    Args:
        folders: each with ``config.yaml`` and, of a finished run, ``metrics.json``.

    Raises:
        DataError: a file that cannot be read.
    """
    folders = list(folders)
    configs = [_read_config(folder / "config.yaml") for folder in folders]
    options = [dict(dotted(config)) for config in configs]
    names = graph_names(str(flat.get("data.graph", ABSENT)) for flat in options)
    frame = pd.DataFrame([_row(*each, names) for each in zip(folders, configs, options, strict=True)])
    return frame.assign(**_axes(options, list(frame["axis/system"])))


def _row(folder: Path, config: dict[str, Any], flat: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    path = folder / NAME
    metrics = load_metrics(path) if path.is_file() else {}
    fit, test = metrics.get("fit", {}), metrics.get("test", {})
    seed = flat.get("seed_everything")
    split = flat.get("data.split_seed")
    return {
        "run": str(folder),
        "status": "done" if fit or test else "running",
        "error": None if fit or test else "no metrics.json: killed, failed or still at it",
        GRAPH: names[str(flat.get("data.graph", ABSENT))],
        "axis/system": str(flat.get("model.class_path", ABSENT)).rpartition(".")[2],
        "split_seed": seed if split is None else split,
        "seed": seed,
        "config": json.dumps(config, default=str),
        "folder": str(folder.resolve()),
        **{f"val/{name}": value for name, value in (fit.get("val") or {}).items()},
        **{f"test/{name}": value for name, value in (test.get("metrics") or {}).items()},
        **{name: fit.get(name) for name in ("best_epoch", "epochs", "seconds", "peak_memory_mib")},
        **{name: fit.get(name) for name in ("churn", "unevenness")},
        "notes": json.dumps(metrics.get("notes") or []),
    }


def graph_names(paths: Iterable[str]) -> dict[str, str]:
    """What graphs are called in a report, by their paths: as the file, with as many folders as tell two files apart.

    Of two paths one of which is the end of the other nobody can say that they are two.

    Example:
        >>> graph_names(["cora", "a/edges.csv", "/data/b/edges.csv"])
        {'cora': 'cora', 'a/edges.csv': 'a/edges.csv', '/data/b/edges.csv': 'b/edges.csv'}
        >>> graph_names(["edges.csv", "/data/a/edges.csv"])
        {'edges.csv': 'edges.csv', '/data/a/edges.csv': 'edges.csv'}
    """
    found = {}
    parts = {path: Path(path).parts for path in dict.fromkeys(paths)}
    for path, own in parts.items():
        told = 1
        for other in parts.values():
            ends = zip(reversed(own), reversed(other), strict=False)
            common = sum(1 for _ in takewhile(lambda both: both[0] == both[1], ends))
            if 0 < common < min(len(own), len(other)):
                told = max(told, common + 1)
        found[path] = str(Path(*own[-told:])) if own else path
    return found


def _read_config(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
        check_yaml(text, path)
        config = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise DataError(f"{path}: got {type(config).__name__}; allowed is the configuration of a run")
    return config


def _axes(options: Sequence[Mapping[str, Any]], systems: Sequence[str]) -> dict[str, list[str]]:
    """The options in which runs differ, each with its values by run."""
    names = list(dict.fromkeys(name for flat in options for name in flat))
    found: dict[str, list[str]] = {}
    seen = {_pattern(systems)}
    for name in names:
        if name.startswith(_BESIDES) or name == "data.graph":
            continue
        values = [_short(flat[name]) if name in flat else ABSENT for flat in options]
        everywhere = all(name in flat for flat in options)
        within = any(len({v for v, s in zip(values, systems, strict=True) if s == system}) > 1 for system in systems)
        pattern = _pattern(values)
        if (within or everywhere) and len(set(values)) > 1 and pattern not in seen:
            seen.add(pattern)
            parts = [part for part in name.split(".") if part not in ("init_args", "class_path")]
            tails = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
            label = next((tail for tail in tails if f"{AXIS}{tail}" not in found), name)
            found[AXIS + label] = values
    return found


def _pattern(values: Sequence[str]) -> tuple[int, ...]:
    """Which runs have the same value: alike for options that change together."""
    first = {value: number for number, value in reversed(list(enumerate(values)))}
    return tuple(first[value] for value in values)


def _short(value: Any) -> str:
    return str(value).removeprefix("mebns_pl.") if isinstance(value, str) else json.dumps(value, default=str)
