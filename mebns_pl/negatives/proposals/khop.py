"""Candidates from the anchor's neighbourhood: exactly, and by random walks."""

from __future__ import annotations

import torch
from torch import Tensor

from mebns_pl.checks import at_least
from mebns_pl.graph import walk_kernels
from mebns_pl.graph.csr import Graph, structure
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.negatives.proposals.uniform import draw_legal, draw_until_legal
from mebns_pl.progress import in_threads, slices


class KHopProposal(AbstractStaticProposal):
    """Uniform over the legal nodes within ``hops`` steps of the anchor: ``p(v | u) = [2 <= dist(u, v) <= hops] / Z_u``.

    An anchor without any such node is given uniform legal nodes. Neighbourhoods are explored at each draw and no table
    is kept, so memory does not grow with their size; where they are large, :class:`WalkProposal` is much cheaper.

    Ahrabian et al., *Structure Aware Negative Sampling in Knowledge Graphs* (SANS), EMNLP 2020, arXiv 2009.11355.

    Cost: O(E) once; the edges within ``hops - 1`` steps, and O(K), an anchor.

    Args:
        hops: k, at least 2 (1 is the known edges).

    Raises:
        ValueError: ``hops`` is below 2.

    Example:
        >>> from mebns_pl import Graph, KnownEdges
        >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), num_nodes=6)
        >>> proposal = KHopProposal(hops=3)
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> sorted(set(proposal.propose(torch.tensor([0]), 50, Key(0, "docs")).flatten().tolist()))
        [2, 3]
    """

    def __init__(self, hops: int = 2) -> None:
        at_least(2, hops=hops)
        self.hops = hops

    def prepare(self, graph: Graph) -> None:
        """See :meth:`AbstractStaticProposal.prepare`."""
        self._graph = graph
        self._blocked = self.known.blocked()

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractStaticProposal.propose`."""
        known, drawn = self.known, torch.empty(len(anchors), num_candidates, dtype=torch.int64)
        starts, names, out = anchors.contiguous().numpy(), torch.arange(len(anchors)).numpy(), drawn.numpy()
        seed, graph, blocked = key.integer(), structure(self._graph), tuple(part.numpy() for part in self._blocked)

        def draw(part: slice) -> None:
            walk_kernels.ball_draws(starts[part], names[part], seed, self.hops, graph, blocked, out[part])

        in_threads(draw, slices(len(anchors)))
        empty = (drawn[:, 0] < 0).nonzero().flatten()
        generator = key.child("legal").generator()
        drawn[empty] = draw_legal(known, anchors[empty, None].expand(-1, num_candidates), generator)
        return drawn


class WalkProposal(AbstractStaticProposal):
    """Where random walks from the anchor end: ``p(v | u)`` as the mean over l = 2 ... length of ``(D^-1 A)^l [u, v]``.

    Each draw is a walk of its own of 2 ... ``length`` steps (each number with the same probability) over uniform
    neighbours. Walks that end at the anchor or at a known edge are repeated at most eight times; what is still illegal
    then is replaced by uniform legal nodes. No table is made: memory is the graph's own.

    Ahrabian et al., *Structure Aware Negative Sampling in Knowledge Graphs* (SANS), EMNLP 2020, arXiv 2009.11355
    (its RW-SANS); there a neighbourhood is what a number of walks made beforehand have met.

    Cost: O(1) once; O(K (length + log degree)) an anchor.

    Args:
        length: longest walk, at least 2.

    Raises:
        ValueError: ``length`` is below 2.

    Example:
        >>> from mebns_pl import Graph, KnownEdges
        >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), num_nodes=6)
        >>> proposal = WalkProposal(length=2)
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> sorted(set(proposal.propose(torch.tensor([2]), 50, Key(0, "docs")).flatten().tolist()))
        [0, 4]
    """

    def __init__(self, length: int = 2) -> None:
        at_least(2, length=length)
        self.length = length

    def prepare(self, graph: Graph) -> None:
        """See :meth:`AbstractStaticProposal.prepare`."""
        self._graph = graph

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractStaticProposal.propose`."""

        def walk(starts: Tensor, names: Tensor, attempt: int) -> Tensor:
            ends, seed = torch.empty_like(starts), key.child(attempt).integer()
            arrays = (*structure(self._graph), ends.numpy())
            walk_kernels.walk_ends(starts.numpy(), names.numpy(), seed, 2, self.length, *arrays)
            return ends

        return draw_until_legal(self.known, anchors, num_candidates, walk, key.child("legal").generator())
