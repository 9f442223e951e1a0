"""Bounds of what one file may ask for: beyond them it is refused before it takes the memory.

They are far above the graphs of the field, and keep reading within 8 GiB. The environment variable ``MEBNS_LIMITS``
multiplies all of them.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from mebns_pl.errors import DataError

VARIABLE = "MEBNS_LIMITS"

SIZES = {
    "bytes of text": 2**30,  # of a file, unpacked
    "bytes of arrays": 2**31,  # of a file's array, unpacked; of the features that a table becomes
    "bytes of pickled objects": 2**25,  # what torch.save writes beside the numbers
    "nodes": 10_000_000,
    "rows": 50_000_000,  # of a table; pairs of nodes in arrays
    "rows of shards": 1_000_000_000,  # of an edge list that is read in blocks
    "columns": 50_000,
    "values": 20_000_000,  # that are read one by one: text quoted in unusual ways, attributes in GraphML
    "tags": 10_000_000,  # of XML; an element has one or two
    "characters of a line": 2**24,
    "characters of a value": 2**20,
    "nested levels": 100,
    "bytes of YAML": 2**24,
    "characters of an option": 2**16,
    "YAML nodes": 100_000,  # with those that aliases repeat
}
"""What is bounded, and by how much."""


def limit(what: str) -> int:
    """The bound on one of ``SIZES``.

    Raises:
        DataError: the environment variable is no number above 0.
    """
    given = os.environ.get(VARIABLE, "1")
    try:
        factor = float(given)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise DataError(
            f"{VARIABLE}: got {given[:40]!r}; allowed is a number above 0, by which all bounds are multiplied"
        )
    return max(1, int(SIZES[what] * factor))


def check_size(where: str | Path, count: int, what: str, least: bool = False) -> None:
    """Refuses more than is allowed of something.

    Args:
        where: the file, and what of it.
        count: how much there is.
        what: one of ``SIZES``.
        least: whether there may be more than ``count``: the rest was not looked at.

    Raises:
        DataError: there is more; the message tells how the bound is raised.

    Example:
        >>> check_size("edges.csv", 60_000_000, "rows")
        Traceback (most recent call last):
            ...
        mebns_pl.errors.DataError: edges.csv: 60,000,000 rows; allowed are 50,000,000 (MEBNS_LIMITS=2 raises the bound)
    """
    allowed = limit(what)
    if count > allowed:
        factor = math.ceil(count / SIZES[what])
        raise DataError(
            f"{where}: {'more than ' * least}{allowed if least else count:,} {what}; allowed are {allowed:,} "
            f"({VARIABLE}={factor + least} raises the bound)"
        )
