"""YAML whose size is known before anything is made of it: aliases, nesting, long texts and numbers are bounded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mebns_pl.datasets.limits import check_size
from mebns_pl.errors import DataError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"[-+.:_\dA-Fa-fox]*")
_DIGITS = 300
"""The longest number; a float has fewer digits before its point."""


def load_yaml(text: str, where: str | Path) -> Any:
    """What a text of YAML says, in plain values.

    Args:
        text: the text.
        where: the file, for messages.

    Raises:
        DataError: it is no YAML, or larger than allowed.
    """
    try:
        check_yaml(text, where)
        return yaml.load(text, _LOADER)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        what = " ".join(str(problem).split())
        line = f", line {min(mark.line + 1, len(text.splitlines()))}" if mark else ""  # the end is on the last line
        raise DataError(f"{where}{line}: no YAML ({what})") from error
    except DataError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # a date or number that is none
        raise DataError(f"{where}: no YAML ({' '.join(str(error).split())[:200]})") from error


def check_yaml(text: str, where: str | Path) -> None:
    """Looks at the events of a text of YAML, of which nothing is made yet.

    Raises:
        DataError: more nodes, with those that aliases repeat, than allowed; nesting, texts or numbers beyond bounds; an
            alias within what it stands for.
        YAMLError: it is no YAML.
    """
    check_size(where, len(text), "bytes of YAML")
    sizes: dict[str, int] = {}  # of what anchors name, with all that is repeated in it
    opened: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, _LOADER):
        at = f"{where}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                raise DataError(f"{at}: alias *{event.anchor[:40]} stands within itself; allowed are finite values")
            total += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            check_size(at, len(event.value), "characters of an option")
            if len(event.value) > _DIGITS and not event.style and _NUMBER.fullmatch(event.value):
                raise DataError(f"{at}: a number of {len(event.value):,} digits; allowed are {_DIGITS}")
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            total += 1
            opened.append((event.anchor, total))
            check_size(at, len(opened), "nested levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = total - before + 1
        check_size(at, total, "YAML nodes", least=True)
