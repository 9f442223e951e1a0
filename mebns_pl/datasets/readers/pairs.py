"""Text files of node numbers: one pair a line (SNAP's edge lists, HeaRT's splits)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mebns_pl.datasets.readers.checks import MAX_NODES
from mebns_pl.datasets.readers.contents import text_lines
from mebns_pl.errors import DataError


def read_pairs(path: str | Path, num_nodes: int | None = None, comment: str = "#") -> Tensor:
    """Reads pairs of node numbers, one a line, parted by white space; gzip is accepted (``.gz``).

    Args:
        path: the file.
        num_nodes: N; None allows any number from 0.
        comment: lines that start with this text are passed over, as empty lines are.

    Returns:
        ``(2, m)`` int64, in the file's order and direction.

    Raises:
        DataError: a file that is missing, not text or without a pair; a line that is not two numbers in
            ``0 ... N - 1``.
    """
    top = MAX_NODES if num_nodes is None else num_nodes
    return _read_rows(Path(path), 2, top, comment, "two node numbers").t().contiguous()


def read_numbers(path: str | Path) -> Tensor:
    """Reads node numbers, one a line: ``(m,)`` int64.

    Raises:
        DataError: a file that is missing, not text or empty, or a line that is not one number.
    """
    return _read_rows(Path(path), 1, MAX_NODES, None, "one node number")[:, 0]


def _read_rows(path: Path, width: int, top: int, comment: str | None, what: str) -> Tensor:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    numbers: list[int] = []
    for place, line in enumerate(text_lines(path, comment), start=1):
        fields = line.split()
        if not fields:
            continue
        # ASCII digits only, and few: Python also reads "1_0", "٣", and numbers of any length
        good = len(fields) == width and all(f.isascii() and f.isdigit() and len(f) < 18 for f in fields)
        if not good or max(map(int, fields)) >= top:
            raise DataError(
                f"{path}, line {place}: got {line.rstrip()[:80]!r}; allowed is {what} in 0 ... {top - 1:,} a line"
            )
        numbers += map(int, fields)
    if not numbers:
        raise DataError(f"{path}: the file is empty; at least 1 line with {what} is needed")
    return torch.tensor(numbers, dtype=torch.int64).view(-1, width)
