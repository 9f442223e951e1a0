"""Nodes that training has not seen: their features as those of the known nodes, their edges, and pairs with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.named_pairs import read_columns, read_named_pairs
from mebns_pl.datasets.text_tables import Table, column_place, name_at
from mebns_pl.errors import DataError
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features


@dataclass(frozen=True)
class GivenPairs:
    """Pairs to be scored as they were given, and the graph they are scored on.

    Args:
        pairs: ``(2, m)`` int64, in order.
        graph: message passing: every known edge, and where there are new nodes these with their edges.
        node_names: names of all of its nodes, the new ones last.
        num_known: how many nodes training has seen.
    """

    pairs: Tensor
    graph: Graph
    node_names: list[str]
    num_known: int


def with_new_nodes(
    loaded: LoadedGraph,
    graph: Graph,
    node_table: str | Path | None,
    new_nodes: str | Path,
    new_edges: str | Path | None = None,
) -> tuple[Graph, list[str]]:
    """Adds new nodes, with their features and edges, behind the known ones.

    Features are encoded by the known nodes' table alone: numbers are standardised by its mean and deviation, texts
    become its 0/1 columns. The known nodes' numbers and features stay what they were in training.

    Args:
        loaded: the graph as it was read.
        graph: message passing: its known edges.
        node_table: the known nodes' table, or None where there are no features.
        new_nodes: table of the new nodes, with the column ``node`` and the same columns of features.
        new_edges: table of edges with the columns ``source`` and ``target``, each with one new node at least; None
            for none.

    Returns:
        The larger graph, and the names of its nodes.

    Raises:
        DataError: a broken table; a new node that is a known one; features that the known nodes do not have; an edge
            between two known nodes; features that do not come from a node table.
    """
    table = read_columns(new_nodes, ["node"], None)
    place = column_place(table, "node")
    names, known = list[str](), {*loaded.node_names}
    for row in range(len(table.rows)):
        name = name_at(table, row, place)
        if name in known:
            raise DataError(
                f"{table.at(row)}: node {name!r} is known already or stands twice; new nodes have new names"
            )
        known.add(name)
        names.append(name)
    x = _features(loaded, node_table, table)
    all_names = [*loaded.node_names, *names]
    edges = torch.stack([graph.rows, graph.indices])
    if new_edges is not None:
        added = read_named_pairs(new_edges, all_names, "new nodes stand in the table of new nodes")
        between_known = (added < loaded.num_nodes).all(dim=0)
        if bool(between_known.any()):
            first = [all_names[int(end)] for end in added[:, between_known][:, 0]]
            raise DataError(
                f"{new_edges}: edge {first[0]!r} - {first[1]!r} joins two known nodes; each edge needs a new node "
                "(edges of known nodes belong into the training graph)"
            )
        edges = torch.cat([edges, added], dim=1)
    larger = Graph.from_edges(edges, len(all_names), x)
    # Named nodes: layers that were made for another number of nodes look features up and do not compare sizes
    return Graph(larger.indptr, larger.indices, x, node_ids=torch.arange(len(all_names))), all_names


def _features(loaded: LoadedGraph, node_table: str | Path | None, table: Table) -> Tensor | None:
    if loaded.x is None:
        return None
    if node_table is None or isinstance(loaded.x, Features):
        raise DataError(
            f"{table.path}: new nodes need features like those of {loaded.name}, which do not come from a node table "
            "(data.nodes); allowed are graphs of one's own with a node table, or without features"
        )
    reference = read_columns(node_table, ["node"], None)
    columns = [name for name in reference.header or [] if name != "node"]
    x = features_like(table, reference, columns)
    return torch.cat([loaded.x, x.to(loaded.x.dtype)])


def features_like(table: Table, reference: Table, columns: Sequence[str]) -> Tensor:
    """Features of a table's rows, as :func:`~mebns_pl.datasets.text_tables.table_features` encodes ``reference``.

    Returns:
        ``(n, F)`` float32.

    Raises:
        DataError: a missing column; a value that is missing, no finite number among numbers, or a text that the
            reference does not have.
    """
    blocks = []
    for column in columns:
        values = [row[column_place(table, column)] for row in table.rows]
        theirs = [row[column_place(reference, column)] for row in reference.rows]
        numbers = [_number(value) for value in theirs]
        if all(number is None for number in numbers):
            levels = {level: i for i, level in enumerate(sorted(set(theirs)))}
            for row, value in enumerate(values):
                if value not in levels:
                    allowed = ", ".join(repr(level) for level in list(levels)[:10])
                    raise DataError(
                        f"{table.at(row)}: column {column!r} has {value!r}, which no known node has; "
                        f"allowed are {allowed}"
                    )
            place = torch.tensor([levels[value] for value in values])
            blocks.append(torch.nn.functional.one_hot(place, len(levels)).float())
            continue
        found = [_number(value) for value in values]
        for row, number in enumerate(found):
            if number is None or not math.isfinite(number):
                raise DataError(
                    f"{table.at(row)}: column {column!r} has {values[row]!r}; allowed are finite numbers, as the known "
                    "nodes have"
                )
        blocks.append(standardized_like(_column(found), _column(numbers)))
    return torch.cat(blocks, dim=1) if blocks else torch.empty(len(table.rows), 0)


def standardized_like(x: Tensor, reference: Tensor) -> Tensor:
    """``x`` ``(n, F)`` scaled as :func:`~mebns_pl.datasets.text_tables.standardize_columns` does ``reference``.

    Returns:
        ``(n, F)`` float32; columns that are constant in the reference are zero.
    """
    first = reference[:1].double()
    centred = reference.double() - first
    constant = (centred == 0).all(dim=0)
    scale = centred.abs().amax(dim=0).masked_fill(constant, 1.0)
    centred = centred / scale
    mean = centred.mean(dim=0)
    deviation = (centred - mean).square().mean(dim=0).sqrt().masked_fill(constant, 1.0)
    return (((x.double() - first) / scale - mean) / deviation).masked_fill(constant, 0.0).float()


def _column(numbers: Sequence[float | None]) -> Tensor:
    return torch.tensor([math.nan if number is None else number for number in numbers], dtype=torch.float64)[:, None]


def _number(value: str) -> float | None:
    try:
        return None if "_" in value else float(value)
    except ValueError:
        return None
