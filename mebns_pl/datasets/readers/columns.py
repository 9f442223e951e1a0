"""Tables read by columns: text (CSV, TSV) and Parquet, both by Arrow.

Text that is not as plain as Arrow takes it to be goes through Python's strict ``csv`` reader, which also finds the
line of whatever is wrong.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from mebns_pl.datasets.limits import check_size
from mebns_pl.datasets.readers.contents import check_file, check_text, read_bytes, refusing, text_lines
from mebns_pl.datasets.tables import Table, first_repeat, shown, text_column
from mebns_pl.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
PARQUET = (".parquet", ".pq")
SUFFIXES = (*DELIMITERS, *PARQUET)
_PLAIN_DELIMITERS = ",;\t|:"
"""Python skips spaces at the start of a field, and Arrow knows no delimiter beyond ASCII."""
_RUNS = ((rb"(?:(?<=[\r\n])|\A)[ \t]+|[ \t]+(?=[\r\n]|\Z)", b""), (rb"[ \t]+", b"\t"))
"""How text that white space separates becomes text that tabs separate."""
_OUTSIDE_QUOTES = re.compile(r'("[^"]*")|[ \t]+')
COMMENTS = ("#", "%")
"""What SNAP's and KONECT's files begin their first lines with."""
_LONGEST = 2**16
"""Characters of a line above a table that are looked at."""
_ROWS = 2**22
"""Of a block of Parquet."""
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
    skip: int = 0,
    optional_columns: Sequence[str] = (),
) -> Table:
    """Reads a table: ``.csv`` (comma), ``.tsv``, ``.tab``, ``.txt`` (tab), also gzipped, or Parquet.

    Args:
        path: the file.
        name_columns: those of node names. Numbers (from 0) say that the file has no header; Parquet has names.
        value_columns: others that are needed, likewise; None takes all there are.
        delimiter: the one character between fields of a text, a space for any run of spaces and tabs; None chooses by
            the suffix.
        comment: lines of a text that start with it are passed over; None reads every line.
        skip: how many lines of a text are passed over at its beginning.
        optional_columns: others that are taken where they are there.

    Raises:
        DataError: a file that is missing, broken or larger than allowed; a missing column.
    """
    path = Path(path)
    suffix = standard_suffix(path)
    if delimiter is None and suffix not in SUFFIXES and not path.is_dir():
        allowed = f"allowed are {', '.join(SUFFIXES)} (text also with .gz), or give `delimiter`"
        raise DataError(f"{path}: suffix {suffix!r}; {allowed}")
    check_file(path)
    if suffix in PARQUET:
        return _read_parquet(path, name_columns, value_columns, optional_columns)
    separator = DELIMITERS[suffix] if delimiter is None else delimiter
    if len(separator) != 1 or separator in '\r\n"':
        raise DataError(f"delimiter: got {delimiter!r}; allowed is one character, no quote and no line end")
    table = read_text(path, separator, comment, has_header=isinstance(name_columns[0], str), skip=skip)
    for column in [*name_columns, *(value_columns or ())]:
        table.column(column)
    return table


def commented(path: Path) -> tuple[int, str, str]:
    """Of the comments with which a text begins, as files of SNAP and KONECT do: how many, the last one, the line below.

    Raises:
        DataError: the file is missing or cannot be unpacked.
    """
    check_file(path)
    opened = gzip.open if path.suffix == ".gz" else open
    count, last = 0, ""
    with refusing(path, (OSError, EOFError, zlib.error)), opened(path, "rb") as stream:
        # TextIOWrapper, unlike splitlines, ends lines at \r and \n alone
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
        while line := lines.readline(_LONGEST):
            if not line.startswith(COMMENTS):
                break
            count, last = count + 1, line.rstrip("\r\n")
        while line and not line.strip():
            line = lines.readline(_LONGEST)
    return count, last, line.rstrip("\r\n")


def separator_of(line: str) -> str:
    """What separates the fields of a line below comments: a comma, a tab, or any white space (a space)."""
    if "," in line and "\t" not in line:
        return ","
    numbers = all(re.fullmatch(r"[-+.\deE]+", field) for field in line.split())
    return "\t" if "\t" in line and not numbers else " "


def read_text(
    path: Path, separator: str, comment: str | None, has_header: bool, plain: bool = True, skip: int = 0
) -> Table:
    """Reads a table of text; :func:`mebns_pl.datasets.files.read_edge_list` tells what is accepted.

    Args:
        path: the file.
        separator: the one character between fields; a space stands for any run of spaces and tabs.
        comment: lines that start with this text are passed over; None reads every line.
        has_header: whether the first line holds the columns' names.
        plain: whether plain text is read by Arrow; the result is the same.
        skip: how many lines are passed over at the beginning.

    Raises:
        DataError: a file that is missing, empty, not text, ragged or larger than allowed; a name of a column given
            twice.
    """
    columns = _plain_columns(path, separator, comment, skip) if plain else None
    if columns is None:
        rows, values = [], 0
        for _, row in strict_rows(path, separator, comment, skip):
            values += len(row)
            check_size(path, values, "values", least=True)
            rows.append(row)
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
            f"{path}: column {header[repeat[0]]!r} stands twice in the header {shown(header)}; names of columns must "
            "differ"
        )

    @cache
    def rows_lines() -> Iterator[int]:
        return (line for line, _ in strict_rows(path, separator, comment, skip))

    lines = array("q")

    def line_of(row: int) -> int:
        lines.extend(islice(rows_lines(), max(0, row + has_header + 1 - len(lines))))
        return lines[row + has_header]

    return Table(path, dict(zip(header, columns, strict=True)), "line", line_of)


def strict_rows(path: Path, separator: str, comment: str | None, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Reads a text table line by line: the number of each row's (last) line, and its fields without spaces around them.

    Args:
        path: the file.
        separator: the one character between fields; a space stands for any run of spaces and tabs.
        comment: lines that start with this text are passed over, as empty lines are; None reads every line.
        skip: how many lines are passed over at the beginning.

    Raises:
        DataError: a file that is missing, not text, ragged or larger than allowed.
    """
    lines = _lines(path, separator, comment, skip)
    # A tab separates no less where spaces stand for none
    reader = csv.reader(lines, delimiter=_mark(separator), strict=True, skipinitialspace=True)
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


