"""The best links, overall and of each node, against a sort of all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl.pools.abstract import AllowedPairs
from mebns_pl.prediction.best import BestLinks

N = 12


def expected_per_node(pairs: list, logits: list, allowed: AllowedPairs, top_k: int) -> list:
    lists: dict[int, list] = {node: [] for node in range(N)}
    for (u, v), logit in zip(pairs, logits, strict=True):
        for a, b in ((u, v), (v, u)):
            if allowed.sources[a] and allowed.targets[b] and logit > -float("inf"):
                lists[a].append((-logit, b))
    return [
        (node, other, rank, -logit)
        for node in range(N)
        for rank, (logit, other) in enumerate(sorted(lists[node])[:top_k], start=1)
    ]


@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(1, 7), st.sampled_from(["all", "typed", "chosen"]))
def test_both_equal_a_sort(seed: int, top_k: int, blocks: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    nodes, every = torch.arange(N), torch.ones(N, dtype=torch.bool)
    sources, targets = {"all": (every, every), "typed": (nodes < 5, nodes >= 5), "chosen": (nodes == 3, every)}[kind]
    allowed = AllowedPairs(sources, targets, torch.empty(2, 0, dtype=torch.int64))
    pairs = torch.combinations(nodes).t()
    pairs = allowed.oriented(pairs[:, allowed.mask(pairs)])
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)]
    logits = torch.randint(-2, 4, (pairs.shape[1],), generator=generator).float()
    logits[logits == -2] = -torch.inf
    overall, per_node = BestLinks(top_k), BestLinks(top_k, allowed)
    for place in torch.arange(pairs.shape[1]).chunk(blocks):
        overall.add(pairs[:, place], logits[place])
        per_node.add(pairs[:, place], logits[place])
        if blocks == 3:
            overall.settle()
            per_node.settle()
    listed, values = pairs.t().tolist(), logits.tolist()
    found, scores = overall.settle()
    best = sorted((-logit, *pair) for pair, logit in zip(listed, values, strict=True) if logit > -float("inf"))[:top_k]
    assert [(-s, u, v) for u, v, s in zip(*found.tolist(), scores.tolist(), strict=True)] == best
    assert overall.ranks().tolist() == list(range(1, len(best) + 1))
    found, scores = per_node.settle()
    ranked = zip(*found.tolist(), per_node.ranks().tolist(), scores.tolist(), strict=True)
    assert list(ranked) == expected_per_node(listed, values, allowed, top_k)


@pytest.mark.parametrize("make", [lambda: BestLinks(9), lambda: BestLinks(2, AllowedPairs.all(N))])
def test_ranks_keep_the_same_best(make: Callable[[], BestLinks]) -> None:
    """Each rank's own best, put together in any order, are the best of all."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.combinations(torch.arange(N)).t()
    logits = torch.randint(3, (pairs.shape[1],), generator=generator).float()
    whole = make()
    whole.add(pairs, logits)
    parts = []
    for rank in (1, 0, 2):
        part = make()
        part.add(pairs[:, rank::3], logits[rank::3])
        parts.append(part.settle())
    merged = make().keep(torch.cat([p for p, _ in parts], dim=1), torch.cat([s for _, s in parts]))
    assert torch.equal(merged[0], whole.settle()[0])
    assert torch.equal(merged[1], whole.logits)


def test_nothing_found_is_an_empty_list() -> None:
    for best in (BestLinks(3), BestLinks(3, AllowedPairs.all(4))):
        best.add(torch.tensor([[0], [1]]), torch.tensor([-torch.inf]))
        assert best.settle()[0].shape == (2, 0)
        assert len(best.ranks()) == 0


def capped(pairs: list, logits: list, top_k: int, most: int) -> list:
    """The greedy choice, over all pairs."""
    times, kept = [0] * N, []
    for logit, u, v in sorted((-logit, *pair) for pair, logit in zip(pairs, logits, strict=True)):
        if times[u] < most and times[v] < most and len(kept) < top_k and logit < float("inf"):
            times[u], times[v] = times[u] + 1, times[v] + 1
            kept.append((u, v, -logit))
    return kept


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 4), st.integers(1, 30))
def test_a_cap_for_each_node_is_the_greedy_choice_among_all_pairs(seed: int, top_k: int, most: int, block: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.combinations(torch.arange(N)).t()
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)]
    # Hubs: what has node 0 or 1 is best, so that they fill up far before the last pair that is kept
    logits = torch.randint(-2, 4, (pairs.shape[1],), generator=generator).float() + 9.0 * (pairs < 2).any(dim=0)
    logits[logits == -2] = -torch.inf
    best = BestLinks(top_k, max_per_node=most, num_nodes=N)
    for place in torch.arange(pairs.shape[1]).split(block):
        best.add(pairs[:, place], logits[place])
        best.settle()
    best.cap()
    found = list(zip(*best.pairs.tolist(), best.logits.tolist(), strict=True))
    assert found == capped(pairs.t().tolist(), logits.tolist(), top_k, most)
