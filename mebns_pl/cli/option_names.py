"""Misspelt options, found in the source of the classes that have them: nothing of what runs are made of is loaded."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

_CALLBACKS = "mebns_pl.callbacks"
SECTIONS = {
    "trainer": ("lightning.pytorch.trainer.trainer", "Trainer"),
    "data": ("mebns_pl.data.datamodule", "LinkDataModule"),
    "data.columns": ("mebns_pl.datasets.readers.options", "GraphColumns"),
    "data.pairs": ("mebns_pl.pools.restriction", "PredictionPairs"),
    "data.split": ("mebns_pl.datasets.split", "SplitFractions"),
    "checkpoint": ("lightning.pytorch.callbacks.model_checkpoint", "ModelCheckpoint"),
    "last_checkpoint": (f"{_CALLBACKS}.last_checkpoint", "LastCheckpoint"),
    "migration": (f"{_CALLBACKS}.migration", "MigrationMonitor"),
    "figures": (f"{_CALLBACKS}.migration_figures", "MigrationFigures"),
    "projector": (f"{_CALLBACKS}.projector", "Projector"),
    "record": (f"{_CALLBACKS}.probe_record", "ProbeRecord"),
    "card": (f"{_CALLBACKS}.card", "EvaluationCard"),
    "predictions": ("mebns_pl.prediction.writer", "PredictionWriter"),
    "preemption": (f"{_CALLBACKS}.preemption", "Preemption"),
}
"""The class that each group of a run's options is made of, as module and name."""
SYSTEMS = {
    "AutoEncoder": "mebns_pl.systems.auto_encoder",
    "Heuristic": "mebns_pl.systems.heuristic",
    "MeBNS": "mebns_pl.systems.mebns",
    "Plain": "mebns_pl.systems.plain",
}
_OTHERS = ("c", "config", "h", "help", "print_config", "seed_everything", "model", "ckpt_path", "weights_only", "trust")
_OF_COMMAND = {
    "fit": ("resume",),
    "validate": ("verbose",),
    "test": ("verbose",),
    "predict": ("return_predictions",),
    "score": ("pairs", "path", "nodes", "edges", "scoring"),
    "run": ("resume",),
}
_DECLARED = {
    "run": "mebns_pl.cli.own_graph",
    "sweep": "mebns_pl.cli.sweep",
    "report": "mebns_pl.cli.report",
    "landscape": "mebns_pl.cli.commands",
}
"""The modules of commands that declare options of their own."""


def unknown_option(given: Sequence[str]) -> str:
    """What is wrong with the first option that a command does not have; "" where all are known, or cannot be told here.

    Args:
        given: the command line, the command first.

    Example:
        >>> unknown_option(["fit", "--data.grpah=e.csv"])
        'no option --data.grpah; did you mean --data.graph?'
        >>> unknown_option(["fit", "--data.graph=e.csv"])
        ''
    """
    command = given[0]
    names = [arg.partition("=")[0].lstrip("-").removesuffix("+") for arg in given[1:] if re.match(r"--?[A-Za-z]", arg)]
    own = {"help", "h", *(_declared(_DECLARED[command]) if command in _DECLARED else ())}
    if command == "landscape":
        own |= {*arguments_of("mebns_pl.analysis.landscape", "LandscapeOptions"), "trust"}
    if command not in _OF_COMMAND:
        return next((_told(name, own) for name in names if name not in own), "") if command in _DECLARED else ""
    top = {*own, *_OTHERS, *_OF_COMMAND[command]}
    sections = {section: set(arguments_of(*place)) for section, place in SECTIONS.items()}
    if (system := _system(given)) is not None:
        sections["model"] = {*arguments_of(SYSTEMS[system], system), "class_path", "init_args"}
    for name in names:
        if name in top:
            continue
        group = max((s for s in sections if name.startswith(f"{s}.")), key=len, default="")
        first = name.removeprefix(f"{group}.").partition(".")[0]
        if (group and first in {*sections[group], "help"}) or (not group and first == "model"):
            continue
        everything = (f"{section}.{one}" for section, known in sections.items() for one in known)
        return _told(name, [*top, *everything], sorted(f"{group}.{one}" for one in sections[group]) if group else ())
    return ""


def _told(name: str, known: Iterable[str], group: Sequence[str] = ()) -> str:
    """One line; a group's own names are nearer than those of others, and are listed where none is near."""
    wanted = name
    if group:  # what is below the group's option says nothing of it
        wanted = ".".join(name.split(".")[: group[0].count(".") + 1])
    near = [
        *difflib.get_close_matches(wanted, group, 1, 0.7),
        *difflib.get_close_matches(wanted, sorted(known), 1, 0.7),
    ]
    if near:
        return f"no option --{name}; did you mean --{near[0]}?"
    allowed = f"allowed are {', '.join(f'--{one}' for one in group)}" if group else "--help lists what is allowed"
    return f"no option --{name}; {allowed}"


def _system(given: Sequence[str]) -> str | None:
    """The system of this package that the command line itself chooses, or None where a file may."""
    after = [*given[1:], ""]
    chosen = [arg.partition("=")[2] or then for arg, then in zip(given, after, strict=True) if _is(arg, "--model")]
    if chosen:
        return chosen[-1].rpartition(".")[2] if chosen[-1].rpartition(".")[2] in SYSTEMS else None
    files = any(_is(arg, "-c") or _is(arg, "--config") or _is(arg, "--ckpt_path") for arg in given)
    return None if files or given[0] != "fit" or any(_is(arg, "--resume") for arg in given) else "MeBNS"


def _is(arg: str, name: str) -> bool:
    return arg.partition("=")[0] == name


@cache
def _source(module: str) -> ast.Module:
    package, *parts = module.split(".")
    spec = importlib.util.find_spec(package)  # of the package alone: that imports nothing
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(next(iter(spec.submodule_search_locations)), *parts).with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


def arguments_of(module: str, name: str) -> list[str]:
    """Names of a class's arguments: those of its constructor, or the fields of a dataclass.

    Args:
        module: dotted name of the module, which is not imported.
        name: the class.

    Example:
        >>> arguments_of("mebns_pl.datasets.split", "SplitFractions")
        ['val', 'test', 'meta', 'supervision']
    """
    (found,) = (node for node in _source(module).body if isinstance(node, ast.ClassDef) and node.name == name)
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return [arg.arg for arg in (*node.args.args[1:], *node.args.kwonlyargs)]
    fields = [node.target for node in found.body if isinstance(node, ast.AnnAssign)]
    return [target.id for target in fields if isinstance(target, ast.Name)]


def _declared(module: str) -> list[str]:
    """The options that a module adds to parsers."""
    calls = [node for node in ast.walk(_source(module)) if isinstance(node, ast.Call)]
    added = [c.args for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "add_argument"]
    texts = [arg.value for args in added for arg in args if isinstance(arg, ast.Constant)]
    return [text.lstrip("-") for text in texts if isinstance(text, str) and text.startswith("-")]
