"""Tables by columns, and the columns as names, node features and times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mebns_pl.datasets.limits import check_size
from mebns_pl.datasets.readers.contents import looks_like
from mebns_pl.errors import DataError

MAX_LEVELS = 256


@dataclass(frozen=True)
class Table:
    """A table by columns.

    Args:
        path: the file.
        columns: the columns by name, or by number from 0 where the file has no header: n texts, or n float64 in
            Parquet's columns of such; null where a value is absent.
        unit: what ``line_of`` counts.
        line_of: where a row (from 0) stands in the file.
        unread: names of the file's other columns.
    """

    path: Path
    columns: Mapping[str | int, pa.ChunkedArray]
    unit: str = "row"
    line_of: Callable[[int], int] = int
    unread: Sequence[str] = ()

    def at(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"{self.path}, {self.unit} {self.line_of(row)}"

    def column(self, name: str | int) -> pa.ChunkedArray:
        """The values of a column.

        Raises:
            DataError: there is no such column.
        """
        if name not in self.columns:
            header = [*self.columns, *self.unread]
            there = f"the header has {shown(header)}{_hint(header, name)}"
            if isinstance(name, int):
                there = f"the lines have columns 0 ... {len(header) - 1}"
            raise DataError(f"{self.path}: no column {name!r}; {there}")
        return self.columns[name]

    def part(self, rows: Tensor) -> Table:
        """Some of the rows, by ``(n,)`` bool; they stand where they stood."""
        kept = pa.array(rows.numpy())
        numbers = rows.nonzero().flatten()
        columns = {name: values.filter(kept) for name, values in self.columns.items()}
        return replace(self, columns=columns, line_of=lambda row: self.line_of(int(numbers[row])))

    def value_at(self, row: int, name: str | int) -> str:
        """Where a row stands, and what it has in a column, for messages."""
        value = self.column(name)[row].as_py()
        return f"{self.at(row)}: column {name!r} has {'' if value is None else str(value)!r}"

    def names(self, *columns: str | int) -> list[pa.ChunkedArray]:
        """The columns of names.

        Raises:
            DataError: there is no such column, or a name is absent.
        """
        found = [self.column(column) for column in columns]
        absent = np.stack([names.is_null().to_numpy() for names in found], axis=1)
        if absent.any():
            row, place = np.argwhere(absent)[0].tolist()
            number = list(self.columns).index(columns[place]) + 1
            raise DataError(f"{self.at(row)}: no name in column {number}; a name must not be empty")
        return found


def shown(names: Sequence[object], most: int = 20) -> str:
    """Names for messages: the first of them, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{list(names[:most])}{more}"


def text_column(values: Iterable[str]) -> pa.ChunkedArray:
    """Texts as a column of a table; empty ones are absent."""
    return pa.chunked_array([[value or None for value in values]], pa.string())


def places_in(names: Sequence[str], column: pa.ChunkedArray) -> Tensor:
    """``(n,)`` int64: where each text of a column stands in ``names``, which differ; -1 where it does not."""
    found = pc.index_in(column.cast(pa.string()), pa.array(names, pa.string()))
    return torch.tensor(found.cast(pa.int64()).fill_null(-1).to_numpy())


def first_repeat(names: Sequence[str | int]) -> tuple[int, int] | None:
    """The place of the first name that has stood before, and where that was; None where all names differ."""
    first: dict[str | int, int] = {}
    for place, name in enumerate(names):
        if first.setdefault(name, place) < place:
            return place, first[name]
    return None


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
    width = 0
    for name in with_lists(table, columns):
        values = table.column(name)
        if values.null_count:
            row = values.is_null().index(True).as_py()
            raise DataError(f"{table.at(row)}: column {name!r} has no value; every node needs one")
        numbers = as_numbers(values)
        if numbers.null_count == len(numbers):
            _refuse_commas(table, name, values)
            levels = sorted(distinct(values))
            if len(levels) > MAX_LEVELS:
                raise DataError(
                    f"{table.path}: column {name!r} has {len(levels):,} different texts; at most {MAX_LEVELS} are "
                    "one-hot encoded; leave the column out by `feature_columns`"
                )
            width += len(levels)
            check_size(table.path, 4 * len(values) * width, "bytes of arrays")
            blocks.append(one_hot(places_in(levels, values), len(levels)).float())
            notes.append(f"column {name!r} one-hot encoded ({len(levels)} values)")
        else:
            width += 1
            check_size(table.path, 4 * len(values) * width, "bytes of arrays")
            x = _finite(table, name, numbers)
            blocks.append(standardize_columns(x) if standardize else x.float())
            numeric.append(name)
    what = f"column {numeric[0]!r}" if len(numeric) == 1 else f"{len(numeric):,} columns of numbers"
    done = [f"{what} standardised" if standardize else f"{what} taken as they are"] * bool(numeric)
    return (torch.cat(blocks, dim=1) if blocks else None), done + notes


