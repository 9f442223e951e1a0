"""Ranking metrics by their definitions, in plain Python loops."""

from __future__ import annotations

from collections.abc import Sequence


def rank(score: float, negatives: Sequence[float]) -> float:
    """Mean of the best and the worst place that ``score`` can take among ``negatives`` when ties are broken by will."""
    optimistic = 1
    pessimistic = 1
    for other in negatives:
        if other > score:
            optimistic += 1
        if other >= score:
            pessimistic += 1
    return (optimistic + pessimistic) / 2


def mean_reciprocal_rank(ranks: Sequence[float]) -> float:
    """Mean of 1 / rank."""
    total = 0.0
    for place in ranks:
        total += 1 / place
    return total / len(ranks)


def hits_at(ranks: Sequence[float], k: int) -> float:
    """Share of ranks up to k."""
    return sum(1 for place in ranks if place <= k) / len(ranks)


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Share of (positive, negative) pairs in the right order, half for a tie."""
    won = 0.0
    for score in positive:
        for other in negative:
            if score > other:
                won += 1
            elif score == other:
                won += 0.5
    return won / (len(positive) * len(negative))


def average_precision(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Sum over distinct thresholds, highest first, of the gain in recall times the precision."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(positive) | set(negative), reverse=True):
        true = sum(1 for score in positive if score >= threshold)
        false = sum(1 for score in negative if score >= threshold)
        total += (true / len(positive) - recall) * true / (true + false)
        recall = true / len(positive)
    return total


def hits_above(positive: Sequence[float], negative: Sequence[float], k: int) -> float:
    """OGB's Hits@k: the share of positives strictly above the k-th highest negative; 1 with fewer negatives."""
    if len(negative) < k:
        return 1.0
    kth = sorted(negative, reverse=True)[k - 1]
    return sum(1 for score in positive if score > kth) / len(positive)
