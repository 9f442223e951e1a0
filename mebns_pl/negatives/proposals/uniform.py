"""Uniform candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal


class UniformProposal(AbstractStaticProposal):
    """Every legal node of an anchor with the same probability, by construction and without rejection.

    An anchor linked to every other node gets arbitrary ones.

    Cost: O(K log E) an anchor.

    Example:
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
    """One uniform legal node for each anchor, an arbitrary node for one that has none.

    The chance of two legal nodes differs by less than N / 2**63, the price of a modulo.

    Args:
        known: the pairs that are not legal.
        anchors: ``(...)`` int64.
        generator: CPU generator.

    Returns:
        int64 of the shape of ``anchors``.
    """
    rank = torch.randint(2**63 - 1, anchors.shape, generator=generator) % known.num_legal(anchors).clamp_min(1)
    # Where nothing is legal there is no such rank, and the search ends past the last node.
    return known.legal_node(anchors, rank).clamp_max(known.num_nodes - 1)
