"""Compiled functions are kept with a checksum, and compiled anew where what was kept is damaged or cannot be."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core import caching

from mebns_pl import kernels

SOURCE = """
from mebns_pl.kernels import kernel

@kernel
def twice(x):
    return 2 * x
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own, in which nothing was told yet."""
    (tmp_path / "functions.py").write_text(SOURCE)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(kernels, "_told", set())
    return tmp_path / "cache"


def start(folder: Path) -> Any:
    """The function as another process would find it."""
    spec = importlib.util.spec_from_file_location("functions", folder / "functions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twice


def compiled(function: Any) -> bool:
    """Calls it; gives back whether it had to be compiled for that."""
    assert function(21) == 42
    return bool(function.stats.cache_misses)


def test_what_was_compiled_is_kept(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert compiled(start(tmp_path))
    assert not compiled(start(tmp_path))
    assert sorted(path.suffix for path in cache.rglob("*.*")) == [".nbc", ".nbi"]
    assert not caplog.text


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "text": lambda raw: b"no cache\n" * 9,
    "a bit": lambda raw: raw[:-20] + bytes([raw[-20] ^ 4]) + raw[-19:],
}


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_and_mended(
    tmp_path: Path, cache: Path, suffix: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    start(tmp_path)(21)
    (path,) = cache.rglob(f"*{suffix}")
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert compiled(start(tmp_path))
    (line,) = caplog.messages
    assert line.startswith(f"{path}: damaged (")
    assert not compiled(start(tmp_path))


def test_flipped_bits_never_reach_the_processor(tmp_path: Path, cache: Path) -> None:
    start(tmp_path)(21)
    dice = random.Random(0)
    paths = sorted(cache.rglob("*.nb?"))
    for path in 4 * paths:
        whole = bytearray(path.read_bytes())
        place = dice.randrange(len(whole))
        whole[place] ^= 1 << dice.randrange(8)
        path.write_bytes(whole)
        assert compiled(start(tmp_path))


def test_numbas_own_files_are_not_taken_for_damaged(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "_KernelCache", caching.FunctionCache)
        assert compiled(start(tmp_path))
    assert compiled(start(tmp_path))
    assert not compiled(start(tmp_path))
    assert not caplog.text


def test_a_full_disk_is_told_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    function = start(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert compiled(function)
        assert function(1.5) == 3
    (line,) = caplog.messages
    assert line.startswith(str(cache))
    assert line.endswith("cannot be kept (No space left on device); the next start compiles them again")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_without_a_folder_functions_are_compiled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a package on a read-only disk and a home that cannot be written to."""
    caplog.set_level(logging.WARNING)

    def read_only(_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", read_only)
    assert compiled(start(tmp_path))
    assert compiled(start(tmp_path))
    (line,) = caplog.messages
    assert line.startswith("compiled functions cannot be kept (cannot cache function 'twice': no locator available")
    assert line.endswith("NUMBA_CACHE_DIR names a folder for them")


def test_all_compiled_functions_are_kept_so() -> None:
    """numba's own cache has no checksum, and ends a program where it cannot write."""
    package = Path(kernels.__file__).parent
    found = [path for path in package.rglob("*.py") if "njit(" in path.read_text() or "numba.jit" in path.read_text()]
    assert found == [package / "kernels.py"]
