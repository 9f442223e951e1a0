"""Graphs with several relations: links of one are predicted, edges of the others pass messages."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from mebns_pl.datasets.loaded import LoadedGraph, unique_edges
from mebns_pl.datasets.readers.options import GraphColumns
from mebns_pl.datasets.tables import Table
from mebns_pl.errors import DataError
from mebns_pl.graph.csr import pair_keys


def predicted_rows(edges: Table, columns: GraphColumns) -> Tensor:
    """``(m,)`` bool, the edges whose relation is the one that is predicted.

    Args:
        edges: the edges, with the column ``columns.relation``.
        columns: names column and relation.

    Raises:
        DataError: no such column, or no edge of that relation.
    """
    assert columns.relation is not None
    relations = edges.column(columns.relation).cast(pa.string())
    chosen = pc.fill_null(pc.equal(relations, columns.predicted), False)
    if not pc.any(chosen).as_py():
        there = ", ".join(repr(name) for name in sorted(filter(None, relations.unique().to_pylist()))[:10])
        raise DataError(
            f"{edges.path}: no edge of columns.predicted {columns.predicted!r}; column {columns.relation!r} has {there}"
        )
    return torch.tensor(chosen.to_numpy(zero_copy_only=False))


def with_context(loaded: LoadedGraph, pairs: Tensor) -> LoadedGraph:
    """The graph with edges of other relations, but for pairs that the predicted one joins, too.

    Args:
        loaded: the graph of the predicted relation.
        pairs: ``(2, m)`` int64, pairs of the others, in any direction and number.
    """
    edges, dropped = unique_edges(pairs, loaded.num_nodes)
    keys = pair_keys(edges[0], edges[1], loaded.num_nodes)
    also = torch.isin(keys, pair_keys(loaded.edges[0], loaded.edges[1], loaded.num_nodes))
    told = [f"{edges.shape[1] - int(also.sum()):,} edges of other relations pass messages", *dropped]
    told += [
        f"{int(also.sum()):,} more join pairs of the predicted relation, dropped: which pairs of others are left tells "
        "that they are none of it, the more so the more often both join a pair"
    ] * bool(also.any())
    return replace(loaded, notes=[*loaded.notes, *told], context=edges[:, ~also])
