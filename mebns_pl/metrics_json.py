"""The file ``metrics.json`` of a run's folder: strict JSON, in which NaN and infinity are null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mebns_pl.errors import DataError
from mebns_pl.files import write_atomically

NAME = "metrics.json"
FORMAT = 1
"""Counted up when parts of the file are named anew."""


def load_metrics(path: Path) -> dict[str, Any]:
    """What a ``metrics.json`` holds.

    Raises:
        DataError: it is no such file, or of another version.
        OSError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    number = found.get("format") if isinstance(found, dict) else None
    if number != FORMAT:
        raise DataError(f"{path}: got format {number!r}; this version reads {FORMAT}")
    return found  # type: ignore[no-any-return]


def read_metrics(path: str | Path) -> dict[str, Any]:
    """As :func:`load_metrics`; nothing where there is none, or one of another format.

    Example:
        >>> read_metrics("nowhere/metrics.json")
        {}
    """
    try:
        return load_metrics(Path(path))
    except (OSError, DataError):  # written whole or not at all, so what cannot be read is not ours
        return {}


def write_metrics(path: str | Path, parts: Mapping[str, Any]) -> None:
    """Writes a ``metrics.json``.

    Args:
        path: the file; its folder is made.
        parts: ``fit``, ``test``, ``card``, ``notes``.

    Raises:
        OSError: it cannot be written; what was there is kept.
    """
    text = json.dumps(_strict({"format": FORMAT, **parts}), indent=1, allow_nan=False)
    write_atomically(path, f"{text}\n")


def _strict(value: Any) -> Any:
    """The same in what JSON has: no NaN, no infinity."""
    if isinstance(value, Mapping):
        return {str(name): _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
