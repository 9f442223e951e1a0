"""An adaptive proposal's part in a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mebns_pl.distributed.group import gather_rows
from mebns_pl.keys import Key
from mebns_pl.models.predictor import score_pairs
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.types import TrainBatch


def adapted(system: AbstractLinkSystem, batch: TrainBatch, key: Key) -> tuple[TrainBatch, Callable[[], None]]:
    """Puts the candidates of the system's adaptive proposal, if it has one, in place of the batch's.

    The student encodes once more, without dropout and gradient, on the graph without the union's positives; both
    ``propose`` and ``update`` see the scores of that pass.

    Args:
        system: the system, in training.
        batch: this rank's slice of the union batch.
        key: of the step.

    Returns:
        The batch with new candidates and their mask, and a function that updates the proposal: every rank calls it
        once, before the student moves. Without an adaptive proposal the batch itself, and a function that does nothing.
    """
    proposal, known = system.adaptive_proposal, system.known
    if proposal is None:
        return batch, _do_nothing
    assert known is not None
    graph, anchors = system.graph.without(batch.union_positives), batch.candidate_anchors
    rows = batch.first_row + torch.arange(len(anchors), device=anchors.device)
    with torch.no_grad():
        encoded = system.student.scorer(graph)

    def score(nodes: Tensor) -> Tensor:
        pairs = torch.stack([anchors[:, None].expand_as(nodes), nodes]).flatten(1)
        with torch.no_grad():
            return score_pairs(system.student, encoded, graph, pairs).view(nodes.shape)

    def gather(value: Tensor) -> Tensor:
        return gather_rows(value, batch.first_row, batch.union_positives.shape[1], system.group)

    key = key.child("adaptive")
    candidates = proposal.propose(anchors, rows, batch.candidates.shape[1], score, key)
    mask = ~known.mask(anchors[:, None], candidates)

    def update() -> None:
        with torch.no_grad():
            proposal.update(anchors, rows, candidates, score, gather, key)

    return replace(batch, candidates=candidates, candidate_mask=mask, inputs=None), update


def _do_nothing() -> None:
    """There is no adaptive proposal to update."""
