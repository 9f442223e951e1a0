"""Decimal shares of whole numbers: 0.29 of 100 is 29, though the floats' product is 28.999999999999996."""

from __future__ import annotations

import math

from torch import Tensor

_ROOM = 1e-12
"""By so much of itself a product may be off and still be taken for the whole number that it is near."""


def floor_share(share: float, count: int) -> int:
    """``floor(share * count)`` of the decimal share.

    Example:
        >>> floor_share(0.29, 100), floor_share(0.5, 3)
        (29, 1)
    """
    return math.floor(share * count * (1 + _ROOM))


def floor_shares(share: float, counts: Tensor) -> Tensor:
    """:func:`floor_share` of many counts, int64."""
    return (share * counts.double() * (1 + _ROOM)).floor().long()


def ceil_share(share: float, count: int) -> int:
    """``ceil(share * count)`` of the decimal share.

    Example:
        >>> ceil_share(0.55, 100), ceil_share(0.5, 3)
        (55, 2)
    """
    return math.ceil(share * count * (1 - _ROOM))
