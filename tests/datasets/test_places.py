"""Downloads: whole or not there, and what killed ones leave."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mebns_pl.datasets import places
from mebns_pl.datasets.places import fetch
from mebns_pl.errors import DataError


def staged(folder: Path, name: str, age: float = 100.0) -> Path:
    path = folder / name
    path.mkdir()
    (path / "half").write_text("half")
    os.utime(path, times=(time.time() - age,) * 2)
    return path


def test_folders_of_killed_downloads_are_swept(tmp_path: Path) -> None:
    left = staged(tmp_path, ".cora-abcd_123")
    kept = [staged(tmp_path, name) for name in (".cora-full-abcd_123", ".other-abcd_123", "cora-abcd_123")]
    kept.append(staged(tmp_path, ".cora-justmade", age=0.0))
    elsewhere = staged(tmp_path, "elsewhere")
    (tmp_path / ".cora-linked_1").symlink_to(elsewhere)
    fetch(tmp_path / "cora", lambda folder: (folder / "edges").write_text("all") and None, "cora")
    assert not left.exists()
    assert all((path / "half").exists() for path in [*kept, elsewhere])
    assert [path.name for path in (tmp_path / "cora").iterdir()] == ["edges"]


def test_a_download_at_work_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_JUST_MADE", -1.0)

    def download(folder: Path) -> None:
        fetch(tmp_path / "cora", lambda other: (other / "a").write_text("a") and None, "cora")
        (folder / "b").write_text("b")

    fetch(tmp_path / "cora", download, "cora")
    assert sorted(path.name for path in (tmp_path / "cora").iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["cora"]


def test_one_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def download(folder: Path) -> None:
        (folder / "a").write_text("a")
        raise OSError("no network")

    with pytest.raises(DataError, match=r"cora: the download failed \(OSError: no network\)"):
        fetch(tmp_path / "cora", download, "cora")
    assert list(tmp_path.iterdir()) == []


def test_the_slower_of_two_downloads_takes_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders do not replace each other as files do."""
    monkeypatch.setattr(places, "_JUST_MADE", -1.0)
    (tmp_path / "ogb").mkdir()

    def fill(folder: Path) -> None:
        (folder / "raw").mkdir()
        (folder / "raw" / "edges").write_text("all")

    def download(folder: Path) -> None:
        fetch(tmp_path / "ogb", fill, "ogb")
        fill(folder)

    fetch(tmp_path / "ogb", download, "ogb")
    assert (tmp_path / "ogb" / "raw" / "edges").read_text() == "all"

    def first_of_all(folder: Path) -> None:
        fetch(tmp_path / "new", fill, "new")
        fill(folder)

    fetch(tmp_path / "new", first_of_all, "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["raw"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "ogb"]
