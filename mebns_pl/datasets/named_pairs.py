"""Tables that name nodes of a graph: pairs to score or to leave out, chosen nodes, and their types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mebns_pl.datasets.readers import parquet
from mebns_pl.datasets.text_tables import (
    DELIMITERS,
    Table,
    column_place,
    name_at,
    read_table,
    standard_suffix,
    text_lines,
)
from mebns_pl.errors import DataError

SHOWN = 5
"""Unknown names that an error lists."""


def read_columns(path: str | Path, names: Sequence[str], values: Sequence[str] | None = ()) -> Table:
    """Reads a table with a header: ``.csv`` (comma), ``.tsv``, ``.tab``, ``.txt`` (tab), also gzipped, or Parquet.

    Args:
        path: the file.
        names: columns of node names.
        values: other columns that are needed; None takes all there are.

    Raises:
        DataError: a file that is missing or broken; a missing column.
    """
    path = Path(path)
    suffix = standard_suffix(path)
    if suffix in parquet.SUFFIXES:
        return parquet.read_parquet_table(path, names, values)
    if suffix not in DELIMITERS:
        allowed = ", ".join([*DELIMITERS, *parquet.SUFFIXES])
        raise DataError(f"{path}: suffix {suffix!r}; allowed are {allowed}")
    table = read_table(path, None, None, has_header=True)
    for column in [*names, *(values or ())]:
        column_place(table, column)
    return table


def read_named_pairs(path: str | Path, node_names: Sequence[str], hint: str = "") -> Tensor:
    r"""Reads pairs of nodes, columns ``source`` and ``target``, in the order of the file.

    Args:
        path: the table.
        node_names: N names, by node number.
        hint: what to do about unknown names, for the error.

    Returns:
        ``(2, m)`` int64.

    Raises:
        DataError: a file that is missing or broken; names of no node, the first few with their lines; a pair of a node
            with itself.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "pairs.csv").write_text("source,target\ncy,ann\n")
        ...     read_named_pairs(Path(folder, "pairs.csv"), ["ann", "bob", "cy"]).tolist()
        [[2], [0]]
    """
    return named_pairs(read_columns(path, ["source", "target"]), node_names, hint)


def named_pairs(table: Table, node_names: Sequence[str], hint: str = "") -> Tensor:
    """The pairs of a table, see :func:`read_named_pairs`."""
    places = [column_place(table, column) for column in ("source", "target")]
    named = [[name_at(table, row, place) for place in places] for row in range(len(table.rows))]
    for row, (source, target) in enumerate(named):
        if source == target:
            raise DataError(f"{table.at(row)}: node {source!r} with itself; allowed are pairs of two different nodes")
    flat = [name for pair in named for name in pair]
    return node_numbers(flat, node_names, table, lambda i: i // 2, hint).view(-1, 2).t().contiguous()


def read_node_names(path: str | Path) -> Table:
    """Reads names of nodes: a table with the column ``node``, or of ``.txt`` each line is a name.

    Raises:
        DataError: a file that is missing, empty or broken.
    """
    path = Path(path)
    if standard_suffix(path) != ".txt":
        table = read_columns(path, ["node"])
        place = column_place(table, "node")
        rows = [[name_at(table, row, place)] for row in range(len(table.rows))]
        return Table(path, ["node"], rows, table.lines, table.unit)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    found = [(number, line.strip()) for number, line in enumerate(text_lines(path, None), start=1) if line.strip()]
    if not found:
        raise DataError(f"{path}: the file is empty; at least 1 name is needed")
    return Table(path, ["node"], [[name] for _, name in found], [number for number, _ in found])


def node_numbers(
    names: Sequence[str],
    node_names: Sequence[str],
    table: Table | None = None,
    row_of: Callable[[int], int] = lambda i: i,
    hint: str = "",
) -> Tensor:
    """``(m,)`` int64: the nodes of ``names``.

    Args:
        names: m names.
        node_names: N names, by node number.
        table: where the names stand, for the error; None where they were given as a list.
        row_of: place of a name -> its row in the table.
        hint: what to do about unknown names.

    Raises:
        DataError: names of no node; the first few of them, with their lines.
    """
    number = {name: i for i, name in enumerate(node_names)}
    unknown: dict[str, str] = {}
    for i, name in enumerate(names):
        if name not in number and name not in unknown:
            unknown[name] = "" if table is None else f" ({table.unit} {table.lines[row_of(i)]})"
    if unknown:
        first = ", ".join(f"{name!r}{place}" for name, place in list(unknown.items())[:SHOWN])
        more = f" and {len(unknown) - SHOWN:,} more" if len(unknown) > SHOWN else ""
        where = "nodes" if table is None else str(table.path)
        plural = "names are of no node" if len(unknown) > 1 else "name is of no node"
        raise DataError(
            f"{where}: {len(unknown):,} {plural} of the graph: {first}{more}; allowed are its {len(node_names):,} "
            f"nodes, as {node_names[0]!r}{hint and '; ' + hint}"
        )
    return torch.tensor([number[name] for name in names], dtype=torch.int64)


def read_node_column(path: str | Path, column: str, node_names: Sequence[str]) -> list[str]:
    """A column of the node table as texts, N of them, in the order of ``node_names``.

    Raises:
        DataError: no such column; a node without a value, or not in the table.
    """
    table = read_columns(path, ["node"], [column])
    at_node, at_value = column_place(table, "node"), column_place(table, column)
    value = {row[at_node]: row[at_value] for row in table.rows}
    for name in node_names:
        if not value.get(name):
            raise DataError(f"{path}: column {column!r} has no value for node {name!r}; every node needs one")
    return [value[name] for name in node_names]
