"""Uniform candidates, and the draws that other proposals fall back to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal

Draw = Callable[[Tensor, Tensor, int], Tensor]
"""``(m,)`` anchors, the ``(m,)`` draws' names, the number of the attempt -> ``(m,)`` int64 nodes."""

_ROUNDS = 8
"""How often a draw that hit a known edge is repeated."""


class UniformProposal(AbstractStaticProposal):
    """Every legal node of an anchor with the same probability, by construction and without rejection.

    An anchor linked to every other node gets arbitrary ones.

    Cost: O(K log degree) an anchor.

    Example:
        >>> from mebns_pl import Graph, KnownEdges
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
        >>> proposal = UniformProposal()
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> proposal.propose(torch.tensor([1]), 4, Key(0, "docs")).tolist()
        [[3, 3, 3, 3]]
    """

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractStaticProposal.propose`."""
        return draw_legal(self.known, anchors[:, None].expand(-1, num_candidates), key.generator())


def draw_legal(known: KnownEdges, anchors: Tensor, generator: torch.Generator) -> Tensor:
    """One uniform legal node for each anchor: :meth:`~mebns_pl.graph.known_edges.KnownEdges.legal_nodes`.

    Args:
        known: the pairs that are not legal.
        anchors: ``(...)`` int64.
        generator: CPU generator.

    Returns:
        int64 of the shape of ``anchors``.
    """
    return known.legal_nodes(anchors, generator)


def draw_until_legal(
    known: KnownEdges, anchors: Tensor, num_candidates: int, draw: Draw, generator: torch.Generator
) -> Tensor:
    """Legal nodes of each anchor, by a distribution that has illegal nodes, too.

    Draws that hit a known edge are repeated at most eight times; what is still illegal then is replaced by uniform
    draws over the anchor's legal nodes, as in :func:`draw_legal`.

    Args:
        known: the pairs that are not legal.
        anchors: ``(B,)`` int64.
        num_candidates: K.
        draw: what the distribution gives, legal or not.
        generator: CPU generator, for the uniform draws.

    Returns:
        ``(B, K)`` int64.
    """
    source = anchors.repeat_interleave(num_candidates)
    drawn, illegal = torch.empty_like(source), torch.arange(len(source))
    for attempt in range(1 + _ROUNDS):
        if not len(illegal):
            break
        asked = source[illegal]
        drawn[illegal] = nodes = draw(asked, illegal, attempt)
        illegal = illegal[known.mask(asked, nodes)]
    drawn[illegal] = draw_legal(known, source[illegal], generator)
    return drawn.view(len(anchors), num_candidates)
