"""Uniform pairs: negatives that have nothing to do with the positives."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.uniform import UniformProposal


class UniformPairProposal(UniformProposal):
    """Both nodes of a negative are uniform, as in OGB's and HeaRT's baselines; where anchors are asked for, one is.

    With :class:`UniformProposal` one end of a negative is an end of a positive, so that nodes of many edges are in many
    negatives. Here every node is in equally many, and degree alone tells positives from negatives to some extent.

    Cost: O(K log degree) an anchor.

    Example:
        >>> from mebns_pl import Graph, KnownEdges
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=40)
        >>> proposal = UniformPairProposal()
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> len(proposal.anchors(torch.ones(300, dtype=torch.long), Key(0, "docs")).unique())
        40
    """

    def anchors(self, anchors: Tensor, key: Key) -> Tensor:
        """Uniform nodes in place of the positives' ends."""
        return torch.randint(self.known.num_nodes, anchors.shape, generator=key.generator())
