"""Whether a run has come to nothing: what tells so, and the usual remedy, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mebns_pl.analysis.verdict import LITTLE

LN2 = math.log(2)
NEAR_LN2 = 0.002
"""How near to ln 2 a loss stays that learns nothing; the balanced cross-entropy of useful models is well below."""
ROUNDING = 1e-5
"""Scores are constant when they differ by less than this share of the greatest: float32, added up in any order."""
EQUAL_WEIGHTS = 1e-7
"""Unevenness below which weights are equal: they differ by a tenth of a percent."""
MOSTLY_DEAD = 0.9
"""Share of a layer's units that are dead from which on it is told."""
_FEWEST_ROWS = 64
_RELUS = (torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_, functional.relu)


@dataclass(frozen=True)
class Note:
    """Something about a run that a person must know.

    Args:
        code: a short name for programs, such as ``constant-scores``.
        text: what was found, and what usually helps.

    Example:
        >>> Note("at-chance", "no better than chance").code
        'at-chance'
    """

    code: str
    text: str


class ReluWatch(TorchFunctionMode):
    """While it is entered, looks at every ReLU of ``(rows, units)``: which units are 0 in all rows.

    Models need not know of it: calls of PyTorch's own functions are seen, whatever module makes them. Calls with fewer
    than 64 rows are left out, since there a unit may be 0 by chance.

    Example:
        >>> with ReluWatch() as watch:
        ...     _ = torch.tensor([-1.0, 1.0]).expand(100, 2).relu()
        >>> watch.dead
        [(1, 2)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.dead: list[tuple[int, int]] = []
        """How many units of each ReLU are dead, and of how many."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _RELUS and out.dim() == 2 and len(out) >= _FEWEST_ROWS:
            alive = (out.detach() > 0).any(dim=0)
            self.dead.append((int((~alive).sum()), len(alive)))
        return out

    @property
    def worst(self) -> tuple[int, int]:
        """Of the ReLU with the greatest share of dead units: how many, and of how many; (0, 0) where there was none."""
        return max(self.dead, key=lambda found: found[0] / found[1], default=(0, 0))


def are_constant(scores: Tensor) -> bool:
    """Whether scores ``(m,)`` are all equal but for rounding; infinite ones are told apart from finite ones.

    Example:
        >>> are_constant(torch.full((3,), 0.0173)), are_constant(torch.tensor([0.1, 0.2]))
        (True, False)
    """
    if len(scores) < 2:
        return False
    low, high = (float(end) for end in scores.detach().double().aminmax())
    return low == high or high - low <= ROUNDING * max(abs(low), abs(high)) < math.inf


@dataclass(frozen=True)
class FitTraces:
    """What a fit leaves that tells whether it came to nothing.

    Args:
        losses: the training loss at each validation.
        constant: whether the scores of the last validation are all equal.
        dead: dead units of the worst layer, and of how many.
        warmup: epochs of warm-up, 0 for a plain system.
        epochs: epochs that are done.
        best_epoch: the epoch of the best validation, from 0, or None.
        unevenness: last unevenness of the weights after warm-up, or None.
        learned: last variation of the learned factor, the weights over those before the weight net, or None.
        moved: whether the weight net is another than it was at first.
    """

    losses: Sequence[float | None] = ()
    constant: bool = False
    dead: tuple[int, int] = (0, 0)
    warmup: int = 0
    epochs: int = 0
    best_epoch: int | None = None
    unevenness: float | None = None
    learned: float | None = None
    moved: bool = True


def oracle() -> Note:
    """The negatives were an oracle's."""
    return Note(
        "oracle",
        "held-out edges were left out of the negatives (data.oracle), which nobody can know: for analysis alone, its "
        "validation is no honest result",
    )


def constant_scores() -> Note:
    """All scores are equal."""
    return Note(
        "constant-scores",
        "all scores are equal up to rounding: the model cannot tell any two pairs apart. Usual remedy: a learning rate "
        "ten times lower (model.optimizer.lr), fewer layers of the decoder or DotDecoder, easier negatives (fewer "
        "candidates), another seed",
    )


