"""Tables that name nodes of a graph: pairs to score or to leave out, chosen nodes, and their types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from mebns_pl.datasets.loaded import NumberNames
from mebns_pl.datasets.readers.columns import read_columns, standard_suffix
from mebns_pl.datasets.readers.contents import text_lines
from mebns_pl.datasets.readers.options import DEFAULT_COLUMNS, GraphColumns
from mebns_pl.datasets.tables import Table, places_in, text_column
from mebns_pl.errors import DataError

SHOWN = 5
"""Unknown names that an error lists."""


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
    source, target = table.names("source", "target")
    row = pc.equal(source, target).index(True).as_py()
    if row >= 0:
        raise DataError(
            f"{table.at(row)}: node {source[row].as_py()!r} with itself; allowed are pairs of two different nodes"
        )
    return node_numbers([source, target], node_names, table, hint)


def read_node_names(path: str | Path) -> Table:
    """Reads names of nodes: a table with the column ``node``, or of ``.txt`` each line is a name.

    Raises:
        DataError: a file that is missing, empty or broken.
    """
    path = Path(path)
    if standard_suffix(path) != ".txt":
        return read_columns(path, ["node"])
    lines = [line.strip() for line in text_lines(path)]
    numbers = [number for number, line in enumerate(lines, start=1) if line]
    if not numbers:
        raise DataError(f"{path}: the file is empty; at least 1 name is needed")
    return Table(path, {"node": text_column(lines).drop_null()}, "line", numbers.__getitem__)


def node_numbers(
    names: Sequence[pa.ChunkedArray], node_names: Sequence[str], table: Table | None = None, hint: str = ""
) -> Tensor:
    """``(k, m)`` int64: the nodes of k columns of names.

    Args:
        names: k columns of m names.
        node_names: N names, by node number.
        table: where the names stand, for the error; None where they were given as a list.
        hint: what to do about unknown names.

    Raises:
        DataError: names of no node; the first few of them, with their lines.
    """
    if isinstance(node_names, NumberNames):
        numbers = torch.stack([node_names.places(column.to_pylist()) for column in names])
    else:
        numbers = torch.stack([places_in(node_names, column) for column in names])
    unknown: dict[str, int] = {}
    for row, place in (numbers.t() < 0).nonzero().tolist():
        unknown.setdefault(names[place][row].as_py(), row)
    if unknown:
        first = ", ".join(
            repr(name) + ("" if table is None else f" ({table.unit} {table.line_of(row)})")
            for name, row in list(unknown.items())[:SHOWN]
        )
        more = f" and {len(unknown) - SHOWN:,} more" if len(unknown) > SHOWN else ""
        where = "nodes" if table is None else str(table.path)
        plural = "names are of no node" if len(unknown) > 1 else "name is of no node"
        raise DataError(
            f"{where}: {len(unknown):,} {plural} of the graph: {first}{more}; allowed are its {len(node_names):,} "
            f"nodes, as {node_names[0]!r}{hint and '; ' + hint}"
        )
    return numbers


def read_node_column(
    path: str | Path,
    column: str,
    node_names: Sequence[str],
    columns: GraphColumns = DEFAULT_COLUMNS,
) -> list[str]:
    """A column of the node table as texts, N of them, in the order of ``node_names``.

    Args:
        path: the table.
        column: the column.
        node_names: N names, by node number.
        columns: how the table is read.

    Raises:
        DataError: no such column; a node without a value, or not in the table.
    """
    table = read_columns(path, [columns.node], [column], columns.delimiter, columns.comment)
    names, values = (table.column(name).to_pylist() for name in (columns.node, column))
    value = {name: value for name, value in zip(names, values, strict=True)}
    for name in node_names:
        if value.get(name) is None:
            raise DataError(f"{path}: column {column!r} has no value for node {name!r}; every node needs one")
    return [str(value[name]) for name in node_names]
