"""Modules of one's own: found in the current folder, where a name that the user has written leads there."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable
from pathlib import Path

_NAME = re.compile(r"(?<![\w.])([A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)+")


def look_here(words: Iterable[str]) -> None:
    """Puts the current folder at the end of where modules are looked for, if one that is named stands there alone.

    Args:
        words: what the user has written himself: the command line, configurations that it names. What files of others
            name leads nowhere.
    """
    here = Path.cwd()
    if str(here) in sys.path or "" in sys.path:
        return
    for name in {found[1] for text in words for found in _NAME.finditer(text)}:
        if ((here / f"{name}.py").is_file() or (here / name / "__init__.py").is_file()) and not _installed(name):
            sys.path.append(str(here))
            return


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
