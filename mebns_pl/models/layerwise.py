"""Layer-wise inference: every node's embedding, one layer after the other, in blocks of nodes.

Only a block with its neighbours is on the device at a time, and nothing is computed twice: each layer first maps all
nodes, then looks at their neighbours. The result is that of the encoder on the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.neighbors import single_nodes, surroundings, with_neighbors
from mebns_pl.graph.sparse import starts_of
from mebns_pl.keys import Key
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.encoders.abstract import AbstractLayeredEncoder
from mebns_pl.progress import with_progress

EDGE_BLOCK = 2**20
"""Directed edges of a block; a node with more is a block of its own."""

NODE_BLOCK = 2**16
"""Nodes of a block."""


RESTRICTED = 2**20
"""Nodes of a graph from which on scorers leave out what they are not asked for: below, all of it is soon embedded."""


@torch.no_grad()
def embed_layerwise(
    encoder: AbstractLayeredEncoder, graph: Graph, device: torch.device | str = "cpu", key: Key | None = None
) -> Tensor:
    """``encoder(graph, key)`` without gradient and in the parameters' own precision, in blocks.

    Cost: the linear maps of N nodes and a pass over E edges a layer (attention, which maps what it is given, does so
    for the neighbours of every block); memory of two layers of all nodes on the CPU and of a block on the device.

    Args:
        encoder: the encoder, on ``device``.
        graph: the whole graph on the CPU, its features in memory or memory-mapped.
        device: where the blocks are computed.
        key: key of a stochastic pass, or None.

    Returns:
        ``(N, out_channels)`` on the CPU.

    Example:
        >>> from mebns_pl.models.encoders.gcn import GCN
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> encoder = GCN(graph.spec, hidden_channels=8)
        >>> bool((embed_layerwise(encoder, graph) == encoder(graph)).all())
        True
    """
    with torch.autocast(torch.device(device).type, enabled=False):
        return _embed(encoder, graph, device, key, [Chosen(graph.num_nodes)] * (encoder.num_layers + 1))


@torch.no_grad()
def embed_some(
    encoder: AbstractLayeredEncoder,
    graph: Graph,
    nodes: Tensor,
    device: torch.device | str = "cpu",
    key: Key | None = None,
) -> tuple[Tensor, Chosen]:
    """As :func:`embed_layerwise`, of some nodes: each layer is computed for the nodes alone that these depend on.

    Every neighbour counts, so that the result is that of the whole graph. Of L layers the last is computed for the
    nodes asked for, the one before for their neighbours besides, and so on: for few nodes a part of the work and
    memory, and never more than all of it.

    Args:
        encoder: as there.
        graph: as there.
        nodes: ``(m,)`` int64, repeated as they may be.
        device: as there.
        key: as there.

    Returns:
        Embeddings ``(n, out_channels)`` of the different nodes, and these, which tell a node's row.
    """
    wanted = torch.zeros(graph.num_nodes, dtype=torch.bool)
    wanted[nodes] = True
    layers = [Chosen.of(wanted)]
    for _ in range(encoder.num_layers):
        wanted = with_neighbors(graph, wanted)
        layers.insert(0, Chosen.of(wanted))
    with torch.autocast(torch.device(device).type, enabled=False):
        return _embed(encoder, graph, device, key, layers), layers[-1]


@dataclass(frozen=True)
class Chosen:
    """The nodes that a table has rows of, ascending.

    Args:
        size: how many; all of the graph's where the others are None.
        nodes: ``(size,)`` int64.
        places: ``(N,)`` int32, each node's row.
    """

    size: int
    nodes: Tensor | None = None
    places: Tensor | None = None

    @staticmethod
    def of(mask: Tensor) -> Chosen:
        """Those where ``mask`` ``(N,)`` says so."""
        nodes = mask.nonzero().flatten()
        # Whoever asks for another node is told by an index that there is not
        return Chosen(len(nodes), nodes, mask.cumsum(0, dtype=torch.int32).sub_(1).masked_fill_(~mask, -1))

    def part(self, start: int, stop: int) -> Tensor:
        """The nodes of some rows."""
        return torch.arange(start, stop) if self.nodes is None else self.nodes[start:stop]

    def rows(self, nodes: Tensor) -> Tensor:
        """``(m,)``: the rows of nodes ``(m,)`` that are among these."""
        return nodes if self.places is None else self.places[nodes].long()


def _embed(
    encoder: AbstractLayeredEncoder, graph: Graph, device: torch.device | str, key: Key | None, layers: list[Chosen]
) -> Tensor:
    """Each layer gets what ``layers`` names at its place, and gives what it names at the next."""
    h: Tensor | None = None
    featureless = replace(graph, x=None)
    for layer, (given, wanted) in enumerate(pairwise(layers)):
        messages: list[Tensor] = []
        shown = f"Layer {layer + 1} of {encoder.num_layers}"
        for start, stop in _shown(list(_node_blocks(given.size)), graph, f"{shown}, nodes"):
            block = single_nodes(graph if h is None else featureless, given.part(start, stop)).to(device)
            own = None if h is None else h[start:stop].to(device)
            messages = _filled(messages, encoder.messages(layer, block, own, key), start, given.size)
        h, own, result = None, None, list[Tensor]()  # what the messages were made from takes no more memory
        for start, stop in _shown(list(_edge_blocks(graph, wanted)), graph, shown):
            block = surroundings(featureless, wanted.part(start, stop))
            assert block.node_ids is not None
            rows = tuple(message.index_select(0, given.rows(block.node_ids)).to(device) for message in messages)
            values = encoder.aggregate(layer, block.to(device), rows)[: stop - start]
            result = _filled(result, (values,), start, wanted.size)
        (h,) = result
    assert h is not None
    return h


def _shown(blocks: Sequence[tuple[int, int]], graph: Graph, what: str) -> Iterable[tuple[int, int]]:
    """The blocks, with a bar where the graph is large."""
    return with_progress(blocks, len(blocks), what) if graph.num_nodes >= RESTRICTED else blocks


def layerwise_scorer(
    predictor: EncoderDecoder,
    graph: Graph,
    device: torch.device | str,
    key: Key | None = None,
    nodes: Tensor | None = None,
) -> Callable[[Tensor], Tensor]:
    """Embeds nodes layer by layer; the function returned scores pairs ``(2, m)`` -> logits ``(m,)``, in blocks.

    Args:
        predictor: the predictor, on ``device``.
        graph: the whole graph on the CPU.
        device: where pairs are scored.
        key: key of a stochastic pass, or None.
        nodes: ``(n,)`` int64, the nodes of all pairs that will be asked for; the others are left out; None for any.

    Raises:
        TypeError: the predictor's encoder has no layers to take apart.
    """
    if not isinstance(predictor.encoder, AbstractLayeredEncoder):
        raise TypeError(f"encoder: expected an AbstractLayeredEncoder, got {type(predictor.encoder).__name__}")
    chosen, encoder_key = Chosen(graph.num_nodes), key and key.child("encoder")
    if nodes is not None:
        z, chosen = embed_some(predictor.encoder, graph, nodes.cpu(), device, encoder_key)
    else:
        z = embed_layerwise(predictor.encoder, graph, device, encoder_key)

    @torch.no_grad()
    def score(pairs: Tensor) -> Tensor:
        logits, names = [], torch.arange(pairs.shape[1], device=device)
        for block, rows in zip(
            pairs.split(predictor.score_block, dim=1), names.split(predictor.score_block), strict=True
        ):
            source, target = (z.index_select(0, chosen.rows(nodes)).to(device) for nodes in block.cpu())
            with torch.autocast(torch.device(device).type, enabled=False):
                logits.append(predictor.decoder(source, target, rows, key and key.child("decoder")))
        return torch.cat(logits)

    return score


def _filled(tables: list[Tensor], rows: tuple[Tensor, ...], start: int, num_nodes: int) -> list[Tensor]:
    """The tables ``(N, ...)`` on the CPU, made with the first block, with a block's rows written into them."""
    tables = tables or [torch.empty(num_nodes, *part.shape[1:], dtype=part.dtype) for part in rows]
    for table, part in zip(tables, rows, strict=True):
        table[start : start + len(part)] = part
    return tables


def _node_blocks(num_nodes: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_nodes, NODE_BLOCK):
        yield start, min(start + NODE_BLOCK, num_nodes)


def _edge_blocks(graph: Graph, chosen: Chosen) -> Iterator[tuple[int, int]]:
    """Consecutive rows with at most ``EDGE_BLOCK`` edges, but one row at least."""
    start, starts = 0, graph.indptr
    if chosen.nodes is not None:
        starts = starts_of(starts[chosen.nodes + 1] - starts[chosen.nodes])
    while start < chosen.size:
        fitting = int(torch.searchsorted(starts, starts[start] + EDGE_BLOCK, right=True)) - 1
        stop = min(max(fitting, start + 1), start + NODE_BLOCK, chosen.size)
        yield start, stop
        start = stop
