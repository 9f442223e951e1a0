"""Ranking and classification metrics as pure functions of scores.

Only the order of scores matters, so logits, probabilities and heuristics serve alike; scores may be negative or
infinite, never NaN. Ties are never broken by input order: a rank is the mean of the optimistic and the pessimistic one.
``p`` positives, ``n`` negatives. Results are float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.checks import at_least

_CHUNK_CELLS = 2**24
"""Scores compared at a time: bounds the memory of the comparison's temporaries to some 10 MB a mask."""


def ranks(positive: Tensor, negative: Tensor, negative_mask: Tensor | None = None) -> Tensor:
    """The rank of each positive among negatives of its own: ``1 + #greater + #equal / 2``.

    Cost: O(p n) comparisons on the scores' device, in chunks of bounded memory; two numbers are brought to the host.

    Args:
        positive: ``(p,)`` scores.
        negative: ``(p, n)`` scores; row i holds what positive i is ranked against.
        negative_mask: ``(p, n)`` bool, True where a negative counts; None counts all.

    Returns:
        ``(p,)`` float64, 1 is best.

    Raises:
        ValueError: shapes do not fit, a score that counts is NaN, or a positive has no negative to be ranked against.
    """
    if positive.dim() != 1 or negative.dim() != 2 or len(positive) != len(negative):
        raise ValueError(
            "positive, negative: shapes must be (p,) and (p, n) with the same p, "
            f"got {tuple(positive.shape)} and {tuple(negative.shape)}"
        )
    if negative_mask is not None and (negative_mask.shape != negative.shape or negative_mask.dtype != torch.bool):
        raise ValueError(
            f"negative_mask: must be bool of the shape of negative, {tuple(negative.shape)}, "
            f"got {negative_mask.dtype} {tuple(negative_mask.shape)}"
        )
    num_positives, num_negatives = negative.shape
    if not num_positives:
        return torch.empty(0, dtype=torch.float64, device=negative.device)
    if not num_negatives:
        raise ValueError(f"negative: {num_positives} positives have no negative to be ranked against, got n = 0")
    parts = []
    num_nan = positive.isnan().sum()
    num_alone = torch.zeros_like(num_nan)
    rows = max(1, _CHUNK_CELLS // num_negatives)
    for first in range(0, num_positives, rows):
        score, other = positive[first : first + rows, None], negative[first : first + rows]
        greater, equal, nan = other > score, other == score, other.isnan()
        if negative_mask is not None:
            counted = negative_mask[first : first + rows]
            greater, equal, nan = greater & counted, equal & counted, nan & counted
            num_alone += (~counted.any(dim=1)).sum()
        num_nan += nan.sum()
        parts.append(1.0 + greater.sum(dim=1).double() + 0.5 * equal.sum(dim=1).double())
    nan_count, alone_count = torch.stack([num_nan, num_alone]).tolist()
    _refuse_nan(nan_count)
    if alone_count:
        raise ValueError(
            f"negative_mask: {alone_count} of {num_positives} positives have no negative to be ranked against"
        )
    return torch.cat(parts)


def ranks_shared(positive: Tensor, negative: Tensor) -> Tensor:
    """The rank of each positive among negatives that all share: ``1 + #greater + #equal / 2``.

    Cost: O((n + p) log n), by sorting the negatives once.

    Args:
        positive: ``(p,)`` scores.
        negative: ``(n,)`` scores.

    Returns:
        ``(p,)`` float64, 1 is best.

    Raises:
        ValueError: shapes do not fit, a score is NaN, or there is no negative.
    """
    positive, negative = _checked(positive, negative)
    if not len(negative):
        raise ValueError("negative: no negative to rank against, got n = 0")
    ascending = negative.sort().values
    below = torch.searchsorted(ascending, positive)
    not_above = torch.searchsorted(ascending, positive, right=True)
    return 1.0 + (len(negative) - not_above).double() + 0.5 * (not_above - below).double()


def mean_reciprocal_rank(ranks: Tensor) -> Tensor:
    """Mean of ``1 / rank``: a float64 scalar in (0, 1].

    Args:
        ranks: ``(p,)`` ranks, each at least 1.

    Raises:
        ValueError: there is no rank.
    """
    return _not_empty(ranks).double().reciprocal().mean()


def mean_reciprocal_rank_shared(positive: Tensor, negative: Tensor) -> Tensor:
    """:func:`mean_reciprocal_rank` of positives ``(p,)`` among negatives ``(n,)`` that all share.

    Raises:
        ValueError: shapes do not fit, a score is NaN, or one of the classes is empty.
    """
    return mean_reciprocal_rank(ranks_shared(positive, negative))


def hits_at(ranks: Tensor, k: int) -> Tensor:
    """Share of ranks that are at most ``k``: a float64 scalar in [0, 1].

    A tie costs half a place for each negative in it: a positive tied with one negative at the very top has rank 1.5 and
    is no hit at 1.

    Args:
        ranks: ``(p,)`` ranks.
        k: at least 1.

    Raises:
        ValueError: there is no rank, or ``k`` is below 1.
    """
    at_least(1, k=k)
    return (_not_empty(ranks) <= k).double().mean()


def hits_above(positive: Tensor, negative: Tensor, k: int) -> Tensor:
    """Share of positives that score above the k-th highest of the negatives that all share: OGB's Hits@k.

    Unlike :func:`hits_at`, a positive that ties with the k-th negative is no hit (Hu et al., "Open Graph Benchmark",
    NeurIPS 2020). With fewer than k negatives every positive is one.

    Args:
        positive: ``(p,)`` scores.
        negative: ``(n,)`` scores.
        k: at least 1.

    Returns:
        A float64 scalar in [0, 1].

    Raises:
        ValueError: shapes do not fit, a score is NaN, one of the classes is empty, or ``k`` is below 1.
    """
    at_least(1, k=k)
    _both_classes(positive, negative)
    positive, negative = _checked(positive, negative)
    not_below = len(negative) - torch.searchsorted(negative.sort().values, positive)
    return (not_below < k).double().mean()


def auc(positive: Tensor, negative: Tensor) -> Tensor:
    """Area under the ROC curve: the probability that a positive outscores a negative, ties counted half.

    The exact Mann-Whitney statistic, without thresholds or bins.

    Args:
        positive: ``(p,)`` scores.
        negative: ``(n,)`` scores.

    Returns:
        A float64 scalar in [0, 1].

    Raises:
        ValueError: shapes do not fit, a score is NaN, or one of the classes is empty.
    """
    _both_classes(positive, negative)
    outscored = len(negative) + 1.0 - ranks_shared(positive, negative)
    return outscored.sum() / (len(positive) * len(negative))


def average_precision(positive: Tensor, negative: Tensor) -> Tensor:
    """Average precision: the mean over positives of the precision at their score, tied scores taken as one threshold.

    Equal to ``sum_t (R_t - R_{t-1}) P_t`` over the distinct scores t.

    Args:
        positive: ``(p,)`` scores.
        negative: ``(n,)`` scores.

    Returns:
        A float64 scalar in (0, 1].

    Raises:
        ValueError: shapes do not fit, a score is NaN, or one of the classes is empty.
    """
    _both_classes(positive, negative)
    positive, negative = _checked(positive, negative)
    true = len(positive) - torch.searchsorted(positive.sort().values, positive)
    false = len(negative) - torch.searchsorted(negative.sort().values, positive)
    return (true.double() / (true + false).double()).mean()


def _checked(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Two score vectors in one dtype that every kernel takes, without NaN."""
    if positive.dim() != 1 or negative.dim() != 1:
        raise ValueError(
            f"positive, negative: shapes must be (p,) and (n,), got {tuple(positive.shape)} and {tuple(negative.shape)}"
        )
    _refuse_nan(int(positive.isnan().sum() + negative.isnan().sum()))
    # Widening keeps order and ties; binary search wants one dtype, and not a half-precision one everywhere.
    dtype = torch.promote_types(torch.promote_types(positive.dtype, negative.dtype), torch.float32)
    return positive.to(dtype).contiguous(), negative.to(dtype).contiguous()


def _refuse_nan(count: int) -> None:
    if count:
        raise ValueError(f"positive, negative: {count} of the scores are NaN; numbers and infinities are allowed")


def _both_classes(positive: Tensor, negative: Tensor) -> None:
    missing = [name for name, scores in (("positive", positive), ("negative", negative)) if not scores.numel()]
    if missing:
        raise ValueError(f"{' and '.join(missing)}: no scores; at least one positive and one negative are needed")


def _not_empty(ranks: Tensor) -> Tensor:
    if not ranks.numel():
        raise ValueError("ranks: empty; the rank of at least one positive is needed")
    return ranks
