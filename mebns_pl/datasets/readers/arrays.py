"""Archives of plain arrays (``.npz``). Pickled objects in them are refused, never loaded."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.lib import format
from numpy.lib.format import MAGIC_PREFIX, read_array

from mebns_pl.datasets.limits import check_size
from mebns_pl.datasets.readers.contents import check_file, refusing
from mebns_pl.errors import DataError
from mebns_pl.files import check_members, read_to_end

_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, SyntaxError),
    *(NotImplementedError, MemoryError, RuntimeError, OverflowError, RecursionError, TypeError, tokenize.TokenError),
)
"""What zip files and array headers that are not what they should be make NumPy raise."""


class Archive:
    """An ``.npz`` file, opened for reading arrays of plain numbers and texts.

    Args:
        path: the file.

    Raises:
        DataError: no such file, or no archive.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "graph.npz")
        >>> np.savez(path, edges=np.array([[0, 1], [1, 2]]))
        >>> with Archive(path) as archive:
        ...     archive.keys, archive["edges"].tolist()
        (('edges',), [[0, 1], [1, 2]])
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        check_file(self.path)
        # Asked first: NumPy takes a file that is no archive for a pickle
        if not zipfile.is_zipfile(self.path):
            raise DataError(f"{self.path}: no .npz archive, or one that is cut off; allowed is what numpy.savez makes")
        with refusing(self.path, _BROKEN), ExitStack() as opened:
            stream = opened.enter_context(self.path.open("rb"))  # which NumPy leaves open where the archive is broken
            self._file = opened.enter_context(np.load(stream, allow_pickle=False))
            check_members(self._file.zip)
            self._opened = opened.pop_all()
        self.keys: tuple[str, ...] = tuple(self._file.files)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def __getitem__(self, key: str) -> np.ndarray:
        """The array under a key.

        Raises:
            DataError: no such key, an array of pickled objects, or one that is cut off or damaged.
        """
        if key not in self.keys:
            raise DataError(f"{self.path}: no key {key!r}; it has {', '.join(self.keys) or 'none'}")
        name = key if key in self._file.zip.NameToInfo else f"{key}.npy"
        with refusing(self.at(key), _BROKEN):
            self._check_size(key)
            with self._file.zip.open(name) as member:
                if not member.peek(len(MAGIC_PREFIX)).startswith(MAGIC_PREFIX):
                    raise DataError(f"{self.at(key)}: no array; allowed are arrays as numpy.savez writes them")
                array: np.ndarray = read_array(member, allow_pickle=False)
                read_to_end(member)
        return array

    def _check_size(self, key: str) -> None:
        """Looks at how large an array says that it is, before there is room made for it."""
        member = key if key in self._file.zip.namelist() else f"{key}.npy"
        with self._file.zip.open(member) as stream:
            if stream.read(len(format.MAGIC_PREFIX)) != format.MAGIC_PREFIX:
                check_size(self.at(key), self._file.zip.getinfo(member).file_size, "bytes of arrays")
                return
            stream.seek(0)
            version = format.read_magic(stream)
            read = format.read_array_header_1_0 if version == (1, 0) else format.read_array_header_2_0
            shape, _, dtype = read(stream)
        check_size(self.at(key), math.prod(shape) * dtype.itemsize, "bytes of arrays")

    def at(self, key: str) -> str:
        """Where an array stands, for messages."""
        return f"{self.path}, key {key!r}"
