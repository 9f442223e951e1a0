"""``model.predictor: auto``: replaced, before a run's options are parsed, by what fits the graph that they name."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mebns_pl.bounded_yaml import load_yaml
from mebns_pl.cli.messages import OneLineParser, bad_input
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.errors import DataError
from mebns_pl.models.auto import GraphFacts, chosen
from mebns_pl.models.batching import NeighborSampling
from mebns_pl.study.plan import as_arguments
from mebns_pl.study.spec import Options, flat, stacked
from mebns_pl.systems.auto_encoder import AutoEncoder
from mebns_pl.systems.heuristic import Heuristic
from mebns_pl.systems.mebns import MeBNS
from mebns_pl.terminal import say

AUTO = "auto"
PREDICTOR = "model.predictor"
_EPOCHS = "trainer.max_epochs"
_EVERY = "trainer.check_val_every_n_epoch"
_BATCHING = "model.batching"
_SELECTOR = "model.sampler.selector"
_CONFIG_OPTIONS = ("-c", "--config")
_LACKS = {AutoEncoder.__name__: "sampler", Heuristic.__name__: "predictor"}
"""Systems that it does not go with, and what they have not."""


@dataclass(frozen=True)
class _Part:
    """A part of a command line.

    Args:
        words: as they stand there.
        options: what they set, by names with dots.
        file: the configuration file that is named, or None.
    """

    words: tuple[str, ...]
    options: Options
    file: str | None = None

    @property
    def predictor(self) -> object:
        """What predictor it names, or None."""
        return self.options.get(PREDICTOR)

    def without_predictor(self) -> list[str]:
        """Its words with all but the predictor; of a file the content in its place."""
        if self.file is None:
            return []
        config = load_yaml(Path(self.file).read_text("utf-8"), self.file)
        model = config["model"]
        (model if "predictor" in model else model["init_args"]).pop("predictor")
        return ["-c", json.dumps(config)]


def with_choice(arguments: Sequence[str]) -> list[str]:
    """The command line of ``fit``, with what ``auto`` stands for: options, which others behind it override.

    Where another predictor is named behind it, ``auto`` stands for nothing.

    Args:
        arguments: ``fit`` and its options, with paths of configuration files; of other commands they stay as they are.

    Raises:
        DataError: the graph cannot be read.
    """
    parts = list(_parts(arguments[1:]))
    if arguments[:1] != ["fit"] or all(part.predictor != AUTO for part in parts):
        return list(arguments)
    given: Options = {}
    for part in parts:
        given = stacked(given, part.options)
    last = max(place for place, part in enumerate(parts) if part.predictor is not None)
    words = ["fit"]
    for place, part in enumerate(parts):
        words += part.words if part.predictor != AUTO else part.without_predictor()
        if place == last and part.predictor == AUTO:
            words += _choice(given, parts, place)
    return words


def _choice(given: Options, parts: Sequence[_Part], place: int) -> list[str]:
    """The options that fit the graph, as words.

    Args:
        given: all options together.
        parts: the command line.
        place: of the part that names ``auto``; what stands behind it overrides.

    Raises:
        DataError: the graph cannot be read; a system that has no sampler, or no predictor.
    """
    system = str(given.get("model", MeBNS.__name__))
    if lacking := _LACKS.get(_class_name(system)):
        told = f"got {AUTO!r} with {_class_name(system)}, which has no {lacking}; allowed are others"
        raise DataError(f"{PREDICTOR}: {told}")
    facts = _facts(parts, _class_name(given.get(_BATCHING)) == NeighborSampling.__name__)
    choice, behind = chosen(facts), parts[place + 1 :]
    asked = _whole(given[_EPOCHS]) if any(_EPOCHS in part.options for part in behind) else None
    epochs = asked or choice.epochs_for(facts)
    say(
        f"Model of {facts.num_nodes:,} nodes of mean degree {facts.mean_degree:.1f} with {facts.num_features:,} "
        f"features: {choice.name}"
    )
    scheduler = "model.schedule.lr_scheduler" if _class_name(system) == MeBNS.__name__ else "model.lr_scheduler"
    falling = {"": "LinearLR", ".start_factor": 1.0, ".end_factor": 0.01, ".total_iters": epochs}
    own = dict(choice.options)
    if any(_SELECTOR in part.options for part in behind):  # what this one picks is not to be another selector's number
        own = {name: value for name, value in own.items() if not name.startswith(_SELECTOR)}
    options = {"model": system, **own, _EPOCHS: epochs, **_validations(parts[place].options, epochs)}
    return as_arguments({**options, **{f"{scheduler}{name}": value for name, value in falling.items()}})


def _validations(beside: Options, epochs: int) -> Options:
    """How often to validate, so that a shorter training than a file plans for has as many validations.

    Args:
        beside: what the file that names ``auto`` sets beside it.
        epochs: of the training.
    """
    every, planned = _whole(beside.get(_EVERY)), _whole(beside.get(_EPOCHS))
    return {} if every is None or planned is None else {_EVERY: min(every, -(-every * epochs // planned))}


def _whole(value: object) -> int | None:
    """A number of 1 or more, from a file or a word of the command line; None of all else, which its parser judges."""
    with suppress(DataError):
        value = load_yaml(value, _EPOCHS) if isinstance(value, str) else value
    return value if type(value) is int and value >= 1 else None


def _class_name(value: object) -> str:
    """A class's own name."""
    return str(value).rpartition(".")[2]


def _facts(parts: Sequence[_Part], sampled: bool) -> GraphFacts:
    """What is to be known of the graph that the options of the data name."""
    parser = OneLineParser(prog="mebns fit", allow_abbrev=False)
    parser.add_argument("-c", "--config", action="config")
    parser.add_lightning_class_args(LinkDataModule, "data")
    words: list[str] = []
    for part in parts:
        if part.file is not None:
            data = (load_yaml(Path(part.file).read_text("utf-8"), part.file) or {}).get("data")
            words += ["-c", json.dumps({"data": data})] if data else []
        elif part.words[0].startswith("--data"):
            words += part.words
    with bad_input():
        data_module: LinkDataModule = parser.instantiate_classes(parser.parse_args(words)).data
        quiet = logging.getLogger("mebns_pl")
        level = quiet.level
        quiet.setLevel(logging.ERROR)  # the run says all that there is to say of the graph
        try:
            loaded = data_module.loaded
            return GraphFacts(data_module.spec, loaded.num_edges, loaded.max_degree, sampled)
        finally:
            quiet.setLevel(level)


def _parts(words: Sequence[str]) -> Iterator[_Part]:
    """Options with their values."""
    place = 0
    while place < len(words):
        name, equals, value = words[place].partition("=")
        used: tuple[str, ...] = (words[place],)
        if not equals and place + 1 < len(words) and not words[place + 1].startswith(("--", "-c")):
            value, used = words[place + 1], (words[place], words[place + 1])
        place += len(used)
        if name in _CONFIG_OPTIONS:
            yield _Part(used, flat(load_yaml(Path(value).read_text("utf-8"), value) or {}), value)
        else:
            # As a file's are called: the words of a class's path and arguments may stand in a name, and say nothing
            levels = [level for level in name.removeprefix("--").split(".") if level not in ("class_path", "init_args")]
            yield _Part(used, {".".join(levels): value})
