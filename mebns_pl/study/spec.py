"""A study file: which axes there are, what each of their values is made of, and over which seeds."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mebns_pl.bounded_yaml import load_yaml
from mebns_pl.config_files import FOLDER, find_config_file, near_config_name
from mebns_pl.errors import DataError
from mebns_pl.study.ranges import Search, read_search

FOLDERS = {"graph": "data", "model": "model", "sampler": "sampler"}
"""Axes whose values may be files of ``configs/`` by name alone."""
SYSTEM = "system"
"""The axis whose values may be classes of systems by name alone."""
KEYS = (
    "name", "about", "base", "options", "axes", "exclude", "seeds", "split_seeds", "pairing", "test", "search",
)  # fmt: skip
PAIRINGS = ("crossed", "paired")
TAKEN = (
    "seed_everything", "data.seed", "data.split_seed", "ckpt_path", "trainer.logger", "trainer.default_root_dir",
    "trainer.enable_progress_bar", "checkpoint.dirpath", "last_checkpoint.dirpath",
)  # fmt: skip
"""Options that are the sweep's own."""

Options = dict[str, Any]


@dataclass(frozen=True)
class ConfigFile:
    """A configuration file of a stack, as it was when the study was read.

    Args:
        name: what people call it.
        text: YAML.
    """

    name: str
    text: str

    def options(self) -> Options:
        """What it sets, by the names of options."""
        return flat(load_yaml(self.text, self.name) or {})


@dataclass(frozen=True)
class Part:
    """What a value of an axis, or the base of all runs, is made of.

    Args:
        files: stacked in this order.
        options: on top of all files, by name.
    """

    files: tuple[ConfigFile, ...] = ()
    options: Options = field(default_factory=dict)

    def sets(self) -> Options:
        """All options that it sets, by name; later ones win."""
        found: Options = {}
        for layer in (*(file.options() for file in self.files), flat(self.options)):
            found = stacked(found, layer)
        return found


@dataclass(frozen=True)
class Study:
    """What a study file says.

    Args:
        name: of the study, and of its folder.
        base: what all runs have in common.
        axes: by name; of each the values by their short names.
        exclude: combinations of values that are left out, each a part of a run's.
        seeds: of the split (None: that of the weights) and of the weights.
        test: whether the best epoch is tested.
        search: what is searched for each combination, or None.
        text: the file itself.
    """

    name: str
    base: Part
    axes: dict[str, dict[str, Part]]
    exclude: tuple[dict[str, str], ...] = ()
    seeds: tuple[tuple[int | None, int], ...] = ((None, 0),)
    test: bool = True
    search: Search | None = None
    text: str = ""

    def combinations(self) -> Iterator[dict[str, str]]:
        """Short names by axis, those that are excluded left out."""
        for names in itertools.product(*self.axes.values()):
            chosen = dict(zip(self.axes, names, strict=True))
            if not any(part.items() <= chosen.items() for part in self.exclude):
                yield chosen


def read_study(path: str | Path) -> Study:
    """Reads a study file and the configuration files that it names.

    Args:
        path: the YAML file; files that it names are looked for beside it, in the working folder, and in ``configs/``.

    Raises:
        DataError: no such file, no YAML, an unknown key or axis, values that contradict each other, no run left.
    """
    path = Path(path)
    text = _text(path, "study")
    content = load_yaml(text, path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: got {str(content)[:40]!r}; allowed are {', '.join(KEYS)}")
    if unknown := [str(key) for key in content if key not in KEYS]:
        near = difflib.get_close_matches(unknown[0], KEYS, 1)
        hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(KEYS)}"
        raise DataError(f"{path}: got {unknown[0]!r}; {hint}")
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise DataError(f"{path}: name: got {name!r}; allowed is the name of a folder")
    base = _part(content.get("base"), "base", path)
    common = _mapping(content.get("options"), "options", path)
    base = Part(base.files, {**base.options, **_part(common, "options", path).options})
    axes = _axes(content.get("axes"), path)
    search = None if content.get("search") is None else read_search(content["search"], str(path), TAKEN)
    test = content.get("test", True)
    if not isinstance(test, bool):
        raise DataError(f"{path}: test: got {test!r}; allowed is true or false")
    exclude = _exclusions(content.get("exclude"), axes, path)
    study = Study(name, base, axes, exclude, _seeds(content, path), test, search, text)
    if search and len(study.seeds) > 1:
        raise DataError(f"{path}: search: got {len(study.seeds)} seeds; allowed is one, in which all trials are alike")
    _check_contradictions(study, path)
    if next(study.combinations(), None) is None:
        raise DataError(f"{path}: exclude: it leaves no run")
    return study


