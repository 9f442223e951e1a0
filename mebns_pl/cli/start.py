"""The console script: what can be answered at once is; only then is loaded what runs are made of, for seconds."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

from mebns_pl.cli.help import COMMANDS, TOP, short_help
from mebns_pl.cli.listings import LISTINGS
from mebns_pl.cli.option_names import unknown_option
from mebns_pl.config_files import find_config_file, near_config_name
from mebns_pl.errors import DataError
from mebns_pl.escaping import visible

_FILES = ("--data.graph", "--data.nodes", "--nodes", "--pairs", "--edges")
"""Options that name a file to read, which is looked for before all else."""


def run(args: Sequence[str] | None = None) -> None:
    """``mebns``.

    Args:
        args: the command line, or None for ``sys.argv``.

    Raises:
        SystemExit: something was wrong, or there is nothing more to do.
    """
    given = list(sys.argv[1:] if args is None else args)
    try:
        if _answered(given):
            return
        if os.environ.get("WORLD_SIZE", "1") == "1":  # others wait for this rank: it tells them, from within the run
            if told := unknown_option(given):
                sys.stderr.write(f"mebns: error: {visible(told)}\n")
                sys.exit(2)
            _check_files(given)
    except DataError as error:
        sys.stderr.write(f"mebns: error: {visible(str(error))}\n")
        sys.exit(1)
    try:
        _run(["--help" if arg == "--help=all" else arg for arg in given])
    except KeyboardInterrupt:
        sys.stderr.write("mebns: stopped\n")
        sys.exit(130)


def _answered(given: Sequence[str]) -> bool:
    """Answers what needs nothing to be loaded; whether that is all.

    Raises:
        DataError: no such command.
        SystemExit: wrong arguments of a listing, or its help.
    """
    command, rest = (given[0], given[1:]) if given else ("--help", [])
    if command in ("--version", "-V"):
        sys.stdout.write(f"mebns {version('mebns_pl')}\n")
    elif command in ("--help", "-h"):
        sys.stdout.write(TOP)
    elif command in LISTINGS:
        LISTINGS[command](rest)
    elif not command.startswith("-") and command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1, 0.5)
        meant = f"did you mean {near[0]}? Allowed" if near else "allowed"
        sys.stderr.write(f"mebns: error: no command {visible(command)!r}; {meant} are {', '.join(COMMANDS)}\n")
        sys.exit(2)
    elif short_help(command) and any(arg in ("--help", "-h") for arg in rest):
        sys.stdout.write(short_help(command))
    else:
        return False
    return True


def _check_files(given: Sequence[str]) -> None:
    """Looks for the files that a command is to read.

    Raises:
        DataError: one is not there.
    """
    for name, value in _named(given):
        if name in ("-c", "--config") and find_config_file(value) is None:
            raise DataError(f"{value}: no such file{near_config_name(value)}")
        if name in _FILES and Path(value).suffix and not os.path.exists(value):
            raise DataError(f"{value}: no such file")
    first = given[1] if len(given) > 1 else "-"
    runs = [value for name, value in _named(given) if name == "--ckpt_path"]
    if given[0] in ("validate", "test", "predict"):
        for run in [*runs, *([] if first.startswith("-") else [first])]:
            elsewhere = run in ("", "best", "last", "hpc") or run.startswith("registry") or "://" in run
            if not (elsewhere or os.path.exists(run)):
                raise DataError(f"ckpt_path: no such file: {run!r}")
    if given[0] == "explore":
        _check_runs(given[1:])
    if given[0] in ("run", "score", "sweep", "report") and not first.startswith("-"):
        path = find_config_file(first) if given[0] == "sweep" else Path(first)
        looks_like_a_file = given[0] != "run" or Path(first).suffix
        if looks_like_a_file and (path is None or not path.exists()):
            raise DataError(f"{first}: no such {'folder' if given[0] == 'report' else 'file'}")


def _check_runs(given: Sequence[str]) -> None:
    """Looks whether the folders that come first are, or hold, runs.

    Raises:
        DataError: one is not there, or there is no run in it.
    """
    for name in takewhile(lambda arg: not arg.startswith("-"), given):
        folder = Path(name)
        if not folder.is_dir():
            raise DataError(f"{name}: no such folder")
        if not any(next(folder.rglob(kind), None) for kind in ("config.yaml", "migration.npz")):
            raise DataError(f"{name}: no run in it; allowed is the folder of a run, with config.yaml and migration.npz")


def _named(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options with their values."""
    for arg, after in zip(given, [*given[1:], ""], strict=True):
        name, equals, value = arg.partition("=")
        if name.startswith("-") and (equals or not after.startswith("-")):
            yield name, value if equals else after


def _run(given: list[str]) -> None:
    """Loads what runs are made of, and runs the command."""
    from mebns_pl.cli import main

    if given[:1] == ["run"]:
        from mebns_pl.cli.own_graph import run_command

        main.run(given[1:], run_command)
    else:
        main.run(given)
