"""The rows of a study, as its store holds them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd

from mebns_pl.errors import DataError


def read_results(folder: Path) -> pd.DataFrame:
    """The table ``runs`` of a study's ``results.sqlite``.

    Args:
        folder: of the study.

    Raises:
        DataError: the file is no such store.
    """
    path = folder / "results.sqlite"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return pd.read_sql_query("SELECT * FROM runs ORDER BY rowid", connection)
    except (sqlite3.Error, pd.errors.DatabaseError) as error:
        raise DataError(f"{path}: not the results of a study: {error}") from error
