"""Checks of arguments that many constructors share: each raises ``ValueError`` with name, what is allowed, and value.

Values are given by name, in the order in which they are checked. A name with a dot goes through a dictionary:
``at_least(0, "epochs", **{"schedule.warmup": warmup})``.
"""

from __future__ import annotations

import operator
import os
import resource
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


def fits(num_bytes: int, beside: str = "", /, **values: int) -> None:
    """Makes sure that sizes do not ask for more memory than this machine has, or than this process may have.

    Args:
        num_bytes: what they take.
        beside: what else that depends on, for the message.
        values: the sizes.

    Raises:
        ValueError: it is more.

    Example:
        >>> fits(4 * 10**18, hidden_channels=10**9)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: hidden_channels: got 1000000000, which would take 3,725,290,298.5 GiB; ...
    """
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    there = there if most == resource.RLIM_INFINITY else min(there, most)
    if num_bytes > there:
        raise ValueError(
            f"{', '.join(values)}: got {' and '.join(map(str, values.values()))}, which would take "
            f"{num_bytes / 2**30:,.1f} GiB{beside and ' ' + beside}; allowed is what fits into the "
            f"{there / 2**30:,.1f} GiB that there are"
        )


def _all(good: Callable[[float], bool], allowed: str, or_null: bool, values: Mapping[str, float | None]) -> None:
    for name, value in values.items():
        holds = or_null if value is None else good(value)
        expect(holds, f"{allowed} or null" if or_null else allowed, **{name: value})
