"""``model.predictor: auto``: replaced, before a run's options are parsed, by what fits the graph that they name."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mebns_pl.bounded_yaml import load_yaml
from mebns_pl.cli.messages import OneLineParser, bad_input
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.errors import DataError
from mebns_pl.models.auto import GraphFacts, chosen
from mebns_pl.study.plan import as_arguments
from mebns_pl.study.spec import Options, flat, stacked
from mebns_pl.systems.auto_encoder import AutoEncoder
from mebns_pl.systems.mebns import MeBNS
from mebns_pl.terminal import say

AUTO = "auto"
PREDICTOR = "model.predictor"
_EPOCHS = "trainer.max_epochs"
_SELECTOR = "model.sampler.selector"
_CONFIG_OPTIONS = ("-c", "--config")


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
            words += _choice(given, parts, parts[place + 1 :])
    return words


def _choice(given: Options, parts: Sequence[_Part], behind: Sequence[_Part]) -> list[str]:
    """The options that fit the graph, as words.

    Args:
        given: all options together.
        parts: the command line.
        behind: what of it stands behind ``auto``.

    Raises:
        DataError: the graph cannot be read; a system that has no sampler.
    """
    system = str(given.get("model", MeBNS.__name__))
    if system.rpartition(".")[2] == AutoEncoder.__name__:
        raise DataError(
            f"{PREDICTOR}: got {AUTO!r} with {AutoEncoder.__name__}, which has no sampler; allowed are others"
        )
    facts = _facts(parts)
    choice = chosen(facts)
    epochs = int(given[_EPOCHS]) if any(_EPOCHS in part.options for part in behind) else choice.epochs_for(facts)
    say(
        f"Model of {facts.num_nodes:,} nodes of mean degree {facts.mean_degree:.1f} with {facts.num_features:,} "
        f"features: {choice.name}"
    )
    scheduler = "model.schedule.lr_scheduler" if system.rpartition(".")[2] == MeBNS.__name__ else "model.lr_scheduler"
    falling = {"": "LinearLR", ".start_factor": 1.0, ".end_factor": 0.01, ".total_iters": epochs}
    own = dict(choice.options)
    if any(_SELECTOR in part.options for part in behind):  # what this one picks is not to be another selector's number
        own = {name: value for name, value in own.items() if not name.startswith(_SELECTOR)}
    options = {"model": system, **own, _EPOCHS: epochs}
    return as_arguments({**options, **{f"{scheduler}{name}": value for name, value in falling.items()}})


def _facts(parts: Sequence[_Part]) -> GraphFacts:
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
            return GraphFacts(data_module.spec, data_module.loaded.num_edges)
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
            yield _Part(used, {name.removeprefix("--"): value})
