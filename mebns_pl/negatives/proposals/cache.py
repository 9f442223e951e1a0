"""Candidates from a cache of hard negatives for each anchor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mebns_pl.checks import at_least
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractAdaptiveProposal, Gather, Score, write_rows
from mebns_pl.negatives.row_draws import gumbel, legal_nodes, whole_numbers
from mebns_pl.types import GraphSpec


class CacheProposal(AbstractAdaptiveProposal):
    """A cache of nodes for each anchor, drawn from uniformly and refreshed by importance (NSCaching).

    After a step the cache C_u of each of its anchors becomes ``size`` of the nodes ``C_u + R_u``, drawn one after the
    other without replacement with ``p(v) = exp f(u, v) / Z``, where R_u are ``num_new`` uniform legal nodes and f is
    the student's logit. A cache starts with uniform legal nodes. Of rows of a batch with the same anchor the first one
    refreshes.

    Zhang et al., *NSCaching: Simple and Efficient Negative Sampling for Knowledge Graph Embedding*, ICDE 2019, arXiv
    1812.06410, algorithms 2 and 3.

    Cost: memory 8 N ``size`` bytes; a step scores ``size + num_new`` nodes an anchor.

    Args:
        size: nodes of each cache, at least 1; the paper's N1.
        num_new: fresh nodes at each refresh, at least 1; the paper's N2.

    Raises:
        ValueError: ``size`` or ``num_new`` is below 1.

    Example:
        >>> from mebns_pl import Graph, KnownEdges
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=6)
        >>> proposal = CacheProposal(size=4)
        >>> proposal.build(graph.spec)
        >>> proposal.start(graph, KnownEdges(graph), Key(0, "docs"))
        >>> proposal.cache.shape
        torch.Size([6, 4])
    """

    def __init__(self, size: int = 50, num_new: int = 50) -> None:
        super().__init__()
        at_least(1, size=size, num_new=num_new)
        self.size, self.num_new = size, num_new

    def build(self, spec: GraphSpec) -> None:
        """An empty cache for every node."""
        self.cache = nn.Buffer(torch.full((spec.num_nodes, self.size), -1))

    def fill(self, graph: Graph, key: Key) -> None:
        """See :meth:`AbstractAdaptiveProposal.fill`."""
        nodes = (self.cache[:, 0] < 0).nonzero().flatten()
        self.cache[nodes] = legal_nodes(self.known, nodes, nodes, self.size, key.child("start"))

    def propose(self, anchors: Tensor, rows: Tensor, num_candidates: int, score: Score, key: Key) -> Tensor:
        """See :meth:`AbstractAdaptiveProposal.propose`; scores are not asked for."""
        places = whole_numbers(key.child("draw"), rows, self.size, num_candidates)
        return self.cache[anchors].gather(1, places)

    def update(self, anchors: Tensor, rows: Tensor, candidates: Tensor, score: Score, gather: Gather, key: Key) -> None:
        """See :meth:`AbstractAdaptiveProposal.update`."""
        fresh = legal_nodes(self.known, anchors, rows, self.num_new, key.child("fresh"))
        nodes = torch.cat([self.cache[anchors], fresh], dim=1)
        logits = score(nodes).double() + gumbel(key.child("refresh"), rows, nodes.shape[1])
        kept = nodes.gather(1, logits.topk(self.size, dim=1).indices)
        write_rows(self.cache, gather(anchors), gather(kept))
