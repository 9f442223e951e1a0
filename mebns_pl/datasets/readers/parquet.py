"""Parquet tables, as the same :class:`~mebns_pl.datasets.text_tables.Table` that text files give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mebns_pl.datasets.text_tables import Table
from mebns_pl.errors import DataError

SUFFIXES = (".parquet", ".pq")


def read_parquet_table(path: Path, names: Sequence[str], values: Sequence[str] | None) -> Table:
    """Reads columns of a Parquet file.

    Args:
        path: the file.
        names: columns of node names: integers or texts.
        values: columns of values: numbers, truth values (which become 0 and 1) or texts; None takes all others.

    Returns:
        A table of those columns, all values as texts, an absent one as an empty text.

    Raises:
        DataError: a file that is missing, damaged or without a row; a missing column, or one of another type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        schema = pq.read_schema(path)
        header = list(schema.names)
        wanted = [*names, *([c for c in header if c not in names] if values is None else values)]
        for column in wanted:
            if header.count(column) != 1:
                raise DataError(f"{path}: no column {column!r}, or several; the file has {header}")
        table = pq.read_table(path, columns=list(dict.fromkeys(wanted)))
        columns = [_texts(table, column, column in names, path) for column in wanted]
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as Parquet ({str(error)[:200]})") from error
    rows = [list(row) for row in zip(*columns, strict=True)]
    if not rows:
        raise DataError(f"{path}: the file is empty; at least 1 row is needed")
    return Table(path, wanted, rows, list(range(len(rows))), unit="row")


def _texts(table: Any, column: str, is_name: bool, path: Path) -> list[str]:
    import pyarrow as pa

    array = table.column(column)
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    numbers = () if is_name else (pa.types.is_floating, pa.types.is_boolean)
    if not (is_text or pa.types.is_integer(kind) or any(test(kind) for test in numbers)):
        allowed = "integers and texts" if is_name else "numbers, truth values and texts"
        raise DataError(f"{path}: column {column!r} is of type {array.type}; allowed are {allowed}")
    if pa.types.is_boolean(kind):
        return ["" if value is None else str(int(value)) for value in array.to_pylist()]
    return ["" if value is None else str(value).strip() for value in array.to_pylist()]
