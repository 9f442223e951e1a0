"""Files that are whole or not there: a process that is killed while it writes keeps what was there before."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mebns_pl.errors import DataError

_UNFINISHED = re.compile(r"\..+\.\d+\.tmp")
"""How unfinished files are named: ``.<name>.<process>.tmp``."""
_LOCK = ".lock"
_locks: set[int] = set()


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


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keeps a folder for this process; the kernel gives it back when the process ends, however that comes about.

    Processes that are forked off meanwhile do not hold it. A file system without locks keeps nothing.

    Args:
        folder: the folder; it is made.

    Raises:
        DataError: another one has it, or this one already, with number and machine.
        OSError: the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with locked(folder):
        ...     os.listdir(folder)
        ['.lock']
        >>> os.listdir(folder)
        []
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOCK
    lock = _locked(path)
    _locks.add(lock)
    try:
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        if lock in _locks:  # not in a process that was forked off
            path.unlink(missing_ok=True)
            _locks.remove(lock)
            os.close(lock)


def _locked(path: Path) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 200).decode(errors="replace") or "another process"
            os.close(lock)
            raise DataError(f"{path.parent}: in use by {holder}; wait for its end, or take another folder") from error
        except OSError:  # no locks here
            return lock
        try:
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)  # its last holder has removed it


def _forget_locks() -> None:
    """A lock goes when the last of the processes that hold it closes it: none that was forked off is to hold one."""
    for lock in _locks:
        os.close(lock)
    _locks.clear()


os.register_at_fork(after_in_child=_forget_locks)


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
