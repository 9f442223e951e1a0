"""Where files of data are looked for, and how they get there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import re
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mebns_pl.errors import DataError

_JUST_MADE = 10.0
"""Seconds for which a folder that nobody has locked is left alone."""


def cache_folder() -> Path:
    """Where downloads are kept: the environment variable ``MEBNS_CACHE``, or ``~/.cache/mebns_pl``."""
    return Path(os.environ.get("MEBNS_CACHE") or Path.home() / ".cache" / "mebns_pl")


def data_folders(root: str | Path | None) -> list[Path]:
    """The folders that files of data may be in, first choice first.

    Args:
        root: folder with data files; None takes the environment variable ``MEBNS_DATA``, if it is set.
    """
    root = root or os.environ.get("MEBNS_DATA")
    return [*([] if root is None else [Path(root)]), cache_folder()]


def benchmark_places(name: str, root: str | Path | None) -> list[Path]:
    """Where the raw files of a graph of the Open Graph Benchmark may be, first choice first."""
    return [folder / "ogb" / name.replace("-", "_") for folder in data_folders(root)]


def find_benchmark(name: str, root: str | Path | None) -> Path | None:
    """Where one is, or None: ``ogb/ogbl_ddi.npz``, an archive of its split, or the raw files' ``ogb/ogbl_...``."""
    places = benchmark_places(name, root)
    archives = [place.with_suffix(".npz") for place in places] if name == "ogbl-ddi" else []
    return next((place for place in [*archives, *places] if place.is_file() or (place / "raw").is_dir()), None)


def ogb_is_installed() -> bool:
    """Whether the ``ogb`` package is there; it is not imported."""
    return importlib.util.find_spec("ogb") is not None


def looked_in(places: Sequence[Path]) -> str:
    """The end of a message that something was not found."""
    return f"is in none of {', '.join(str(place) for place in places)}"


def download_file(url: str, path: Path) -> None:
    """Downloads one file.

    Raises:
        OSError: it is not to be had, or the connection ended before the file did.
    """
    with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file)
        length = response.headers.get("Content-Length")
    if length is not None and path.stat().st_size != int(length):
        raise OSError(f"{url}: got {path.stat().st_size:,} of {int(length):,} bytes")


def fetch(place: Path, download: Callable[[Path], None], what: str) -> None:
    """Downloads into a folder of its own beside ``place``, and moves it, or what is in it, there when it is complete.

    What killed downloads have left beside it is removed.

    Args:
        place: the folder to make or to fill; its parents are made, too.
        download: fills the folder that it is given, or raises; what it raises leaves nothing behind.
        what: what is downloaded, for messages.

    Raises:
        DataError: the download failed.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        staging = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        lock = os.open(staging, os.O_RDONLY)
        _lock(lock)
    except OSError as error:
        raise DataError(f"{place}: cannot be made for the download of {what} ({error})") from error
    try:
        download(staging)
        staging.chmod(0o755)
        if place.is_dir() or not _moved(staging, place):
            for item in staging.iterdir():
                _moved(item, place / item.name)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # any of a network's many errors, and a download that was declined
        raise DataError(f"{what}: the download failed ({type(error).__name__}: {error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def _moved(source: Path, place: Path) -> bool:
    """Whether a download went where it belongs, and not another's of the same that was there sooner."""
    try:
        os.replace(source, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _lock(folder: int) -> bool:
    """Whether an open folder was taken: it belongs to a download for as long as that lives."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # being filled, or a file system without locks
        return False
    return True


def _sweep(place: Path) -> None:
    """Removes folders that downloads into ``place`` have left when they were killed."""
    name = re.compile(rf"\.{re.escape(place.name)}-[a-z0-9_]{{8}}")
    for path in [item for item in place.parent.iterdir() if name.fullmatch(item.name)]:
        # One that has just been made is not locked yet
        with suppress(OSError):
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if time.time() - path.stat().st_mtime > _JUST_MADE and _lock(folder):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(folder)
