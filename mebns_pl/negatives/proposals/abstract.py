"""The family of proposals: anchors -> candidates, drawn ahead by the training graph, or in the step by the student."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mebns_pl.families import Family
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.types import GraphSpec

Score = Callable[[Tensor], Tensor]
"""``(b, C)`` int64 nodes -> ``(b, C)`` the student's logits of (anchor, node), without dropout or gradient."""

Gather = Callable[[Tensor], Tensor]
"""``(b, ...)`` of this rank's rows -> ``(B, ...)`` of the union batch's, the same on all ranks."""


class AbstractProposal(ABC):
    """A distribution over candidate nodes for each anchor node; one of the two kinds below.

    What a proposal cannot avoid (an anchor linked to every node has no legal candidate) it returns all the same:
    known edges are masked where candidates are drawn (:mod:`mebns_pl.negatives.candidates`).

    Example:
        >>> [name for name, cls in PROPOSALS.classes.items() if issubclass(cls, AbstractAdaptiveProposal)]
        ['CacheProposal', 'ChainProposal', 'GeneratorProposal']
    """

    _known: KnownEdges | None = None

    @property
    def known(self) -> KnownEdges:
        """The pairs that no draw should return where that can be helped.

        Raises:
            RuntimeError: no graph was given yet.
        """
        if self._known is None:
            raise RuntimeError(f"{type(self).__name__}: call setup(graph, known), or start of an adaptive one, first")
        return self._known

    @abstractmethod
    def propose(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draws candidates ``(b, K)`` int64; what they are drawn by is told by the two kinds."""


PROPOSALS = Family(AbstractProposal, "--model.sampler.proposal")
"""Every proposal, of either kind."""


class AbstractStaticProposal(AbstractProposal):
    """Draws by the training graph alone, ahead of the step: in the main process or in loader workers.

    ``setup`` is called once with the training graph, ``propose`` any number of times after it. Draws are independent,
    so an anchor can be given the same candidate twice.

    Example:
        >>> class AnyNode(AbstractStaticProposal):
        ...     def prepare(self, graph):
        ...         self.num_nodes = graph.num_nodes
        ...     def propose(self, anchors, num_candidates, key):
        ...         return torch.randint(self.num_nodes, (len(anchors), num_candidates), generator=key.generator())
        >>> graph, proposal = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4), AnyNode()
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> proposal.propose(torch.tensor([0, 1]), 3, Key(0, "docs")).shape
        torch.Size([2, 3])
    """

    _prepared: KnownEdges | None = None

    def setup(self, graph: Graph, known: KnownEdges) -> None:
        """Makes the proposal ready for a graph; where it is already, nothing is computed again.

        Args:
            graph: the training graph on the CPU.
            known: its edges, which no draw should return where that can be helped.
        """
        if self._prepared is not known:
            self._known = known
            self.prepare(graph)
            self._prepared = known  # only now: what has failed is not ready

    def prepare(self, graph: Graph) -> None:
        """Computes what the draws need, from the training graph alone; :attr:`known` is there already."""

    def anchors(self, anchors: Tensor, key: Key) -> Tensor:
        """The nodes that the student's candidates stand opposite to: by default the positives' own anchors.

        Args:
            anchors: ``(B,)`` int64 on the CPU, one end of each positive.
            key: the draw's key, for proposals that draw whole pairs.

        Returns:
            ``(B,)`` int64; ``anchors`` itself where they are kept.
        """
        return anchors

    def draw(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """:meth:`propose`, and on a graph of types uniform legal nodes in place of those that do not fit the anchor's.

        Arguments and result as of :meth:`propose`.
        """
        nodes = self.propose(anchors, num_candidates, key)
        if self.known.types is None:
            return nodes
        source = anchors[:, None].expand_as(nodes)
        other = self.known.legal_nodes(source, key.child("types").generator())
        return torch.where(self.known.mask(source, nodes), other, nodes)

    @abstractmethod
    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """Draws candidates.

        Args:
            anchors: ``(B,)`` int64 on the CPU.
            num_candidates: K, at least 1.
            key: the draw's key; the same key gives the same candidates.

        Returns:
            ``(B, K)`` int64 node numbers.
        """


class AbstractAdaptiveProposal(AbstractProposal, nn.Module):
    """Draws by the student that is being trained, in the step; it lives in the system and in its checkpoints.

    The constructor takes options alone. A system copies the proposal and calls ``build``, which makes all state, so
    that a checkpoint can be loaded into it, and ``start`` when training starts or goes on. A step calls ``propose`` for
    this rank's rows, computes the student's gradients, and calls ``update``, all with the same student. ``propose``
    changes nothing. ``update`` changes parameters and buffers by what ``gather`` gives only, so that all ranks hold the
    same. Draws are by row name (:mod:`mebns_pl.negatives.row_draws`): r ranks draw what one process would. State is
    kept for every node, so an adaptive proposal works with whole graphs only.

    Example:
        >>> class EveryNode(AbstractAdaptiveProposal):
        ...     def build(self, spec):
        ...         self.num_nodes = spec.num_nodes
        ...     def propose(self, anchors, rows, num_candidates, score, key):
        ...         scores = score(torch.arange(self.num_nodes).expand(len(anchors), -1))
        ...         return scores.topk(num_candidates).indices
        >>> proposal, anchors = EveryNode(), torch.tensor([0])
        >>> proposal.build(GraphSpec(num_nodes=4))
        >>> proposal.propose(anchors, anchors, 2, lambda nodes: -nodes.float(), Key(0, "docs")).tolist()
        [[0, 1]]
    """

    def build(self, spec: GraphSpec) -> None:
        """Makes parameters and buffers for a graph of this size; called once."""

    def start(self, graph: Graph, known: KnownEdges, key: Key) -> None:
        """Called when training starts or goes on.

        Args:
            graph: the training graph, on this module's device.
            known: its edges, on the same device.
            key: of the draws made here.
        """
        self._known = known
        self.fill(graph, key)

    def fill(self, graph: Graph, key: Key) -> None:
        """Fills state that was never filled, and keeps what was; :attr:`known` is there already."""

    @abstractmethod
    def propose(self, anchors: Tensor, rows: Tensor, num_candidates: int, score: Score, key: Key) -> Tensor:
        """Draws candidates.

        Args:
            anchors: ``(b,)`` int64, this rank's.
            rows: ``(b,)`` int64, their places in the union batch.
            num_candidates: K, at least 1.
            score: the student's logits of these anchors with any nodes.
            key: the draw's key.

        Returns:
            ``(b, K)`` int64 node numbers.
        """

    def update(self, anchors: Tensor, rows: Tensor, candidates: Tensor, score: Score, gather: Gather, key: Key) -> None:
        """Learns from a step.

        Args:
            anchors: ``(b,)`` int64, as given to :meth:`propose`.
            rows: ``(b,)`` int64, as given to :meth:`propose`.
            candidates: ``(b, K)`` int64, what it returned.
            score: the same logits; the student has not moved yet.
            gather: this rank's rows -> the union's; every rank calls it equally often.
            key: as given to :meth:`propose`.
        """


def write_rows(table: Tensor, anchors: Tensor, values: Tensor) -> None:
    """``table[anchors] = values`` in place; of rows with the same anchor the first counts.

    Args:
        table: ``(N, C)``.
        anchors: ``(B,)`` int64.
        values: ``(B, C)``.
    """
    places = torch.arange(len(anchors), device=anchors.device)
    first = torch.full((len(table),), len(anchors), device=anchors.device)
    first.scatter_reduce_(0, anchors, places, "amin")
    chosen = first[anchors] == places
    table[anchors[chosen]] = values[chosen]
