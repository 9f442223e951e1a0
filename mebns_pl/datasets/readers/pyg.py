"""What PyG saves: ``Data``, and ``HeteroData``, in which links of one relation are predicted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from mebns_pl.datasets.limits import check_size
from mebns_pl.datasets.loaded import LoadedGraph, graph_of_pairs
from mebns_pl.datasets.readers.checks import sparse_features
from mebns_pl.datasets.readers.options import DEFAULT_COLUMNS, GraphColumns
from mebns_pl.datasets.readers.saved import SavedData, is_hetero, saved_graph
from mebns_pl.datasets.readers.whole import (
    graph_of_arrays,
    nodes_of,
    num_nodes_of,
    numbers_of_edges,
    pairs_of,
    weights_of,
)
from mebns_pl.datasets.relations import with_context
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features

Relation = tuple[str, str, str]
"""The type of the first ends, what joins them, and the type of the second ends."""


def read_saved(
    path: Path, time_column: str | None = None, undirected: bool = True, columns: GraphColumns = DEFAULT_COLUMNS
) -> LoadedGraph:
    """Reads a PyG ``Data`` or ``HeteroData`` that was saved by ``torch.save``, or the dictionary of one.

    Read are ``edge_index`` ``(2, m)``, directed, ``x`` ``(N, F)``, dense or sparse, taken as it is, ``num_nodes`` and
    ``node_names``, a list of N texts. The file is loaded by torch's weights-only unpickler, so that it cannot run code.

    Nodes of a ``HeteroData`` are named ``user:0``, have their kind as type, and each kind has features of its own, side
    by side. ``columns.predicted`` names the relation to predict, ``buys`` or ``user__buys__item``; where there is one
    alone, or but for those that ``ToUndirected`` adds, it need not. Edges of the others pass messages.

    Args:
        path: the file.
        time_column: name of the attribute with the times ``(m,)`` of edges, or None.
        undirected: whether directed edges are made undirected; False refuses them.
        columns: which attribute holds weights, which relation is predicted.

    Raises:
        DataError: a file that is missing or damaged, or that names any other class; an attribute missing, of another
            shape or type, or with a number that is out of range or not finite; no edge; no such relation.
    """
    saved = saved_graph(path)
    if is_hetero(saved):
        return _hetero(path, saved, time_column, undirected, columns)
    if columns.predicted is not None:
        raise DataError(f"columns.predicted: got {columns.predicted!r}; {path} has one relation alone")
    arrays = SavedData.of(path, saved)
    loaded = graph_of_arrays(arrays, "edge_index", time_column, undirected, columns.weight)
    left_out = [f"{name!r} left out" for name in ("edge_label_index", "node_type", "edge_type") if name in arrays]
    loaded.notes.extend(left_out)
    return loaded


def _hetero(
    path: Path, saved: Mapping[Any, Any], time_column: str | None, undirected: bool, columns: GraphColumns
) -> LoadedGraph:
    edges = {
        relation: SavedData.of(path, fields, f"{named(relation)}: ")
        for relation, fields in saved.items()
        if _is_relation(relation) and isinstance(fields, dict) and {"edge_index", "adj_t"} & fields.keys()
    }
    chosen = _chosen(path, list(edges), columns.predicted)
    pairs = {relation: pairs_of(each, "edge_index") for relation, each in edges.items()}
    kinds = list(dict.fromkeys([*(k for k in saved if _is_kind(k, saved)), *(r[i] for r in edges for i in (0, 2))]))
    start, names, types, blocks = {}, list[str](), list[str](), []
    for kind in kinds:
        arrays = SavedData.of(path, saved.get(kind) or {}, f"{kind}: ")
        told: dict[str, int] = {}
        own, x = nodes_of(arrays, told)
        ends = [pairs[r][i] for r in edges for i in (0, 1) if r[2 * i] == kind]
        numbers = torch.cat([*ends, torch.empty(0, dtype=torch.int64)])[None]
        size = num_nodes_of(told, numbers, f"{path}, edges of {kind}")
        start[kind] = len(names)
        names += [f"{kind}:{name}" for name in own or range(size)]
        check_size(path, len(names), "nodes")
        types += [kind] * size
        blocks.append((size, x))
    placed = {r: each + torch.tensor([[start[r[0]]], [start[r[2]]]]) for r, each in pairs.items()}
    times = None if time_column is None else numbers_of_edges(edges[chosen], time_column, pairs[chosen])
    weights, notes = weights_of(edges[chosen], columns.weight, pairs[chosen])
    bare = [repr(kind) for kind, (_, x) in zip(kinds, blocks, strict=True) if x is None]
    if len(bare) < len(kinds):
        notes.append("features taken as they are, those of each type side by side")
        notes += [f"types without features: {', '.join(bare)}"] * bool(bare)
    loaded = graph_of_pairs(
        path,
        placed[chosen],
        names,
        _side_by_side(path, blocks),
        times,
        notes,
        directed=chosen[0] == chosen[2],
        undirected=undirected,
        weights=weights,
        node_types=types,
    )
    others = [placed[relation] for relation in edges if relation != chosen]
    return with_context(loaded, torch.cat(others, dim=1)) if others else loaded


def named(relation: Relation) -> str:
    """What a relation is called, as PyG's ``to_hetero`` does."""
    return "__".join(relation)


def _is_relation(key: object) -> bool:
    return isinstance(key, tuple) and len(key) == 3 and all(isinstance(part, str) for part in key)


def _is_kind(key: object, saved: Mapping[Any, Any]) -> bool:
    return isinstance(key, str) and not key.startswith("_") and isinstance(saved[key], dict)


def _chosen(path: Path, relations: list[Relation], asked: str | None) -> Relation:
    """The relation to predict."""
    there = ", ".join(map(named, relations[:20])) or "none with an edge_index"
    if asked is None:  # those that ToUndirected adds are no relations of their own
        added = {(target, f"rev_{name}", source) for source, name, target in relations}
        found = [relation for relation in relations if relation not in added]
    else:
        found = [relation for relation in relations if asked in (named(relation), relation[1])]
    if len(found) != 1:
        raise DataError(f"columns.predicted: got {asked!r} for {path}; allowed is one of its relations, {there}")
    return found[0]


def _side_by_side(path: Path, blocks: list[tuple[int, Tensor | Features | None]]) -> Tensor | Features | None:
    """Features ``(N, F)`` of all types, whose columns are their own; None where no type has any."""
    given = [x for _, x in blocks if x is not None]
    if not given:
        return None
    if all(isinstance(x, Tensor) for x in given):
        size, width = sum(size for size, _ in blocks), sum(x.shape[1] for x in given if isinstance(x, Tensor))
        check_size(path, 4 * size * width, "bytes of arrays")
        wide: Tensor = torch.block_diag(*(torch.zeros(size, 0) if x is None else x for size, x in blocks))
        return wide
    return sparse_features(scipy.sparse.block_diag([_csr(size, x) for size, x in blocks], format="csr"))


def _csr(size: int, x: Tensor | Features | None) -> scipy.sparse.csr_matrix:
    if x is None:
        return scipy.sparse.csr_matrix((size, 0), dtype=np.float32)
    if isinstance(x, Tensor):
        return scipy.sparse.csr_matrix(x.numpy())
    parts = (x.matrix.values(), x.matrix.col_indices(), x.matrix.crow_indices())
    return scipy.sparse.csr_matrix(tuple(part.numpy() for part in parts), shape=tuple(x.matrix.shape))