def dead_units(dead: tuple[int, int]) -> list[Note]:
    """Most units of a layer are dead."""
    count, width = dead
    if not width or count < MOSTLY_DEAD * width:
        return []
    return [
        Note(
            "dead-units",
            f"{count} of {width} units of a hidden layer are 0 for every pair, and no gradient brings them back. Usual "
            "remedy: a learning rate ten times lower (model.optimizer.lr), model.updates.gradient_clip_norm=1, fewer "
            "layers, another seed",
        )
    ]


def equal_weights(traces: FitTraces) -> list[Note]:
    """The weight net leaves the weights as they are before it.

    Those may be as uneven as the sampler's choice, so the learned factor tells; only runs that kept none are judged by
    how uneven the weights are.
    """
    learned, uneven = traces.learned, traces.unevenness
    if learned is not None:
        nothing, measure = learned < LITTLE, f"the learned factor varies by {learned:.1e} of its mean"
    elif uneven is not None:
        nothing, measure = uneven < EQUAL_WEIGHTS, f"unevenness {uneven:.1e}"
    else:
        return []
    if not nothing or traces.epochs <= traces.warmup:
        return []
    if traces.moved:
        told = (
            f"after warm-up all negatives keep the weights that they have before the weight net ({measure}): it adds "
            "nothing. Usual remedy: a higher learning rate (model.weight_net_optimizer.lr), more epochs after warm-up, "
            "more meta edges (data.split.meta)"
        )
    else:
        told = (
            "the weight net has never moved, so all negatives keep the weights that they have before it: weights "
            "are off, which a control may mean. Usual remedy: a lower n of Every (model.engine), a learning rate "
            "above 0 (model.weight_net_optimizer.lr)"
        )
    return [Note("equal-weights", told)]


def warm_up_notes(traces: FitTraces) -> list[Note]:
    """What is kept, or all there is, comes from the warm-up."""
    epochs, warmup, best = traces.epochs, traces.warmup, traces.best_epoch
    if 0 < epochs <= warmup:
        return [
            Note(
                "never-left-warm-up",
                f"all its epochs ({epochs}) were warm-up (model.schedule.warmup: {warmup}), in which MeBNS trains like "
                "the sampler alone: nothing here is owed to MeBNS. Usual remedy: set model.schedule.warmup to a number "
                "of epochs that the run outlasts, or let it run longer",
            )
        ]
    if epochs <= warmup or best is None or best >= warmup:
        return []
    return [
        Note(
            "best-epoch-in-warmup",
            f"the best epoch is {best}, within warm-up (model.schedule.warmup: {warmup}), in which MeBNS trains like "
            "the sampler alone: the checkpoint that is kept owes nothing to MeBNS. Usual remedy: a shorter warm-up "
            "(model.schedule.warmup), more epochs, or --model=Plain",
        )
    ]


def fit_notes(traces: FitTraces) -> list[Note]:
    """What a fit has to be told of, worst first.

    Example:
        >>> [note.code for note in fit_notes(FitTraces(losses=[0.7, 0.6931, 0.6931], warmup=2, epochs=9, best_epoch=1))]
        ['loss-at-ln2', 'best-epoch-in-warmup']
    """
    notes = [constant_scores()] if traces.constant else []
    notes += dead_units(traces.dead)
    late = [loss for loss in traces.losses[len(traces.losses) // 2 :] if loss is not None]
    if len(late) >= 2 and all(abs(loss - LN2) < NEAR_LN2 for loss in late):
        notes.append(
            Note(
                "loss-at-ln2",
                "the training loss stays at ln 2 = 0.693, that of a model which says 1/2 for every pair: nothing is "
                "learned. Usual remedy: another learning rate (model.optimizer.lr, ten times lower or higher), easier "
                "negatives (fewer candidates), another seed",
            )
        )
    return [*notes, *equal_weights(traces), *warm_up_notes(traces)]


def at_chance(interval: tuple[float, float], chance: float, auc: float) -> list[Note]:
    """The MRR is that of chance, or the AUC is one half or less.

    Args:
        interval: of the MRR over test edges.
        chance: the MRR of chance.
        auc: AUC against random non-edges.
    """
    if interval[0] > chance and auc > 0.5:
        return []
    return [
        Note(
            "at-chance",
            f"no better than chance: MRR {100 * interval[0]:.2f} to {100 * interval[1]:.2f} % where chance has "
            f"{100 * chance:.2f} %, AUC {auc:.3f} where chance has 0.5. Usual remedy: look at the training loss; "
            "another learning rate, more epochs, another model",
        )
    ]
