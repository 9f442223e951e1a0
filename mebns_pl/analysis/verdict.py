"""What a run shows of migration: did less move, is it migration at all, did weights and filter matter. In sentences.

Each sentence has its number, an interval where one can be had, and says so where a thing cannot be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mebns_pl.analysis.card import bootstrap_interval
from mebns_pl.analysis.probe_history import ProbeHistory

GOOD, BAD, LEVEL, UNKNOWN = "good", "bad", "level", "unknown"
"""How a finding is called: as wanted, not as wanted, no difference to be seen, cannot be told."""
LITTLE = 0.01
"""Variation of the learned factor below which the weights do next to nothing: they differ by a percent."""
ORACLE = "No honest run: held-out edges were left out of its negatives (data.oracle). For analysis alone."
_Z = 1.959964


@dataclass(frozen=True)
class Finding:
    """An answer.

    Args:
        topic: what was asked, in a few words.
        call: ``GOOD``, ``BAD``, ``LEVEL`` or ``UNKNOWN``.
        text: a sentence or two.

    Example:
        >>> Finding("Movement", UNKNOWN, "Cannot be told.").call
        'unknown'
    """

    topic: str
    call: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """What a run has left behind.

    Args:
        fit: the part of ``metrics.json`` that tells of the fit.
        history: of the probe, or None where there is none.

    Example:
        >>> Evidence({"epochs": 3}).history is None
        True
    """

    fit: Mapping[str, Any]
    history: ProbeHistory | None = None


def verdict(run: Evidence, control: Evidence | None = None) -> list[Finding]:
    """What a run shows.

    Args:
        run: of any system; a plain one has neither weights nor filter.
        control: the plain control of the same graph, split and probe, or None.

    Returns:
        A finding each on movement (where there is a control), on what crosses, and, with weights and filter, on these;
        and on where the best epoch lies. Before them, of a run whose negatives were an oracle's, that it is one.

    Example:
        >>> from mebns_pl.analysis.probe_history import toy_history
        >>> print(verdict(Evidence({}, toy_history()))[0].text)
        Cannot be told: of the 3 pairs that crossed 1 is a held-out edge, too few to tell from chance (25.0 %).
    """
    found = [Finding("Oracle", BAD, ORACLE)] if run.fit.get("oracle") else []
    learned = run.fit.get("diagnosis") or {}
    weighs = "weights/learned" in learned
    if control is not None:
        found.append(movement(run, control))
    if run.history is not None:
        found.append(false_negatives(run.history))
    if weighs:
        found.append(weights(learned))
    if "num_dropped" in learned or weighs:
        found.append(filtering(learned))
    return [*found, best_epoch(run.fit)]


# Movement


def movement(run: Evidence, control: Evidence) -> Finding:
    """Whether the hard set moved less than the control's, at the epochs after warm-up that both have kept."""
    topic = "Movement"
    mine, other = run.history, control.history
    if mine is None or other is None:
        whose = "this run" if mine is None else "the control"
        return Finding(topic, UNKNOWN, f"Cannot be told whether the hard set moved less: {whose} has kept no probe.")
    if not same_probe(mine, other):
        return Finding(
            topic, UNKNOWN, "Cannot be told whether the hard set moved less: the control has watched other pairs."
        )
    epochs = common_epochs(mine, other)
    if len(epochs) < 2:
        return Finding(
            topic,
            UNKNOWN,
            "Cannot be told whether the hard set moved less: after warm-up both have kept fewer than two epochs.",
        )
    own, its = (mean_churn(history, epochs) for history in (mine, other))
    low, high = bootstrap_interval(pair_churn(mine, epochs) - pair_churn(other, epochs))
    more = (
        f"from one kept epoch to the next {_percent(own)} of it is new, {_percent(its)} in the control: "
        f"{_points(own - its)} points (95 % interval over the probe's pairs {_points(low)} to {_points(high)}; "
        "one seed)."
    )
    if high < 0:
        return Finding(topic, GOOD, f"The hard set moved less than in the control: {more}")
    if low > 0:
        return Finding(topic, BAD, f"The hard set moved more than in the control: {more}")
    return Finding(topic, LEVEL, f"Whether the hard set moved less than in the control cannot be told: {more}")


