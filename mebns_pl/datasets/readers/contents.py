"""What is in a file: bytes, or lines of text."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mebns_pl.datasets.limits import check_size, limit
from mebns_pl.errors import DataError

_BLOCK = 2**20
_LOOKS_LIKE = {
    b"\xff\xfe": "UTF-16, as Excel's 'Unicode Text' is; save it as 'CSV UTF-8'",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
    b"\x1f\x8b": "gzip; its name should end with .gz",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save it as CSV",
    b"version https://git-lfs": "a pointer of Git LFS and not the file; `git lfs pull` fetches it",
    b"<!doctype html": "a web page and not the file",
    b"<html": "a web page and not the file",
}
"""What files begin with that are taken for tables of text."""


def check_file(path: Path) -> None:
    """Refuses what is no file.

    Raises:
        DataError: it is missing, or a folder.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file{', but a folder; allowed is one file' * path.is_dir()}")


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
        raise DataError(f"{where}: {what} ({' '.join(str(error).split())[:200]})") from error


def read_bytes(path: Path, what: str = "bytes of text") -> bytes:
    """What is in a file, unpacked where its name ends with ``.gz``.

    Args:
        path: the file.
        what: which bound there is on its size.

    Raises:
        DataError: it is missing, cannot be read or unpacked, or is larger than allowed.
    """
    check_file(path)
    with refusing(path, (OSError, EOFError, zlib.error)):
        check_size(path, path.stat().st_size, what)
        if path.suffix != ".gz":
            return path.read_bytes()
        unpacked = bytearray()
        with gzip.open(path) as file:
            while block := file.read(_BLOCK):
                unpacked += block
                check_size(f"{path}, unpacked", len(unpacked), what, least=True)
        return bytes(unpacked)


def check_text(content: bytes, path: Path) -> None:
    """Makes sure that what is in a file is UTF-8 text.

    Raises:
        DataError: it is not.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    characters = 0
    for first in range(start, max(len(content), start + 1), _BLOCK):
        held = len(decoder.getstate()[0])  # bytes of a character that began in the last block
        try:
            text = decoder.decode(content[first : first + _BLOCK], first + _BLOCK >= len(content))
        except UnicodeDecodeError as error:
            place = first - start - held + error.start
            seems = looks_like(content) or "; of another encoding, it has to be saved as UTF-8"
            raise DataError(f"{path}: not text (byte {place}: {error.reason}); allowed is UTF-8 text{seems}") from error
        if "\0" in text:
            place = characters + text.index("\0")
            raise DataError(f"{path}: not text (a NUL character at place {place}); allowed is UTF-8 text")
        characters += len(text)


def looks_like(content: bytes) -> str:
    """A hint at what a file is that is no table, or ""."""
    start = content[:32].lower()
    found = (what for begin, what in _LOOKS_LIKE.items() if start.startswith(begin.lower()))
    return next((f"; it seems to be {what}" for what in found), "")


def text_lines(path: Path, comment: str | None = None) -> Iterator[str]:
    """The file's lines with their ends; comment lines come back empty, so that line numbers stay those of the file.

    Args:
        path: the file.
        comment: what comment lines start with; None or "" takes no line for one.

    Raises:
        DataError: the file is missing, cannot be read, is larger than allowed, or is no UTF-8 text.
    """
    content, longest = read_bytes(path), limit("characters of a line")
    check_text(content, path)
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    while line := lines.readline(longest + 1):
        check_size(path, len(line), "characters of a line", least=True)
        yield "\n" if comment and line.startswith(comment) else line
