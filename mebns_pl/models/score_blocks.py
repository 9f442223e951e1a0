"""Scoring many pairs with bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.predictor import Inputs, LinkPredictor


def score_pairs(
    predictor: LinkPredictor, score: Callable[[Inputs], Tensor], graph: Graph, pairs: Tensor, key: Key | None = None
) -> Tensor:
    """Logits ``(m,)`` of ``pairs`` ``(2, m)``, prepared and scored in blocks; with a key, in one stochastic pass.

    Never in half precision: scores of 8 bits would be tied in their hundreds, and ranks with them.
    """
    if not pairs.shape[1]:
        return torch.empty(0, device=pairs.device)
    rows = torch.arange(pairs.shape[1], device=pairs.device).split(predictor.score_block)
    with torch.autocast(pairs.device.type, enabled=False):
        return torch.cat([score(predictor.prepare(graph, pairs[:, block], block, key)) for block in rows])
