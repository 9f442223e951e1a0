"""Text tables (CSV, TSV) read strictly, and the columns of tables as node features and times."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from mebns_pl.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
MAX_LEVELS = 256


@dataclass(frozen=True)
class Table:
    """The rows of a table, all of one width.

    Args:
        path: the file.
        header: names of the columns, or None where the file has none.
        rows: the fields of each line, without white space around them.
        lines: where each row stands in the file: the number of its line, from 1, for text.
        unit: what ``lines`` counts.
    """

    path: Path
    header: list[str] | None
    rows: list[list[str]]
    lines: list[int]
    unit: str = "line"

    def at(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"{self.path}, {self.unit} {self.lines[row]}"


def read_table(path: Path, delimiter: str | None, comment: str | None, has_header: bool) -> Table:
    """Reads a text table; :func:`mebns_pl.datasets.files.read_edge_list` tells what is accepted.

    Args:
        path: the file.
        delimiter: the one character between fields; None chooses by the file's suffix.
        comment: lines that start with this text are passed over; None reads every line.
        has_header: whether the first line holds the columns' names.

    Raises:
        DataError: a file that is missing, empty, not text, or ragged; a name of a column given twice.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    separator = _delimiter(path, delimiter)
    reader = csv.reader(text_lines(path, comment), delimiter=separator, strict=True, skipinitialspace=True)
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines = []
    try:
        for fields in reader:
            row = [value.strip() for value in fields]
            if row in ([], [""]):
                continue
            if has_header and header is None:
                header = row
                continue
            width = len(header or (rows or [row])[0])
            if len(row) != width:
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, got {separator.join(row)[:80]!r}; "
                    f"every line must have {width}, as the first one has"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: bad {separator!r}-separated text ({error})") from error
    if not rows:
        raise DataError(f"{path}: the file is empty; at least 1 line {'below the header ' * has_header}is needed")
    if header is not None and len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path}: column {twice!r} stands twice in the header {header}; names of columns must differ")
    return Table(path, header, rows, lines)


def column_place(table: Table, column: str | int) -> int:
    """The place of a column, given by its name or, without a header, by its number from 0.

    Raises:
        DataError: there is no such column.
    """
    if isinstance(column, str):
        if column not in (table.header or []):
            raise DataError(
                f"{table.path}: no column {column!r}; the header has {table.header}{_other_delimiter(table)}"
            )
        return (table.header or []).index(column)
    if not 0 <= column < len(table.rows[0]):
        raise DataError(f"{table.path}: no column {column}; the lines have columns 0 ... {len(table.rows[0]) - 1}")
    return column


def _other_delimiter(table: Table) -> str:
    """A hint, where the whole header was taken for one name."""
    line = (table.header or [""])[0]
    found = [
        name for mark, name in ((",", "commas"), (";", "semicolons"), ("\t", "tabs"), ("|", "bars")) if mark in line
    ]
    if len(table.header or []) != 1 or not found:
        return ""
    return f"; it seems to be separated by {found[0]}: .csv files have commas, .tsv, .tab and .txt files have tabs"


def name_at(table: Table, row: int, place: int) -> str:
    """The name in a field.

    Raises:
        DataError: the field is empty.
    """
    name = table.rows[row][place]
    if not name:
        raise DataError(f"{table.at(row)}: no name in column {place + 1}; a name must not be empty")
    return name


def table_features(table: Table, columns: Sequence[str], standardize: bool) -> tuple[Tensor | None, list[str]]:
    """Columns as node features: numbers as they are or standardised, texts one-hot encoded.

    Args:
        table: a table with a header.
        columns: names of the columns, in the order wanted.
        standardize: whether columns of numbers get zero mean and unit variance.

    Returns:
        ``(N, F)`` float32, or None without columns; and notes on what was done.

    Raises:
        DataError: a missing column; a value missing, not finite, or a text among numbers; more than 256 texts.
    """
    blocks, numeric, notes = [], [], []
    for name in columns:
        place = column_place(table, name)
        values = [row[place] for row in table.rows]
        numbers = [_number(value) for value in values]
        if "" in values:
            raise DataError(f"{table.at(values.index(''))}: column {name!r} has no value; every node needs one")
        if all(number is None for number in numbers):
            blocks.append(_one_hot(table, name, values))
            notes.append(f"column {name!r} one-hot encoded ({blocks[-1].shape[1]} values)")
        else:
            blocks.append(_numeric(table, name, values, numbers, standardize))
            numeric.append(name)
    what = f"column {numeric[0]!r}" if len(numeric) == 1 else f"{len(numeric):,} columns of numbers"
    done = [f"{what} standardised" if standardize else f"{what} taken as they are"] * bool(numeric)
    return (torch.cat(blocks, dim=1) if blocks else None), done + notes


