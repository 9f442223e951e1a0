"""An adaptive proposal's part in a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.keys import Key
from mebns_pl.models.predictor import score_pairs
from mebns_pl.negatives.candidates import drawn_in_step
from mebns_pl.systems.link_system import AbstractLinkSystem


def adapted(system: AbstractLinkSystem, batch: TrainBatch, key: Key) -> tuple[TrainBatch, Callable[[], None]]:
    """Has the system's adaptive proposal, if it has one, draw the batch's candidates.

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
    proposal = system.proposal
    if proposal is None:
        return batch, _do_nothing
    graph, anchors = system.graph.without(batch.union_positives), batch.candidate_anchors
    rows = batch.first_row + torch.arange(len(anchors), device=anchors.device)
    with torch.no_grad():
        encoded = system.student.scorer(graph)

    def score(nodes: Tensor) -> Tensor:
        pairs = torch.stack([anchors[:, None].expand_as(nodes), nodes]).flatten(1)
        with torch.no_grad():
            return score_pairs(system.student, encoded, graph, pairs).view(nodes.shape)

    def gather(value: Tensor) -> Tensor:
        return system.group.rows_of_all(value, batch.first_row, batch.union_positives.shape[1])

    key = key.child("adaptive")
    _, candidates, mask = drawn_in_step(proposal, anchors, rows, system.sampler.num_candidates, score, key)

    def update() -> None:
        with torch.no_grad():
            proposal.update(anchors, rows, candidates, score, gather, key)

    return replace(batch, candidates=candidates, candidate_mask=mask), update


def _do_nothing() -> None:
    """There is no adaptive proposal to update."""
