"""Functions that numba compiles, kept on the disk where that can be, with a checksum, and compiled anew where not."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable, Collection
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

from mebns_pl.files import atomic_file

log = logging.getLogger(__name__)

_CHECKSUM = 16  # bytes
_told: set[str] = set()


def kernel(function: Callable[..., Any], fastmath: Collection[str] = ()) -> Any:
    """Compiles a function at its first call, without the interpreter's lock.

    What was compiled is kept as numba keeps it: in ``NUMBA_CACHE_DIR``, beside the package or in the user's cache, in
    the first of these that can be written to. Whatever is wrong there is told in one line, and costs the seconds of
    compiling.

    Args:
        function: one that numba compiles in its nopython mode.
        fastmath: what LLVM may do to its sums beyond the standard: "reassoc" to add in several lanes.
    """
    compiled: Any = numba.njit(nogil=True, fastmath=set(fastmath))(function)
    try:
        compiled._cache = _KernelCache(function)
    except (RuntimeError, OSError) as error:
        _tell("no folder", f"compiled functions cannot be kept ({error}); every start compiles them. NUMBA_CACHE_DIR "
              "names a folder for them")  # fmt: skip
    return compiled


class _Files(IndexDataCacheFile):
    """numba's files, each behind a checksum: of machine code that has changed nobody would notice."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._version = f"{self._version}, with checksums"  # numba's own files are not taken for damaged ones

    def _dump(self, value: Any) -> bytes:
        contents: bytes = super()._dump(value)
        return _checksum(contents) + contents

    def _load_index(self) -> dict[Any, str]:
        try:
            with open(self._index_path, "rb") as file:
                if pickle.load(file) != self._version:
                    return {}
                stamp, names = _loaded(file.read())
        except FileNotFoundError:
            return {}
        except Exception as error:  # a damaged file can raise anything
            _tell("damaged", f"{self._index_path}: damaged ({error}); what was compiled there is compiled anew")
            return {}
        return names if stamp == self._source_stamp else {}

    def _load_data(self, name: str) -> Any:
        path = self._data_path(name)
        try:
            with open(path, "rb") as file:
                return _loaded(file.read())
        except FileNotFoundError:
            return None
        except Exception as error:
            _tell("damaged", f"{path}: damaged ({error}); what was compiled there is compiled anew")
            return None

    _open_for_write: Any = staticmethod(atomic_file)


class _KernelCache(FunctionCache):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp())

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            place = error.filename or self._cache_path
            _tell("not written", f"{place}: compiled functions cannot be kept ({error.strerror or error}); the next "
                  "start compiles them again")  # fmt: skip


def _checksum(contents: bytes) -> bytes:
    return hashlib.blake2b(contents, digest_size=_CHECKSUM).digest()


def _loaded(raw: bytes) -> Any:
    if raw[:_CHECKSUM] != _checksum(raw[_CHECKSUM:]):
        raise ValueError(f"the checksum does not fit its {len(raw):,} bytes")
    return pickle.loads(raw[_CHECKSUM:])


def _tell(what: str, text: str) -> None:
    """Once for each kind of fault, for there are many functions and all have it."""
    if what not in _told:
        _told.add(what)
        log.warning("%s", text)
