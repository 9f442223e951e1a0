"""Tables read by columns: text (CSV, TSV) and Parquet, both by Arrow.

Text that is not as plain as Arrow takes it to be goes through Python's strict ``csv`` reader, which also finds the
line of whatever is wrong.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from mebns_pl.datasets.readers.contents import check_file, decoded, read_bytes, refusing, text_lines
from mebns_pl.datasets.tables import Table, first_repeat, text_column
from mebns_pl.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
PARQUET = (".parquet", ".pq")
SUFFIXES = (*DELIMITERS, *PARQUET)
_PLAIN_DELIMITERS = ",;\t|:"
"""Python skips spaces at the start of a field, and Arrow knows no delimiter beyond ASCII."""
_SPACES = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
"""All that ``str.strip`` takes away; Arrow's own idea of white space is another."""


def standard_suffix(path: Path) -> str:
    """The suffix in lower case; of ``edges.csv.gz`` it is ``.csv``."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def read_columns(
    path: str | Path,
    name_columns: Sequence[str | int],
    value_columns: Sequence[str | int] | None = (),
    delimiter: str | None = None,
    comment: str | None = None,
) -> Table:
    """Reads a table: ``.csv`` (comma), ``.tsv``, ``.tab``, ``.txt`` (tab), also gzipped, or Parquet.

    Args:
        path: the file.
        name_columns: those of node names. Numbers (from 0) say that the file has no header; Parquet has names.
        value_columns: others that are needed, likewise; None takes all there are.
        delimiter: the one character between fields of a text; None chooses by the suffix.
        comment: lines of a text that start with it are passed over; None reads every line.

    Raises:
        DataError: a file that is missing or broken; a missing column.
    """
    path = Path(path)
    suffix = standard_suffix(path)
    if delimiter is None and suffix not in SUFFIXES and not path.is_dir():
        allowed = f"allowed are {', '.join(SUFFIXES)} (text also with .gz), or give `delimiter`"
        raise DataError(f"{path}: suffix {suffix!r}; {allowed}")
    check_file(path)
    if suffix in PARQUET:
        return _read_parquet(path, name_columns, value_columns)
    separator = DELIMITERS[suffix] if delimiter is None else delimiter
    if len(separator) != 1 or separator in '\r\n"':
        raise DataError(f"delimiter: got {delimiter!r}; allowed is one character, no quote and no line end")
    table = read_text(path, separator, comment, has_header=isinstance(name_columns[0], str))
    for column in [*name_columns, *(value_columns or ())]:
        table.column(column)
    return table


def read_text(path: Path, separator: str, comment: str | None, has_header: bool, plain: bool = True) -> Table:
    """Reads a table of text; :func:`mebns_pl.datasets.files.read_edge_list` tells what is accepted.

    Args:
        path: the file.
        separator: the one character between fields.
        comment: lines that start with this text are passed over; None reads every line.
        has_header: whether the first line holds the columns' names.
        plain: whether plain text is read by Arrow; the result is the same.

    Raises:
        DataError: a file that is missing, empty, not text, or ragged; a name of a column given twice.
    """
    columns = _plain_columns(path, separator, comment) if plain else None
    if columns is None:
        rows = [row for _, row in strict_rows(path, separator, comment)]
        columns = [text_column(column) for column in zip(*rows, strict=True)]
    if not columns or len(columns[0]) <= has_header:
        raise DataError(f"{path}: the file is empty; at least 1 line {'below the header ' * has_header}is needed")
    header: list[str | int] = [*range(len(columns))]
    if has_header:
        header = [column[0].as_py() or "" for column in columns]
        columns = [column[1:] for column in columns]
    repeat = first_repeat(header)
    if repeat is not None:
        raise DataError(
            f"{path}: column {header[repeat[0]]!r} stands twice in the header {header}; names of columns must differ"
        )

    @cache
    def lines() -> list[int]:
        return [line for line, _ in strict_rows(path, separator, comment)][has_header:]

    return Table(path, dict(zip(header, columns, strict=True)), "line", lambda row: lines()[row])


def strict_rows(path: Path, separator: str, comment: str | None) -> Iterator[tuple[int, list[str]]]:
    """Reads a text table line by line: the number of each row's (last) line, and its fields without spaces around them.

    Args:
        path: the file.
        separator: the one character between fields.
        comment: lines that start with this text are passed over, as empty lines are; None reads every line.

    Raises:
        DataError: a file that is missing, not text, or ragged.
    """
    reader = csv.reader(text_lines(path, comment), delimiter=separator, strict=True, skipinitialspace=True)
    width = 0
    try:
        for fields in reader:
            row = [value.strip() for value in fields]
            if row in ([], [""]):
                continue
            width = width or len(row)
            if len(row) != width:
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, got {separator.join(row)[:80]!r}; "
                    f"every line must have {width}, as the first one has"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: bad {separator!r}-separated text ({error})") from error


def _plain_columns(path: Path, separator: str, comment: str | None) -> list[pa.ChunkedArray] | None:
    """The columns of :func:`strict_rows`, by Arrow; None where it might read something else, or finds a fault."""
    content = read_bytes(path)
    decoded(content, path)
    if comment:
        content = "".join(text_lines(path, comment)).encode("utf-8-sig")
    if separator not in _PLAIN_DELIMITERS or not _is_plainly_quoted(content, separator):
        return None
    read = pa.csv.ReadOptions(autogenerate_column_names=True)
    parse = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=b'"' in content)
    try:
        width = len(pa.csv.open_csv(pa.BufferReader(content), read, parse).schema)
        texts = pa.csv.ConvertOptions(column_types={f"f{i}": pa.string() for i in range(width)})
        columns = pa.csv.read_csv(pa.BufferReader(content), read, parse, texts).columns
    except pa.ArrowInvalid:
        return None
    if max(pc.max(pc.binary_length(column)).as_py() for column in columns) > csv.field_size_limit():
        return None
    columns = [_trimmed(column) for column in columns]
    return columns if width > 1 else [columns[0].drop_null()]  # an empty line, or one of spaces, is no row


def _is_plainly_quoted(content: bytes, separator: str) -> bool:
    """Whether quotes stand around whole fields only, and within these in twos, which leaves no reader a choice."""
    characters = np.frombuffer(content.removeprefix(b"\xef\xbb\xbf"), np.uint8)
    quotes = np.flatnonzero(characters == ord('"'))
    opening, closing = quotes[::2], quotes[1::2]
    beside = np.frombuffer(f'{separator}\r\n"'.encode(), np.uint8)
    before, after = characters[opening[opening > 0] - 1], characters[closing[closing + 1 < len(characters)] + 1]
    return len(opening) == len(closing) and bool(np.isin(before, beside).all() and np.isin(after, beside).all())


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts without white space around them; empty ones become null."""
    column = pc.utf8_trim(column, characters=_SPACES)
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _read_parquet(path: Path, name_columns: Sequence[str | int], value_columns: Sequence[str | int] | None) -> Table:
    """Name columns hold integers or texts, value columns also other numbers and truth values (0 and 1)."""
    asked = [*name_columns, *(value_columns or ())]
    if not all(isinstance(column, str) for column in asked):
        raise DataError(f"{path}: columns {asked}: allowed are names, as Parquet has them")
    with refusing(path, (pa.ArrowException, OSError, ValueError, MemoryError), "cannot be read as Parquet"):
        header = pa.parquet.read_schema(path).names
        wanted = asked if value_columns is not None else [*asked, *(name for name in header if name not in asked)]
        for column in wanted:
            if header.count(column) != 1:
                raise DataError(f"{path}: no column {column!r}, or several; the file has {header}")
        table = pa.parquet.read_table(path, columns=list(dict.fromkeys(wanted)))
        columns = {
            column: _parquet_column(table.column(column), column, column in name_columns, path) for column in wanted
        }
    if not table.num_rows:
        raise DataError(f"{path}: the file is empty; at least 1 row is needed")
    return Table(path, columns)


def _parquet_column(array: pa.ChunkedArray, column: str | int, is_name: bool, path: Path) -> pa.ChunkedArray:
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_floating(kind) and not is_name:
        return array.cast(pa.float64())
    if pa.types.is_boolean(kind) and not is_name:
        return array.cast(pa.bool_()).cast(pa.int8()).cast(pa.string())
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer)
    if not any(test(kind) for test in texts):
        allowed = "integers and texts" if is_name else "numbers, truth values and texts"
        raise DataError(f"{path}: column {column!r} is of type {array.type}; allowed are {allowed}")
    return _trimmed(array.cast(pa.string()))
