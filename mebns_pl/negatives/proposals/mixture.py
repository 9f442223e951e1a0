"""Candidates from several proposals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mebns_pl.checks import expect
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal


class MixtureProposal(AbstractStaticProposal):
    """Each candidate comes from one of several proposals, chosen with fixed probabilities, independently of all others.

    Cost: that of every proposal of positive weight, for the full number of candidates.

    Args:
        proposals: at least one.
        weights: the probability of each proposal, in the same order; none negative, sum 1.

    Raises:
        ValueError: no proposal, another number of weights, or weights that are no probabilities.

    Example:
        >>> from mebns_pl import DegreeProposal, Graph, KnownEdges, UniformProposal
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=6)
        >>> proposal = MixtureProposal([UniformProposal(), DegreeProposal()], weights=[0.9, 0.1])
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> proposal.propose(torch.tensor([0, 1]), 3, Key(0, "docs")).shape
        torch.Size([2, 3])
    """

    def __init__(self, proposals: list[AbstractStaticProposal], weights: list[float]) -> None:
        self.proposals, self.weights = list(proposals), list(weights)
        expect(len(proposals) > 0, "one or more", proposals=self.proposals)
        expect(len(weights) == len(proposals), f"one for each of the {len(proposals)} proposals", weights=self.weights)
        probabilities = min(weights) >= 0 and math.isclose(math.fsum(weights), 1.0, abs_tol=1e-6)
        expect(probabilities, "probabilities, none negative and of sum 1", weights=self.weights)

    def prepare(self, graph: Graph) -> None:
        """Sets every proposal up."""
        for proposal in self.proposals:
            proposal.setup(graph, self.known)

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractStaticProposal.propose`."""
        used = [index for index, weight in enumerate(self.weights) if weight > 0]
        drawn = [self.proposals[index].propose(anchors, num_candidates, key.child(index)) for index in used]
        bounds = torch.tensor([self.weights[index] for index in used], dtype=torch.float64).cumsum(0)
        height = torch.rand(drawn[0].shape, generator=key.child("choice").generator(), dtype=torch.float64)
        # The last bound is left out: it is 1 up to rounding, and above it stands nothing.
        choice = torch.bucketize(height, bounds[:-1], right=True)
        return torch.stack(drawn).gather(0, choice[None])[0]
