"""The order of a row's candidates, shared by the rules that pick the first of it."""

from __future__ import annotations

from torch import Tensor

from mebns_pl.checks import expect
from mebns_pl.negatives.selectors.abstract import Picks


def highest(values: Tensor, mask: Tensor, count: int) -> Picks:
    """The ``count`` columns of the highest values in each row: legal ones first, and the smaller column of equal ones.

    Args:
        values: ``(b, K)`` floating point.
        mask: ``(b, K)`` bool, legal columns.
        count: at least 1.

    Raises:
        ValueError: ``values`` has another shape than ``mask``.
    """
    expect(values.shape == mask.shape, f"the mask's shape {tuple(mask.shape)}", score=tuple(values.shape))
    # Two stable sorts, the second by legality, rather than one with -inf put on the illegal: a legal candidate
    # scored -inf still goes before every illegal one.
    by_value = values.sort(dim=1, descending=True, stable=True).indices
    legal_first = mask.gather(1, by_value).byte().sort(dim=1, descending=True, stable=True).indices
    columns = by_value.gather(1, legal_first[:, :count])
    return Picks(columns, mask.gather(1, columns))
