"""Hashes for compiled loops: draws, and orders that prefer no node number.

numba's cache notices a change of a kernel's own file only: after a change of a kernel that other files import, delete
their ``__pycache__``.
"""

from __future__ import annotations

import numpy as np

from mebns_pl.kernels import kernel

# mypy: disable-error-code="no-untyped-def"


@kernel
def mix(value):  # pragma: no cover (compiled)
    """SplitMix64's finaliser, a bijection of the 64-bit words (Steele et al., OOPSLA 2014)."""
    h = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@kernel
def pair_hash(node, other):  # pragma: no cover (compiled)
    """A 64-bit hash of an ordered pair; for one ``node`` all ``other`` differ in it."""
    return mix(mix(np.uint64(node)) ^ np.uint64(other))
