"""Candidates in proportion to a power of their degree."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.negatives.proposals.uniform import draw_legal

_ROUNDS = 8
"""How often a draw that hit a known edge is repeated."""


class DegreeProposal(AbstractStaticProposal):
    """Legal nodes with ``p(v)`` in proportion to ``degree(v) ** power``; popular nodes are harder negatives.

    Draws that hit a known edge are repeated at most eight times; what is still illegal then is replaced by uniform
    draws over the anchor's legal nodes. With ``r`` the share of the distribution that is illegal for an anchor, that
    concerns a share of ``r ** 9`` of its draws: 1e-9 for r = 0.1, 0.2 % for r = 0.5, all for an anchor whose legal
    nodes are all isolated. Isolated nodes are never drawn otherwise, unless ``power`` is 0. A graph without edges is
    drawn from uniformly.

    Mikolov et al., *Distributed Representations of Words and Phrases and their Compositionality*, NIPS 2013,
    section 2.2 (power 3/4).

    Cost: O(N) once, O(K (log N + log E)) an anchor.

    Args:
        power: at least 0, where 0 is uniform.

    Raises:
        ValueError: ``power`` is negative or not finite.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 0, 3], [1, 2, 4]]), num_nodes=6)
        >>> proposal = DegreeProposal(power=0.75)
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> sorted(set(proposal.propose(torch.tensor([3]), 50, Key(0, "docs")).flatten().tolist()))
        [0, 1, 2]
    """

    def __init__(self, power: float = 0.75) -> None:
        if not (math.isfinite(power) and power >= 0):
            raise ValueError(f"power: must be finite and at least 0, got {power}")
        self.power = power

    def prepare(self, graph: Graph) -> None:
        """See :meth:`AbstractStaticProposal.prepare`."""
        weight = graph.degree.double() ** self.power
        if not bool(weight.any()):
            weight = torch.ones_like(weight)
        # Only nodes that can be drawn: no rounding of a uniform number then finds one that cannot.
        self._nodes = weight.nonzero().flatten()
        self._cumulated = weight[self._nodes].cumsum(0)

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractStaticProposal.propose`."""
        generator = key.generator()
        source = anchors.repeat_interleave(num_candidates)
        drawn = self._draw(len(source), generator)
        illegal = self.known.mask(source, drawn).nonzero().flatten()
        for _ in range(_ROUNDS):
            if not len(illegal):
                break
            drawn[illegal] = self._draw(len(illegal), generator)
            illegal = illegal[self.known.mask(source[illegal], drawn[illegal])]
        drawn[illegal] = draw_legal(self.known, source[illegal], generator)
        return drawn.view(len(anchors), num_candidates)

    def _draw(self, size: int, generator: torch.Generator) -> Tensor:
        """``(size,)`` nodes by inverse transform sampling, known edges among them."""
        height = torch.rand(size, generator=generator, dtype=torch.float64) * self._cumulated[-1]
        place = torch.searchsorted(self._cumulated, height, right=True)
        return self._nodes[place.clamp_max(len(self._nodes) - 1)]
