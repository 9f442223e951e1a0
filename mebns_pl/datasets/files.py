"""A user's own graph: an edge list with or without a node table, or a file that holds a whole graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mebns_pl.datasets.loaded import LoadedGraph, graph_of_pairs, name_order
from mebns_pl.datasets.readers import mapped
from mebns_pl.datasets.readers.columns import SUFFIXES as TABLES
from mebns_pl.datasets.readers.columns import read_columns, standard_suffix
from mebns_pl.datasets.readers.graphml import read_graphml
from mebns_pl.datasets.readers.matrices import read_mat
from mebns_pl.datasets.readers.whole import read_archive, read_saved
from mebns_pl.datasets.tables import (
    Table,
    column_times,
    distinct,
    first_repeat,
    places_in,
    table_features,
)
from mebns_pl.errors import DataError

SUFFIXES = (*TABLES, ".graphml", ".npz", ".pt", ".mat")


def read_graph(
    path: str | Path,
    nodes_path: str | Path | None = None,
    *,
    feature_columns: Sequence[str] | None = None,
    time_column: str | None = None,
    undirected: bool = True,
) -> LoadedGraph:
    r"""Reads a user's own graph; the file's suffix says how.

    - ``.csv``, ``.tsv``, ``.tab``, ``.txt`` (also with ``.gz``), ``.parquet``, ``.pq``: an edge list with the columns
      ``source`` and ``target``, and an optional node table with the column ``node`` (:func:`read_edge_list`);
    - ``.graphml`` (also with ``.gz``): nodes with attributes, and edges
      (:func:`~mebns_pl.datasets.readers.graphml.read_graphml`);
    - ``.npz``: arrays (:func:`~mebns_pl.datasets.readers.whole.read_archive`);
    - ``.pt``: a saved PyG ``Data`` (:func:`~mebns_pl.datasets.readers.whole.read_saved`);
    - ``.mat``: an adjacency matrix ``net`` (:func:`~mebns_pl.datasets.readers.matrices.read_mat`).

    No code that a file might hold is run: pickled objects are refused.

    Args:
        path: the graph, or its edge list.
        nodes_path: the node table beside an edge list; or, beside any file without features, an ``.npy`` file of them,
            which is memory-mapped (:func:`~mebns_pl.datasets.readers.mapped.with_mapped_features`); or None.
        feature_columns: columns or attributes of nodes to use as features; None takes all. For tables and GraphML.
        time_column: column, attribute or key with the times of edges, or None.
        undirected: links are predicted in undirected graphs, so files with directed edges are made undirected, which
            ``notes`` tell; False refuses such files. The lines of an edge list have no direction.

    Raises:
        DataError: an unknown suffix; a file that is missing or broken; an argument that does not go with the format.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp(), "triangle.npz")
        >>> np.savez(path, edge_index=np.array([[0, 1, 2], [1, 2, 0]]))
        >>> graph = read_graph(path)
        >>> graph.edges.tolist(), graph.notes
        ([[0, 0, 1], [1, 2, 2]], ['directed: made undirected, 3 of 3 edges came in one direction only'])
    """
    if nodes_path is not None and Path(nodes_path).suffix == mapped.SUFFIX:
        graph = read_graph(path, feature_columns=feature_columns, time_column=time_column, undirected=undirected)
        return mapped.with_mapped_features(graph, nodes_path)
    path = Path(path)
    suffix = standard_suffix(path)
    if suffix in TABLES:
        return read_edge_list(path, nodes_path, feature_columns=feature_columns, time_column=time_column)
    if nodes_path is not None:
        raise DataError(f"nodes: got {str(nodes_path)!r}; a node table goes with an edge list, not with {path}")
    if suffix == ".graphml":
        return read_graphml(path, feature_columns, time_column, undirected)
    if suffix not in SUFFIXES or path.suffix == ".gz":
        raise DataError(f"{path}: suffix {''.join(path.suffixes[-2:])!r}; allowed are {', '.join(SUFFIXES)}")
    if feature_columns is not None:
        raise DataError(f"feature_columns: got {list(feature_columns)}; {suffix} files have no columns to choose from")
    if suffix == ".npz":
        return read_archive(path, time_column, undirected)
    if suffix == ".pt":
        return read_saved(path, time_column, undirected)
    if time_column is not None:
        raise DataError(f"time_column: got {time_column!r}; {suffix} files have no times")
    return read_mat(path.name.split(".")[0], path, undirected=undirected)


def read_edge_list(
    path: str | Path,
    nodes_path: str | Path | None = None,
    *,
    source_column: str | int = "source",
    target_column: str | int = "target",
    node_column: str = "node",
    feature_columns: Sequence[str] | None = None,
    time_column: str | int | None = None,
    standardize: bool = True,
    delimiter: str | None = None,
    comment: str | None = None,
) -> LoadedGraph:
    r"""Reads an undirected graph from an edge list and an optional node table.

    Each file is either Parquet (``.parquet``, ``.pq``) or UTF-8 text (a byte order mark, quotes and any line end are
    accepted): ``.csv`` (comma) or ``.tsv``, ``.tab``, ``.txt`` (tab), also gzipped (``.gz``). White space around a
    field is dropped; otherwise names keep their spelling, so "007" and "7" are two nodes. Nodes stand in the order of
    the node table; without one they are sorted, names that look like integers first and by value, then the others by
    code point. Self-loops and repeated edges (the two directions of an edge count as one) are dropped, counted and
    told in ``notes``.

    A feature column is numeric when all its values are numbers, and is brought to zero mean and unit variance;
    it is categorical when none is, and becomes one 0/1 column for each of its values, in sorted order.

    Args:
        path: the edge list, one edge a line. Columns other than the two named ones are not read.
        nodes_path: the node table, one node a line with a header, or None. Nodes without an edge are kept.
        source_column: name of the first column of names; a number (from 0) says that the file has no header.
        target_column: the same for the second; both are names or both are numbers.
        node_column: column of the node table with the names.
        feature_columns: columns of the node table to use as features; None takes all but ``node_column``.
        time_column: column of the edge list with times, numbers or ISO 8601 dates, or None; as ``source_column``.
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
    if time_column is not None and isinstance(time_column, str) != isinstance(source_column, str):
        raise DataError(f"time_column: got {time_column!r}; allowed is a name where source_column is one, or a number")
    times_in = [] if time_column is None else [time_column]
    table = read_columns(path, [source_column, target_column], times_in, delimiter, comment)
    ends = table.names(source_column, target_column)
    x, notes = None, list[str]()
    if nodes_path is None:
        names = sorted(distinct(*ends), key=name_order)
    else:
        nodes = read_columns(nodes_path, [node_column], feature_columns, delimiter, comment)
        names = _node_names(nodes, node_column)
        others = [str(name) for name in nodes.columns if name != node_column]
        x, notes = table_features(nodes, others if feature_columns is None else feature_columns, standardize)
    pairs = torch.stack([places_in(names, end) for end in ends])
    unknown = (pairs < 0).t().nonzero()
    if len(unknown):
        row, end = unknown[0].tolist()
        name = ends[end][row].as_py()
        raise DataError(
            f"{table.at(row)}: node {name!r} is not in the node table {nodes_path} "
            f"(column {node_column!r}); allowed are the {len(names):,} names there{_near_name(name, names)}"
        )
    times = None if time_column is None else column_times(table, time_column)
    return graph_of_pairs(path, pairs, names, x, times, notes, called="lines", directed=False)


def _near_name(name: str, names: Sequence[str]) -> str:
    """A hint, where numbers were written as fractions ("7.0") in one file and not in the other."""
    other = name.removesuffix(".0") if name.endswith(".0") else f"{name}.0"
    return f", {other!r} among them" if other in names else ""


def _node_names(table: Table, node_column: str) -> list[str]:
    names: list[str] = table.names(node_column)[0].to_pylist()
    repeat = first_repeat(names)
    if repeat is not None:
        row, first = repeat
        raise DataError(
            f"{table.at(row)}: node {names[row]!r} is also on {table.unit} {table.line_of(first)}; "
            "each node must stand once"
        )
    return names
