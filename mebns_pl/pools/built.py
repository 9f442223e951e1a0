"""A pool as it was built, with what it would have found: its coverage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.pools.abstract import AbstractPool, AllowedPairs, Embed, PoolRequest
from mebns_pl.pools.union import default_pool


@dataclass(frozen=True)
class PoolReport:
    """How large a pool is, and what share of known links it would have found.

    The coverage is honest: it is that of the same kind of pool built on the training graph alone, with the embeddings
    that the student makes of the training graph, for the held-out edges (validation and test) that are allowed.

    Args:
        names: of the pool's parts.
        sizes: pairs of each part.
        found: held-out edges in each part.
        total_size: pairs in the union of the parts.
        total_found: held-out edges in the union.
        held_out: held-out edges that were looked for.
        notes: where the pool was cut.

    Example:
        >>> report = PoolReport(["two-hop"], [30], [3], 30, 3, 12, [])
        >>> report.coverage, report.table["coverage"].tolist()
        (0.25, [0.25])
    """

    names: list[str]
    sizes: list[int]
    found: list[int]
    total_size: int
    total_found: int
    held_out: int
    notes: list[str] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """Share of the held-out edges that are in the pool, in [0, 1]; NaN where there are none."""
        return self._share(self.total_found)

    @property
    def table(self) -> pd.DataFrame:
        """One row a part, and where there are several one for all: ``pool``, ``pairs``, ``coverage``."""
        names, sizes, found = [*self.names, "together"], [*self.sizes, self.total_size], [*self.found, self.total_found]
        table = pd.DataFrame({"pool": names, "pairs": sizes, "coverage": [self._share(number) for number in found]})
        return table.head(1) if len(self.names) == 1 else table

    def _share(self, found: int) -> float:
        return found / self.held_out if self.held_out else float("nan")


@dataclass(frozen=True)
class PairPool:
    """The pairs to score.

    Args:
        keys: ``(n,)`` int64 ascending, see :mod:`mebns_pl.pools.abstract`.
        allowed: what the pairs were chosen from.
        report: size and coverage.
    """

    keys: Tensor
    allowed: AllowedPairs
    report: PoolReport


def build_pool(
    pool: AbstractPool | None,
    full: Graph,
    train: Graph,
    held_out: Tensor,
    allowed: AllowedPairs,
    embed: Embed,
    max_pairs: int,
) -> PairPool:
    """Builds a pool of missing links, and builds it once more on the training graph to see what it would have found.

    Where the graph has types, pairs of types that are not linked are no missing links.

    Args:
        pool: which pairs; None takes all pairs of small graphs and a union above.
        full: the graph of every known edge, whose missing links are wanted.
        train: the training graph.
        held_out: ``(2, h)`` int64, validation and test edges.
        allowed: which pairs may be in the pool.
        embed: the student's embeddings.
        max_pairs: bound of the pool's size.
    """
    looked_for = held_out[:, allowed.mask(held_out)]
    allowed = replace(allowed, types=full.types)
    request = PoolRequest(full, allowed, embed, max_pairs)
    chosen = default_pool(request) if pool is None else pool
    parts = chosen.parts(request)
    keys = parts[0].keys if len(parts) == 1 else torch.unique(torch.cat([part.keys for part in parts]))
    names, sizes = [part.name for part in parts], [len(part.keys) for part in parts]
    notes = [note for part in parts for note in part.notes]
    del parts
    found = chosen.holds(PoolRequest(train, allowed, embed, max_pairs), looked_for) if looked_for.shape[1] else []
    either = torch.stack(found).any(dim=0) if found else torch.zeros(0, dtype=torch.bool)
    counts = [int(part.sum()) for part in found] or [0] * len(names)
    report = PoolReport(names, sizes, counts, len(keys), int(either.sum()), looked_for.shape[1], notes)
    return PairPool(keys, allowed, report)
