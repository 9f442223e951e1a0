"""Which columns of a file are names, features, labels and weights: of tables, and of GraphML's attributes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.datasets.tables import Table, as_numbers
from mebns_pl.errors import DataError

TYPE = "type"
"""A column of nodes that is taken for their type."""
_WEIGHTS = (
    *("weight", "weights", "w", "wt", "score", "scores", "combined_score", "strength", "confidence", "probability"),
    *("similarity", "rating", "ratings", "value", "values", "count", "counts", "frequency", "freq", "amount"),
)
"""What columns of weights are called, in small letters."""
_INDEX = {"", "Unnamed: 0", "__index_level_0__"}
"""What columns are called in which pandas numbers its rows, in text, in text read and written anew, and in Parquet."""

WEIGHED = (
    "GCN, SAGE and LinearGCN sum neighbours by them; other encoders, losses, samplers and proximities take edges alike"
)
"""What weights of edges are good for."""


@dataclass(frozen=True)
class GraphColumns:
    """Which columns are what: of an edge list and its node table, or of GraphML's attributes.

    Args:
        source: column of the edge list with the first ends' names; a number (from 0) says that there is no header.
        target: the same for the second ends; both are names or both are numbers.
        node: column of the node table, or attribute of GraphML, with the nodes' names.
        features: columns of nodes that are features; None takes all that are nothing else.
        ignore: columns of nodes that are left out.
        label: column of nodes with their class or type, which is no feature; None for none.
        weight: column of edges, or key of an array, with their weights, numbers of 0 or more, by which GCN, GraphSAGE
            and the linear encoder sum neighbours; None for none.
        relation: column of edges that says how their ends are related; None where all edges are of one kind.
        predicted: the relation whose links are predicted, one of that column, or of a ``HeteroData``; edges of the
            others pass messages and are neither positives nor held out.
        bipartite: whether source and target name different kinds of things, so that user 7 and item 7 are two nodes:
            names begin with the column's name, ``source:7`` and ``target:7``, and nodes have these as their types.
        delimiter: the character between fields of a text, a space for any run of spaces and tabs; None chooses by the
            file's suffix.
        comment: lines of a text that start with it are passed over. None reads every line, but for the comments with
            which files of SNAP (``#``) and KONECT (``%``) begin; "" reads these, too.

    Raises:
        ValueError: one of the two ends by name and the other by number; a column that is a feature and something else.

    Example:
        >>> GraphColumns(source="user", target="item", bipartite=True).node
        'node'
    """

    source: int | str = "source"  # in this order: the command line takes a number for one
    target: int | str = "target"
    node: str = "node"
    features: list[str] | None = None
    ignore: list[str] | None = None
    label: str | None = None
    weight: int | str | None = None
    relation: int | str | None = None
    predicted: str | None = None
    bipartite: bool = False
    delimiter: str | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.source, str) != isinstance(self.target, str):
            raise DataError(
                f"source_column, target_column: got {self.source!r} and {self.target!r}; "
                "allowed are two names (the file has a header) or two numbers (it has none)"
            )
        if self.relation is not None and self.predicted is None:
            raise ValueError(
                f"columns.relation, columns.predicted: got {self.relation!r} and {self.predicted!r}; allowed is a "
                "column with one of the relations in it, or neither"
            )
        both = set(self.features or ()) & {*(self.ignore or ()), *([self.label] if self.label is not None else [])}
        if both:
            raise ValueError(
                f"columns.features: got {min(both)!r}, which columns.ignore or columns.label names, too; allowed is one"
            )

    def labels(self, nodes: Table) -> list[str] | None:
        """The class or type of each node, as texts.

        Raises:
            DataError: no such column, or a node without a value.
        """
        if self.label is None:
            return None
        values = nodes.column(self.label)
        if values.null_count:
            row = values.is_null().index(True).as_py()
            raise DataError(f"{nodes.at(row)}: column {self.label!r} has no value; every node needs one")
        return [str(value) for value in values.to_pylist()]

    def types(self, nodes: Table) -> list[str] | None:
        """The type of each node: its label, or where the column ``type`` says so of all of them."""
        values = nodes.columns.get(TYPE)
        if self.label is not None or values is None or values.null_count:
            return self.labels(nodes)
        return [str(value) for value in values.to_pylist()]


DEFAULT_COLUMNS = GraphColumns()
"""An edge list with a header, whose node table is all features."""


def chosen_features(nodes: Table, columns: GraphColumns, node_column: str) -> tuple[list[str], list[str]]:
    """Which columns are features, and notes on those that are left out.

    Args:
        nodes: the node table.
        columns: the choice.
        node_column: the column that holds the names, or "".

    Raises:
        DataError: a column to leave out that is not there.
    """
    for name in columns.ignore or ():
        if name not in nodes.columns and f"{name}[0]" not in nodes.columns:
            nodes.column(name)  # says what there is
    if columns.features is not None:
        return list(columns.features), []
    others = {*(columns.ignore or ()), *_INDEX, node_column, columns.label}
    kept = [str(name) for name in nodes.columns if name not in others and str(name).partition("[")[0] not in others]
    notes = [f"column {name!r} left out, as told" for name in columns.ignore or ()]
    numbers = sorted((_INDEX & {*map(str, nodes.columns)}) - {*(columns.ignore or ())})
    return kept, [*notes, *(f"column {name!r} left out: numbers of rows, as pandas writes them" for name in numbers)]


def edge_weights(
    edges: Table, columns: GraphColumns, used: Collection[str | int | None] = ()
) -> tuple[Tensor | None, list[str]]:
    """The weights of edges ``(n,)`` float64, and notes on them, or on a column of weights that is left out.

    Args:
        edges: the edge list.
        columns: the choice.
        used: columns that are something else.

    Raises:
        DataError: no such column; a value that is missing or no finite number of 0 or more.
    """
    if columns.weight is None:
        there = [*edges.columns, *edges.unread]
        found = [name for name in there if str(name).lower() in _WEIGHTS and name not in used]
        return None, [f"column {name!r} left out: edges count alike (columns.weight reads it)" for name in found]
    values = as_numbers(edges.column(columns.weight))
    weights = torch.tensor(values.to_numpy()).double()
    bad = ~(weights.isfinite() & (weights >= 0))
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise DataError(f"{edges.value_at(row, columns.weight)}; allowed are finite weights of 0 or more")
    return weights, [f"column {columns.weight!r} read as weights of edges: {WEIGHED}"]
