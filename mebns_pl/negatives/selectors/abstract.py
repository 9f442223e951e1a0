"""The contract of selectors: candidates and the student's scores -> the negatives to learn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.families import Family
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.row_sets import common_neighbors
from mebns_pl.keys import Key


class Picks(NamedTuple):
    """Which candidates were picked.

    Args:
        columns: ``(b, M)`` int64, places among the K candidates of each anchor.
        mask: ``(b, M)`` bool, False where the anchor had fewer than M candidates to pick from.

    Example:
        >>> candidates = torch.tensor([[7, 8, 9]])
        >>> picks = Picks(columns=torch.tensor([[2]]), mask=torch.tensor([[True]]))
        >>> candidates.gather(1, picks.columns).tolist()
        [[9]]
    """

    columns: Tensor
    mask: Tensor


@dataclass(frozen=True)
class CandidateScores:
    """What filters and selectors can ask about a step's candidates; computed only when it is asked for.

    Calling it gives the student's logits ``(b, K)`` of the candidates, without gradient.

    Args:
        candidates: gives these logits.
        positives: gives the student's logits ``(b,)`` of the rows' positives, without gradient.
        pairs: ``(2, b, K)`` int64, anchors and candidates.
        graph: the training graph.

    Example:
        >>> score = CandidateScores.given(torch.zeros(2, 3))
        >>> score().shape, score.positives().shape
        (torch.Size([2, 3]), torch.Size([2]))
    """

    candidates: Callable[[], Tensor]
    positives: Callable[[], Tensor]
    pairs: Tensor
    graph: Graph

    def __call__(self) -> Tensor:
        return self.candidates()

    def degrees(self) -> Tensor:
        """``(b, K)`` int64, the candidates' degrees in the training graph."""
        return self.graph.degree_of(self.pairs[1])

    def common_neighbors(self) -> Tensor:
        """``(b, K)`` int64, how many neighbours anchor and candidate share there."""
        return common_neighbors(self.graph, self.pairs.flatten(1)).sizes.view(self.pairs.shape[1:])

    @staticmethod
    def given(
        candidates: Tensor,
        positives: Tensor | None = None,
        pairs: Tensor | None = None,
        graph: Graph | None = None,
    ) -> CandidateScores:
        """Scores that are known: to try a selector by itself.

        Args:
            candidates: ``(b, K)`` logits.
            positives: ``(b,)`` logits; 0 by default.
            pairs: ``(2, b, K)`` int64; each row's node and its columns' by default.
            graph: the training graph; without an edge by default.
        """
        size, width = candidates.shape
        if pairs is None:
            pairs = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(width), indexing="ij"))
        if graph is None:
            graph = Graph.from_edges(torch.empty(2, 0, dtype=torch.int64), max(size, width))
        logits = candidates.new_zeros(size) if positives is None else positives
        return CandidateScores(lambda: candidates, lambda: logits, pairs, graph)


class AbstractSelector(ABC):
    """A rule that picks ``num_negatives`` of K candidates, given the current student's scores.

    Example:
        >>> class LastSelector(AbstractSelector):
        ...     num_negatives = 1
        ...     def select(self, mask, score, rows, key):
        ...         columns = torch.full((len(mask), 1), mask.shape[1] - 1)
        ...         return Picks(columns, mask.gather(1, columns))
        >>> mask = torch.tensor([[True, True, False]])
        >>> LastSelector().select(mask, CandidateScores.given(torch.zeros(1, 3)), torch.arange(1), Key(0, "docs")).mask
        tensor([[False]])
    """

    num_negatives: int

    def __post_init__(self) -> None:
        """Checks what all selectors have, where they are dataclasses."""
        at_least(1, num_negatives=self.num_negatives)

    @abstractmethod
    def select(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Picks:
        """Picks among the candidates where ``mask`` is True.

        Args:
            mask: ``(b, K)`` bool, the candidates there are to pick from (legal, and kept by the filter).
            score: ``score()`` gives the student's logits ``(b, K)``, without gradient; called by the rules that need
                them only. :class:`CandidateScores` tells what else there is.
            rows: ``(b,)`` int64, the anchors' places in the union batch of all ranks: a rule that draws does so by row
                (:func:`mebns_pl.keys.uniform`), so that a row's picks do not depend on how the batch is cut.
            key: key of this draw.

        Returns:
            Picks with ``min(num_negatives, K)`` columns; no column twice in a row.
        """

    def shares(self, mask: Tensor, score: CandidateScores, rows: Tensor, key: Key) -> Tensor:
        """``(b, K)``: how this rule parts a row among its candidates; what a weight net starts from.

        Its picks have equal parts, unless the rule knows the probabilities that it draws with. Arguments as in
        :meth:`select`.

        Returns:
            float64, 0 or more, 0 where ``mask`` is False; each row sums to 1, or to 0 where it has no candidate.
        """
        return equal_parts(self.select(mask, score, rows, key), mask.shape[1])


def equal_parts(picks: Picks, num_candidates: int) -> Tensor:
    """``(b, K)`` float64: each row's picks have equal parts of it, the other candidates none."""
    parts = torch.zeros(len(picks.mask), num_candidates, dtype=torch.float64, device=picks.mask.device)
    parts.scatter_(1, picks.columns, picks.mask.double())
    return parts / parts.sum(dim=1, keepdim=True).clamp(min=1)


SELECTORS = Family(AbstractSelector, "--model.sampler.selector")
"""Every selector there is."""
