"""Tables written as CSV or Parquet, by the file's suffix."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from mebns_pl.checks import expect
from mebns_pl.escaping import in_cell
from mebns_pl.files import atomic_file

SUFFIXES = (".csv", ".parquet", ".pq")


def check_table_path(path: str | Path) -> Path:
    """The path of a table to write.

    Raises:
        ValueError: a suffix that no table has.
    """
    ends = f"a file name that ends in {', '.join(SUFFIXES)}"
    expect(Path(path).suffix in SUFFIXES, ends, path=repr(str(path)))
    return Path(path)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a table; an older file of that name stays until the new one is whole.

    Names that a spreadsheet would run are written harmless into CSV; Parquet has them as they are.

    Raises:
        OSError: the folder cannot be written to.
    """
    with atomic_file(path) as file:
        if path.suffix == ".csv":
            harmless = in_cells(table)
            texts = harmless.select_dtypes(exclude="number")
            # pandas leaves a carriage return bare, which ends a row for many readers
            ends = any(isinstance(value, str) and "\r" in value for value in texts.to_numpy().ravel())
            quoting = csv.QUOTE_NONNUMERIC if ends else csv.QUOTE_MINIMAL
            harmless.to_csv(file, index=False, mode="wb", quoting=quoting)
        else:
            table.to_parquet(file, index=False)


def in_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The table for a CSV file: texts that a spreadsheet would run begin with an apostrophe, but for plain numbers.

    Example:
        >>> in_cells(pd.DataFrame({"node": ["=1+1", "-3", "a"], "size": [1, 2, 3]}))["node"].tolist()
        ["'=1+1", '-3', 'a']
    """
    return table.assign(
        **{
            str(name): [in_cell(value) if isinstance(value, str) else value for value in column]
            for name, column in table.items()
            if not pd.api.types.is_numeric_dtype(column)
        }
    )
