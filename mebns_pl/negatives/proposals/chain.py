"""Candidates from Markov chains that follow the student's scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mebns_pl.checks import at_least, within
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractAdaptiveProposal, Gather, Score, write_rows
from mebns_pl.negatives.row_draws import fractions, legal_nodes, whole_numbers
from mebns_pl.types import GraphSpec


class ChainProposal(AbstractAdaptiveProposal):
    """Metropolis-Hastings chains over each anchor's legal nodes (MCNS), ``p(v | u) = exp(power f(u, v)) / Z``.

    f is the student's logit. A move from x is to a uniform legal node with probability ``uniform_share``, else to one
    of x and its neighbours; a move to y is taken with probability ``min(1, p(y) q(x | y) / (p(x) q(y | x)))``, and
    never where y is not legal. Each anchor has ``num_chains`` chains, which go on from where they were when the anchor
    last came up; while the student changes they follow. Column j of the candidates is chain j; where more candidates
    are asked for than there are chains, they come again. Chains start at uniform legal nodes.

    Yang et al., *Understanding Negative Sampling in Graph Representation Learning*, KDD 2020, arXiv 2005.09863,
    algorithm 1. There one chain goes on from anchor to anchor in depth-first order and moves to nearest nodes by
    embedding; here anchors have chains of their own, and neighbours in the graph stand for near nodes.

    Cost: memory 8 N ``num_chains`` bytes; a step scores ``1 + num_steps`` nodes a candidate.

    Args:
        num_chains: chains of each anchor, at least 1.
        num_steps: moves of a chain each time its anchor comes up, at least 1.
        power: of the target distribution, at least 0; the paper's α.
        uniform_share: probability of a uniform move, in (0, 1].

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> from mebns_pl import Graph, KnownEdges
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=6)
        >>> proposal = ChainProposal(num_chains=3)
        >>> proposal.build(graph.spec)
        >>> proposal.start(graph, KnownEdges(graph), Key(0, "docs"))
        >>> proposal.chains.shape
        torch.Size([6, 3])
    """

    def __init__(
        self, num_chains: int = 8, num_steps: int = 1, power: float = 0.75, uniform_share: float = 0.5
    ) -> None:
        super().__init__()
        at_least(1, num_chains=num_chains, num_steps=num_steps)
        within("[0, inf)", "number", power=power)
        within("(0, 1]", uniform_share=uniform_share)
        self.num_chains, self.num_steps = num_chains, num_steps
        self.power, self.uniform_share = power, uniform_share

    def build(self, spec: GraphSpec) -> None:
        """Chains of every node, nowhere yet."""
        self.chains = nn.Buffer(torch.full((spec.num_nodes, self.num_chains), -1))

    def fill(self, graph: Graph, key: Key) -> None:
        """See :meth:`AbstractAdaptiveProposal.fill`."""
        # A node and its neighbours: to stay is one of the moves, so that a node without neighbours has one
        self._indptr, self._near = self.known.blocked()
        self._choices = self._indptr.diff()
        nodes = (self.chains[:, 0] < 0).nonzero().flatten()
        self.chains[nodes] = legal_nodes(self.known, nodes, nodes, self.num_chains, key.child("start"))

    def propose(self, anchors: Tensor, rows: Tensor, num_candidates: int, score: Score, key: Key) -> Tensor:
        """See :meth:`AbstractAdaptiveProposal.propose`."""
        place = self.chains[anchors, : min(num_candidates, self.num_chains)]
        height = self.power * score(place).double()
        for step in range(self.num_steps):
            place, height = self._move(anchors, rows, place, height, score, key.child(step))
        return place[:, torch.arange(num_candidates, device=place.device) % self.num_chains]

    def update(self, anchors: Tensor, rows: Tensor, candidates: Tensor, score: Score, gather: Gather, key: Key) -> None:
        """See :meth:`AbstractAdaptiveProposal.update`: the chains stay where ``propose`` has brought them."""
        moved = min(candidates.shape[1], self.num_chains)
        write_rows(self.chains[:, :moved], gather(anchors), gather(candidates[:, :moved].contiguous()))

    def _move(
        self, anchors: Tensor, rows: Tensor, place: Tensor, height: Tensor, score: Score, key: Key
    ) -> tuple[Tensor, Tensor]:
        """One move of every chain: nodes ``(b, C)`` and their log target, up to a constant."""
        columns = place.shape[1]
        far = legal_nodes(self.known, anchors, rows, columns, key.child("far"))
        near = self._near[self._indptr[place] + whole_numbers(key.child("near"), rows, self._choices[place], columns)]
        other = torch.where(fractions(key.child("move"), rows, columns) < self.uniform_share, far, near)
        other_height = self.power * score(other).double()
        ratio = other_height - height + self._log_move(anchors, other, place) - self._log_move(anchors, place, other)
        taken = fractions(key.child("take"), rows, columns).log() < ratio
        accepted = taken & ~self.known.mask(anchors[:, None], other)
        return torch.where(accepted, other, place), torch.where(accepted, other_height, height)

    def _log_move(self, anchors: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """``log q(end | start)`` where the two differ."""
        far = self.uniform_share / self.known.num_legal(anchors).clamp_min(1).double()[:, None]
        near = (1 - self.uniform_share) * self.known.listed(start, end) / self._choices[start]
        return (far + near).log()
