"""Whether all ranks hold the same learners: every update is made from the same gradients, so they must, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from mebns_pl.distributed.group import AbstractGroup


class ReplicaError(RuntimeError):
    """Ranks hold different values where they must hold the same."""


def check_replicas(tensors: Mapping[str, Tensor], group: AbstractGroup) -> None:
    """Compares tensors over ranks by digests: one number from each rank, and one a tensor only where those differ.

    Every rank raises, or none.

    Args:
        tensors: by name, the same names in the same order on all ranks.
        group: the ranks.

    Raises:
        ReplicaError: a difference, with the names of the tensors and the ranks that differ from rank 0.

    Cost: each tensor is hashed on the CPU, about a second a gigabyte; 16 bytes a rank are exchanged.
    """
    if group.size == 1:
        return
    digests = {name: _digest(name, value) for name, value in tensors.items()}
    device = next(iter(tensors.values())).device
    whole = _number(hashlib.blake2b(repr(sorted(digests.items())).encode(), digest_size=8).digest())
    table = _of_all([whole, len(digests)], group, device)
    if bool((table == table[0]).all()):
        return
    if bool((table[:, 1] != table[0, 1]).any()):
        raise ReplicaError(f"replicas: ranks hold different numbers of tensors: {table[:, 1].tolist()}, by rank")
    each = _of_all(list(digests.values()), group, device)
    found = []
    for place, name in enumerate(digests):
        ranks = (each[:, place] != each[0, place]).nonzero().flatten().tolist()
        if ranks:
            found.append(f"{name} (rank {', '.join(map(str, ranks))})")
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    raise ReplicaError(
        f"replicas: {len(found)} of {len(digests)} tensors differ from rank 0's: {'; '.join(found[:5])}{more}."
        " All ranks must hold the same values: look for hardware faults, for other versions of a library on one host,"
        " and for code that draws from the global generators"
    )


def _of_all(numbers: list[int], group: AbstractGroup, device: torch.device) -> Tensor:
    """``(size, n)`` int64: every rank's numbers."""
    return group.rows_of_all(torch.tensor([numbers], device=device), group.rank, group.size)


def _digest(name: str, value: Tensor) -> int:
    plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    head = f"{name}{tuple(value.shape)}{value.dtype}".encode()
    return _number(hashlib.blake2b(plain, digest_size=8, key=hashlib.blake2b(head, digest_size=32).digest()).digest())


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "little", signed=True)