def flat(options: Mapping[str, Any], above: str = "") -> Options:
    """Options by their names with dots, as on the command line, of what a file nests.

    Example:
        >>> flat({"model": {"class_path": "Plain", "init_args": {"optimizer": {"lr": 0.1}}}, "data.graph": "cora"})
        {'model': 'Plain', 'model.optimizer.lr': 0.1, 'data.graph': 'cora'}
    """
    found: Options = {}
    for key, value in options.items():
        if key in ("class_path", "init_args"):
            name = above
        else:
            name = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            found.update(flat(value, name))
        else:
            found[name] = value
    return found


def stacked(below: Options, above: Options) -> Options:
    """Options with others on top; where a whole part is set to null, what it had is gone."""
    gone = tuple(f"{name}." for name, value in above.items() if value is None)
    kept = {name: value for name, value in below.items() if not (gone and name.startswith(gone))}
    return {**kept, **above}


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{what}: no such file: {str(path)!r}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error.reason})") from error


def _mapping(value: Any, name: str, path: Path) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{path}: {name}: got {str(value)[:40]!r}; allowed is a mapping, `name: value`")
    return value


def _list(value: Any, name: str, path: Path) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{path}: {name}: got {str(value)[:40]!r}; allowed is a list")
    return value


def _part(value: Any, name: str, path: Path) -> Part:
    """Of a file's name, a mapping, or a list of both."""
    files: list[ConfigFile] = []
    options: Options = {}
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        if isinstance(item, str):
            files.append(find_config(item, name, path))
        elif isinstance(item, dict):
            # What a file would nest is a file's; what has a dot, or a plain value, is an option's
            nested = {key: below for key, below in item.items() if isinstance(below, dict) and "." not in str(key)}
            if nested:
                files.append(ConfigFile(f"{name} (in the study)", yaml.safe_dump(nested, sort_keys=False)))
            options.update({str(key).lstrip("-"): below for key, below in item.items() if key not in nested})
        else:
            raise DataError(f"{path}: {name}: got {item!r}; allowed are names of files and mappings of options")
    part = Part(tuple(files), options)
    own = {
        **flat(options),
        **{k: v for file in files if "(in the study)" in file.name for k, v in file.options().items()},
    }
    for option in own:
        if taken := next((one for one in TAKEN if option == one or option.startswith(f"{one}.")), None):
            also = "; seeds stand under `seeds` and `split_seeds`" if "seed" in taken else ""
            raise DataError(f"{path}: {name}: {option} is set by the sweep itself{also}")
    return part


def find_config(name: str, whose: str, study: Path) -> ConfigFile:
    """A configuration file by the name that a study gives it, with or without ``.yaml``.

    Args:
        name: a path, relative to the study's folder, to the working folder, to ``configs/`` in it, or to the package's
            own.
        whose: the key of the study that names it, for the message.
        study: the study file.

    Raises:
        DataError: no such file, or no YAML of sections.
    """
    file = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    places = (study.parent, Path(), Path("configs"))
    found = find_config_file(file, places)
    if found is None:
        looked = ", ".join(dict.fromkeys(str(place) for place in (*places, FOLDER)))
        raise DataError(f"{study}: {whose}: no such file: {file!r}; looked in {looked}{near_config_name(name)}")
    text = _text(found, whose)
    if not isinstance(load_yaml(text, found) or {}, dict):
        raise DataError(f"{found}: allowed are sections such as `data:` and `model:`")
    return ConfigFile(name.removesuffix(".yaml"), text)


def _axes(value: Any, path: Path) -> dict[str, dict[str, Part]]:
    axes: dict[str, dict[str, Part]] = {}
    for key, given in _mapping(value, "axes", path).items():
        axis = str(key).lstrip("-")
        where = f"axes.{axis}"
        if isinstance(given, list):
            values = {_short(item, where, path): _known(axis, item, path) for item in given}
            if len(values) < len(given):
                raise DataError(f"{path}: {where}: got a value twice")
        elif isinstance(given, dict):
            values = {
                str(name): _known(axis, name, path) if item is None else _part(item, f"{where}.{name}", path)
                for name, item in given.items()
            }
        else:
            told = "a list, or a mapping of names to files and options"
            raise DataError(f"{path}: {where}: got {given!r}; allowed is {told}")
        if not values:
            raise DataError(f"{path}: {where}: it has no value")
        axes[axis] = values
    return axes


def _short(item: Any, where: str, path: Path) -> str:
    if isinstance(item, dict | list) or item is None:
        raise DataError(f"{path}: {where}: got {item!r} in a list; give it a name, `name: {{option: value}}`")
    return str(item).lower() if isinstance(item, bool) else str(item)