def _mark(separator: str) -> str:
    return "\t" if separator == " " else separator


def _lines(path: Path, separator: str, comment: str | None, skip: int) -> Iterator[str]:
    """The lines with one separator between fields, no more of them than a row may have."""
    for place, line in enumerate(text_lines(path, comment)):
        check_size(path, line.count(_mark(separator)) + 1, "columns", least=True)
        if place < skip:
            yield "\n"
        elif separator == " ":
            text = line.rstrip("\r\n")
            yield _OUTSIDE_QUOTES.sub(lambda run: run[1] or "\t", text.strip(" \t")) + line[len(text) :]
        else:
            yield line


def _plain_columns(path: Path, separator: str, comment: str | None, skip: int = 0) -> list[pa.ChunkedArray] | None:
    """The columns of :func:`strict_rows`, by Arrow; None where it might read something else, or finds a fault."""
    content = read_bytes(path)
    check_text(content, path)
    check_size(path, max(content.count(b"\n"), content.count(b"\r")), "rows")
    if comment:
        content = "".join(text_lines(path, comment)).encode("utf-8-sig")
    if skip:
        *_, last = islice(re.finditer(rb"\r\n|\r|\n|\Z", content), skip)
        content = content[last.end() :]
    if separator == " ":
        if b'"' in content:
            return None
        for run, mark in _RUNS:
            content = re.sub(run, mark, content)
        separator = _mark(separator)
    if separator not in _PLAIN_DELIMITERS or not _is_plainly_quoted(content, separator):
        return None
    check_size(path, _width(content, separator), "columns")
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


def _width(content: bytes, separator: str) -> int:
    """How many fields the first line that is not empty may have."""
    start = len(content) - len(content.lstrip(b"\r\n"))
    ends = [place for mark in (b"\r", b"\n") if (place := content.find(mark, start)) >= 0]
    return content.count(separator.encode(), start, min(ends, default=len(content))) + 1


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


def _read_parquet(
    path: Path,
    name_columns: Sequence[str | int],
    value_columns: Sequence[str | int] | None,
    optional_columns: Sequence[str],
) -> Table:
    """Name columns hold integers or texts, value columns also other numbers, truth values, times, and lists."""
    asked = [*name_columns, *(value_columns or ())]
    if not all(isinstance(column, str) for column in asked):
        raise DataError(f"{path}: columns {asked}: allowed are names, as Parquet has them")
    with refusing(path, (pa.ArrowException, OSError, ValueError, MemoryError), "cannot be read as Parquet"):
        with pa.parquet.ParquetFile(path) as file:
            header, there = file.schema_arrow.names, Counter(file.schema_arrow.names)
            check_size(path, file.metadata.num_rows, "rows")
            check_size(path, len(header), "columns")
            known = set(asked)
            others = header if value_columns is None else [name for name in header if name in optional_columns]
            wanted = [*asked, *(name for name in others if name not in known)]
            for column in wanted:
                if there[column] != 1:
                    raise DataError(f"{path}: no column {column!r}, or several; the file has {shown(header)}")
            _check_sizes(file, set(wanted), path)
        # Texts that repeat are kept once, so that their size is known before they are written out
        texts = [name for name in dict.fromkeys(wanted) if _is_text(file.schema_arrow.field(name).type)]
        table = pa.parquet.read_table(path, columns=list(dict.fromkeys(wanted)), read_dictionary=texts)
        columns: dict[str | int, pa.ChunkedArray] = {}
        for column in dict.fromkeys(wanted):
            columns.update(_parquet_columns(table.column(column), str(column), column in name_columns, path).items())
    if not table.num_rows:
        raise DataError(f"{path}: the file is empty; at least 1 row is needed")
    return Table(path, columns, unread=[name for name in header if name not in set(wanted)])


