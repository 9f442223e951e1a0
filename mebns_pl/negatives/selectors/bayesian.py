"""Bayesian negative sampling: informative candidates that are unlikely to be missing edges."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mebns_pl.checks import within
from mebns_pl.keys import Key
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.ordering import highest


@dataclass(frozen=True)
class BayesianSelector(AbstractSelector):
    """The candidates of smallest risk ``info(v) (1 - (1 + trade_off) unbias(v))`` (BNS).

    With the student's logit f, ``info(v) = 1 - sigmoid(f(u, v+) - f(u, v))`` is the size of a pairwise gradient, and
    ``unbias(v) = (1 - F)(1 - P) / (1 - F - P + 2 F P)`` the probability that v is a true negative: F is the
    distribution function of the anchor's logits at v, estimated on the L candidates of the row (rank / (L + 1)), and
    the prior P of a false negative is v's degree / N.

    Liu and Wang, *Bayesian Negative Sampling for Recommendation*, ICDE 2023, arXiv 2204.06520.

    Args:
        trade_off: the paper's λ, at least 0: how much a true negative is worth.
        num_negatives: M, at least 1.

    Raises:
        ValueError: ``trade_off`` is negative, or ``num_negatives`` below 1.

    Example:
        >>> import torch
        >>> mask, score = torch.ones(1, 3, dtype=torch.bool), CandidateScores.given(
        ...     torch.tensor([[-2.0, 0.0, 2.0]]), positives=torch.tensor([1.0]))
        >>> BayesianSelector().select(mask, score, torch.arange(1), Key(0, "docs")).columns.tolist()
        [[2]]
    """

    trade_off: float = 5.0
    num_negatives: int = 1

    def __post_init__(self) -> None:
        """Checks the options."""
        super().__post_init__()
        within("[0, inf)", "number", trade_off=self.trade_off)

    def select(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Picks:
        """See :meth:`AbstractSelector.select`; ``rows`` and ``key`` are not used."""
        logits = score().double()
        below = (logits[:, None, :] <= logits[:, :, None]) & mask[:, None, :]
        share = below.sum(dim=2) / (mask.sum(dim=1, keepdim=True) + 1)
        prior = score.degrees() / score.graph.num_nodes
        unbias = (1 - share) * (1 - prior) / (1 - share - prior + 2 * share * prior)
        info = 1 - (score.positives().double()[:, None] - logits).sigmoid()
        return highest(-info * (1 - (1 + self.trade_off) * unbias), mask, self.num_negatives)
