"""Files that are whole or not there: a process that is killed while it writes keeps what was there before."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_UNFINISHED = re.compile(r"\..+\.\d+\.tmp")
"""How unfinished files are named: ``.<name>.<process>.tmp``."""


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Writes a file as of :func:`atomic_file`.

    Args:
        path: the file; its folder is made.
        data: what is to be in it; texts are encoded as UTF-8.

    Raises:
        OSError: it cannot be written, with its name; what was there is kept, and nothing else is left.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "run", "notes.txt")
        >>> write_atomically(path, "one")
        >>> path.read_text(), [item.name for item in path.parent.iterdir()]
        ('one', ['notes.txt'])
    """
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write into: at every moment the old or the whole new one is there, even if the machine stops.

    Its folder is made. A symbolic link is replaced, not followed; what killed writes of the same file have left is
    removed.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be written, with its name; what was there is kept, and nothing else is left.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        try:
            with _opened(partial) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(partial, path)  # under the lock, so that it is not swept before
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)  # the new name, too, must be on the disk
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.filename not in (None, str(partial)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def sweep(folder: str | Path, name: str | None = None) -> None:
    """Removes what killed writes have left in a folder; not what is being written, nor what a link points at.

    Args:
        folder: the folder; there need be none.
        name: the file whose unfinished writes are meant; all by default, for folders of this package's own.
    """
    try:
        found = [item.path for item in os.scandir(folder) if _UNFINISHED.fullmatch(item.name)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in found:
        if name is not None and os.path.basename(path).rsplit(".", 2)[0] != f".{name}":
            continue
        if os.path.islink(path):
            Path(path).unlink(missing_ok=True)
            continue
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer's, for as long as that one lives
                Path(path).unlink(missing_ok=True)
        except OSError:  # being written, gone, or not ours
            continue


def _opened(path: Path) -> BinaryIO:
    """A new file, locked against :func:`sweep`; one of that name, left by a process of the same number, is removed."""
    while True:
        path.unlink(missing_ok=True)
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: nothing is swept there
            return file
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # swept before it was locked
