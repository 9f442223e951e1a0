"""Parting a graph's edges into training, meta, validation and test edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mebns_pl.errors import DataError
from mebns_pl.keys import Key, permutation
from mebns_pl.shares import floor_share
from mebns_pl.types import EdgeSplit

_BLOCK = 2**22


@dataclass(frozen=True)
class SplitFractions:
    """How edges are parted.

    Args:
        val: share of all edges held out for validation, in [0, 1); with 0 nothing is validated, and all epochs are run.
        test: share of all edges held out for test, in [0, 1); with 0 there is no test.
        meta: share of the remaining edges set apart for the meta set, in [0, 1).
        supervision: share of the training edges that losses are computed on, in (0, 1], drawn once; all of them pass
            messages. Predictors that are costly by the pair (SEAL) may not need them all.

    Raises:
        ValueError: a share outside its range.

    Example:
        >>> SplitFractions(val=0.1)
        SplitFractions(val=0.1, test=0.1, meta=0.02, supervision=1.0)
    """

    val: float = 0.05
    test: float = 0.10
    meta: float = 0.02
    supervision: float = 1.0

    def __post_init__(self) -> None:
        for name, value, good in (
            ("val", self.val, 0 <= self.val < 1),
            ("test", self.test, 0 <= self.test < 1),
            ("meta", self.meta, 0 <= self.meta < 1),
        ):
            if not good:
                raise ValueError(f"split.{name}: got {value}; allowed is a number in [0, 1)")
        if not self.val + self.test < 1:
            raise ValueError(f"split.val + split.test: got {self.val} + {self.test}; allowed is a sum below 1")
        if not 0 < self.supervision <= 1:
            raise ValueError(f"split.supervision: expected a share in (0, 1], got {self.supervision}")


def split_edges(
    edges: Tensor, val_fraction: float = 0.05, test_fraction: float = 0.10, meta_fraction: float = 0.02, *, key: Key
) -> EdgeSplit:
    """Parts undirected edges at random; the same edges and key give the same parts, in whatever order edges come.

    Of n edges, ``floor(n test_fraction)`` are for test and ``floor(n val_fraction)`` for validation; of the m that are
    left ``floor(m meta_fraction)`` (one at least, where the fraction is above 0) are meta edges and the others training
    edges.

    Args:
        edges: ``(2, n)`` int64, each undirected edge once, in either direction.
        val_fraction: share of all edges, in [0, 1); 0 holds none out.
        test_fraction: share of all edges, in [0, 1), likewise; less than 1 together with ``val_fraction``.
        meta_fraction: share of the edges that are not held out, in [0, 1); 0 sets none apart.
        key: the draw's key.

    Returns:
        Four disjoint parts that together are all edges; each has ``source < target`` and is sorted.

    Raises:
        DataError: a fraction out of its range; a self-loop or repeated edge; too few edges for each part that is to
            have some to have one.

    Example:
        >>> star = torch.stack([torch.zeros(40, dtype=torch.long), torch.arange(1, 41)])
        >>> split = split_edges(star, key=Key(0, "split"))
        >>> [part.shape[1] for part in (split.train, split.meta, split.val, split.test)]
        [33, 1, 2, 4]
    """
    for name, value in (("val", val_fraction), ("test", test_fraction), ("meta", meta_fraction)):
        if not 0 <= value < 1:
            raise DataError(f"{name}_fraction: got {value}; allowed is a number in [0, 1)")
    if not val_fraction + test_fraction < 1:
        raise DataError(f"val_fraction + test_fraction: got {val_fraction} + {test_fraction}; allowed is a sum below 1")
    edges = canonical_edges(edges, "edges")
    fractions = (val_fraction, test_fraction, meta_fraction)
    sizes = _sizes(edges.shape[1], *fractions)
    if not _enough(sizes, fractions):
        # A little below what each share asks for alone; the rest of the way is short.
        bounds = [1 / share - 1 for share in fractions[:2] if share]
        needed = max(edges.shape[1] + 1, *(math.floor(bound * (1 - 1e-9)) for bound in bounds))
        while not _enough(_sizes(needed, *fractions), fractions):
            needed += 1
        raise DataError(
            f"edges: got {edges.shape[1]:,}; with val_fraction={val_fraction}, test_fraction={test_fraction} and "
            f"meta_fraction={meta_fraction} at least {needed:,} are needed for one edge in each part"
        )
    # The edges are sorted, so that those of a part are when their places are
    parts = torch.split(permutation(edges.shape[1], key), list(sizes))
    train, meta, val, test = (edges.index_select(1, torch.from_numpy(np.sort(part.numpy()))) for part in parts)
    return EdgeSplit(train=train, meta=meta, val=val, test=test)


def canonical_edges(edges: Tensor, name: str) -> Tensor:
    """The same undirected edges with ``source < target``, sorted.

    Args:
        edges: ``(2, n)`` int64.
        name: what to call them in messages.

    Raises:
        DataError: another shape or type, a self-loop, or an edge that stands twice.
    """
    if edges.dim() != 2 or edges.shape[0] != 2 or edges.dtype != torch.int64:
        raise DataError(f"{name}: got {edges.dtype} of shape {tuple(edges.shape)}; allowed is int64 of shape (2, n)")
    if _is_canonical(edges):
        return edges
    if bool((edges[0] == edges[1]).any()):
        node = int(edges[0][edges[0] == edges[1]][0])
        raise DataError(f"{name}: self-loop at node {node}; allowed are edges between two different nodes")
    low, high = edges.min(dim=0).values, edges.max(dim=0).values
    base = int(high.max()) + 1 if edges.numel() else 1
    keys, counts = torch.unique(low * base + high, return_counts=True)
    if len(keys) < edges.shape[1]:
        twice = int(keys[counts > 1][0])
        raise DataError(f"{name}: edge ({twice // base}, {twice % base}) stands twice; allowed is each edge once")
    return torch.stack([keys // base, keys % base])


def _is_canonical(edges: Tensor) -> bool:
    """Whether edges have ``source < target`` and are sorted, each once; looked at in blocks."""
    for start in range(0, edges.shape[1], _BLOCK):
        source, target = edges[:, start : start + _BLOCK + 1]  # with the first of the next block
        step = source.diff()
        ascending = (step > 0) | ((step == 0) & (target.diff() > 0))
        if not bool((source < target).all()) or not bool(ascending.all()):
            return False
    return True


def check_split(split: EdgeSplit, node_names: Sequence[str]) -> EdgeSplit:
    """Makes sure of a split of one's own: an edge is in one part, once, whatever its direction.

    Args:
        split: its parts, in any direction and order.
        node_names: names of the N nodes, for messages.

    Returns:
        The split as it is.

    Raises:
        DataError: another shape or type; a node that is not there; a self-loop; an edge that stands twice, in one part
            or in two.
    """
    first: dict[str, Tensor] = {}
    num_nodes = len(node_names)
    for name in ("train", "meta", "val", "test"):
        part = getattr(split, name)
        if not isinstance(part, Tensor) or part.dim() != 2 or part.shape[0] != 2 or part.dtype != torch.int64:
            got = f"{part.dtype} of shape {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
            raise DataError(f"split.{name}: got {got}; allowed is int64 of shape (2, n)")
        bad = ((part < 0) | (part >= num_nodes)).any(dim=0) | (part[0] == part[1])
        if bool(bad.any()):
            edge = part[:, bad][:, 0].tolist()
            allowed = f"allowed are edges between two different nodes in 0 ... {num_nodes - 1:,}"
            raise DataError(f"split.{name}: got {edge}; {allowed}")
        keys = part.min(dim=0).values * num_nodes + part.max(dim=0).values
        once, counts = torch.unique(keys, return_counts=True)
        told = "either direction counts; allowed is each edge once, in one part"
        if len(once) < len(keys):
            raise DataError(f"split.{name}: edge {_named(once[counts > 1][0], node_names)} stands twice; {told}")
        for other, theirs in first.items():
            both = once[torch.isin(once, theirs)]
            if len(both):
                shared = f"{len(both):,} of its {len(once):,} edges are in split.{other}, too"
                raise DataError(f"split.{name}: {shared}, as {_named(both[0], node_names)}; {told}")
        first[name] = once
    return split


def _named(key: Tensor, names: Sequence[str]) -> str:
    source, target = divmod(int(key), len(names))
    return f"({names[source]!r}, {names[target]!r})"


def _sizes(
    num_edges: int, val_fraction: float, test_fraction: float, meta_fraction: float
) -> tuple[int, int, int, int]:
    """Numbers of training, meta, validation and test edges."""
    val, test = floor_share(val_fraction, num_edges), floor_share(test_fraction, num_edges)
    meta = max(1, floor_share(meta_fraction, num_edges - val - test)) if meta_fraction else 0
    return num_edges - val - test - meta, meta, val, test


def _enough(sizes: tuple[int, int, int, int], fractions: tuple[float, float, float]) -> bool:
    train, _, *held_out = sizes
    return train > 0 and all(size or not share for size, share in zip(held_out, fractions, strict=False))
