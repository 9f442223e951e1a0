"""After a fit, for analysis alone: how many negatives were held-out edges, and what filter and weights did there.

Training never sees held-out edges. Only when it is over are they laid beside what a few more steps would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.mebns.step import Negatives

NUM_STEPS = 4
"""Steps that are looked at."""

Look = Callable[[TrainBatch], tuple[TrainBatch, Negatives]]
"""A batch -> the batch with its candidates, and what the student would learn from."""


def diagnose(data: LinkDataModule, batches: Iterator[TrainBatch], look: Look, group: AbstractGroup) -> dict[str, float]:
    """Shares of held-out edges among candidates, picks and drops, and how the weights treat them.

    Args:
        data: the run's data.
        batches: this rank's slices of steps; the first ``NUM_STEPS`` are looked at.
        look: makes a step without moving anything.
        group: the ranks; the result is the same on all.

    Returns:
        ``held_out/candidates``: share among the legal candidates, what a rule that knows nothing would have;
        ``held_out/picked``: among those learned from, by weight; ``held_out/dropped``: among those that the filter
        dropped; ``held_out/dropped_top``: among those of them that the teacher finds harder than any that stays;
        ``held_out/weight``: mean learned factor of held-out edges over that of the others; and of how many these are
        shares, ``num_candidates``, ``num_dropped`` and ``num_dropped_top``. What there is nothing of is left out;
        nothing at all without held-out edges.
    """
    edges = torch.cat([data.split.val, data.split.test], dim=1)
    if not edges.shape[1]:
        return {}
    held_out = KnownEdges(Graph.from_edges(edges[:, edges[0] != edges[1]], data.train_graph.num_nodes))
    totals = torch.zeros(12, dtype=torch.float64)
    for batch in islice(batches, NUM_STEPS):
        batch, negatives = look(batch)
        totals += _sums(batch, negatives, held_out)
    totals = group.sum(totals.to(batch.positives.device)).cpu()
    return _shares(*totals.tolist())


def _sums(batch: TrainBatch, negatives: Negatives, held_out: KnownEdges) -> Tensor:
    anchors = batch.candidate_anchors.cpu()[:, None].expand(batch.candidates.shape)
    among = held_out.mask(anchors, batch.candidates.cpu())
    legal, kept = batch.candidate_mask.cpu(), negatives.kept.cpu()
    dropped, columns = legal & ~kept, negatives.columns.cpu()
    mask, picked = negatives.mask.cpu().view(columns.shape), among.gather(1, columns)
    weights = negatives.weights.cpu().view(columns.shape).double() * mask
    starting = negatives.starting.cpu().view(columns.shape).double()
    there = mask & (starting > 0)
    hardness = negatives.candidate_hardness
    top = torch.zeros_like(dropped)
    if hardness is not None and hardness.shape[1]:
        hardness = hardness.cpu()
        top = dropped & (hardness > hardness.masked_fill(~kept, -torch.inf).amax(dim=1, keepdim=True))
    factor = torch.where(there, weights / starting.clamp(min=1e-300), 0)
    parts = [
        (among & legal, legal),
        (among & dropped, dropped),
        (among & top, top),
        (weights * picked, weights),
        (factor * picked, there & picked),
        (factor * ~picked, there & ~picked),
    ]
    return torch.stack([values.double().sum() for part in parts for values in part])


def _shares(
    held: float, legal: float, held_dropped: float, dropped: float, held_top: float, top: float,
    held_weight: float, weight: float,
    held_factor: float, num_held: float, other_factor: float, num_others: float,
) -> dict[str, float]:  # fmt: skip
    counts = (("num_candidates", legal), ("num_dropped", dropped), ("num_dropped_top", top))
    found = {name: whole for name, whole in counts if whole > 0}
    for name, part, whole in (
        ("candidates", held, legal),
        ("dropped", held_dropped, dropped),
        ("dropped_top", held_top, top),
        ("picked", held_weight, weight),
    ):
        if whole > 0:
            found[f"held_out/{name}"] = part / whole
    if num_held and num_others and other_factor > 0:
        found["held_out/weight"] = held_factor / num_held / (other_factor / num_others)
    return found
