"""Where candidates are drawn: ahead, for static proposals, or in the step, for adaptive ones."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractAdaptiveProposal, Score
from mebns_pl.negatives.sampler import Sampler


class Candidates(NamedTuple):
    """Candidates of some rows of the union batch.

    Args:
        anchors: ``(b,)`` int64, the node that each row's candidates stand opposite to; None for the positives' own.
        nodes: ``(b, K)`` int64.
        mask: ``(b, K)`` bool, True where the pair (anchor, node) is a legal negative.
    """

    anchors: Tensor | None
    nodes: Tensor
    mask: Tensor


def drawn_ahead(sampler: Sampler, anchors: Tensor, known: KnownEdges, key: Key, part: slice) -> Candidates:
    """Draws for the whole union batch, so that draws do not depend on the number of ranks, and cuts this rank's part.

    Args:
        sampler: whose proposal draws, where it is a static one that is set up; otherwise there is no candidate.
        anchors: ``(B,)`` int64 on the CPU, one end of each positive.
        known: the pairs that are not legal.
        key: of the step.
        part: this rank's rows.
    """
    if sampler.adaptive is not None:
        nothing = anchors[part, None][:, :0]
        return Candidates(None, nothing, nothing.bool())
    opposite = sampler.static.anchors(anchors, key.child("anchors"))
    nodes = sampler.static.draw(opposite, sampler.num_candidates, key.child("candidates"))[part]
    mask = ~known.mask(opposite[part, None], nodes)
    return Candidates(None if opposite is anchors else opposite[part], nodes, mask)


def drawn_in_step(
    proposal: AbstractAdaptiveProposal, anchors: Tensor, rows: Tensor, count: int, score: Score, key: Key
) -> Candidates:
    """Draws for this rank's rows, by the student's scores.

    Args:
        proposal: a proposal that was started.
        anchors: ``(b,)`` int64, this rank's.
        rows: ``(b,)`` int64, their places in the union batch.
        count: K.
        score: the student's logits of these anchors with any nodes.
        key: of the proposal's part in the step.
    """
    nodes = proposal.propose(anchors, rows, count, score, key)
    return Candidates(anchors, nodes, ~proposal.known.mask(anchors[:, None], nodes))
