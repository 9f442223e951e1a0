"""Which pairs a prediction is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.datasets.named_pairs import node_numbers, read_named_pairs, read_node_column, read_node_names
from mebns_pl.datasets.readers.options import DEFAULT_COLUMNS, GraphColumns
from mebns_pl.datasets.tables import text_column
from mebns_pl.errors import DataError
from mebns_pl.pools.abstract import AbstractPool, AllowedPairs


@dataclass(frozen=True)
class PredictionPairs:
    """Which pairs prediction scores: a pool of candidates, for chosen nodes, between types, without forbidden pairs.

    Known edges are never among them.

    Args:
        pool: the candidates; None scores all pairs up to 5,000 nodes, and above that a union of two-hop pairs, the
            best by PageRank, and nearest neighbours of the student's embeddings.
        nodes: links are wanted for these nodes alone: a list of names, or a file of them (a table with a column
            ``node``; in ``.txt`` one name a line); None takes all nodes.
        forbidden: a table of pairs to leave out, with columns ``source`` and ``target``, or None.
        source_type: links lead from nodes of this type only; None for any. In the result they are the source.
        target_type: and to nodes of this type only; None for any.
        type_column: the column of the node table with the nodes' types.
        max_pairs: at most so many pairs are scored, 1 or more; where a pool is cut to that, it is said.

    Raises:
        ValueError: ``max_pairs`` is below 1.

    Example:
        >>> allowed = PredictionPairs(nodes=["cy"]).resolve(["ann", "bob", "cy"], node_table=None)
        >>> allowed.sources.tolist(), allowed.targets.tolist()
        ([False, False, True], [True, True, True])
    """

    pool: AbstractPool | None = None
    nodes: list[str] | str | None = None
    forbidden: str | None = None
    source_type: str | None = None
    target_type: str | None = None
    type_column: str = "type"
    max_pairs: int = 50_000_000

    def __post_init__(self) -> None:
        if self.max_pairs < 1:
            raise ValueError(f"pairs.max_pairs: expected 1 or more, got {self.max_pairs}")

    def resolve(
        self, node_names: Sequence[str], node_table: str | None, columns: GraphColumns = DEFAULT_COLUMNS
    ) -> AllowedPairs:
        """Names become node numbers.

        Args:
            node_names: N names, by node number.
            node_table: path of the node table, which has the types, or None.
            columns: how that is read.

        Raises:
            DataError: a name of no node; a type without nodes; types without a node table; a chosen node of another
                type.
        """
        every = torch.ones(len(node_names), dtype=torch.bool)
        sources, targets = every, every
        if self.source_type is not None or self.target_type is not None:
            if node_table is None:
                raise DataError(
                    "pairs.source_type, pairs.target_type: types stand in a node table (data.nodes), and the graph has "
                    "none"
                )
            types = read_node_column(node_table, self.type_column, node_names, columns)
            sources = self._of_type(types, self.source_type, "source_type", node_table)
            targets = self._of_type(types, self.target_type, "target_type", node_table)
        if self.nodes is not None:
            chosen = self._chosen(node_names)
            wrong = chosen[~sources[chosen]]
            if len(wrong):
                raise DataError(
                    f"pairs.nodes: {node_names[int(wrong[0])]!r} is not of pairs.source_type {self.source_type!r}; "
                    "links are predicted from the chosen nodes, so choose nodes of that type or swap the two types"
                )
            sources = torch.zeros_like(every).index_fill_(0, chosen, True)
        forbidden = torch.empty(2, 0, dtype=torch.int64)
        if self.forbidden is not None:
            forbidden = read_named_pairs(self.forbidden, node_names)
        return AllowedPairs(sources, targets, forbidden)

    def _chosen(self, node_names: Sequence[str]) -> Tensor:
        if isinstance(self.nodes, str):
            table = read_node_names(self.nodes)
            return node_numbers(table.names("node"), node_names, table)[0]
        if not self.nodes:
            raise DataError("pairs.nodes: got an empty list; at least 1 name is needed, or null for all nodes")
        return node_numbers([text_column(str(name) for name in self.nodes)], node_names)[0]

    def _of_type(self, types: list[str], wanted: str | None, argument: str, node_table: str) -> Tensor:
        if wanted is None:
            return torch.ones(len(types), dtype=torch.bool)
        if wanted not in types:
            there = ", ".join(sorted(set(types))[:10])
            raise DataError(
                f"pairs.{argument}: got {wanted!r}; column {self.type_column!r} of {node_table} has {there}"
            )
        return torch.tensor([kind == wanted for kind in types])


DEFAULT_PAIRS = PredictionPairs()
"""Missing links of all nodes."""
