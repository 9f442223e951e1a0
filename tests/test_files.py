"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mebns_pl import files
from mebns_pl.files import atomic_file, sweep, write_atomically

WRITER = """
import runpy, sys, time
with runpy.run_path(sys.argv[1])["atomic_file"](sys.argv[2]) as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folder_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "notes.txt"
    write_atomically(path, "grün")
    assert path.read_bytes() == "grün".encode()
    write_atomically(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert names(path.parent) == ["notes.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask  # as any file: others may read it


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_keeps_the_old_file_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "notes.txt"
    write_atomically(path, "old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomically(path, "new")
    assert (caught.value.filename, caught.value.errno) == (str(path), errno.ENOSPC)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["notes.txt"]


def test_where_it_cannot_be_written_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError) as caught:
        write_atomically(tmp_path / "file" / "notes.txt", "new")
    assert caught.value.filename.startswith(str(tmp_path / "file"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomically(tmp_path / "folder", "new")
    assert caught.value.filename == str(tmp_path / "folder")
    assert names(tmp_path) == ["file", "folder"]


def test_what_fails_within_is_not_taken_for_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_file(tmp_path / "notes.txt"):
        (tmp_path / "another").read_text()
    assert caught.value.filename == str(tmp_path / "another")
    assert names(tmp_path) == []


def test_links_are_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").symlink_to(victim)
    (folder / f".notes.txt.{os.getpid()}.tmp").symlink_to(victim)
    (folder / ".notes.txt.1.tmp").symlink_to(victim)
    write_atomically(folder / "notes.txt", "new")
    assert victim.read_text() == "mine"
    assert names(folder) == ["notes.txt"]
    assert (folder / "notes.txt").read_text() == "new"


def test_a_killed_write_is_swept_and_one_in_progress_is_not(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    with subprocess.Popen([sys.executable, "-c", WRITER, files.__file__, path], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        sweep(tmp_path)
        assert names(tmp_path) == [f".notes.txt.{child.pid}.tmp"]
        child.kill()
    write_atomically(tmp_path / "other.txt", "of another name, which does not sweep it")
    assert f".notes.txt.{child.pid}.tmp" in names(tmp_path)
    write_atomically(path, "whole")
    assert names(tmp_path) == ["notes.txt", "other.txt"]


def test_only_unfinished_files_are_swept(tmp_path: Path) -> None:
    kept = [".hidden", ".a.tmp", "a.12.tmp", ".a.x12.tmp", ".12.tmp", ".a.13.tmp"]
    for name in kept[:-1]:
        (tmp_path / name).touch()
    (tmp_path / kept[-1]).mkdir()
    (tmp_path / ".a.12.tmp").touch()
    os.mkfifo(tmp_path / ".pipe.12.tmp")  # opening it must not wait
    sweep(tmp_path)
    assert names(tmp_path) == sorted(kept)
    sweep(tmp_path / "nowhere")
