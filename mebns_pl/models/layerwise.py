"""Layer-wise inference: every node's embedding, one layer after the other, in blocks of nodes.

Only a block with its neighbours is on the device at a time, and nothing is computed twice: each layer first maps all
nodes, then looks at their neighbours. The result is that of the encoder on the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.neighbors import single_nodes, surroundings
from mebns_pl.keys import Key
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.encoders.abstract import AbstractLayeredEncoder

EDGE_BLOCK = 2**20
"""Directed edges of a block; a node with more is a block of its own."""

NODE_BLOCK = 2**16
"""Nodes of a block."""


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
        return _embed(encoder, graph, device, key)


def _embed(encoder: AbstractLayeredEncoder, graph: Graph, device: torch.device | str, key: Key | None) -> Tensor:
    h: Tensor | None = None
    featureless = replace(graph, x=None)
    for layer in range(encoder.num_layers):
        messages: list[Tensor] = []
        for start, stop in _node_blocks(graph.num_nodes):
            block = single_nodes(graph if h is None else featureless, torch.arange(start, stop)).to(device)
            own = None if h is None else h[start:stop].to(device)
            messages = _filled(messages, encoder.messages(layer, block, own, key), start, graph.num_nodes)
        result: list[Tensor] = []
        for start, stop in _edge_blocks(graph):
            block = surroundings(featureless, torch.arange(start, stop))
            assert block.node_ids is not None
            rows = tuple(message.index_select(0, block.node_ids).to(device) for message in messages)
            values = encoder.aggregate(layer, block.to(device), rows)[: stop - start]
            result = _filled(result, (values,), start, graph.num_nodes)
        (h,) = result
    assert h is not None
    return h


def layerwise_scorer(
    predictor: EncoderDecoder, graph: Graph, device: torch.device | str, key: Key | None = None
) -> Callable[[Tensor], Tensor]:
    """Embeds all nodes layer by layer; the function returned scores pairs ``(2, m)`` -> logits ``(m,)``, in blocks.

    Args:
        predictor: the predictor, on ``device``.
        graph: the whole graph on the CPU.
        device: where pairs are scored.
        key: key of a stochastic pass, or None.

    Raises:
        TypeError: the predictor's encoder has no layers to take apart.
    """
    if not isinstance(predictor.encoder, AbstractLayeredEncoder):
        raise TypeError(f"encoder: expected an AbstractLayeredEncoder, got {type(predictor.encoder).__name__}")
    z = embed_layerwise(predictor.encoder, graph, device, key and key.child("encoder"))

    @torch.no_grad()
    def score(pairs: Tensor) -> Tensor:
        logits, names = [], torch.arange(pairs.shape[1], device=device)
        for block, rows in zip(
            pairs.split(predictor.score_block, dim=1), names.split(predictor.score_block), strict=True
        ):
            source, target = (z.index_select(0, nodes).to(device) for nodes in block.cpu())
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


def _edge_blocks(graph: Graph) -> Iterator[tuple[int, int]]:
    """Consecutive nodes with at most ``EDGE_BLOCK`` edges, but one node at least."""
    start, indptr = 0, graph.indptr
    while start < graph.num_nodes:
        fitting = int(torch.searchsorted(indptr, indptr[start] + EDGE_BLOCK, right=True)) - 1
        stop = min(max(fitting, start + 1), start + NODE_BLOCK, graph.num_nodes)
        yield start, stop
        start = stop
