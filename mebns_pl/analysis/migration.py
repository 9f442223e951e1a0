"""Migration: how negatives change between hard and easy while a model learns.

A fixed probe of M legal negatives is scored after every epoch. The hard set is the share of them with the highest
scores. Definitions are this project's own (the paper shows the phenomenon, its summary gives no formula).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mebns_pl.checks import expect, within
from mebns_pl.shares import ceil_share


def hard_set(scores: Tensor, share: float) -> Tensor:
    """The ``ceil(share M)`` highest-scored pairs; ties are broken by place.

    Args:
        scores: ``(M,)``.
        share: rho, in (0, 1].

    Returns:
        ``(M,)`` bool.
    """
    size = ceil_share(share, scores.numel())
    hard = torch.zeros_like(scores, dtype=torch.bool)
    hard[scores.argsort(descending=True, stable=True)[:size]] = True
    return hard


def churn(now: Tensor, before: Tensor) -> Tensor:
    """``1 - |now and before| / |now|`` of two hard sets ``(M,)`` bool of equal size: 0 nothing moved, 1 all changed."""
    return 1 - (now & before).sum() / now.sum()


def transition_rates(probs_now: Tensor, probs_before: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Shares that crossed an absolute threshold on the probability.

    Args:
        probs_now: ``(M,)`` in [0, 1].
        probs_before: ``(M,)``, one epoch earlier.
        threshold: tau; hard is above it.

    Returns:
        easy -> hard as a share of those that were easy, and hard -> easy as a share of those that were hard; NaN
        where there were none.
    """
    now, before = probs_now > threshold, probs_before > threshold
    return (now & ~before).sum() / (~before).sum(), (before & ~now).sum() / before.sum()


def nearest_scores(scores: Tensor, pool: Tensor) -> Tensor:
    """For each of ``scores`` ``(m,)`` the place in ``pool`` ``(n,)`` of the nearest value: controls of equal score."""
    order = pool.argsort()
    ordered = pool[order]
    right = torch.searchsorted(ordered, scores).clamp(max=len(pool) - 1)
    left = (right - 1).clamp(min=0)
    nearer_left = (scores - ordered[left]).abs() <= (ordered[right] - scores).abs()
    return order[torch.where(nearer_left, left, right)]


class MigrationTracker:
    """Keeps the history that the migration scalars need.

    Args:
        share: rho, the share of the probe that counts as hard, in (0, 1).
        threshold: tau on the probability, in (0, 1).
        lags: lags k, in epochs, of the churn.

    Example:
        >>> tracker = MigrationTracker(share=0.5, lags=(1,))
        >>> _ = tracker.update(torch.tensor([3.0, 2.0, 1.0, 0.0]))
        >>> tracker.update(torch.tensor([3.0, 1.0, 2.0, 0.0]))["churn@1"]
        0.5
    """

    def __init__(self, share: float = 0.2, threshold: float = 0.5, lags: Sequence[int] = (1, 5, 10)) -> None:
        within("(0, 1)", "number", share=share, threshold=threshold)
        expect(bool(lags) and min(lags) >= 1, "epochs of 1 or more", lags=tuple(lags))
        self.share = share
        self.threshold = threshold
        self.lags = tuple(lags)
        self.hard_sets: list[Tensor] = []
        self.last_probs: Tensor | None = None
        self.flips: Tensor | None = None
        self.churns: list[float] = []

    def update(self, logits: Tensor) -> dict[str, float]:
        """Takes the probe's logits ``(M,)`` after one more epoch; returns the scalars that are defined by now."""
        logits = logits.detach().float().cpu()
        hard, probs = hard_set(logits, self.share), logits.sigmoid()
        scalars: dict[str, float] = {"hard_score": float(logits[hard].min())}
        for lag in self.lags:
            if len(self.hard_sets) >= lag:
                scalars[f"churn@{lag}"] = float(churn(hard, self.hard_sets[-lag]))
        if "churn@1" in scalars:
            self.churns.append(scalars["churn@1"])
        if self.flips is None:
            self.flips = torch.zeros(len(hard), dtype=torch.int64)
        if self.last_probs is not None:
            rates = transition_rates(probs, self.last_probs, self.threshold)
            names = ("easy_to_hard", "hard_to_easy")
            scalars |= {name: float(rate) for name, rate in zip(names, rates, strict=True) if not rate.isnan()}
            self.flips = self.flips + (hard != self.hard_sets[-1])
            scalars["flips_mean"] = float(self.flips.float().mean())
        self.last_probs = probs
        self.hard_sets = [*self.hard_sets, hard][-max(self.lags) :]
        return scalars

    def late_churn(self) -> float:
        """Mean churn@1 over the second half of training; NaN before there is one."""
        late = self.churns[len(self.churns) // 2 :]
        return sum(late) / len(late) if late else math.nan

    def state_dict(self) -> dict[str, Any]:
        """The history, as tensors and plain lists."""
        return {name: copy.copy(getattr(self, name)) for name in _HISTORY}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the history back."""
        for name in _HISTORY:
            setattr(self, name, copy.copy(state[name]))


_HISTORY = ("hard_sets", "last_probs", "flips", "churns")


def hard_set_overlap(hard: Tensor) -> Tensor:
    """Jaccard index ``|a and b| / |a or b|`` of the hard sets of every two snapshots.

    Args:
        hard: ``(T, M)`` bool, a hard set a row, none empty.

    Returns:
        ``(T, T)`` float64 in [0, 1], symmetric, 1 on the diagonal.
    """
    members = hard.double()
    both = members @ members.t()
    sizes = members.sum(dim=1)
    return both / (sizes[:, None] + sizes[None, :] - both)


def newcomers(hard: Tensor) -> Tensor:
    """Of each snapshot's hard set the shares that were easy at the snapshot before.

    Args:
        hard: ``(T, M)`` bool, a hard set a row, none empty.

    Returns:
        ``(T - 1, 2)`` float64: hard again, having been so at an earlier snapshot, and hard for the first time. Their
        sum is the churn since the snapshot before.
    """
    ever = hard.cumsum(dim=0)[:-1] > 0
    new = hard[1:] & ~hard[:-1]
    parts = torch.stack([new & ever, new & ~ever], dim=1)
    return parts.double().sum(dim=2) / hard[1:].double().sum(dim=1, keepdim=True)


def binned_crossings(flips: Tensor) -> list[tuple[int, int, int]]:
    """How many pairs crossed how often, in bins of 0, 1, 2, 3-4, 5-8, 9-16, ...

    Args:
        flips: ``(M,)`` int64, 0 or more.

    Returns:
        Least and most crossings of each bin and how many pairs are in it, up to the bin of the most.
    """
    bins, low, high = [], 0, 0
    while low <= int(flips.max()):
        bins.append((low, high, int(((flips >= low) & (flips <= high)).sum())))
        low, high = high + 1, max(1, 2 * high)
    return bins


def hard_shares(pairs: Tensor, hard: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """In how many pairs each node is, and which share of them is hard.

    Args:
        pairs: ``(2, M)`` int64.
        hard: ``(M,)`` bool.
        num_nodes: N.

    Returns:
        ``(N,)`` int64, and ``(N,)`` float64, NaN of a node that is in none.
    """
    count = torch.bincount(pairs.flatten(), minlength=num_nodes)
    return count, torch.bincount(pairs[:, hard].flatten(), minlength=num_nodes) / count.double()
