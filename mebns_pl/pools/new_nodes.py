"""Nodes that training has not seen: their features as those of the known nodes, their edges, and pairs with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.named_pairs import read_named_pairs
from mebns_pl.datasets.readers.columns import read_columns
from mebns_pl.datasets.readers.options import DEFAULT_COLUMNS, GraphColumns, chosen_features
from mebns_pl.datasets.tables import (
    Table,
    as_numbers,
    distinct,
    first_repeat,
    places_in,
    standardize_columns,
    with_lists,
)
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
    node_names: Sequence[str]
    num_known: int


def with_new_nodes(
    loaded: LoadedGraph,
    graph: Graph,
    node_table: str | Path | None,
    new_nodes: str | Path,
    new_edges: str | Path | None = None,
    columns: GraphColumns = DEFAULT_COLUMNS,
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
        columns: what the columns of the known nodes' table are; the new nodes' has the same.

    Returns:
        The larger graph, and the names of its nodes.

    Raises:
        DataError: a broken table; a new node that is a known one; features that the known nodes do not have; an edge
            between two known nodes; features that do not come from a node table.
    """
    table = read_columns(new_nodes, [columns.node], None, columns.delimiter, columns.comment)
    all_names = [*loaded.node_names, *table.names(columns.node)[0].to_pylist()]
    repeat = first_repeat(all_names)
    if repeat is not None:
        row = repeat[0] - loaded.num_nodes
        raise DataError(
            f"{table.at(row)}: node {all_names[repeat[0]]!r} is known already or stands twice; new nodes have new names"
        )
    x = _features(loaded, node_table, table, columns)
    edges, weight = torch.stack([graph.rows, graph.indices]), graph.weight
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
        weight = None if weight is None else torch.cat([weight, weight.new_ones(added.shape[1])])
    larger = Graph.from_edges(edges, len(all_names), x, weight)
    # Named nodes: layers that were made for another number of nodes look features up and do not compare sizes
    return replace(larger, node_ids=torch.arange(len(all_names))), all_names


def _features(loaded: LoadedGraph, node_table: str | Path | None, table: Table, columns: GraphColumns) -> Tensor | None:
    """All nodes' features; those of new ones as :func:`~mebns_pl.datasets.tables.table_features` encoded the others."""
    if loaded.x is None:
        return None
    if node_table is None or isinstance(loaded.x, Features):
        raise DataError(
            f"{table.path}: new nodes need features like those of {loaded.name}, which do not come from a node table "
            "(data.nodes); allowed are graphs of one's own with a node table, or without features"
        )
    reference = read_columns(node_table, [columns.node], None, columns.delimiter, columns.comment)
    blocks = []
    for column in with_lists(reference, chosen_features(reference, columns, columns.node)[0]):
        values, theirs = table.column(column), reference.column(column)
        numbers = as_numbers(theirs)
        if numbers.null_count == len(numbers):
            levels = sorted(distinct(theirs))
            places = places_in(levels, values)
            bad, x = places < 0, one_hot(places.clamp(min=0), len(levels)).float()
            allowed = f", which no known node has; allowed are {', '.join(repr(level) for level in levels[:10])}"
        else:
            new, like = (torch.tensor(found.to_numpy())[:, None] for found in (as_numbers(values), numbers))
            bad, x = ~new.isfinite()[:, 0], standardize_columns(new, like)
            allowed = "; allowed are finite numbers, as the known nodes have"
        if bool(bad.any()):
            raise DataError(f"{table.value_at(int(bad.nonzero()[0]), column)}{allowed}")
        blocks.append(x)
    return torch.cat([loaded.x, torch.cat(blocks, dim=1)])
