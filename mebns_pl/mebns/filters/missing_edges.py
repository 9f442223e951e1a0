"""A filter that estimates which candidates are edges that are missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mebns_pl.checks import above, within
from mebns_pl.keys import Key
from mebns_pl.mebns.filters.abstract import AbstractFilter, keep_hardest, missing_share
from mebns_pl.negatives.selectors.abstract import CandidateScores

NEWTON_STEPS = 25
RIDGE = 1e-3
_MOST_RATIO = 1e300  # 0 times infinity would be no number


def log_ratio(ones: Tensor, others: Tensor) -> Tensor:
    """Coefficients ``(F + 1,)`` of the logarithm of the ratio of two densities, by logistic regression.

    Both samples count the same, so that the log-odds are the logarithm of the ratio. Newton's method with a small
    ridge, float64.

    Args:
        ones: ``(n, F)``, a sample of the density above the line.
        others: ``(m, F)``, of the one below it.
    """
    features = torch.cat([ones, others]).double()
    features = torch.cat([features.new_ones(len(features), 1), features], dim=1)
    label = torch.cat([features.new_ones(len(ones)), features.new_zeros(len(others))])
    weight = torch.where(label > 0.5, 0.5 / max(len(ones), 1), 0.5 / max(len(others), 1))
    ridge = RIDGE * torch.eye(features.shape[1], dtype=torch.float64, device=features.device)
    ridge[0, 0] = 0
    found = features.new_zeros(features.shape[1])
    for _ in range(NEWTON_STEPS):
        probability = (features @ found).sigmoid()
        slope = features.t() @ (weight * (probability - label)) + ridge @ found
        curvature = (features.t() * (weight * probability * (1 - probability))) @ features + ridge
        curvature[0, 0] += 1e-12
        found = found - torch.linalg.solve(curvature, slope)
    return found


class MissingEdgeFilter(AbstractFilter, nn.Module):
    """Drops candidates that are likely to be missing edges, then the easy ones of the rest.

    Meta edges are known to be edges and hidden from the teacher, just as missing ones are. The ratio of their density
    to that of the candidates as they are drawn, by the teacher's logit and the number of common neighbours, is fitted
    by logistic regression whenever the meta set is collected. With the share α of an anchor's non-edges that are
    missing edges (:func:`~mebns_pl.mebns.filters.abstract.missing_share`) the probability that a candidate is one is
    ``min(1, α ratio)``: the positive-unlabelled argument of Elkan and Noto (KDD 2008). So how many go depends on graph
    and anchor: hardly any where it has few neighbours. α is that of candidates drawn at random: among those of
    proposals that look for near nodes more are missing edges than it says.

    Args:
        missing: how many edges are expected to be missing for each known one, above 0.
        threshold: candidates with a higher probability go, in (0, 1).
        drop_easy: share of the rest to drop as easy, by teacher and student as in :class:`TeacherFilter`, in [0, 1).

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> hardness, mask = torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.ones(1, 4, dtype=torch.bool)
        >>> score = CandidateScores.given(torch.zeros(1, 4))
        >>> band = MissingEdgeFilter(drop_easy=0.5)  # nothing is fitted yet, so nothing is likely to be missing
        >>> band.keep(hardness, mask, score, torch.arange(1), Key(0, "docs")).tolist()
        [[True, False, True, False]]
    """

    learns = True
    coefficients: Tensor

    def __init__(self, missing: float = 0.15, threshold: float = 0.5, drop_easy: float = 0.25) -> None:
        super().__init__()
        above(0, missing=missing)
        within("(0, 1)", threshold=threshold)
        within("[0, 1)", drop_easy=drop_easy)
        self.missing, self.threshold, self.drop_easy = missing, threshold, drop_easy
        # Before it has learned, every probability is 0
        self.register_buffer("coefficients", torch.tensor([-torch.inf, 0, 0], dtype=torch.float64))

    def learn(self, hidden: Tensor, drawn: Tensor) -> None:
        """See :meth:`AbstractFilter.learn`."""
        self.coefficients.copy_(log_ratio(_evidence(*hidden.t()), _evidence(*drawn.t())))

    def probability(self, hardness: Tensor, score: CandidateScores) -> Tensor:
        """``(b, K)`` float64 that a candidate is a missing edge, of the teacher's logits ``(b, K)`` and the graph."""
        evidence = _evidence(hardness, score.common_neighbors())
        ratio = (evidence @ self.coefficients[1:] + self.coefficients[0]).exp()
        return (missing_share(self.missing, score) * ratio.clamp(max=_MOST_RATIO)).clamp(max=1)

    def keep(self, hardness: Tensor, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """See :meth:`AbstractFilter.keep`; where all are likely to be missing edges, the least likely stays."""
        likely = self.probability(hardness, score)
        least = likely.masked_fill(~mask, torch.inf).argmin(dim=1, keepdim=True)
        fine = mask & ((likely <= self.threshold).scatter(1, least, True))
        return keep_hardest(hardness, fine, self.drop_easy, 0.0, others=score)


def _evidence(hardness: Tensor, common: Tensor) -> Tensor:
    """``(..., 2)`` float64, what the regression looks at."""
    return torch.stack([hardness.double(), common.double().log1p()], dim=-1)
