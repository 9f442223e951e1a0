"""Texts that begin with comments, as files of SNAP and KONECT do: where their columns are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mebns_pl.datasets.readers.columns import DELIMITERS, commented, separator_of, standard_suffix
from mebns_pl.datasets.readers.options import DEFAULT_COLUMNS, GraphColumns


def below_comments(
    path: Path, columns: GraphColumns, time_column: int | str | None
) -> tuple[GraphColumns, int | str | None, int, list[str]]:
    """What columns, delimiter and times are in a text that begins with comments, how many these are, and notes.

    Args:
        path: the file.
        columns: the choice.
        time_column: column of the edge list with times, or None.
    """
    if columns.comment is not None or standard_suffix(path) not in DELIMITERS or not path.is_file():
        return columns, time_column, 0, []
    count, last, first = commented(path)
    if not count:
        return columns, time_column, 0, []
    separator = columns.delimiter or separator_of(first)
    header, above = ([name.strip() for name in _split(line, separator)] for line in (first, last.lstrip("#% ")))
    asked = [column for column in (columns.source, columns.target, columns.weight, time_column) if column is not None]
    columns = replace(columns, delimiter=separator)
    if not all(isinstance(column, str) for column in asked[:2]):
        lines = "line" if count == 1 else "lines"
        note = f"{count:,} {lines} of comments passed over at the beginning (columns.comment: '' takes them for edges)"
        return columns, time_column, count, [note]
    if set(asked) <= set(header):
        return columns, time_column, count, []
    defaults = DEFAULT_COLUMNS
    if set(asked) <= set(above):
        place: dict[int | str | None, int] = {name: number for number, name in enumerate(above)}
    elif (columns.source, columns.target) == (defaults.source, defaults.target) and (
        not first or _are_numbers(header[:2])
    ):
        place = {defaults.source: 0, defaults.target: 1}
    else:
        return columns, time_column, count, []  # the reader says which columns there are
    source, target = place[columns.source], place[columns.target]
    weight: int | str | None = place.get(columns.weight) if columns.weight in place else columns.weight
    time: int | str | None = place.get(time_column) if time_column in place else time_column
    note = f"{count} lines of comments and no header: source and target are columns {source} and {target}"
    return replace(columns, source=source, target=target, weight=weight), time, count, [note]


def _are_numbers(fields: Sequence[str]) -> bool:
    """Whether fields are of a first edge: names there might be a header's."""
    return len(fields) == 2 and all(field.strip("\"'").lstrip("-").isdecimal() for field in fields)


def _split(line: str, separator: str) -> list[str]:
    return line.split() if separator == " " else line.split(separator)
