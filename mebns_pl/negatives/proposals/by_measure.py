"""Structural candidates: the nodes most alike or nearest to the anchor."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.checks import at_least, within
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import AbstractMeasure
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.negatives.proposals.uniform import draw_legal

_TYPED = 4
"""On a graph of types so many times as many nodes are looked at, for those of the right types among them."""


class ProximityProposal(AbstractStaticProposal):
    """Legal nodes of the highest proximity to the anchor, in proportion to a power of it.

    A table of the ``top`` best legal nodes of every node is made once, from the training graph. An anchor without any
    (an isolated one, say) is given uniform legal nodes. Held-out edges are unknown to the table, so some of its nodes
    are links in truth, the more so the higher they stand: ``skip`` leaves the very highest out.

    Cost: the measure's once for every node, with a table of 16 bytes a cell; O(top + K log top) an anchor.

    Args:
        measure: what proximity is.
        top: nodes in an anchor's row of the table, at least 1.
        power: of the proximity, at least 0; 0 draws uniformly from the row.
        skip: how many of the highest nodes of each row are left out, at least 0; the ``top`` next ones make the row.

    Raises:
        ValueError: ``top``, ``power`` or ``skip`` is out of range.

    Example:
        >>> from mebns_pl import CommonNeighbors, Graph, KnownEdges
        >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), num_nodes=6)
        >>> proposal = ProximityProposal(CommonNeighbors(), top=5)
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> sorted(set(proposal.propose(torch.tensor([2]), 50, Key(0, "docs")).flatten().tolist()))
        [0, 4]
    """

    def __init__(self, measure: AbstractMeasure, top: int = 50, power: float = 0.0, skip: int = 0) -> None:
        at_least(1, top=top)
        within("[0, inf)", "number", power=power)
        at_least(0, skip=skip)
        self.measure, self.top, self.power, self.skip = measure, top, power, skip

    def prepare(self, graph: Graph) -> None:
        """See :meth:`AbstractStaticProposal.prepare`."""
        anchors = torch.arange(graph.num_nodes)
        if self.known.types is None:
            nodes, scores = self.measure.top(graph, anchors, self.skip + self.top, exclude=graph)
        else:  # nodes of other types stand among the nearest
            nodes, scores = self.measure.top(graph, anchors, _TYPED * (self.skip + self.top), exclude=graph)
            wrong = self.known.mask(anchors[:, None], nodes.clamp_min(0)) | (nodes < 0)
            order = wrong.byte().argsort(dim=1, stable=True)[:, : self.skip + self.top]
            nodes, scores = nodes.masked_fill(wrong, -1).gather(1, order), scores.gather(1, order)
        nodes, scores = nodes[:, self.skip :], scores[:, self.skip :].double()
        usable = (nodes >= 0) & ~self.known.mask(anchors[:, None], nodes.clamp_min(0))
        scores = scores * usable
        # Only proportions within a row matter: with its highest score at 1 no power overflows.
        highest = scores.amax(dim=1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
        weight = (scores / highest) ** self.power * usable
        self._nodes = nodes
        self._cumulated = weight.cumsum(dim=1)
        # The last node of each row that can be drawn, where no rounding of a uniform number leads past.
        self._last = (self._cumulated < self._cumulated[:, -1:]).sum(dim=1)

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractStaticProposal.propose`."""
        known, generator = self.known, key.generator()
        cumulated = self._cumulated[anchors]
        height = torch.rand(len(anchors), num_candidates, generator=generator, dtype=torch.float64) * cumulated[:, -1:]
        place = torch.searchsorted(cumulated, height, right=True).minimum(self._last[anchors, None])
        drawn = self._nodes[anchors[:, None], place]
        empty = (cumulated[:, -1] == 0).nonzero().flatten()
        drawn[empty] = draw_legal(known, anchors[empty, None].expand(-1, num_candidates), generator)
        return drawn
