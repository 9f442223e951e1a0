"""What takes long to make of a large graph, made once and memory-mapped from then on.

Processes of a host that map the same files share one copy of them, which the system takes back where it needs the
memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mebns_pl.allocator import give_back_freed_memory
from mebns_pl.datasets.places import cache_folder
from mebns_pl.files import alone, atomic_file, write_atomically
from mebns_pl.progress import doing

log = logging.getLogger(__name__)

_FORMAT = "prepared 1"  # changed with what makes them, so that older files are not taken
_LIST = "arrays.json"
_BLOCK = 2**24
LEAST = 2**26
"""Bytes of edge lists from which on what is made of them is kept."""


def prepared_folder() -> Path | None:
    """``prepared`` in :func:`~mebns_pl.datasets.places.cache_folder`; None, which is told, where it cannot be made."""
    folder = cache_folder() / "prepared"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("%s: cannot be made (%s); what is made of large graphs is not kept", folder, error)
        return None
    return folder


def prepared(
    parts: Sequence[object], make: Callable[[], Mapping[str, Tensor]], what: str
) -> tuple[dict[str, Tensor], str]:
    """What ``make`` makes, memory-mapped from files that are found again by what it was made from.

    Of several processes that ask at once one makes it and the others wait. A process that is ended meanwhile leaves
    nothing that is taken for whole; files that have changed are noticed by a checksum, told, and made anew.

    Args:
        parts: all that the result depends on; their ``repr`` tells it.
        make: makes tensors by name.
        what: what they are, for messages.

    Returns:
        The tensors, whose changes never reach the files, and the name of what they were made from. Where files cannot
        be written, which is told, the tensors are in memory.
    """
    name = hashlib.blake2b(repr((_FORMAT, *parts)).encode(), digest_size=16).hexdigest()
    place = prepared_folder()
    if place is None:
        return dict(make()), name
    folder = place / name
    with alone(folder.with_suffix(".lock")):
        with doing(f"{what}, checked"):
            found = _mapped(folder)
        if found is not None:
            return found, name
        shutil.rmtree(folder, ignore_errors=True)
        log.info("%s: being prepared", what)
        made = dict(make())
        try:
            with doing(f"{what}, written"):
                checksums = {key: _write(folder / f"{key}.npy", value.numpy()) for key, value in made.items()}
            write_atomically(folder / _LIST, json.dumps(checksums))  # last: what it lists is whole
        except OSError as error:
            log.warning("%s: cannot be kept (%s); it will be made again next time", what, error)
            shutil.rmtree(folder, ignore_errors=True)
            return made, name
        log.info("%s: kept in %s, where it is found the next time", what, folder)
        found = _mapped(folder) or made
        del made
        give_back_freed_memory()
        return found, name


def forget(name: str) -> None:
    """Deletes what :func:`prepared` keeps under a name."""
    if (place := prepared_folder()) is not None:
        shutil.rmtree(place / name, ignore_errors=True)


def source_of(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """What tells files apart from what they were: name, size, and when they or their names were changed last."""
    stats = [path.stat() for path in paths]
    return [
        (str(path.resolve()), stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns))
        for path, stat in zip(paths, stats, strict=True)
    ]


def _mapped(folder: Path) -> dict[str, Tensor] | None:
    """The arrays of a folder, or None where they are not there or not whole."""
    try:
        checksums = dict(json.loads((folder / _LIST).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    found = {}
    for key, checksum in checksums.items():
        path = folder / f"{key}.npy"
        try:
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            if _checksum(array) != checksum:
                raise ValueError("its checksum does not fit")
        except (OSError, ValueError) as error:
            log.warning("%s: damaged (%s); it is made anew", path, error)
            return None
        found[key] = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    return found


def _write(path: Path, array: np.ndarray) -> int:
    """Writes an array; returns its checksum."""
    with atomic_file(path) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return _checksum(array)


def _checksum(array: np.ndarray) -> int:
    flat, checksum = array.reshape(-1), 0
    for start in range(0, len(flat), _BLOCK):
        checksum = zlib.crc32(np.ascontiguousarray(flat[start : start + _BLOCK]).view(np.uint8).data, checksum)
    return checksum
