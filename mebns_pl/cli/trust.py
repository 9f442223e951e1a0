"""What the saved options of a run may have imported before anybody has said that the run is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from jsonargparse import _common, set_parsing_settings

TRUSTED = (
    "mebns_pl",
    "torch.nn",
    "torch.optim",
    "torch_geometric.nn",
    "lightning.fabric.plugins",
    "lightning.fabric.strategies",
    "lightning.pytorch.accelerators",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.cli.ReduceLROnPlateau",
    "lightning.pytorch.loggers.CSVLogger",
    "lightning.pytorch.loggers.csv_logs",
    "lightning.pytorch.loggers.TensorBoardLogger",
    "lightning.pytorch.loggers.tensorboard",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
)
"""Packages, modules and classes: what is defined in them may be named."""

FLAG = "--trust"
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_REFUSED = re.compile(r"Importing '([\w.]+)' is not allowed")
_file: ContextVar[str] = ContextVar("_file", default="the saved options")


def take_trust(given: list[str]) -> tuple[bool, list[str]]:
    """Takes ``--trust`` out of arguments.

    Example:
        >>> take_trust(["test", "--trust", "logs/mebns/version_0"])
        (True, ['test', 'logs/mebns/version_0'])
    """
    return FLAG in given, [argument for argument in given if argument != FLAG]


@contextmanager
def only_trusted(file: str | Path, words: Iterable[str] = ()) -> Iterator[None]:
    """Has options name what is in :data:`TRUSTED`, and nothing else; the rest is refused before it is imported.

    Args:
        file: where the options come from, for messages.
        words: what the user has written himself; names that stand there may be named.
    """
    own = {name for text in words for name in _NAME.findall(text) if name.partition(".")[0] != "jsonargparse"}
    settings = _common.parsing_settings  # there is no other way to take back what is set
    before, told = dict(settings), _file.set(str(file))
    try:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*TRUSTED, *own])
        yield
    finally:
        settings.update(before)
        _file.reset(told)


def refusal(told: str) -> str:
    """What to tell of a name that was refused, if one was: nothing otherwise.

    Args:
        told: what jsonargparse says.
    """
    found = _REFUSED.search(told)
    if found is None:
        return ""
    return (
        f"{_file.get()} names {found[1]!r}, which is neither this package's nor among the classes of torch, Lightning "
        f"and PyG that every run may name; look what it is, and add {FLAG} if you trust the run"
    )