def same_probe(one: ProbeHistory, other: ProbeHistory) -> bool:
    """Whether two runs have watched the same pairs of the same nodes."""
    return (
        np.array_equal(one.pairs, other.pairs)
        and _ends(one) == _ends(other)
        and one.setting.share == (other.setting.share)
    )


def _ends(history: ProbeHistory) -> list[str]:
    return [history.names[place] for place in np.unique(history.places)]


def common_epochs(one: ProbeHistory, other: ProbeHistory) -> np.ndarray:
    """Epochs that both have kept, from the end of the longer warm-up on."""
    warmup = max(one.setting.warmup, other.setting.warmup)
    both = np.intersect1d(one.epochs, other.epochs)
    return both[both >= warmup]


def pair_churn(history: ProbeHistory, epochs: np.ndarray) -> np.ndarray:
    """``(M,)`` float64: what each pair adds to the mean churn, which is the mean of these.

    Args:
        history: of the probe.
        epochs: ``(t,)`` those looked at, two or more.
    """
    hard = history.hard[np.searchsorted(history.epochs, epochs)]
    entered = (hard[1:] & ~hard[:-1]).sum(axis=0)
    share: np.ndarray = entered * history.num_pairs / (hard[0].sum() * (len(epochs) - 1))
    return share


def mean_churn(history: ProbeHistory, epochs: np.ndarray) -> float:
    """Share of the hard set that was not in it at the epoch before, mean over ``epochs`` ``(t,)``, two or more."""
    return float(pair_churn(history, epochs).mean())


# What crosses


def false_negatives(history: ProbeHistory) -> Finding:
    """Whether the pairs that cross are mostly held-out edges: negatives that are none."""
    topic, held = "What crosses", history.held_out > 0
    crossed = history.crossings > 0
    chance, total, known = float(held.mean()), int(crossed.sum()), int(held[crossed].sum())
    if not held.any():
        return Finding(topic, UNKNOWN, "Whether false negatives migrate cannot be told: no held-out edge is watched.")
    if not total:
        return Finding(topic, LEVEL, "Nothing crosses: no pair of the probe has entered or left the hard set.")
    low, high = share_interval(known, total)
    one = (
        f"of the {total:,} pairs that crossed {known:,} {'is a held-out edge' if known == 1 else 'are held-out edges'}"
    )
    if low <= chance <= high:
        told = f", too few to tell from chance ({_percent(chance)})"
        if total < 100:
            return Finding(topic, UNKNOWN, f"Cannot be told: {one}{told}.")
        told = f" ({_percent(known / total)}, {_percent(low)} to {_percent(high)}), as by chance ({_percent(chance)})"
        return Finding(topic, LEVEL, f"It is migration: {one}{told}.")
    numbers = f"{one} ({_percent(known / total)}, {_percent(low)} to {_percent(high)}; by chance {_percent(chance)})"
    if high < chance:
        return Finding(topic, GOOD, f"It is migration: {numbers}, fewer than by chance.")
    if low > 0.5:
        return Finding(topic, BAD, f"It is mostly false negatives that cross: {numbers}.")
    if high >= 0.5:
        return Finding(topic, UNKNOWN, f"Whether it is mostly false negatives that cross cannot be told: {numbers}.")
    more = f"false negatives are {known / total / chance:.1f} times as frequent among what crosses as by chance"
    return Finding(topic, LEVEL, f"Mostly migration, but {more}: {numbers}.")