def read_parquet_blocks(path: Path, names: Sequence[str | int]) -> Iterator[tuple[pa.ChunkedArray, ...]]:
    """Columns of node names of a Parquet file, some rows at a time: integers as they are, texts as a table has them.

    Args:
        path: the file.
        names: the columns.

    Raises:
        DataError: as :func:`read_columns`; a name is absent.
    """
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: columns {list(names)}: allowed are names, as Parquet has them")
    errors, what = (pa.ArrowException, OSError, ValueError, MemoryError), "cannot be read as Parquet"
    with refusing(path, errors, what):
        schema = pa.parquet.read_schema(path)
        # Texts that repeat are kept once, so that their size is known before they are written out
        texts = [field.name for field in schema if field.name in names and _is_text(field.type)]
    with refusing(path, errors, what), pa.parquet.ParquetFile(path, read_dictionary=texts) as file:
        header, first = file.schema_arrow.names, 0
        for name in names:
            if header.count(str(name)) != 1:
                raise DataError(f"{path}: no column {name!r}, or several; the file has {shown(header)}")
        for batch in file.iter_batches(_ROWS, columns=list(dict.fromkeys(names))):
            table, columns = pa.Table.from_batches([batch]), []
            for place, name in enumerate(names):
                values = table.column(name)
                if not pa.types.is_integer(values.type):
                    values = _parquet_column(values, name, True, path)
                if values.null_count:
                    row = first + values.is_null().index(True).as_py()
                    raise DataError(f"{path}, row {row}: no name in column {place + 1}; a name must not be empty")
                columns.append(values)
            yield tuple(columns)
            first += len(table)


def _check_sizes(file: pa.parquet.ParquetFile, wanted: set[str | int], path: Path) -> None:
    """Refuses columns that are larger than allowed, by what the file says of them."""
    packed: Counter[str] = Counter()
    values: Counter[str] = Counter()
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            name = chunk.path_in_schema.partition(".")[0]
            packed[name] += max(chunk.total_uncompressed_size, 0)
            values[name] += max(chunk.num_values, 0)
    for name in wanted & values.keys():
        check_size(f"{path}, column {name!r}", max(packed[str(name)], 8 * values[str(name)]), "bytes of arrays")


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _parquet_columns(values: pa.ChunkedArray, name: str, is_name: bool, path: Path) -> Mapping[str, pa.ChunkedArray]:
    """A column by its name, or one of lists as several: ``emb[0]``, ``emb[1]``, ..."""
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if is_name or not any(test(values.type) for test in kinds):
        return {name: _parquet_column(values, name, is_name, path)}
    lengths = pc.list_value_length(values)
    width = lengths[0].as_py() or 0
    other = pc.fill_null(pc.not_equal(lengths, width), True).index(True).as_py() if width else 0
    if other >= 0:
        got = lengths[other].as_py()
        raise DataError(
            f"{path}, row {other}: column {name!r} has {'no value' if got is None else f'{got} numbers'}; "
            f"every row must have {width or '1 or more'}"
        )
    check_size(f"{path}, column {name!r}", width, "columns")
    parts = ((f"{name}[{i}]", pc.list_element(values, i)) for i in range(width))
    return {part: _parquet_column(element, part, is_name, path) for part, element in parts}


def _parquet_column(values: pa.ChunkedArray, column: str | int, is_name: bool, path: Path) -> pa.ChunkedArray:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if (pa.types.is_floating(kind) or pa.types.is_decimal(kind)) and not is_name:
        return values.cast(pa.float64())
    if pa.types.is_boolean(kind) and not is_name:
        return values.cast(pa.bool_()).cast(pa.int8()).cast(pa.string())
    if (pa.types.is_timestamp(kind) or pa.types.is_date(kind)) and not is_name:
        return _seconds(values.cast(kind))
    whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    if not _is_text(kind) and not whole:
        allowed = "integers and texts" if is_name else "numbers, truth values, texts, times and lists of numbers"
        allowed += " (pandas has Int64 for integers beside absent ones)" * pa.types.is_floating(kind)
        raise DataError(f"{path}: column {column!r} is of type {values.type}; allowed are {allowed}")
    if pa.types.is_dictionary(values.type) and _is_text(kind):
        check_size(f"{path}, column {column!r}", _text_size(values), "bytes of text")
    return _trimmed(values.cast(pa.string()))


def _text_size(values: pa.ChunkedArray) -> int:
    """How many bytes the texts of a column of repeated ones have when they are written out."""
    lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in values.chunks)
    return sum(pc.sum(each.cast(pa.int64())).as_py() or 0 for each in lengths)


def _seconds(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """``(n,)`` float64: seconds since 1970 of timestamps and dates."""
    if pa.types.is_date32(values.type):
        return pc.multiply(values.cast(pa.int32()).cast(pa.float64()), 86_400.0)
    units = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
    unit = "ms" if pa.types.is_date64(values.type) else values.type.unit
    return pc.divide(values.cast(pa.int64()).cast(pa.float64(), safe=False), units[unit])
