"""What a study searches: options with their ranges, and how many trials each combination gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mebns_pl.errors import DataError

_RANGE = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Search:
    """What is searched.

    Args:
        trials: for each combination of axes, 1 or more.
        ranges: by option: a list of choices, or ``low`` and ``high`` with ``log`` or ``step``.
        pruning: whether trials are stopped that are worse than the median at the same epoch.
    """

    trials: int
    ranges: dict[str, Any]
    pruning: bool = True


def read_search(content: Any, where: str, taken: Iterable[str]) -> Search:
    """Reads the key ``search`` of a study.

    Args:
        content: what stands there.
        where: the study file, for messages.
        taken: options that may not be searched.

    Raises:
        DataError: it is not as :class:`Search` says.

    Example:
        >>> read_search({"trials": 9, "ranges": {"model.updates.accumulate": [1, 2]}}, "study.yaml", ())
        Search(trials=9, ranges={'model.updates.accumulate': [1, 2]}, pruning=True)
    """
    if not isinstance(content, dict) or not set(content) <= {"trials", "ranges", "pruning"}:
        raise DataError(f"{where}: search: got {str(content)[:60]!r}; allowed are trials, ranges and pruning")
    trials, ranges, pruning = content.get("trials"), content.get("ranges"), content.get("pruning", True)
    if type(trials) is not int or trials < 1:
        raise DataError(f"{where}: search.trials: got {trials!r}; allowed is an integer of 1 or more")
    if not isinstance(pruning, bool):
        raise DataError(f"{where}: search.pruning: got {pruning!r}; allowed is true or false")
    if not isinstance(ranges, dict) or not ranges:
        raise DataError(f"{where}: search.ranges: got {ranges!r}; allowed are options with their ranges")
    found = {str(option).lstrip("-"): given for option, given in ranges.items()}
    for option, given in found.items():
        if option in taken:
            raise DataError(f"{where}: search.ranges: {option} is set by the sweep itself")
        if not (isinstance(given, list) and given) and not _is_range(given):
            raise DataError(
                f"{where}: search.ranges.{option}: got {given!r}; allowed are a list of choices, or low below high, "
                "with log: true (low above 0) or a step"
            )
    return Search(trials, found, pruning)


def _is_range(given: Any) -> bool:
    if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= set(_RANGE):
        return False
    numbers = [given[name] for name in ("low", "high", "step") if name in given]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        return False
    log, step = given.get("log", False), given.get("step")
    good = isinstance(log, bool) and not (log and step is not None) and (step is None or step > 0)
    return bool(good and given["low"] < given["high"] and (not log or given["low"] > 0))
