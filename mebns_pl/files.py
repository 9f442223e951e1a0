"""Files that are whole or not there: a process that is killed while it writes keeps what was there before."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from mebns_pl.errors import DataError

_UNFINISHED = re.compile(r"\..+\.\d+\.tmp")
"""How unfinished files are named: ``.<name>.<process>.tmp``."""
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_LOCK = ".lock"
_locks: set[int] = set()


class InUseError(DataError):
    """A folder that another process works in."""


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
    with naming(path):
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


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Has what goes wrong with a disk name the file: of a full one Python says only that it is full.

    Args:
        path: what is written into within; errors that name another file are left as they are.
    """
    try:
        yield
    except OSError as error:
        own = error.filename is None and error.errno in _OF_DISKS
        if not own and not _UNFINISHED.fullmatch(os.path.basename(os.fsdecode(error.filename or ""))):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_archive(path: str | Path) -> None:
    """Compares what ``torch.save`` wrote with the checksums in it, which ``torch.load`` does not.

    It reads the file once, at the disk's speed. Older files of ``torch.save``, which are no archives, have none.

    Raises:
        zipfile.BadZipFile: it is damaged, or no such archive.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
        with zipfile.ZipFile(file) as archive:
            check_members(archive)
            for item in archive.infolist():
                if item.compress_type != zipfile.ZIP_STORED or item.compress_size != item.file_size:
                    raise zipfile.BadZipFile(f"{item.filename!r} is compressed, as torch.save writes nothing")
                with archive.open(item) as member:
                    read_to_end(member)


def check_members(archive: zipfile.ZipFile) -> None:
    """Compares the list of an archive's members with what stands before each.

    Raises:
        zipfile.BadZipFile: a member goes by another name there, or the list holds more than names.
    """
    for item in archive.infolist():
        if item.comment:  # as where a damaged length has made one of the members that follow
            raise zipfile.BadZipFile(f"{item.filename!r} has a comment, as no array has")
        archive.open(item).close()


def read_to_end(member: IO[bytes]) -> None:
    """Reads what is left of an archive's member, for there its checksum is compared.

    Raises:
        zipfile.BadZipFile: it does not fit.
    """
    while member.read(2**20):
        pass


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
        InUseError: another one has it, or this one already, with number and machine.
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


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until no other process holds a lock; the kernel ends the wait when that process ends, however it does.

    Args:
        path: the lock's file, which stays.
    """
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError:  # nothing can be written there; what is kept can be read all the same
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks: all go on
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _locked(path: Path) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 200).decode(errors="replace") or "another process"
            os.close(lock)
            raise InUseError(f"{path.parent}: in use by {holder}; wait for its end, or take another folder") from error
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
