"""What is in a file: bytes, or lines of text."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mebns_pl.errors import DataError


def check_file(path: Path) -> None:
    """Refuses what is no file.

    Raises:
        DataError: it is missing, or a folder.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")


@contextmanager
def refusing(where: object, errors: tuple[type[Exception], ...], what: str = "cannot be read") -> Iterator[None]:
    """Makes a :class:`DataError` of what a broken file lets other libraries raise.

    Args:
        where: the file, and what of it.
        errors: their errors.
        what: what is wrong, for the message.
    """
    try:
        yield
    except DataError:
        raise
    except errors as error:
        raise DataError(f"{where}: {what} ({str(error)[:200]})") from error


def read_bytes(path: Path) -> bytes:
    """What is in a file, unpacked where its name ends with ``.gz``.

    Raises:
        DataError: it is missing, or cannot be read or unpacked.
    """
    check_file(path)
    with refusing(path, (OSError, EOFError, zlib.error)):
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def decoded(content: bytes, path: Path) -> str:
    """The text that ``content`` of a file is, without a byte order mark.

    Raises:
        DataError: it is no UTF-8 text.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text (byte {error.start}: {error.reason}); allowed is UTF-8 text") from error
    if "\0" in text:
        raise DataError(f"{path}: not text (a NUL character at place {text.index(chr(0))}); allowed is UTF-8 text")
    return text


def text_lines(path: Path, comment: str | None = None) -> Iterator[str]:
    """The file's lines with their ends; comment lines come back empty, so that line numbers stay those of the file.

    Args:
        path: the file.
        comment: what comment lines start with; None or "" takes no line for one.

    Raises:
        DataError: the file is missing, cannot be read, or is no UTF-8 text.
    """
    for line in io.StringIO(decoded(read_bytes(path), path), newline=""):
        yield "\n" if comment and line.startswith(comment) else line
