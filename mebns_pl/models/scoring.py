"""Scoring many pairs with bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.types import Inputs

SCORE_BLOCK = 2**16
"""Pairs decoded in one go: bounds the memory of evaluation."""


def score_pairs(predictor: LinkPredictor, score: Callable[[Inputs], Tensor], graph: Graph, pairs: Tensor) -> Tensor:
    """Logits ``(m,)`` of ``pairs`` ``(2, m)``, prepared and scored in blocks; never in half precision.

    Scores of 8 bits would be tied in their hundreds, and ranks with them.
    """
    if not pairs.shape[1]:
        return torch.empty(0, device=pairs.device)
    blocks = pairs.split(SCORE_BLOCK, dim=1)
    with torch.autocast(pairs.device.type, enabled=False):
        return torch.cat([score(predictor.prepare(graph, block)) for block in blocks])
