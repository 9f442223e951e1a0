"""Candidates from the anchor's neighbourhood: exactly, and by random walks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph import walk_kernels
from mebns_pl.graph.csr import Graph, structure
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.proposals.abstract import AbstractProposal
from mebns_pl.negatives.proposals.uniform import draw_legal
from mebns_pl.progress import in_threads, slices

_ROUNDS = 8
"""How often a walk that ended at an illegal node is repeated."""


class KHopProposal(AbstractProposal):
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
        >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), num_nodes=6)
        >>> proposal = KHopProposal(hops=3)
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> sorted(set(proposal.propose(torch.tensor([0]), 50, Key(0, "docs")).flatten().tolist()))
        [2, 3]
    """

    def __init__(self, hops: int = 2) -> None:
        if hops < 2:
            raise ValueError(f"hops: must be at least 2, got {hops}")
        self.hops = hops
        self._known: KnownEdges | None = None

    def setup(self, graph: Graph, known: KnownEdges) -> None:
        """See :meth:`AbstractProposal.setup`."""
        self._known = known
        self._graph = _structure(graph)
        self._blocked = known.blocked()

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractProposal.propose`.

        Raises:
            RuntimeError: ``setup`` was not called.
        """
        if self._known is None:
            raise RuntimeError("KHopProposal: call setup(graph, known) before propose(...)")
        drawn = torch.empty(len(anchors), num_candidates, dtype=torch.int64)
        starts, names, out = anchors.contiguous().numpy(), torch.arange(len(anchors)).numpy(), drawn.numpy()
        seed, hops, graph, blocked = key.integer(), self.hops, _arrays(self._graph), _arrays(self._blocked)

        def draw(part: slice) -> None:
            walk_kernels.ball_draws(starts[part], names[part], seed, hops, graph, blocked, out[part])

        in_threads(draw, slices(len(anchors)))
        empty = (drawn[:, 0] < 0).nonzero().flatten()
        generator = key.child("legal").generator()
        drawn[empty] = draw_legal(self._known, anchors[empty, None].expand(-1, num_candidates), generator)
        return drawn


class WalkProposal(AbstractProposal):
    """Where random walks from the anchor end: ``p(v | u)`` as the mean over l = 2 ... length of ``(D^-1 A)^l [u, v]``.

    Each draw is a walk of its own of 2 ... ``length`` steps (each number with the same probability) over uniform
    neighbours. Walks that end at the anchor or at a known edge are repeated at most eight times; what is still illegal
    then is replaced by uniform legal nodes. No table is made: memory is the graph's own.

    Ahrabian et al., *Structure Aware Negative Sampling in Knowledge Graphs* (SANS), EMNLP 2020, arXiv 2009.11355
    (its RW-SANS); there a neighbourhood is what a number of walks made beforehand have met.

    Cost: O(1) once; O(K (length + log E)) an anchor.

    Args:
        length: longest walk, at least 2.

    Raises:
        ValueError: ``length`` is below 2.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), num_nodes=6)
        >>> proposal = WalkProposal(length=2)
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> sorted(set(proposal.propose(torch.tensor([2]), 50, Key(0, "docs")).flatten().tolist()))
        [0, 4]
    """

    def __init__(self, length: int = 2) -> None:
        if length < 2:
            raise ValueError(f"length: must be at least 2, got {length}")
        self.length = length
        self._known: KnownEdges | None = None

    def setup(self, graph: Graph, known: KnownEdges) -> None:
        """See :meth:`AbstractProposal.setup`."""
        self._known = known
        self._graph = _structure(graph)

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractProposal.propose`.

        Raises:
            RuntimeError: ``setup`` was not called.
        """
        if self._known is None:
            raise RuntimeError("WalkProposal: call setup(graph, known) before propose(...)")
        source = anchors.repeat_interleave(num_candidates)
        drawn = torch.empty_like(source)
        illegal = torch.arange(len(source))
        for attempt in range(1 + _ROUNDS):
            if not len(illegal):
                break
            drawn[illegal] = self._walk(source[illegal], illegal, key.child(attempt))
            illegal = illegal[self._known.mask(source[illegal], drawn[illegal])]
        drawn[illegal] = draw_legal(self._known, source[illegal], key.child("legal").generator())
        return drawn.view(len(anchors), num_candidates)

    def _walk(self, starts: Tensor, names: Tensor, key: Key) -> Tensor:
        ends = torch.empty_like(starts)
        arrays = (*_arrays(self._graph), ends.numpy())
        walk_kernels.walk_ends(starts.numpy(), names.numpy(), key.integer(), 2, self.length, *arrays)
        return ends


def _structure(graph: Graph) -> tuple[Tensor, Tensor]:
    """:func:`structure` as tensors.

    Where loader workers are spawned the graph's tensors move into shared memory; arrays on top of them would be left
    hanging.
    """
    if graph.keep is None:
        return graph.indptr, graph.indices
    indptr, indices = structure(graph)
    return torch.from_numpy(indptr), torch.from_numpy(indices)


def _arrays(tensors: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    return tensors[0].numpy(), tensors[1].numpy()
