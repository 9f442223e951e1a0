"""Candidates in proportion to a power of their degree."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.checks import within
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.negatives.proposals.uniform import draw_until_legal


class DegreeProposal(AbstractStaticProposal):
    """Legal nodes with ``p(v)`` in proportion to ``degree(v) ** power``; popular nodes are harder negatives.

    Draws that hit a known edge are repeated at most eight times; what is still illegal then is replaced by uniform
    draws over the anchor's legal nodes. With ``r`` the share of the distribution that is illegal for an anchor, that
    concerns a share of ``r ** 9`` of its draws: 1e-9 for r = 0.1, 0.2 % for r = 0.5, all for an anchor whose legal
    nodes are all isolated. Isolated nodes are never drawn otherwise, unless ``power`` is 0. A graph without edges is
    drawn from uniformly.

    Mikolov et al., *Distributed Representations of Words and Phrases and their Compositionality*, NIPS 2013,
    section 2.2 (power 3/4).

    Cost: O(N) once, O(K (log N + log degree)) an anchor.

    Args:
        power: at least 0, where 0 is uniform.

    Raises:
        ValueError: ``power`` is negative or not finite.

    Example:
        >>> from mebns_pl import Graph, KnownEdges
        >>> graph = Graph.from_edges(torch.tensor([[0, 0, 3], [1, 2, 4]]), num_nodes=6)
        >>> proposal = DegreeProposal(power=0.75)
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> sorted(set(proposal.propose(torch.tensor([3]), 50, Key(0, "docs")).flatten().tolist()))
        [0, 1, 2]
    """

    def __init__(self, power: float = 0.75) -> None:
        within("[0, inf)", "number", power=power)
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

        def draw(source: Tensor, names: Tensor, attempt: int) -> Tensor:
            height = torch.rand(len(source), generator=generator, dtype=torch.float64) * self._cumulated[-1]
            place = torch.searchsorted(self._cumulated, height, right=True)
            return self._nodes[place.clamp_max(len(self._nodes) - 1)]

        return draw_until_legal(self.known, anchors, num_candidates, draw, generator)
