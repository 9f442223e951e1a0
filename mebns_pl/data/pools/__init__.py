"""Pools of candidate pairs for prediction: which pairs are scored where not all of them can be."""

from mebns_pl.data.pools.abstract import AbstractPool, AllowedPairs, PoolPart, PoolRequest
from mebns_pl.data.pools.all_pairs import AllPairsPool
from mebns_pl.data.pools.listed import PageRankPool, TwoHopPool
from mebns_pl.data.pools.nearest import NearestPool
from mebns_pl.data.pools.union import UnionPool

__all__ = [
    "AbstractPool",
    "AllPairsPool",
    "AllowedPairs",
    "NearestPool",
    "PageRankPool",
    "PoolPart",
    "PoolRequest",
    "TwoHopPool",
    "UnionPool",
]