def _refuse_commas(table: Table, name: str | int, values: pa.ChunkedArray) -> None:
    """Refuses numbers with a comma before their fraction, which would be taken for texts."""
    if pc.all(pc.match_substring_regex(values, r"^[+-]?[0-9]*,[0-9]+$")).as_py():
        raise DataError(f"{table.value_at(0, name)}; allowed are numbers with a point before their fraction, or texts")


def with_lists(table: Table, columns: Sequence[str]) -> list[str]:
    """The columns by name, a column of lists as those of its elements."""
    names: list[str] = []
    for name in columns:
        parts = [f"{name}[0]"]
        while name not in table.columns and parts[-1] in table.columns:
            parts.append(f"{name}[{len(parts)}]")
        names += parts[:-1] or [name]
    return names


def standardize_columns(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Each column with zero mean and unit (population) variance; constant columns become zero.

    Args:
        x: ``(N, F)`` finite, any floating point type.
        like: ``(M, F)``, whose means, variances and constant columns these are; None takes those of ``x``.

    Returns:
        ``(N, F)`` float32.
    """
    # Differences from the first row, of size 1: no digit is lost to a large mean, no square over- or underflows.
    like = (x if like is None else like).double()
    first = like[:1]
    centred = like - first
    constant = (centred == 0).all(dim=0)
    size = centred.abs().amax(dim=0).masked_fill(constant, 1.0)
    centred = centred / size
    mean = centred.mean(dim=0)
    deviation = (centred - mean).square().mean(dim=0).sqrt().masked_fill(constant, 1.0)
    return (((x.double() - first) / size - mean) / deviation).masked_fill(constant, 0.0).float()


def column_times(table: Table, name: str | int) -> Tensor:
    """A column of finite numbers, or of ISO 8601 dates, which become seconds since 1970 (UTC where no zone is given).

    Returns:
        ``(n,)`` float64.

    Raises:
        DataError: no such column; a value that is missing, or neither a finite number nor a date, or both occur.
    """
    values = table.column(name)
    numbers = _as_seconds(values) if as_numbers(values[:1]).null_count else as_numbers(values)
    bad = ~np.isfinite(numbers.to_numpy())
    if bad.any():
        where = table.value_at(int(bad.argmax()), name)
        raise DataError(f"{where}; allowed are finite numbers only, or ISO 8601 dates only")
    return torch.tensor(numbers.to_numpy())


def as_numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """``(n,)`` float64: the numbers that texts stand for as Python reads them; null where they stand for none."""
    if pa.types.is_floating(values.type):
        return values
    try:
        numbers = values.cast(pa.float64())
        if pc.all(pc.is_finite(numbers)).as_py():
            return numbers
    except pa.ArrowInvalid:
        pass  # other spellings, or no numbers: Python is asked for each of them
    return pa.chunked_array([[_number(value) for value in values.to_pylist()]], pa.float64())


def is_text_only(values: pa.ChunkedArray) -> bool:
    """Whether a column has texts, and no value that is a number."""
    return not pa.types.is_floating(values.type) and len(values) == as_numbers(values).null_count > values.null_count


def distinct(*columns: pa.ChunkedArray, where: str | Path | None = None) -> list[str]:
    """The texts of some columns, each once, in the order in which they first stand there, column by column.

    Args:
        columns: the columns.
        where: the file, where the texts are names of nodes.

    Raises:
        DataError: more nodes than allowed.
    """
    once = pa.chunked_array([chunk for column in columns for chunk in column.chunks]).unique()
    if where is not None:
        check_size(where, len(once), "nodes")
    texts: list[str] = once.to_pylist()
    return texts


def _finite(table: Table, name: str, numbers: pa.ChunkedArray) -> Tensor:
    """A column of numbers as ``(n, 1)`` float64, after all of them were found to be finite float32 numbers."""
    if numbers.null_count:
        row, like = (numbers.is_null().index(wanted).as_py() for wanted in (True, False))
        other = str(table.column(name)[like])
        raise DataError(
            f"{table.value_at(row, name)}, but {other!r} on {table.unit} {table.line_of(like)}; "
            "allowed are columns of numbers only or of texts only"
        )
    x = torch.tensor(numbers.to_numpy())[:, None]
    bad = (~x.float().isfinite()).nonzero()
    if len(bad):
        raise DataError(f"{table.value_at(int(bad[0, 0]), name)}; allowed are finite float32 numbers")
    return x


def _number(value: str | None) -> float | None:
    """The number a text stands for, or None; Python's ``1_000`` is none."""
    try:
        return None if value is None or "_" in value else float(value)
    except ValueError:
        return None


def _as_seconds(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """``(n,)`` float64: seconds since 1970 of ISO 8601 dates; null where texts are none."""
    return pa.chunked_array([[_seconds(value) for value in values.to_pylist()]], pa.float64())


def _seconds(value: str | float | None) -> float | None:
    try:
        date = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _hint(header: Sequence[str | int], asked: str | int) -> str:
    """What may be wrong where the header lacks a column."""
    marks = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
    other = looks_like(str(header[0]).encode()) if header else ""
    if other:
        return other
    found = [name for mark, name in marks.items() if len(header) == 1 and mark in str(header[0])]
    told = ""
    if found:
        told = f"; it seems to be separated by {found[0]}: .csv files have commas, .tsv, .tab and .txt files have tabs"
        told += ", columns.delimiter names another"
    if asked == "source":
        told += "; columns.source and columns.target name others, or are 0 and 1 where there is no header"
    return told


SHORTENED = r"^[+-]?[0-9](\.[0-9]+)?[eE]\+[0-9]{1,4}$"
"""Numbers as spreadsheets shorten them: 1E+05 for 100000."""
_DIGITS = 40


def two_spellings(names: Sequence[pa.ChunkedArray]) -> tuple[str, str] | None:
    """A name that is a number, and the integer it stands for, where both are names; None where no number has two.

    pandas writes 7.0 beside empty cells, spreadsheets 1E+05 for 100000.

    Args:
        names: texts, in any number of columns.
    """
    for column in names:
        fractions = column.filter(pc.match_substring_regex(column, r"^[+-]?[0-9]+\.0*$")).unique()
        shortened = column.filter(pc.match_substring_regex(column, SHORTENED)).unique()
        spelt = pa.concat_arrays([fractions, shortened])
        whole = pa.concat_arrays(
            [pc.replace_substring_regex(fractions, r"\.0*$", ""), pa.array(map(_written_out, shortened), pa.string())]
        )
        for other in names:
            both = whole.filter(pc.is_in(whole, other.unique())) if len(whole) else whole
            if len(both):
                name = both[0].as_py()
                return spelt[pc.index(whole, name).as_py()].as_py(), name
    return None


def twice_told(spelt: str, name: str) -> str:
    """What is wrong with what :func:`two_spellings` has found."""
    return (
        f"node {spelt!r}, and {name!r} elsewhere; these would be two nodes. Write numbers in one way (pandas makes "
        "fractions of integers beside empty cells: use its type Int64)"
    )


def _written_out(name: pa.Scalar) -> str:
    """The integer that a number such as 1.2E+05 stands for."""
    number = Decimal(name.as_py())
    return str(int(number)) if number.adjusted() < _DIGITS and number == number.to_integral_value() else name.as_py()
