"""A user's own graph from text files: an edge list and, where there is one, a node table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mebns_pl.data.tables import (
    DataError,
    Table,
    column_place,
    name_at,
    read_table,
    standardize_columns,
    table_features,
)
from mebns_pl.graph.csr import Features, Graph
from mebns_pl.types import GraphSpec

__all__ = ["DataError", "LoadedGraph", "name_order", "read_edge_list", "standardize_columns", "unique_edges"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class LoadedGraph:
    """A whole graph as it was read, before it is split.

    Args:
        name: name of the graph.
        edges: ``(2, n)`` int64, undirected, each once with ``source < target``, sorted.
        node_names: N names, ``node_names[i]`` is that of node ``i``.
        x: node features: dense ``(N, F)`` float32, sparse :class:`~mebns_pl.graph.csr.Features`, or None.
        notes: what was done on the way (repeated edges dropped, columns encoded), for people to read.

    Example:
        >>> graph = LoadedGraph("path", torch.tensor([[0, 1], [1, 2]]), ["a", "b", "c"])
        >>> graph.num_nodes, graph.num_edges, graph.spec.num_features
        (3, 2, 0)
    """

    name: str
    edges: Tensor
    node_names: list[str]
    x: Tensor | Features | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def num_nodes(self) -> int:
        """N, isolated nodes included."""
        return len(self.node_names)

    @property
    def num_edges(self) -> int:
        """Number of undirected edges."""
        return self.edges.shape[1]

    @property
    def spec(self) -> GraphSpec:
        """What models need to know."""
        return Graph.from_edges(self.edges[:, :0], self.num_nodes, self.x).spec


def read_edge_list(
    path: str | Path,
    nodes_path: str | Path | None = None,
    *,
    source_column: str | int = "source",
    target_column: str | int = "target",
    node_column: str = "node",
    feature_columns: Sequence[str] | None = None,
    standardize: bool = True,
    delimiter: str | None = None,
    comment: str | None = None,
) -> LoadedGraph:
    r"""Reads an undirected graph from an edge list and an optional node table.

    Both files are UTF-8 text (a byte order mark, quotes and any line end are accepted), ``.csv`` (comma) or ``.tsv``,
    ``.tab``, ``.txt`` (tab), also gzipped (``.gz``). White space around a field is dropped; otherwise names keep their
    spelling, so "007" and "7" are two nodes. Nodes stand in the order of the node table; without one they are sorted,
    names that look like integers first and by value, then the others by code point. Self-loops and repeated
    edges (the two directions of an edge count as one) are dropped, counted and told in ``notes``.

    A feature column is numeric when all its values are numbers, and is brought to zero mean and unit variance;
    it is categorical when none is, and becomes one 0/1 column for each of its values, in sorted order.

    Args:
        path: the edge list, one edge a line. Columns other than the two named ones are not read.
        nodes_path: the node table, one node a line with a header, or None. Nodes without an edge are kept.
        source_column: name of the first column of names; a number (from 0) says that the file has no header.
        target_column: the same for the second; both are names or both are numbers.
        node_column: column of the node table with the names.
        feature_columns: columns of the node table to use as features; None takes all but ``node_column``.
        standardize: whether numeric features are standardised (see :func:`standardize_columns`).
        delimiter: the one character between fields; None chooses by the file's suffix.
        comment: lines that start with this text are passed over; None reads every line.

    Returns:
        The graph, with dense float32 ``x``, or None where there is no feature column.

    Raises:
        DataError: a file that is missing, empty, not text or ragged; a missing column or name; a node given twice; an
            edge with a node that the table lacks; a feature that is no finite number; no edge left.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "edges.csv").write_text("source,target\nann,bob\nbob,ann\nbob,cy\n")
        ...     graph = read_edge_list(Path(folder, "edges.csv"))
        >>> graph.node_names, graph.edges.tolist(), graph.notes
        (['ann', 'bob', 'cy'], [[0, 1], [1, 2]], ['1 repeated edge dropped'])
    """
    path = Path(path)
    if isinstance(source_column, str) != isinstance(target_column, str):
        raise DataError(
            f"source_column, target_column: got {source_column!r} and {target_column!r}; "
            "allowed are two names (the file has a header) or two numbers (it has none)"
        )
    table = read_table(path, delimiter, comment, has_header=isinstance(source_column, str))
    columns = [column_place(table, column) for column in (source_column, target_column)]
    pairs = [[name_at(table, row, place) for place in columns] for row in range(len(table.rows))]
    x, notes = None, list[str]()
    if nodes_path is None:
        names = sorted({name for pair in pairs for name in pair}, key=name_order)
    else:
        nodes = read_table(Path(nodes_path), delimiter, comment, has_header=True)
        names = _node_names(nodes, node_column)
        others = [name for name in nodes.header or [] if name != node_column]
        x, notes = table_features(nodes, others if feature_columns is None else feature_columns, standardize)
    number = {name: i for i, name in enumerate(names)}
    for row, pair in enumerate(pairs):
        for name in pair:
            if name not in number:
                raise DataError(
                    f"{table.at(row)}: node {name!r} is not in the node table {nodes_path} "
                    f"(column {node_column!r}); allowed are the {len(names):,} names there"
                )
    ends = torch.tensor([[number[a], number[b]] for a, b in pairs], dtype=torch.int64).t()
    edges, dropped = unique_edges(ends, len(names))
    if not edges.shape[1]:
        raise DataError(f"{path}: no edge between two different nodes in {len(pairs):,} lines; at least 1 is needed")
    return LoadedGraph(path.name.split(".")[0], edges, names, x, dropped + notes)


def unique_edges(pairs: Tensor, num_nodes: int) -> tuple[Tensor, list[str]]:
    """Undirected edges, each once with ``source < target`` and sorted, and notes on what was dropped.

    Args:
        pairs: ``(2, m)`` int64, in any direction and number.
        num_nodes: N.
    """
    kept = pairs[:, pairs[0] != pairs[1]]
    keys = torch.unique(kept.min(dim=0).values * num_nodes + kept.max(dim=0).values)
    counts = {"self-loop": pairs.shape[1] - kept.shape[1], "repeated edge": kept.shape[1] - len(keys)}
    notes = [f"{count:,} {what}{'s' * (count > 1)} dropped" for what, count in counts.items() if count]
    return torch.stack([keys // num_nodes, keys % num_nodes]), notes


def name_order(name: str) -> tuple[int, int, str]:
    """The sorting key of node names: integers by value and before all others."""
    return (0, int(name), name) if _INTEGER.fullmatch(name) else (1, 0, name)


def _node_names(table: Table, node_column: str) -> list[str]:
    place = column_place(table, node_column)
    first: dict[str, int] = {}
    for row, line in enumerate(table.lines):
        name = name_at(table, row, place)
        if name in first:
            raise DataError(f"{table.at(row)}: node {name!r} is also on line {first[name]}; each node must stand once")
        first[name] = line
    return list(first)