def standardize_columns(x: Tensor) -> Tensor:
    """Each column with zero mean and unit (population) variance; constant columns become zero.

    Args:
        x: ``(N, F)`` finite, any floating point type.

    Returns:
        ``(N, F)`` float32.
    """
    # Differences from the first row, of size 1: no digit is lost to a large mean, no square over- or underflows.
    x = x.double() - x[:1].double()
    constant = (x == 0).all(dim=0)
    x = x / x.abs().amax(dim=0).masked_fill(constant, 1.0)
    x = x - x.mean(dim=0)
    return (x / x.square().mean(dim=0).sqrt().masked_fill(constant, 1.0)).float()


def column_numbers(table: Table, name: str | int) -> Tensor:
    """A column of finite numbers, or of ISO 8601 dates, which become seconds since 1970 (UTC where no zone is given).

    Returns:
        ``(n,)`` float64.

    Raises:
        DataError: no such column; a value that is missing, or neither a finite number nor a date, or both occur.
    """
    place = column_place(table, name)
    values = [row[place] for row in table.rows]
    read = _number if all(_number(value) is not None for value in values[:1]) else _seconds
    numbers = []
    for row, value in enumerate(values):
        number = read(value)
        if number is None or not math.isfinite(number):
            raise DataError(
                f"{table.at(row)}: column {name!r} has {value!r}; "
                "allowed are finite numbers only, or ISO 8601 dates only"
            )
        numbers.append(number)
    return torch.tensor(numbers, dtype=torch.float64)


def read_bytes(path: Path) -> bytes:
    """What is in a file, unpacked where its name ends with ``.gz``.

    Raises:
        DataError: it is missing, or cannot be read or unpacked.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def text_lines(path: Path, comment: str | None) -> Iterator[str]:
    """The file's lines; comment lines come back empty, so that line numbers stay those of the file.

    Raises:
        DataError: the file is missing, cannot be read, or is no UTF-8 text.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text (byte {error.start}: {error.reason}); allowed is UTF-8 text") from error
    if "\0" in text:
        raise DataError(f"{path}: not text (a NUL character at place {text.index(chr(0))}); allowed is UTF-8 text")
    for line in io.StringIO(text, newline=""):
        yield "\n" if comment and line.startswith(comment) else line


def standard_suffix(path: Path) -> str:
    """The suffix in lower case; of ``edges.csv.gz`` it is ``.csv``."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _delimiter(path: Path, delimiter: str | None) -> str:
    if delimiter is not None:
        if len(delimiter) != 1 or delimiter in '\r\n"':
            raise DataError(f"delimiter: got {delimiter!r}; allowed is one character, no quote and no line end")
        return delimiter
    suffix = standard_suffix(path)
    if suffix not in DELIMITERS:
        allowed = ", ".join(DELIMITERS)
        raise DataError(f"{path}: suffix {suffix!r}; allowed are {allowed} (also with .gz), or give `delimiter`")
    return DELIMITERS[suffix]


def _number(value: str) -> float | None:
    """The number a text stands for, or None; Python's ``1_000`` is none."""
    try:
        return None if "_" in value else float(value)
    except ValueError:
        return None


def _seconds(value: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 date, or None."""
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _numeric(table: Table, name: str, values: list[str], numbers: list[float | None], standardize: bool) -> Tensor:
    if None in numbers:
        row, like = numbers.index(None), next(i for i, number in enumerate(numbers) if number is not None)
        raise DataError(
            f"{table.at(row)}: column {name!r} has {values[row]!r}, but {values[like]!r} on {table.unit} "
            f"{table.lines[like]}; allowed are columns of numbers only or of texts only"
        )
    column = torch.tensor(numbers, dtype=torch.float64)[:, None]
    finite = column.isfinite() & column.float().isfinite()
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0, 0])
        raise DataError(f"{table.at(row)}: column {name!r} has {values[row]!r}; allowed are finite float32 numbers")
    return standardize_columns(column) if standardize else column.float()


def _one_hot(table: Table, name: str, values: list[str]) -> Tensor:
    levels = {level: i for i, level in enumerate(sorted(set(values)))}
    if len(levels) > MAX_LEVELS:
        raise DataError(
            f"{table.path}: column {name!r} has {len(levels):,} different texts; at most {MAX_LEVELS} are one-hot "
            "encoded; leave the column out by `feature_columns`"
        )
    return torch.nn.functional.one_hot(torch.tensor([levels[value] for value in values]), len(levels)).float()
