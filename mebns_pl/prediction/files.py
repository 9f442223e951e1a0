"""Tables written as CSV or Parquet, by the file's suffix."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

SUFFIXES = (".csv", ".parquet", ".pq")


def check_table_path(path: str | Path) -> Path:
    """The path of a table to write.

    Raises:
        ValueError: a suffix that no table has.
    """
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"path: expected a file name that ends in {', '.join(SUFFIXES)}, got {str(path)!r}")
    return Path(path)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a table; an older file of that name stays until the new one is whole.

    Raises:
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        if path.suffix == ".csv":
            table.to_csv(unfinished, index=False)
        else:
            table.to_parquet(unfinished, index=False)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
