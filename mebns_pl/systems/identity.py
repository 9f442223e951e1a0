"""What a checkpoint says of its run, in plain values, and what of it must be the same where it is loaded."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

from mebns_pl.config_files import dotted
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.models.layers import parted_of

KEY = "mebns_pl"
"""Where in a checkpoint the description stands."""
_HARMLESS = ("data.root", "data.num_workers", "data.nodes", "data.graph")
_KEPT_AS = {"graph": "graph_name", "split": "fractions"}
_FORMAT = 2
"""Counted up when parts of a checkpoint are named anew; 2: the proposal and the meta set belong to the system."""
# Printed with a layer, and no part of what it is: its address, and its parameters' type and device
_PASSING = re.compile(r" at 0x[0-9a-f]+|torch\.\w+ (?=of size )| \(\w+:\d+\)(?=\])")


def describe_system(system: nn.Module) -> dict[str, Any]:
    """Version, class, layers and shapes of a system, in plain values.

    Layers are told by their printed form, which is the same however the model was put together.
    """
    parted = {name: [table.num_nodes, system.get_parameter(name).shape[1]] for name, table in parted_of(system).items()}
    parts = {name: part for name, part in system.named_children() if any(True for _ in part.parameters())}
    return {
        "version": version("mebns_pl"),
        "format": _FORMAT,
        "system": path_of(type(system)),
        "model": {name: _PASSING.sub("", str(part)) for name, part in parts.items()},
        "shapes": {name: list(value.shape) for name, value in system.state_dict().items()} | parted,
    }


def describe_data(data: LinkDataModule) -> dict[str, Any]:
    """The graph's size and name, its digest and that of its split, and the seeds, in plain values."""
    split = data.split
    return {
        "graph": {"name": data.loaded.name, **data.spec._asdict(), "edges": data.loaded.num_edges},
        "split": {name: getattr(split, name).shape[1] for name in ("train", "meta", "val", "test")},
        "digests": dict(data.digests),
        "seed": data.key.seed,
        "split_seed": data.split_key.seed,
        "oracle": data.oracle,
    }


def differences(found: Mapping[str, Any] | None, present: Mapping[str, Any], stage: str | None) -> list[str]:
    """Why a checkpoint cannot be used; nothing where it can.

    Args:
        found: what the checkpoint says, or None where it says nothing.
        present: the same of the system, and of its data where there are any, that it is to be loaded into.
        stage: ``fit``, ``validate``, ``test`` or ``predict``; only prediction does without the same split, and only
            ``fit`` needs the same seeds.

    Example:
        >>> differences({"version": "0.3.1"}, {"version": "0.4.0"}, "test")
        ['version: 0.3.1 wrote it, 0.4.0 is installed; install mebns_pl 0.3, or train again']
    """
    if found is None:
        return ["it does not say which model and graph it belongs to, so no system of this package has written it"]
    release, installed = (".".join(told["version"].split(".")[:2]) for told in (found, present))
    if release != installed:
        return [
            f"version: {found['version']} wrote it, {present['version']} is installed; "
            f"install mebns_pl {release}, or train again"
        ]
    if "format" in present and (written := found.get("format", 1)) != present["format"]:
        return [f"format: {written} there, {present['format']} here: parts go by other names now; train again"]
    told = _compared("system", found, present) + _compared("graph", found, present)
    # What an oracle has learned is nothing to evaluate by a module that does not say so
    told += _compared("oracle", {"oracle": False, **found}, present)
    if "digests" in present and not told:
        told += _digests(found, present, stage)
    if stage == "fit":
        # Until there was a seed of the split, it was the seed
        told += _compared("seed", found, present)
        told += _compared("split_seed", {"split_seed": found.get("seed"), **found}, present)
    told += list(_layers(found["model"], present["model"]))
    if not told:
        told += list(_shapes(found["shapes"], present["shapes"]))
    return told


def _compared(name: str, found: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    changed = _changed({name: found.get(name)}, {name: present[name]}) if name in present else []
    return [f"{key}: {there} there, {here} here" for key, there, here in changed]


def _digests(found: Mapping[str, Any], present: Mapping[str, Any], stage: str | None) -> list[str]:
    there, here = found["digests"], present["digests"]
    if there["graph"] != here["graph"]:
        return [f"graph: {present['graph']['name']} has other edges or features now than when the model was trained"]
    if there["split"] != here["split"] and stage != "predict":
        counts = _compared("split", found, present) or ["its edges are others: another seed, or another protocol"]
        return [f"split: {counts[0].removeprefix('split.')}; test edges here may have been training edges there"]
    return []


def _layers(there: Mapping[str, str], here: Mapping[str, str]) -> Iterator[str]:
    for part in here.keys() | there.keys():
        lines = difflib.ndiff(there.get(part, "(absent)").splitlines(), here.get(part, "(absent)").splitlines())
        changed = [line for line in lines if line[0] in "-+"]
        if changed:
            old, new = (" ".join(line[2:].strip() for line in changed if line[0] == sign) for sign in "-+")
            yield f"model.{part}: {_short(old) or 'nothing'} there, {_short(new) or 'nothing'} here"


def _shapes(there: Mapping[str, list[int]], here: Mapping[str, list[int]]) -> Iterator[str]:
    for name, old, new in _changed(there, here)[:3]:
        yield f"model.{name}: shape {'none' if old is None else old} there, {'none' if new is None else new} here"


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."


def changed_options(found: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """Options of model and data that a run goes on with and did not begin with, for a warning.

    Args:
        found: the ``config`` of a checkpoint.
        present: that of the run.
    """
    if found.get("from") != present.get("from"):
        return []  # told in other words: from the command line, and from Python
    there, here = ({part: config.get(part) for part in ("model", "data")} for config in (found, present))
    changed = [change for change in _changed(there, here) if not change[0].startswith(_HARMLESS)]
    return [f"{name}: {before} before, {now} now" for name, before, now in changed]


def _changed(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What differs, by names with dots, of values within values; None where there is none."""
    old, new = dict(dotted(there)), dict(dotted(here))
    return [(name, old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)]


def plain(value: Any) -> Any:
    """A part of a run in plain values: what it is made by, and its parameters as far as it keeps them.

    Example:
        >>> from functools import partial
        >>> plain(partial(dict, lr=0.1))
        {'class_path': 'builtins.dict', 'init_args': {'lr': 0.1}}
    """
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, Tensor):
        return f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, functools.partial):
        return {"class_path": path_of(value.func), "init_args": plain(value.keywords)}
    if isinstance(value, type) or inspect.isroutine(value):
        return path_of(value)
    if is_dataclass(value):
        arguments = {item.name: getattr(value, item.name) for item in fields(value)}
    elif getattr(value, "__dict__", None) is None:
        return str(value)  # a path, a timedelta, a torch.dtype, ...
    else:
        kept = {_KEPT_AS.get(name, name): name for name in inspect.signature(type(value).__init__).parameters}
        arguments = {kept[name]: item for name, item in vars(value).items() if name in kept}
    return {"class_path": path_of(type(value)), "init_args": plain(arguments)}


def path_of(value: Any) -> str:
    """Where a class or a function is imported from, with dots."""
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
