"""What the weight net is told of each negative, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.row_sets import common_neighbors
from mebns_pl.models.batching import PairScore


@dataclass(frozen=True)
class Facts:
    """What a step knows of its negatives; detached.

    Args:
        pairs: ``(2, b M)`` int64, anchors and candidates.
        mask: ``(b, M)`` bool.
        losses: ``(b, M)`` the student's.
        logits: ``(b, M)`` the student's.
        positives: ``(b,)`` the student's logits of the rows' positives.
        hardness: ``(b, M)`` the teacher's logits.
        graph: the training graph.
        previous: pairs ``(2, n)`` -> logits ``(n,)`` of the student as the last epoch left it, without dropout.
    """

    pairs: Tensor
    mask: Tensor
    losses: Tensor
    logits: Tensor
    positives: Tensor
    hardness: Tensor
    graph: Graph
    previous: PairScore | None = None


def rank_in_row(values: Tensor, mask: Tensor) -> Tensor:
    """``(b, M)`` share of a row's other candidates with a higher value, 0 for the highest; equal values share one.

    Args:
        values: ``(b, M)``.
        mask: ``(b, M)`` bool.
    """
    higher = (values[:, None, :] > values[:, :, None]) & mask[:, None, :]
    return higher.sum(dim=2).to(values.dtype) / (mask.sum(dim=1, keepdim=True) - 1).clamp(min=1)


INPUTS: dict[str, Callable[[Facts], Tensor]] = {
    "loss": lambda facts: facts.losses,
    "hardness": lambda facts: facts.hardness,
    "rank": lambda facts: rank_in_row(facts.logits, facts.mask),
    "hardness_rank": lambda facts: rank_in_row(facts.hardness, facts.mask),
    "gap": lambda facts: facts.logits - facts.positives[:, None],
    "disagreement": lambda facts: facts.logits - facts.hardness,
    "uncertainty": lambda facts: facts.logits.sigmoid() * (-facts.logits).sigmoid(),
    "log_degree": lambda facts: (
        facts.graph.degree_of(facts.pairs[1]).view(facts.mask.shape).to(facts.logits.dtype).log1p()
    ),
    "change": lambda facts: facts.logits - _before(facts),
    "common_neighbors": lambda facts: _num_common(facts).to(facts.logits.dtype).log1p(),
}
"""Name -> ``(b, M)`` numbers."""


def _num_common(facts: Facts) -> Tensor:
    return common_neighbors(facts.graph, facts.pairs).sizes.view(facts.mask.shape)


def _before(facts: Facts) -> Tensor:
    assert facts.previous is not None
    with torch.no_grad():
        return facts.previous(facts.pairs).view(facts.mask.shape).to(facts.logits.dtype)


def check_inputs(names: Sequence[str]) -> None:
    """Refuses names that are not among :data:`INPUTS`, and none at all.

    Raises:
        ValueError: what was given, and what is allowed.
    """
    if not names or set(names) - set(INPUTS):
        raise ValueError(f"inputs: got {list(names)}; allowed are one or more of {', '.join(INPUTS)}")


def standardised(names: Sequence[str], facts: Facts, group: AbstractGroup) -> Tensor:
    """``(b M, F)`` inputs with mean 0 and standard deviation 1 over the negatives of the union batch.

    What is the same for all has 0; masked places hold 0.

    Args:
        names: F names of :data:`INPUTS`.
        facts: this rank's.
        group: the ranks.
    """
    mask = facts.mask.flatten()[:, None]
    values = torch.stack([INPUTS[name](facts).flatten() for name in names], dim=1)
    values = torch.where(mask, values, 0)
    count, total = group.sum_all([mask.sum(dim=0).to(values.dtype), values.sum(dim=0)])
    centered = torch.where(mask, values - total / count.clamp(min=1), 0)
    variance = group.sum(centered.square().sum(dim=0)) / count.clamp(min=1)
    flat = variance <= torch.finfo(values.dtype).eps * (total / count.clamp(min=1)).square().clamp(min=1e-12)
    return torch.where(flat, 0, centered / variance.clamp(min=1e-30).sqrt())
