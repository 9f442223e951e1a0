"""The loss of an auto-encoder: every pair of nodes that is no edge is a negative, none is drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mebns_pl.data.train_batch import StepPairs, TrainBatch
from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.mebns.learner import Learner
from mebns_pl.mebns.losses.abstract import at_least_single, negative_losses, positive_losses
from mebns_pl.mebns.step import Negatives, StepResult, union
from mebns_pl.models.decoders.dot import DotDecoder
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.pair_products import pair_dots
from mebns_pl.models.predictor import LinkPredictor

BLOCK = 2**20
"""Logits of all pairs, or numbers of the ends of given pairs, that are in memory at once.

4 MiB in float32, some ten times that with what is made of them.
"""


def all_pairs_step(
    student: Learner[LinkPredictor],
    hide_positives: bool,
    batch: TrainBatch,
    graph: Graph,
    key: Key,
    group: AbstractGroup,
) -> StepResult:
    """The gradient of half the mean loss of the batch's edges plus half the mean loss of *all* non-edges.

    With all edges in one batch that is the loss of graph auto-encoders (Kipf and Welling, 1611.07308), whose weight of
    positives makes the two halves equal. Pairs that no training edge connects are non-edges: held-out ones, too.

    Args:
        student: the predictor to train, with a :class:`DotDecoder`.
        hide_positives: whether the union's positives are left out of message passing.
        batch: this rank's slice of the union batch; its candidates stand for the negatives in logs.
        graph: the whole training graph.
        key: names the pass's dropout.
        group: the ranks, each of which takes some blocks of pairs.

    Returns:
        The gradients over the union batch, and the candidates as negatives.
    """
    module, key = student.module, key.child("student")
    assert isinstance(module, EncoderDecoder)
    assert isinstance(module.decoder, DotDecoder)
    seen, decoder = graph.without(batch.union_positives) if hide_positives else graph, module.decoder
    z = at_least_single(module.encoder(seen, key.child("encoder")))
    pairs = StepPairs(batch)
    positive = _losses_of_pairs(positive_losses, z, decoder.bias, *pairs.pairs[:, pairs.positives])
    negative = non_edge_losses(z, decoder.bias, graph, group)
    num_nodes = graph.num_nodes
    num_non_edges = max(1, num_nodes * (num_nodes - 1) - graph.num_edges)
    loss = 0.5 * positive / batch.union_positives.shape[1] + 0.5 * negative / num_non_edges
    with torch.no_grad():
        blocks = pairs.pairs[:, pairs.candidates].split(_pairs_at_once(z), dim=1)
        logits = torch.cat([pair_dots(z, block) for block in blocks]) + decoder.bias
    columns = torch.arange(pairs.num_candidates, device=z.device).expand(pairs.size, -1)
    mask = batch.candidate_mask
    ones = torch.ones_like(logits)
    shown = Negatives(pairs.pairs[:, pairs.candidates], mask.flatten(), logits, ones, ones, None, None, mask, columns)
    return StepResult({"student": union(student.gradients(loss), group)}, shown)


def non_edge_losses(z: Tensor, bias: Tensor, graph: Graph, group: AbstractGroup) -> Tensor:
    """This rank's share of the sum of ``log(1 + exp(z_u z_v + bias))`` over ordered pairs of two nodes without an edge.

    The sum over all pairs, block by block, less that over the edges and over nodes with themselves. Logits are made
    anew for derivatives, of any order, so that memory holds those of one block, however many edges there are.

    Cost: N^2 C / 2 multiply-adds and N^2 / 2 exponentials, twice, and twice the products in the backward pass; memory
    N C and some times ``BLOCK``.

    Args:
        z: ``(N, C)`` embeddings.
        bias: ``()``.
        graph: whose edges are left out, all that there are: also those that pass no messages.
        group: the ranks.

    Returns:
        ``()``.
    """
    num_nodes = graph.num_nodes
    rows = max(1, BLOCK // max(1, num_nodes))
    starts = list(range(0, num_nodes, rows))
    # The first blocks are the longest: a rank takes long and short ones
    turns = [starts[place // 2 if place % 2 == 0 else -1 - place // 2] for place in range(len(starts))]
    total = z.new_zeros(())
    for start in turns[group.share(len(turns))]:
        total = total + checkpoint(_block_losses, z, bias, start, rows, use_reentrant=False, preserve_rng_state=False)
    own, edges = group.share(num_nodes), group.share(graph.num_edges)
    total = total - negative_losses(z[own].square().sum(dim=1) + bias).sum()
    return total - _losses_of_pairs(negative_losses, z, bias, graph.rows[edges], graph.indices[edges])


def _block_losses(z: Tensor, bias: Tensor, start: int, rows: int) -> Tensor:
    """Rows ``start ... start + rows`` of the symmetric matrix of losses from its diagonal block on, both halves."""
    with torch.autocast(z.device.type, enabled=False):  # what is taken away again is not rounded either
        losses = functional.softplus(z[start : start + rows] @ z[start:].t() + bias)
    return 2 * losses.sum() - losses[:, :rows].sum()


def _losses_of_pairs(
    losses: Callable[[Tensor], Tensor], z: Tensor, bias: Tensor, source: Tensor, target: Tensor
) -> Tensor:
    """``()``, the sum of the losses of given pairs, block by block as those of all pairs."""

    def block(z: Tensor, bias: Tensor, *ends: Tensor) -> Tensor:
        return losses(pair_dots(z, torch.stack(ends)) + bias).sum()

    total, size = z.new_zeros(()), _pairs_at_once(z)
    for ends in zip(source.split(size), target.split(size), strict=True):
        total = total + checkpoint(block, z, bias, *ends, use_reentrant=False, preserve_rng_state=False)
    return total


def _pairs_at_once(z: Tensor) -> int:
    return max(1, BLOCK // max(1, z.shape[1]))
