"""Randomness as a function: every random draw is keyed by (seed, stream, epoch, step).

Nothing here holds state, so there is nothing to save: a resumed run, or a run on another number of ranks,
asks for the same key and gets the same numbers. The global generators of torch and numpy are never touched.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mebns_pl.kernels import kernel


class Key(NamedTuple):
    """The name of one random draw.

    Args:
        seed: the run's seed, any Python int.
        stream: what the draw is for, e.g. ``"train/candidates"``.
        epoch: 0-based epoch; 0 for draws made once.
        step: 0-based step within the epoch; 0 for draws made once an epoch.

    Example:
        >>> key = Key(seed=0, stream="docs")
        >>> bool((torch.rand(3, generator=key.generator()) == torch.rand(3, generator=key.generator())).all())
        True
        >>> key.child("a").integer() == key.child("b").integer()
        False
    """

    seed: int
    stream: str
    epoch: int = 0
    step: int = 0

    def child(self, name: str | int) -> Key:
        """The key of a part of this draw: the same place and time, a longer stream name."""
        return self._replace(stream=f"{self.stream}/{name}")

    def at(self, epoch: int, step: int = 0) -> Key:
        """The key of the same stream at another time."""
        return self._replace(epoch=epoch, step=step)

    def integer(self) -> int:
        """A 63-bit integer, the digest of the four parts (BLAKE2b)."""
        digest = hashlib.blake2b(repr(tuple(self)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh torch generator, seeded by this key, on ``device``."""
        generator = torch.Generator(device)
        generator.manual_seed(self.integer())
        return generator

    def numpy(self) -> np.random.Generator:
        """A fresh numpy generator, seeded by this key."""
        return np.random.default_rng(self.integer())


def permutation(size: int, key: Key) -> Tensor:
    """A keyed random permutation of ``range(size)``, shape ``(size,)``, int64, on the CPU."""
    return torch.randperm(size, generator=key.generator())


def uniform(key: Key, rows: Tensor, num_columns: int) -> Tensor:
    """Uniform numbers that depend on the key and each row's name alone, not on which rows are asked for together.

    Ranks that hold different rows of one batch so draw what a single process would. Computed by hashing
    (key, row, column); the same on every device.

    Args:
        key: the draw's key.
        rows: ``(M,)`` int64, names of the rows, 0 or more.
        num_columns: C.

    Returns:
        ``(M, C)`` float32 in [0, 1), multiples of 2^-24, on the device of ``rows``.
    """
    return _bits(key, rows, num_columns).to(torch.float32) * 2.0**-24


def dropout_mask(key: Key, rows: Tensor, num_columns: int, p: float, dtype: torch.dtype) -> Tensor:
    """An inverted-dropout mask, ``uniform(key, rows, num_columns) >= p`` divided by ``1 - p``.

    Args:
        key: the draw's key.
        rows: ``(M,)`` int64, names of the rows.
        num_columns: C.
        p: probability of a zero, in [0, 1).
        dtype: floating point type of the mask.

    Returns:
        ``(M, C)``, each entry 0 or ``1 / (1 - p)``.
    """
    if rows.device.type == "cpu":
        ones = torch.ones(len(rows), num_columns, dtype=dtype if dtype in _NUMPY_FLOATS else torch.float32)
        return dropped(ones, key, rows, p).to(dtype)
    return _mask_of_bits(_bits(key, rows, num_columns), p, dtype)


def dropped(h: Tensor, key: Key, rows: Tensor, p: float) -> Tensor:
    """``h * dropout_mask(...)``, the same bits; on a CPU in one pass that keeps no mask, nor do its derivatives.

    Args:
        h: ``(M, C)``.
        key: the draw's key.
        rows: ``(M,)`` int64, names of the rows.
        p: probability of a zero, in [0, 1).
    """
    if h.device.type != "cpu" or h.dtype not in _NUMPY_FLOATS:
        return h * dropout_mask(key, rows, h.shape[1], p, h.dtype)
    words = _row_hashes(key, rows).numpy().view(np.uint32), _column_hashes(key, h.shape[1]).view(np.uint32)
    return _Dropped.apply((*words, np.uint32(_threshold(p)), h.detach().numpy().dtype.type(1 / (1 - p))), h)  # type: ignore[no-any-return]


class _Dropped(torch.autograd.Function):
    """A product with a mask that is hashed anew each time; linear, so each derivative is that product again."""

    @staticmethod
    def forward(mask: tuple[Any, ...], h: Tensor) -> Tensor:
        result, given = torch.empty_like(h, memory_format=torch.contiguous_format), h.detach().contiguous().numpy()
        _drop(*mask, given, result.numpy())
        return result

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.mask = inputs[0]

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return None, _Dropped.apply(ctx.mask, grad)


_NUMPY_FLOATS = (torch.float32, torch.float64)


def _threshold(p: float) -> int:
    """Bits below it give a zero."""
    return round(p * 2**24)


def _mask_of_bits(bits: Tensor, p: float, dtype: torch.dtype) -> Tensor:
    """The dropout mask of ``bits`` in [0, 2^24), any shape; multiplied, not divided, to round as the kernel does."""
    return (bits >= _threshold(p)).to(dtype) * (1 / (1 - p))


def _bits(key: Key, rows: Tensor, num_columns: int) -> Tensor:
    """``(M, C)`` int32 in [0, 2^24); the torch twin of the numba kernel below."""
    columns = torch.from_numpy(_column_hashes(key, num_columns)).to(rows.device)
    h = _row_hashes(key, rows)[:, None] ^ columns[None, :]
    h = h * -2048144789  # 0x85ebca6b as int32; products wrap
    h = h ^ ((h >> 13) & 0x7FFFF)  # a logical shift
    h = h * -1028477387  # 0xc2b2ae35 as int32
    return (h >> 8) & 0xFFFFFF


def _row_hashes(key: Key, rows: Tensor) -> Tensor:
    """``(M,)`` int32: SplitMix64 of the row's name and the key, the high half."""
    h = (rows + 1) * -7046029254386353131 + key.child("rows").integer()
    h = (h ^ ((h >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    h = (h ^ ((h >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return (h >> 32).to(torch.int32)


def _column_hashes(key: Key, num_columns: int) -> np.ndarray:
    """``(C,)`` int32, one random word a column."""
    return key.child("columns").numpy().integers(-(2**31), 2**31, num_columns, dtype=np.int32)


@kernel
def _drop(rows, columns, threshold, scale, h, out):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    zero = scale - scale
    for i in range(rows.shape[0]):
        row = rows[i]
        for j in range(columns.shape[0]):
            word = np.uint32(row ^ columns[j])
            word = np.uint32(word * np.uint32(0x85EBCA6B))
            word = np.uint32(word ^ (word >> np.uint32(13)))
            word = np.uint32(word * np.uint32(0xC2B2AE35))
            out[i, j] = h[i, j] * (scale if np.uint32(word >> np.uint32(8)) >= threshold else zero)
