"""From logits to probabilities, by held-out edges: of the pairs that score so high, how many were edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.evaluation.negatives import uniform_non_edges
from mebns_pl.keys import Key
from mebns_pl.systems.evaluation import AbstractEvaluation

NUM_NON_EDGES = 2**18
"""Drawn to calibrate, and as many again to see whether it holds; each stands for an equal share of all non-edges."""
BINS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Probabilities between which reliability is told: most pairs are no link, so that the bins grow."""


@dataclass(frozen=True)
class Calibration:
    """A rising function from logits to probabilities, linear between knots.

    Args:
        knots: ``(k,)`` float64 ascending logits.
        values: ``(k,)`` float64 ascending, the probabilities there.

    Example:
        >>> Calibration(np.array([0.0, 2.0]), np.array([0.0, 0.5])).probability(torch.tensor([-1.0, 1.0, 3.0])).tolist()
        [0.0, 0.25, 0.5]
    """

    knots: np.ndarray
    values: np.ndarray

    def probability(self, logits: Tensor) -> np.ndarray:
        """``(n,)`` logits -> ``(n,)`` float64 in [0, 1]."""
        chance: np.ndarray = np.interp(logits.double().cpu().numpy(), self.knots, self.values)
        return chance


def fit_calibration(edges: Tensor, non_edges: Tensor, num_edges: float, num_non_edges: float) -> Calibration:
    """Isotonic regression of edge or not on the logit (Zadrozny and Elkan, KDD 2002), in the shares that there are.

    One non-edge more stands above all, with the weight of an edge: so that what scores highest is not sure because one
    edge did.

    Args:
        edges: ``(p,)`` logits of held-out edges, one at least.
        non_edges: ``(n,)`` logits of uniform non-edges.
        num_edges: how many edges the p stand for.
        num_non_edges: how many non-edges the n stand for.

    Example:
        >>> found = fit_calibration(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0]), 2, 2)
        >>> found.probability(torch.tensor([0.0, 3.0])).round(3).tolist()
        [0.0, 0.667]
    """
    top = torch.cat([edges, non_edges]).max()[None]
    logits = torch.cat([edges, non_edges, top]).double().cpu().numpy()
    is_edge = np.r_[np.ones(len(edges)), np.zeros(len(non_edges) + 1)]
    weight = num_edges / len(edges)
    weights = np.r_[
        np.full(len(edges), weight), np.full(len(non_edges), num_non_edges / max(1, len(non_edges))), weight
    ]
    # Pairs of one logit are one: regression would order them otherwise
    knots, places = np.unique(logits, return_inverse=True)
    total = np.bincount(places, weights)
    share = np.bincount(places, weights * is_edge) / total
    return Calibration(knots, isotonic_regression(share, weights=total).x)


def reliability(
    told: Calibration, edges: Tensor, non_edges: Tensor, num_edges: float, num_non_edges: float
) -> pd.DataFrame:
    """Whether probabilities hold on other pairs; arguments as of :func:`fit_calibration`.

    Returns:
        A row a bin of :data:`BINS` that has pairs, highest first: ``from``, ``to``, ``told`` (mean probability),
        ``found`` (share of edges) and ``edges`` (how many of the p).
    """
    chance = np.r_[told.probability(edges), told.probability(non_edges)]
    is_edge = np.r_[np.ones(len(edges)), np.zeros(len(non_edges))]
    weights = np.where(is_edge, num_edges / max(1, len(edges)), num_non_edges / max(1, len(non_edges)))
    rows = []
    for low, high in zip(BINS[-2::-1], BINS[:0:-1], strict=True):
        within = (chance >= low) & ((chance < high) | (high == BINS[-1]))
        if within.any():
            mean = [float(np.average(value[within], weights=weights[within])) for value in (chance, is_edge)]
            rows.append((low, high, *mean, int(is_edge[within].sum())))
    return pd.DataFrame(rows, columns=["from", "to", "told", "found", "edges"])


def calibrate(system: AbstractEvaluation, data: LinkDataModule) -> tuple[Calibration, pd.DataFrame] | None:
    """Calibrates a trained system on the validation edges, and looks at the test edges whether it holds.

    The probability is that of a pair which training has not seen as an edge to be one of the held-out edges, with as
    many of these, validation and test together, among all non-edges as there are. It holds for missing links as far as
    these are as many and as those that were held out.

    Args:
        system: a trained system that its trainer knows.
        data: its data module.

    Returns:
        The calibration and its reliability (empty without test edges); None without validation edges or non-edges.
    """
    split, size = data.split, data.loaded.num_nodes
    pairs = size * (size - 1) // 2 if data.types is None else data.types.num_pairs
    total = pairs - split.all.shape[1]
    held_out = split.val.shape[1] + split.test.shape[1]
    if not split.val.shape[1] or not total:
        return None
    key = data.split_key.child("calibration")
    fitted, seen = (system.score(_non_edges(data, key.child(part)).to(system.device)) for part in ("fit", "look"))
    found = fit_calibration(system.score(split.val.to(system.device)), fitted, held_out, total)
    if not split.test.shape[1]:
        return found, reliability(found, fitted[:0], fitted[:0], held_out, total)
    return found, reliability(found, system.score(split.test.to(system.device)), seen, held_out, total)


def _non_edges(data: LinkDataModule, key: Key) -> Tensor:
    """Uniform among all non-edges, on a graph of types among those that could be edges: what ``total`` counts."""
    return uniform_non_edges(NUM_NON_EDGES, data.loaded.num_nodes, data.split.all, key, data.types)
