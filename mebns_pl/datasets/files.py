"""A user's own graph: an edge list with or without a node table, or a file that holds a whole graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from mebns_pl.datasets.loaded import LoadedGraph, graph_of_pairs, name_order
from mebns_pl.datasets.readers import mapped
from mebns_pl.datasets.readers.columns import SUFFIXES as TABLES
from mebns_pl.datasets.readers.columns import read_columns, standard_suffix
from mebns_pl.datasets.readers.comments import below_comments
from mebns_pl.datasets.readers.graphml import read_graphml
from mebns_pl.datasets.readers.matrices import read_mat, read_matrix_market
from mebns_pl.datasets.readers.options import DEFAULT_COLUMNS, TYPE, GraphColumns, chosen_features, edge_weights
from mebns_pl.datasets.readers.pyg import read_saved
from mebns_pl.datasets.readers.shards import read_shards, shards_of
from mebns_pl.datasets.readers.whole import read_archive
from mebns_pl.datasets.relations import predicted_rows, with_context
from mebns_pl.datasets.tables import (
    SHORTENED,
    Table,
    column_times,
    distinct,
    first_repeat,
    places_in,
    table_features,
    twice_told,
    two_spellings,
)
from mebns_pl.errors import DataError

SUFFIXES = (*TABLES, ".graphml", ".npz", ".pt", ".mat", ".mtx")


def read_graph(
    path: str | Path,
    nodes_path: str | Path | None = None,
    *,
    feature_columns: Sequence[str] | None = None,
    time_column: int | str | None = None,
    undirected: bool = True,
    columns: GraphColumns = DEFAULT_COLUMNS,
) -> LoadedGraph:
    r"""Reads a user's own graph; the file's suffix says how.

    - ``.csv``, ``.tsv``, ``.tab``, ``.txt`` (also with ``.gz``), ``.parquet``, ``.pq``: an edge list with the columns
      ``source`` and ``target``, and an optional node table with the column ``node`` (:func:`read_edge_list`);
    - a folder named like such files, ``edges.parquet/``: the edge list in shards, read block by block, as one Parquet
      file of ten million rows and more is (:mod:`mebns_pl.datasets.readers.shards`);
    - ``.graphml`` (also with ``.gz``): nodes with attributes, and edges
      (:func:`~mebns_pl.datasets.readers.graphml.read_graphml`);
    - ``.npz``: arrays (:func:`~mebns_pl.datasets.readers.whole.read_archive`);
    - ``.pt``: a saved PyG ``Data`` or ``HeteroData`` (:func:`~mebns_pl.datasets.readers.pyg.read_saved`);
    - ``.mat``: an adjacency matrix ``net`` (:func:`~mebns_pl.datasets.readers.matrices.read_mat`);
    - ``.mtx`` (also with ``.gz``): the same, numbered from 1
      (:func:`~mebns_pl.datasets.readers.matrices.read_matrix_market`).

    A text of edges with any other suffix is read as an edge list where ``columns.delimiter`` is given.

    No code that a file might hold is run: pickled objects are refused. What a file may ask for is bounded
    (:mod:`mebns_pl.datasets.limits`).

    Args:
        path: the graph, or its edge list.
        nodes_path: the node table beside an edge list; or, beside any file without features, an ``.npy`` file of them,
            which is memory-mapped (:func:`~mebns_pl.datasets.readers.mapped.with_mapped_features`); or None.
        feature_columns: columns or attributes of nodes to use as features; None takes all. For tables and GraphML.
        time_column: column, attribute or key with the times of edges, or None.
        undirected: links are predicted in undirected graphs, so files with directed edges are made undirected, which
            ``notes`` tell; False refuses such files. The lines of an edge list have no direction.
        columns: what columns of tables and attributes of GraphML are; its ``features`` gives way to
            ``feature_columns``.

    Raises:
        DataError: an unknown suffix; a file that is missing, broken, or larger than allowed; an argument that does not
            go with the format.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp(), "triangle.npz")
        >>> np.savez(path, edge_index=np.array([[0, 1, 2], [1, 2, 0]]))
        >>> graph = read_graph(path)
        >>> graph.edges.tolist(), graph.notes
        ([[0, 0, 1], [1, 2, 2]], ['directed: made undirected, 3 of 3 edges came in one direction only'])
    """
    if feature_columns is not None:
        columns = replace(columns, features=list(feature_columns))
    try:
        return _read(Path(path), nodes_path, columns, time_column, undirected)
    except (MemoryError, pa.ArrowMemoryError) as error:
        raise DataError(f"{path}: it does not fit into the memory that there is") from error


def _read(
    path: Path,
    nodes_path: str | Path | None,
    columns: GraphColumns,
    time_column: int | str | None,
    undirected: bool,
) -> LoadedGraph:
    if nodes_path is not None and Path(nodes_path).suffix == mapped.SUFFIX:
        return mapped.with_mapped_features(_read(path, None, columns, time_column, undirected), nodes_path)
    suffix = standard_suffix(path)
    if columns.predicted is not None and columns.relation is None and suffix != ".pt":
        raise DataError(
            f"columns.predicted: got {columns.predicted!r} without columns.relation, the column it stands in"
        )
    if suffix in TABLES and (files := shards_of(path, columns)) is not None:
        if nodes_path is None and (path.is_dir() or time_column is None):
            return read_shards(path, files, columns, time_column)
        if path.is_dir():
            raise DataError(f"nodes: got {str(nodes_path)!r}; beside shards ({path}) features are an .npy file")
    if suffix in TABLES or (columns.delimiter is not None and suffix not in SUFFIXES):
        return _read_tables(path, nodes_path, columns, time_column)
    if nodes_path is not None:
        raise DataError(f"nodes: got {str(nodes_path)!r}; a node table goes with an edge list, not with {path}")
    if time_column is not None and not isinstance(time_column, str):
        raise DataError(
            f"time_column: got {time_column}; allowed is a name, for {suffix} files have no numbered columns"
        )
    if suffix == ".graphml":
        if columns.bipartite:
            raise DataError(f"columns.bipartite: it goes with an edge list, not with {path}")
        return read_graphml(path, columns, time_column, undirected)
    if suffix not in SUFFIXES or (path.suffix == ".gz" and suffix != ".mtx"):
        raise DataError(
            f"{path}: suffix {''.join(path.suffixes[-2:])!r}; allowed are {', '.join(SUFFIXES)}{_instead(path.suffix)}"
        )
    if columns.features is not None:
        raise DataError(f"feature_columns: got {columns.features}; {suffix} files have no columns to choose from")
    _refuse_others(columns, {".npz": ("weight",), ".pt": ("weight", "predicted")}.get(suffix, ()), suffix)
    if suffix == ".npz":
        return read_archive(path, time_column, undirected, columns.weight)
    if suffix == ".pt":
        return read_saved(path, time_column, undirected, columns)
    if time_column is not None:
        raise DataError(f"time_column: got {time_column!r}; {suffix} files have no times")
    if suffix == ".mtx":
        return read_matrix_market(path, undirected)
    return read_mat(path.name.split(".")[0], path, undirected=undirected)


def _instead(suffix: str) -> str:
    """What to do with a file of another kind."""
    return f"; {_INSTEAD.get(suffix.lower(), 'other texts of edges are read where columns.delimiter is given')}"


_GRAPHML = "write it anew by networkx.write_graphml(networkx.{}, 'graph.graphml')"
_INSTEAD = {
    ".gml": _GRAPHML.format("read_gml(path)"),
    ".gexf": _GRAPHML.format("read_gexf(path)"),
    ".net": _GRAPHML.format("Graph(networkx.read_pajek(path))"),
    ".json": _GRAPHML.format("node_link_graph(json.load(open(path)))"),
    ".adjlist": _GRAPHML.format("read_adjlist(path)"),
    ".npy": "put it into an archive, numpy.savez('graph.npz', edges=numpy.load(path))",
    **dict.fromkeys((".feather", ".arrow", ".ipc"), "write it anew as Parquet, pandas.read_feather(path).to_parquet"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as 'CSV UTF-8'"),
    **dict.fromkeys((".pkl", ".pickle", ".gpickle"), "a pickle can run code; save the graph in another way"),
    **dict.fromkeys((".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz"), "unpack it first (.gz is read as it is)"),
}
"""What people have graphs in, and how these become files that are read."""


def _refuse_others(columns: GraphColumns, known: Sequence[str], suffix: str) -> None:
    """Refuses a choice of columns that a file without columns cannot have."""
    for given in fields(columns):
        if given.name not in known and getattr(columns, given.name) != getattr(DEFAULT_COLUMNS, given.name):
            allowed = " and ".join(f"columns.{name}" for name in known) or "tables and GraphML"
            raise DataError(f"columns.{given.name}: {suffix} files have none to choose from; allowed are {allowed}")


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
    field is dropped; otherwise names keep their spelling, so "007" and "7" are two nodes; "7.0" beside "7" is refused.
    A text that begins with comments, as files of SNAP (``#``) and KONECT (``%``) do, is read below them: its columns
    are those that the last comment names, or else, where the first line is of numbers and so no header, the first two;
    commas, tabs or white space separate them.

    Nodes stand in the order of the node table; without one they are sorted, names that look like integers first and by
    value, then the others by code point. Self-loops and repeated edges (the two directions of an edge count as one)
    are dropped, counted and told in ``notes``.

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
    given = GraphColumns(
        source_column,
        target_column,
        node_column,
        None if feature_columns is None else list(feature_columns),
        delimiter=delimiter,
        comment=comment,
    )
    return _read_tables(Path(path), nodes_path, given, time_column, standardize)


def _read_tables(
    path: Path,
    nodes_path: str | Path | None,
    columns: GraphColumns,
    time_column: int | str | None,
    standardize: bool = True,
) -> LoadedGraph:
    """An edge list with its node table, see :func:`read_edge_list`."""
    given, (columns, time_column, skip, notes) = columns, below_comments(path, columns, time_column)
    if time_column is not None and isinstance(time_column, str) != isinstance(columns.source, str):
        raise DataError(f"time_column: got {time_column!r}; allowed is a name where source_column is one, or a number")
    if columns.weight is not None and isinstance(columns.weight, str) != isinstance(columns.source, str):
        raise DataError(
            f"columns.weight: got {columns.weight!r}; allowed is a name where columns.source is one, or a number"
        )
    if columns.relation is not None and isinstance(columns.relation, str) != isinstance(columns.source, str):
        raise DataError(
            f"columns.relation: got {columns.relation!r}; allowed is a name where columns.source is one, or a number"
        )
    others = [column for column in (time_column, columns.weight, columns.relation) if column is not None]
    ends_in = [columns.source, columns.target]
    table = read_columns(path, ends_in, others, columns.delimiter, columns.comment, skip)
    ends = table.names(*ends_in)
    _check_spellings(table, ends)
    kinds = [str(kind) if isinstance(kind, str) else ("source", "target")[i] for i, kind in enumerate(ends_in)]
    if columns.bipartite:
        ends = [
            pc.binary_join_element_wise(kind, end.cast(pa.string()), ":") for kind, end in zip(kinds, ends, strict=True)
        ]
    x, labels, node_types = None, None, None
    if nodes_path is None:
        if columns.label is not None:
            raise DataError(
                f"columns.label: got {columns.label!r} without a node table (nodes), where it is looked for"
            )
        names = sorted(distinct(*ends, where=path), key=name_order)
    else:
        nodes = read_columns(
            nodes_path,
            [columns.node],
            None if columns.features is None else _needed(columns),
            given.delimiter,
            given.comment,
            optional_columns=[TYPE],
        )
        names = _node_names(nodes, columns.node)
        wanted, told = chosen_features(nodes, columns, columns.node)
        x, encoded = table_features(nodes, wanted, standardize)
        notes, labels = [*notes, *encoded, *told], columns.labels(nodes)
        node_types = columns.types(nodes)
    pairs = torch.stack([places_in(names, end) for end in ends])
    unknown = (pairs < 0).t().nonzero()
    if len(unknown):
        row, end = unknown[0].tolist()
        name = ends[end][row].as_py()
        raise DataError(
            f"{table.at(row)}: node {name!r} is not in the node table {nodes_path} "
            f"(column {columns.node!r}); allowed are the {len(names):,} names there{_near_name(name, names)}"
        )
    if columns.bipartite:
        node_types = labels or _sides(names, kinds, nodes_path)
    else:
        notes = [*notes, *_odd_names(ends), *_maybe_bipartite(ends)]
    chosen = torch.ones(pairs.shape[1], dtype=torch.bool)
    if columns.relation is not None:  # the others need neither weights nor times
        chosen = predicted_rows(table, columns)
        table = table.part(chosen)
    times = None if time_column is None else column_times(table, time_column)
    weights, told = edge_weights(table, columns, {time_column, columns.relation, *ends_in})
    loaded = graph_of_pairs(
        path,
        pairs[:, chosen],
        names,
        x,
        times,
        [*notes, *told],
        called="lines",
        directed=False,
        weights=weights,
        node_types=node_types,
    )
    return loaded if columns.relation is None else with_context(loaded, pairs[:, ~chosen])


def _needed(columns: GraphColumns) -> list[str]:
    """Columns of the node table beside the names, where features are chosen."""
    label = [] if columns.label is None else [columns.label]
    return [*(columns.features or ()), *label, *(columns.ignore or ())]


def _check_spellings(table: Table, ends: Sequence[pa.ChunkedArray]) -> None:
    """Refuses a number written in two ways."""
    twice = two_spellings(ends)
    if twice is not None:
        row = next(row for end in ends if (row := pc.index(end, twice[0]).as_py()) >= 0)
        raise DataError(f"{table.at(row)}: {twice_told(*twice)}")


def _odd_names(ends: Sequence[pa.ChunkedArray]) -> list[str]:
    """Notes on names that other programs may have made of something else."""
    names = pa.chunked_array([end.unique() for end in ends]).unique()
    shortened = names.filter(pc.match_substring_regex(names, SHORTENED))
    notes = []
    if len(shortened):
        notes.append(
            f"{len(shortened):,} names such as {shortened[0].as_py()!r}: a spreadsheet may have shortened longer "
            "numbers, of which several then are one node"
        )
    absent = names.filter(pc.is_in(names, pa.array(_ABSENT)))
    if len(absent):
        notes.append(f"{absent[0].as_py()!r} is taken for a name; where it stands for no value, leave its lines out")
    return notes


_ABSENT = ["nan", "NaN", "None", "null", "NULL", "<NA>", "NaT", "#N/A"]


def _maybe_bipartite(ends: Sequence[pa.ChunkedArray]) -> list[str]:
    """A note, where numbers stand on both sides as those of different things do."""
    sides = [set(end.unique().to_pylist()) for end in ends if len(end) <= _LOOKED_AT]
    if len(sides) < 2 or not pc.any(pc.equal(*ends)).as_py():
        return []
    both = sides[0] & sides[1]
    if 2 * len(both) < min(map(len, sides)) or not all(re.fullmatch(r"[0-9]+", name) for name in both):
        return []
    return [
        f"{len(both):,} numbers stand in both columns, some beside themselves; where these name different kinds of "
        "things, columns.bipartite keeps them apart"
    ]


_LOOKED_AT = 1_000_000


def _sides(names: Sequence[str], kinds: Sequence[str], nodes_path: str | Path | None) -> list[str]:
    """The side of each node of a bipartite graph."""
    types = []
    for name in names:
        kind = next((kind for kind in kinds if name.startswith(f"{kind}:")), None)
        if kind is None:
            begin = " or ".join(repr(f"{kind}:") for kind in kinds)
            raise DataError(f"{nodes_path}: node {name!r}; names of a bipartite graph begin with {begin}")
        types.append(kind)
    return types


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