def share_interval(part: int, whole: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    Example:
        >>> tuple(round(end, 3) for end in share_interval(5, 10))
        (0.237, 0.763)
    """
    share, extra = part / whole, _Z**2 / whole
    middle = (share + extra / 2) / (1 + extra)
    half = _Z * (share * (1 - share) / whole + extra / 4 / whole) ** 0.5 / (1 + extra)
    return max(middle - half, 0.0), min(middle + half, 1.0)


# Weights and filter


def weights(learned: Mapping[str, float]) -> Finding:
    """Whether the learned weights did anything, and to what.

    Args:
        learned: the ``diagnosis`` of a fit's metrics.
    """
    vary, uneven = learned["weights/learned"], learned.get("weights/unevenness")
    told = f"in the last epoch the learned factor varies by {_percent(vary)} of its mean"
    told += f", unevenness of the weights {uneven:.1e}" if uneven is not None else ""
    steady, ratio = learned.get("weights/signal"), learned.get("held_out/weight")
    if steady is not None:
        told += f"; hypergradient's signal {steady:.2f} (1: always one direction, 0: noise)"
    if ratio is not None:
        told += f"; held-out edges weigh {ratio:.2f} times what the other negatives do"
    if vary < LITTLE:
        return Finding("Weights", BAD, f"The weights did next to nothing: {told}.")
    if ratio is None:
        return Finding("Weights", UNKNOWN, f"The weights did something, whether it helps cannot be told: {told}.")
    if ratio < 1 - LITTLE:
        return Finding("Weights", GOOD, f"The weights mattered, and spare false negatives: {told}.")
    if ratio > 1 + LITTLE:
        return Finding("Weights", BAD, f"The weights mattered, but press on false negatives: {told}.")
    return Finding("Weights", LEVEL, f"The weights mattered, but not for false negatives: {told}.")


def filtering(learned: Mapping[str, float]) -> Finding:
    """Whether the filter drops held-out edges rather than others, where it drops what the teacher finds hardest.

    Args:
        learned: the ``diagnosis`` of a fit's metrics.
    """
    topic = "Filter"
    chance = learned.get("held_out/candidates")
    if not chance and not learned.get("held_out/dropped"):
        return Finding(topic, UNKNOWN, "Whether the filter drops false negatives cannot be told: there were none.")
    if chance is None or "held_out/dropped" not in learned:
        return Finding(topic, UNKNOWN, "Whether the filter drops false negatives cannot be told: it dropped nothing.")
    top = "num_dropped_top" in learned
    which = "dropped_top" if top else "dropped"
    dropped, count = learned[f"held_out/{which}"], round(learned[f"num_{which}"])
    low, high = share_interval(round(dropped * count), count)
    told = (
        f"{_percent(dropped)} of what it drops{' as hardest' if top else ''} are held-out edges ({_percent(low)} to "
        f"{_percent(high)}, of {count:,}), {_percent(chance)} of the candidates"
    )
    if low > chance:
        return Finding(topic, GOOD, f"The filter drops false negatives more often than chance would: {told}.")
    if not top:
        return Finding(topic, LEVEL, f"The filter drops easy candidates alone, false negatives among them: {told}.")
    if high < chance:
        return Finding(topic, BAD, f"The filter keeps false negatives, more often than chance would: {told}.")
    return Finding(topic, LEVEL, f"The filter drops false negatives no more often than chance would: {told}.")


def best_epoch(fit: Mapping[str, Any]) -> Finding:
    """Where the best epoch lies."""
    topic, best, epochs, warmup = "Best epoch", fit.get("best_epoch"), fit.get("epochs"), fit.get("warmup_epochs") or 0
    if best is None or not epochs:
        return Finding(topic, UNKNOWN, "Where the best epoch lies cannot be told: nothing was validated.")
    mrr = (fit.get("val") or {}).get("mrr")
    told = f"The best epoch is {best} of {epochs}" + (f" (validation MRR {_percent(mrr)})" if mrr is not None else "")
    if best < warmup:
        return Finding(
            topic, BAD, f"{told}, within warm-up ({warmup} epochs): the kept checkpoint owes nothing to MeBNS."
        )
    if best >= epochs - 1 - max(1, epochs // 20):
        return Finding(topic, LEVEL, f"{told}, at the very end: a longer run may be better.")
    return Finding(topic, GOOD, f"{told}{f', after warm-up ({warmup} epochs)' if warmup else ''}.")


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"
