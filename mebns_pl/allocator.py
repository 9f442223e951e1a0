"""glibc's allocator, told to keep what it has, or to give it back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of ``mallopt``'s settings in ``malloc.h``."""

_LARGEST = 2**31 - 1
_MMAP_BYTES = 32 * 2**20
"""The most that glibc takes for the size from which an allocation is mapped by itself."""


def keep_freed_memory() -> bool:
    """Lets this process keep the memory of freed tensors for those that come next; True where that could be set.

    By default glibc hands large blocks back to the kernel as soon as they are freed. Training frees and takes the same
    few megabytes hundreds of times a step, and each time the kernel zeroes the pages anew: on a CPU that is up to half
    of a bilevel step. Kept memory is what the process has held at its peak, and it is given back when the process
    ends. Blocks of more than 32 MiB are still mapped one by one.

    Elsewhere than on Linux with glibc nothing happens.

    Example:
        >>> isinstance(keep_freed_memory(), bool)
        True
    """
    if (mallopt := _function("mallopt")) is None:
        return False
    settings = {_MMAP_THRESHOLD: _MMAP_BYTES, _TRIM_THRESHOLD: _LARGEST, _TOP_PAD: _MMAP_BYTES}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def give_back_freed_memory() -> bool:
    """Hands what this process has freed back to the kernel; True where anything was.

    For after work that happens once and has taken much in blocks of less than 32 MiB, as reading a large graph does:
    where a block that stays lies behind them they would be kept until the process ends.

    Example:
        >>> isinstance(give_back_freed_memory(), bool)
        True
    """
    trim = _function("malloc_trim")
    return trim is not None and trim(0) == 1


def _function(name: str) -> Callable[..., int] | None:
    """One of glibc's; None elsewhere than on Linux with glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):  # another C library
        return None
    return found
