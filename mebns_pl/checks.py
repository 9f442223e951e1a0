"""Checks of arguments that many constructors share: each raises ``ValueError`` with name, what is allowed, and value.

Values are given by name, in the order in which they are checked. A name with a dot goes through a dictionary:
``at_least(0, "epochs", **{"schedule.warmup": warmup})``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

_BELOW = {"(": operator.lt, "[": operator.le}
_ABOVE = {")": operator.lt, "]": operator.le}


def expect(holds: bool, allowed: str, /, **values: Any) -> None:
    """Makes sure of a condition on one value, or on several together.

    Args:
        holds: whether the condition is met.
        allowed: what the values may be, in words.
        values: what the condition is on.

    Raises:
        ValueError: it is not met.

    Example:
        >>> grid = 4
        >>> expect(grid % 2 == 1, "an odd number", grid=grid)
        Traceback (most recent call last):
            ...
        ValueError: grid: expected an odd number, got 4
    """
    if not holds:
        raise ValueError(f"{', '.join(values)}: expected {allowed}, got {' and '.join(map(str, values.values()))}")


def at_least(low: float, unit: str = "", /, *, or_null: bool = False, **values: float | None) -> None:
    """Makes sure that numbers are ``low`` or more.

    Args:
        low: the least that is allowed.
        unit: what is counted, for the message.
        or_null: whether None is allowed, too.
        values: the numbers.

    Raises:
        ValueError: one is not; NaN never is.

    Example:
        >>> at_least(1, "steps", every=4, warmup=0)
        Traceback (most recent call last):
            ...
        ValueError: warmup: expected 1 or more steps, got 0
    """
    _all(lambda value: value >= low, " ".join(filter(None, (f"{low} or more", unit))), or_null, values)


def above(low: float, /, *, or_null: bool = False, **values: float | None) -> None:
    """Makes sure that numbers are more than ``low``; arguments and errors as of :func:`at_least`.

    Example:
        >>> above(0, or_null=True, norm=None, minutes=0.0)
        Traceback (most recent call last):
            ...
        ValueError: minutes: expected a number above 0 or null, got 0.0
    """
    _all(lambda value: value > low, f"a number above {low}", or_null, values)


def within(interval: str, kind: str = "share", /, *, or_null: bool = False, **values: float | None) -> None:
    """Makes sure that numbers lie in an interval.

    Args:
        interval: such as ``[0, 1)``, with a round bracket at an end that is not allowed itself.
        kind: what the numbers are, for the message.
        or_null: whether None is allowed, too.
        values: the numbers.

    Raises:
        ValueError: one does not; NaN never does.

    Example:
        >>> within("[0, 1)", drop_easy=0.5, drop_top=1.0)
        Traceback (most recent call last):
            ...
        ValueError: drop_top: expected a share in [0, 1), got 1.0
    """
    low, high = map(float, interval[1:-1].split(","))
    left, right = _BELOW[interval[0]], _ABOVE[interval[-1]]
    _all(lambda value: left(low, value) and right(value, high), f"a {kind} in {interval}", or_null, values)


def _all(fits: Callable[[float], bool], allowed: str, or_null: bool, values: Mapping[str, float | None]) -> None:
    for name, value in values.items():
        good = or_null if value is None else fits(value)
        expect(good, f"{allowed} or null" if or_null else allowed, **{name: value})
