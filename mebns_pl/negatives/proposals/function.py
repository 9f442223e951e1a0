"""Candidates from a function of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mebns_pl.errors import DataError
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.negatives.own_function import kind_of, name_of
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.negatives.proposals.uniform import draw_legal


class FunctionProposal(AbstractStaticProposal):
    """What a function draws: ``function(graph, anchors, num_candidates, generator)``, named in YAML by its import path.

    It is given the training graph on the CPU, ``anchors`` ``(B,)``, K and a seeded generator for its draws, and gives
    nodes ``(B, K)``. Nodes that are no legal negative are replaced by uniform ones that are.

    Cost: the function's; O(K log E) an anchor.

    Args:
        function: the function.

    Raises (in ``propose``):
        DataError: it gives another shape or type, or nodes that are not in the graph.

    Example:
        >>> from mebns_pl import Graph, KnownEdges
        >>> def any_node(graph, anchors, num_candidates, generator):
        ...     return torch.randint(graph.num_nodes, (len(anchors), num_candidates), generator=generator)
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=4)
        >>> proposal = FunctionProposal(any_node)
        >>> proposal.setup(graph, KnownEdges(graph))
        >>> sorted(set(proposal.propose(torch.tensor([0]), 50, Key(0, "docs")).flatten().tolist()))
        [2, 3]
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def prepare(self, graph: Graph) -> None:
        """See :meth:`AbstractStaticProposal.prepare`."""
        self._graph = graph

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        """See :meth:`AbstractStaticProposal.propose`."""
        known = self.known
        nodes = self.function(self._graph, anchors, num_candidates, key.generator())
        shape, name = (len(anchors), num_candidates), name_of(self.function)
        if not isinstance(nodes, Tensor) or tuple(nodes.shape) != shape or nodes.dtype != torch.int64:
            raise DataError(f"proposal: {name} gave {kind_of(nodes)}; allowed are nodes, int64 of shape {shape}")
        if nodes.numel() and not 0 <= int(nodes.min()) <= int(nodes.max()) < known.num_nodes:
            raise DataError(
                f"proposal: {name} gave nodes {int(nodes.min())} ... {int(nodes.max())}; "
                f"allowed are 0 ... {known.num_nodes - 1}"
            )
        source = anchors[:, None].expand(shape)
        wrong = known.mask(source, nodes)
        drawn = nodes.clone()
        drawn[wrong] = draw_legal(known, source[wrong], key.child("legal").generator())
        return drawn