def _known(axis: str, item: Any, path: Path) -> Part:
    """A value that its axis tells the meaning of."""
    if axis in FOLDERS:
        return _part(f"{FOLDERS[axis]}/{item}", f"axes.{axis}", path)
    if axis == SYSTEM:
        return Part(options={"model": item})
    if "." in axis:
        return _part({axis: item}, f"axes.{axis}", path)
    known = (*FOLDERS, SYSTEM)
    near = difflib.get_close_matches(axis, known, 1)
    raise DataError(
        f"{path}: axes.{axis}: unknown axis{f' (did you mean {near[0]}?)' if near else ''}; values by name alone have "
        f"{', '.join(known)}, and options such as model.sampler.num_candidates; others say what a name stands for, "
        "`name: [files and options]`"
    )


def _exclusions(value: Any, axes: Mapping[str, Mapping[str, Part]], path: Path) -> tuple[dict[str, str], ...]:
    found = []
    for item in _list(value, "exclude", path):
        part = {}
        for key, name in _mapping(item, "exclude", path).items():
            axis = str(key).lstrip("-")
            if axis not in axes:
                raise DataError(f"{path}: exclude: unknown axis {axis!r}; allowed are {', '.join(axes)}")
            short = str(name).lower() if isinstance(name, bool) else str(name)
            if short not in axes[axis]:
                raise DataError(f"{path}: exclude: {axis} has no {short!r}; allowed are {', '.join(axes[axis])}")
            part[axis] = short
        if not part:
            raise DataError(f"{path}: exclude: got {item!r}; allowed are mappings, `axis: value`")
        found.append(part)
    return tuple(found)


def _seeds(content: Mapping[str, Any], path: Path) -> tuple[tuple[int | None, int], ...]:
    weights = _numbers(content.get("seeds", 1), "seeds", path)
    pairing = content.get("pairing")
    if pairing is not None and pairing not in PAIRINGS:
        raise DataError(f"{path}: pairing: got {pairing!r}; allowed are {' and '.join(PAIRINGS)}")
    if content.get("split_seeds") is None:
        if pairing is not None:
            raise DataError(f"{path}: pairing: got {pairing!r} without split_seeds; the split has the weights' seed")
        return tuple((None, seed) for seed in weights)
    splits = _numbers(content["split_seeds"], "split_seeds", path)
    if pairing is None and len(splits) > 1 and len(weights) > 1:
        raise DataError(
            f"{path}: pairing: it is missing; allowed are crossed (all with all) and paired (first with first)"
        )
    if pairing == "paired":
        if len(splits) != len(weights):
            told = f"{len(splits)} split_seeds and {len(weights)} seeds"
            raise DataError(f"{path}: pairing: paired needs as many of both, got {told}")
        return tuple(zip(splits, weights, strict=True))
    return tuple(itertools.product(splits, weights))


def _numbers(value: Any, name: str, path: Path) -> Sequence[int]:
    """Seeds: a list, or how many from 0 on."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    numbers = list(range(value)) if whole else value
    good = isinstance(numbers, list) and numbers and all(type(n) is int and 0 <= n < 2**32 for n in numbers)
    if not good or len(set(numbers)) < len(numbers):
        raise DataError(f"{path}: {name}: got {value!r}; allowed are a number of seeds, or a list of different ones")
    return numbers


def _check_contradictions(study: Study, path: Path) -> None:
    """Two axes must not set the same option, for one of them would be without effect; nor may the common options."""
    told = {axis: [(name, part.sets()) for name, part in values.items()] for axis, values in study.axes.items()}
    common = flat(study.base.options)
    for axis, values in told.items():
        for name, sets in values:
            _refuse(path, f"{axis}={name}", sets, "the options of all runs", common)
    for one, other in itertools.combinations(told, 2):
        for (first, sets), (second, others) in itertools.product(told[one], told[other]):
            apart = {one: first, other: second}
            if not any(part.items() <= apart.items() for part in study.exclude):
                _refuse(path, f"{one}={first}", sets, f"{other}={second}", others)
    if study.search:
        ranges: Iterable[str] = study.search.ranges
        for axis, values in told.items():
            for name, sets in values:
                if both := [option for option in ranges if option in sets]:
                    raise DataError(f"{path}: contradiction: {both[0]} is searched, and set by {axis}={name}")


def _refuse(path: Path, one: str, sets: Options, other: str, others: Options) -> None:
    for option in sets:
        if option in others and json.dumps(sets[option]) != json.dumps(others[option]):
            raise DataError(
                f"{path}: contradiction: {option} is {sets[option]!r} by {one} and {others[option]!r} by {other}; "
                "an option is set in one place"
            )
