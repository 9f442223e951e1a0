"""Pools of candidate pairs against brute force, and what all of them keep."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mebns_pl import AllPairsPool, NearestPool, PageRankPool, TwoHopPool, UnionPool
from mebns_pl.errors import DataError
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.node_types import NodeTypes
from mebns_pl.pools import listed, nearest
from mebns_pl.pools.abstract import AbstractPool, AllowedPairs, PoolRequest, pairs_of, undirected_keys
from mebns_pl.pools.built import build_pool
from mebns_pl.pools.union import default_pool
from references.effort import examples

N = 40
POOLS: dict[type[AbstractPool], AbstractPool] = {
    AllPairsPool: AllPairsPool(),
    TwoHopPool: TwoHopPool(top=5),
    PageRankPool: PageRankPool(top=4),
    NearestPool: NearestPool(top=3),
    UnionPool: UnionPool([TwoHopPool(top=3), NearestPool(top=2), PageRankPool(top=2)]),
}
NONE = torch.empty(2, 0, dtype=torch.int64)


def concrete(kind: type[AbstractPool]) -> set[type[AbstractPool]]:
    found = {kind} if kind is not AbstractPool else set()
    return found.union(*(concrete(child) for child in kind.__subclasses__()))


def make_graph(seed: int = 0, edges: int = 60) -> Graph:
    pairs = torch.combinations(torch.arange(N - 1)).t()  # the last node has no edge
    order = torch.randperm(pairs.shape[1], generator=torch.Generator().manual_seed(seed))
    return Graph.from_edges(pairs[:, order[:edges]], N)


def embed(graph: Graph) -> Tensor:
    return torch.randn(graph.num_nodes, 4, generator=torch.Generator().manual_seed(3))


def make_allowed(kind: str) -> AllowedPairs:
    nodes = torch.arange(N)
    forbidden = torch.stack([torch.arange(0, N - 1, 2), torch.arange(1, N, 2)]) if kind == "forbidden" else NONE
    every = torch.ones(N, dtype=torch.bool)
    sources, targets = {
        "all": (every, every),
        "forbidden": (every, every),
        "bipartite": (nodes % 3 == 0, nodes % 3 == 1),
        "chosen": ((nodes == 5) | (nodes == 6) | (nodes == N - 1), every),
        "overlapping": (nodes < 20, nodes > 10),
    }[kind]
    return AllowedPairs(sources, targets, forbidden)


KINDS = ["all", "forbidden", "bipartite", "chosen", "overlapping"]


def request(kind: str = "all", graph: Graph | None = None, **changes: object) -> PoolRequest:
    return PoolRequest(make_graph() if graph is None else graph, make_allowed(kind), embed, **changes)


def as_set(keys: Tensor) -> set[tuple[int, ...]]:
    return {tuple(pair) for pair in pairs_of(keys, N).t().tolist()}


def legal(kind: str, graph: Graph) -> set[tuple[int, int]]:
    """Every pair that a pool may hold, by the words of the definition."""
    allowed, edges = make_allowed(kind), set(zip(graph.rows.tolist(), graph.indices.tolist(), strict=True))
    forbidden = {frozenset(pair) for pair in allowed.forbidden.t().tolist()}
    source, target = allowed.sources.tolist(), allowed.targets.tolist()
    return {
        (u, v)
        for u, v in combinations(range(N), 2)
        if (u, v) not in edges
        and frozenset((u, v)) not in forbidden
        and ((source[u] and target[v]) or (source[v] and target[u]))
    }


def test_every_pool_is_tested() -> None:
    assert concrete(AbstractPool) == set(POOLS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pool", POOLS.values(), ids=lambda pool: type(pool).__name__)
def test_pools_hold_legal_pairs_once(pool: AbstractPool, kind: str) -> None:
    asked = request(kind)
    for part in pool.parts(asked):
        assert part.keys.dtype == torch.int64
        assert bool((part.keys.diff() > 0).all())
        assert as_set(part.keys) <= legal(kind, asked.graph)
        assert part.name
    pairs = torch.combinations(torch.arange(N)).t()
    for part, held in zip(pool.parts(asked), pool.holds(asked, pairs.flip(0)), strict=True):
        assert as_set(part.keys) == {tuple(pair) for pair in pairs[:, held].t().tolist()}


@pytest.mark.parametrize("block", [1, 100, 2**21])
@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_are_all(monkeypatch: pytest.MonkeyPatch, kind: str, block: int) -> None:
    monkeypatch.setattr("mebns_pl.pools.all_pairs._BLOCK", block)
    (part,) = AllPairsPool().parts(request(kind))
    assert as_set(part.keys) == legal(kind, make_graph())


def test_all_pairs_are_refused_above_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="AllPairsPool has 720 pairs; max_pairs allows 719"):
        AllPairsPool().parts(request(max_pairs=719))
    monkeypatch.setattr("mebns_pl.pools.all_pairs.MAX_NODES", N - 1)
    with pytest.raises(DataError, match="at most 39 nodes with each other, the graph has 40; take TwoHopPool"):
        AllPairsPool().parts(request())


def two_hops(graph: Graph) -> dict[int, dict[int, float]]:
    """node -> other node with a common neighbour that is no neighbour -> resource allocation."""
    neighbors = [set(graph.indices[graph.indptr[u] : graph.indptr[u + 1]].tolist()) for u in range(N)]
    return {
        u: {
            v: sum(1 / len(neighbors[z]) for z in neighbors[u] & neighbors[v])
            for v in range(N)
            if v != u and v not in neighbors[u] and neighbors[u] & neighbors[v]
        }
        for u in range(N)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_two_hop_is_every_pair_with_a_common_neighbour(kind: str) -> None:
    (part,) = TwoHopPool().parts(request(kind))
    reached = {(u, v) for u, others in two_hops(make_graph()).items() for v in others if u < v}
    assert as_set(part.keys) == reached & legal(kind, make_graph())
    assert part.notes == []


@pytest.mark.parametrize("kind", ["all", "bipartite"])
def test_a_cut_of_two_hop_keeps_the_best_and_is_told(kind: str) -> None:
    (part,) = TwoHopPool(top=3).parts(request(kind))
    allowed, cut, expected = make_allowed(kind), 0, set()
    for u, others in two_hops(make_graph()).items():
        if allowed.sources[u]:
            fits = {v: score for v, score in others.items() if allowed.targets[v]}
            cut += len(fits) > 3
            worst = sorted(fits.values(), reverse=True)[:3][-1] if fits else 0.0
            expected |= {(min(u, v), max(u, v)) for v, score in fits.items() if score > worst + 1e-6}
    assert cut > 0
    assert part.notes == [f"two-hop: {cut} nodes have more than 3 others two hops away; the best were taken"]
    assert expected <= as_set(part.keys)
    assert len(part.keys) <= 3 * len(allowed.rows)


@pytest.mark.parametrize("block", [1, 50, 2**21])
@pytest.mark.parametrize("top", [1, 4, 100])
def test_lists_for_some_targets_are_exact(monkeypatch: pytest.MonkeyPatch, top: int, block: int) -> None:
    """Longer lists are asked for until each has its targets, or its end."""
    monkeypatch.setattr(listed, "_BLOCK", block)
    graph, rows = make_graph(edges=80), torch.arange(0, N, 3)
    targets = torch.arange(N) % 7 == 1
    measure = PersonalizedPageRank(eps=1e-7)
    index, there = listed.best_targets(measure, graph, rows, top, targets, graph)
    whole, _ = measure.top(graph, rows, N, graph)
    for row in range(len(rows)):
        expected = [node for node in whole[row].tolist() if node >= 0 and bool(targets[node])][:top]
        assert index[row][there[row]].tolist() == expected
        assert int(there[row].sum()) == len(expected)
        assert bool((there[row].int().diff() <= 0).all())


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("block", [1, 200, 2**24])
@pytest.mark.parametrize("kind", KINDS)
def test_nearest_neighbours_are_exact(monkeypatch: pytest.MonkeyPatch, kind: str, block: int, cosine: bool) -> None:
    monkeypatch.setattr(nearest, "_BLOCK", block)
    top, graph, allowed = 3, make_graph(), make_allowed(kind)
    (part,) = NearestPool(top, cosine).parts(request(kind))
    z = embed(graph)
    z = z / z.norm(dim=1, keepdim=True) if cosine else z
    similar = z @ z.t()
    may = legal(kind, graph)
    expected = set()
    for u in allowed.rows.tolist():
        others = [v for v in range(N) if allowed.targets[v] and (min(u, v), max(u, v)) in may]
        best = sorted(others, key=lambda v: -float(similar[u, v]))[:top]
        expected |= {(min(u, v), max(u, v)) for v in best}
    assert as_set(part.keys) == expected


def test_nearest_neighbours_need_embeddings() -> None:
    with pytest.raises(DataError, match="NearestPool needs a student that embeds nodes"):
        NearestPool().parts(PoolRequest(make_graph(), make_allowed("all"), lambda graph: None))


def test_a_bound_is_kept_and_told() -> None:
    asked = request(max_pairs=2 * N)
    (part,) = PageRankPool(top=30).parts(asked)
    assert 0 < len(part.keys) <= 2 * N
    assert part.notes == ["PageRank: 2 of each node, not 30, so that there are at most 80 pairs"]
    assert PageRankPool(top=2).parts(asked)[0].notes == []
    parts = UnionPool([PageRankPool(top=30), NearestPool(top=30)]).parts(asked)
    assert all(len(part.keys) <= N for part in parts)
    assert [note[:24] for part in parts for note in part.notes] == [
        "PageRank: 1 of each node",
        "nearest: 1 of each node,",
    ]
    with pytest.raises(DataError, match=r"max_pairs: nearest may hold 39 pairs, fewer than one for each of 40"):
        NearestPool().parts(request(max_pairs=N - 1))
    # Of three chosen nodes more fit
    assert PageRankPool(top=25).parts(request("chosen", max_pairs=75))[0].notes == []


@settings(max_examples=examples(30))
@given(st.integers(0, 10**6), st.integers(1, 100), st.sampled_from(KINDS), st.integers(3, 400))
def test_no_pool_passes_its_bound(seed: int, num_edges: int, kind: str, most: int) -> None:
    asked = request(kind, make_graph(seed, num_edges), max_pairs=max(most, 3 * N))
    for pool in (TwoHopPool(), PageRankPool(), NearestPool(), UnionPool([TwoHopPool(), NearestPool()])):
        keys = torch.cat([part.keys for part in pool.parts(asked)])
        assert len(keys) <= asked.max_pairs
        assert as_set(keys) <= legal(kind, asked.graph)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(default_pool(request()), AllPairsPool)
    monkeypatch.setattr("mebns_pl.pools.union.MAX_NODES", N - 1)
    pool = default_pool(request())
    assert isinstance(pool, UnionPool)
    assert [type(part) for part in pool.pools] == [TwoHopPool, PageRankPool, NearestPool]
    pool = default_pool(PoolRequest(make_graph(), make_allowed("all"), lambda graph: None))
    assert isinstance(pool, UnionPool)
    assert [type(part) for part in pool.pools] == [TwoHopPool, PageRankPool]


@pytest.mark.parametrize("kind", ["all", "bipartite", "forbidden"])
def test_the_coverage_is_that_of_the_training_graph(kind: str) -> None:
    """A pool on all edges holds no edge; one on all edges but a few, made with these, would know too much."""
    full = make_graph(edges=120)
    edges = torch.stack([full.rows, full.indices])[:, full.rows < full.indices]
    held_out, train = edges[:, ::4], Graph.from_edges(edges[:, torch.arange(edges.shape[1]) % 4 > 0], N)
    graphs = []

    def embed_and_tell(graph: Graph) -> Tensor:
        graphs.append(graph)
        return embed(graph)

    pools = UnionPool([TwoHopPool(), NearestPool(top=6)])
    built = build_pool(pools, full, train, held_out, make_allowed(kind), embed_and_tell, 10**6)
    asked = PoolRequest(train, make_allowed(kind), embed)
    looked_for = held_out[:, make_allowed(kind).mask(held_out)]
    keys = undirected_keys(looked_for, N)
    found = [torch.isin(keys, part.keys) for part in pools.parts(asked)]
    report = built.report
    assert report.held_out == len(keys) > 3
    assert report.found == [int(part.sum()) for part in found]
    assert report.total_found == int((found[0] | found[1]).sum())
    assert 0 < report.coverage < 1
    assert report.coverage == report.total_found / len(keys)
    assert graphs == [full, train]
    assert not set(built.keys.tolist()) & set(undirected_keys(edges, N).tolist())
    assert report.total_size == len(built.keys)
    assert report.table["pool"].tolist() == ["two-hop", "nearest, top 6", "together"]
    assert report.table["pairs"].tolist() == [*report.sizes, len(built.keys)]


def test_all_pairs_cover_everything_and_no_held_out_edge_has_no_coverage() -> None:
    full = make_graph()
    edges = torch.stack([full.rows, full.indices])[:, full.rows < full.indices]
    train = Graph.from_edges(edges[:, 10:], N)
    built = build_pool(None, full, train, edges[:, :10], make_allowed("all"), embed, 10**6)
    assert built.report.coverage == 1.0
    assert len(built.report.table) == 1
    built = build_pool(None, full, full, edges[:, :0], make_allowed("all"), embed, 10**6)
    assert built.report.coverage != built.report.coverage
    assert built.report.found == [0]


@pytest.mark.parametrize("make", [TwoHopPool, PageRankPool, NearestPool])
def test_bad_arguments_are_refused(make: type) -> None:
    with pytest.raises(ValueError, match="top: expected 1 or more, got 0"):
        make(top=0)
    with pytest.raises(ValueError, match="pools: got none"):
        UnionPool([])


@pytest.mark.parametrize("pool", POOLS.values(), ids=lambda pool: type(pool).__name__)
def test_on_a_graph_of_types_lists_are_of_linked_ones(pool: AbstractPool) -> None:
    """They hold what each node's list would among nodes of the types it is linked to."""
    plain = make_graph(edges=200)
    kind, found = torch.arange(N) % 3, []
    types = NodeTypes(kind, torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) > 0)
    built = build_pool(pool, replace(plain, types=types), plain, NONE, make_allowed("all"), embed, 10**6)
    for own, others in ((0, [1]), (1, [0, 2]), (2, [1])):
        targets = torch.isin(kind, torch.tensor(others))
        asked = PoolRequest(plain, AllowedPairs(kind == own, targets, NONE), embed)
        found += [part.keys for part in pool.parts(asked)]
    assert built.keys.tolist() == torch.unique(torch.cat(found)).tolist()
    assert len(built.keys)


def test_a_bound_counts_pairs_of_linked_types_alone() -> None:
    types = NodeTypes(torch.arange(N) % 2, torch.tensor([[False, True], [True, False]]))
    graph = replace(make_graph(edges=0), types=types)
    built = build_pool(AllPairsPool(), graph, graph, NONE, make_allowed("all"), embed, 400)
    assert len(built.keys) == 400


def test_several_pools_embed_once() -> None:
    graphs = []

    def counting(graph: Graph) -> Tensor:
        graphs.append(graph)
        return embed(graph)

    UnionPool([NearestPool(2), NearestPool(3)]).parts(PoolRequest(make_graph(), make_allowed("all"), counting))
    assert len(graphs) == 1
