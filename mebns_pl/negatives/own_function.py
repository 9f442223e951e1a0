"""What functions of one's own give in place of a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mebns_pl.errors import DataError


def numbers_of(part: str, function: Callable[..., Any], shape: Sequence[int], *given: object) -> Tensor:
    """What a function gives, without gradient: floating point numbers of a shape.

    Args:
        part: which part of a sampler the function is, for the message.
        function: the function.
        shape: what shape its numbers are to have.
        given: what it is called with.

    Raises:
        DataError: it gives something else.
    """
    with torch.no_grad():
        values = function(*given)
    if not isinstance(values, Tensor) or values.shape != shape or not values.is_floating_point():
        raise DataError(
            f"{part}: {name_of(function)} gave {kind_of(values)}; allowed are floating point numbers of shape "
            f"{tuple(shape)}"
        )
    return values


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called in messages."""
    return str(getattr(function, "__name__", "function"))


def kind_of(value: object) -> str:
    """What something is, for messages."""
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
