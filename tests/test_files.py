"""Files that are whole or not there."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mebns_pl import files
from mebns_pl.errors import DataError
from mebns_pl.files import atomic_file, check_archive, locked, naming, sweep, write_atomically

PACKAGE = str(Path(files.__file__).parent)
ALONE = """
import sys, time, types
package = types.ModuleType("mebns_pl")  # without what it imports, which takes seconds
package.__path__ = [sys.argv[1]]
sys.modules["mebns_pl"] = package
"""
WRITER = f"""{ALONE}
from mebns_pl.files import atomic_file
with atomic_file(sys.argv[2]) as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""
FORKER = f"""{ALONE}
import os
from mebns_pl.files import locked
with locked(sys.argv[2]):
    if not os.fork():
        print(os.getpid(), flush=True)  # by then it has let go of what was its parent's
    time.sleep(60)
"""
HOLDER = f"""{ALONE}
from mebns_pl.files import locked
with locked(sys.argv[2]):
    print("held", flush=True)
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


def test_what_goes_wrong_with_a_disk_names_the_place() -> None:
    for code, told in ((errno.ENOSPC, "logs"), (errno.ENOMEM, None)):
        with pytest.raises(OSError, match=os.strerror(code)) as caught, naming("logs"):
            raise OSError(code, os.strerror(code))
        assert caught.value.filename == told
    with pytest.raises(OSError, match="full") as caught, naming("logs"):
        raise OSError(errno.ENOSPC, "full", "another")
    assert caught.value.filename == "another"


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
    with subprocess.Popen([sys.executable, "-c", WRITER, PACKAGE, path], stdout=subprocess.PIPE) as child:
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


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, PACKAGE, folder], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        told = f"{folder}: in use by process {child.pid} on {socket.gethostname()}; wait for its end"
        with pytest.raises(DataError, match=re.escape(told)), locked(folder):
            pass
        child.kill()
    assert names(folder) == [".lock"]
    with locked(folder):  # the kernel has given it back
        assert (folder / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert names(folder) == []


def test_a_folder_is_held_once_within_a_process(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(DataError, match="in use by process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_process_that_was_forked_off_holds_nothing(tmp_path: Path) -> None:
    """As loader workers do, which outlive a killed run by seconds."""
    with subprocess.Popen([sys.executable, "-c", FORKER, PACKAGE, tmp_path], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            with pytest.raises(DataError, match=f"process {parent.pid} "), locked(tmp_path):
                pass
            parent.kill()
            parent.wait()
            with locked(tmp_path):
                os.kill(child, 0)  # still there
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_lock_file_that_is_removed_meanwhile_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking it, its last holder may take it away; a lock on it would be of no use."""
    flock, removed = fcntl.flock, []

    def late(lock: int, how: int) -> None:
        if not removed:
            removed.append(lock)
            (tmp_path / ".lock").unlink()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path), pytest.raises(DataError, match="in use"), locked(tmp_path):
        pass


def test_where_there_are_no_locks_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path), locked(tmp_path):
        write_atomically(tmp_path / "notes.txt", "written")
    (tmp_path / ".notes.txt.12.tmp").touch()
    sweep(tmp_path)
    assert names(tmp_path) == [".notes.txt.12.tmp", "notes.txt"]  # for nobody knows whether it is being written


def test_archives_are_compared_with_their_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(100.0)}, path)
    check_archive(path)
    whole = path.read_bytes()
    place = whole.index(torch.arange(100.0).numpy().tobytes()) + 40
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert torch.load(path, weights_only=True)["a"].tolist() != list(range(100))  # which torch does not see
    with pytest.raises(zipfile.BadZipFile, match=r"Bad CRC-32.*data/0"):
        check_archive(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(2**20))
    with pytest.raises(zipfile.BadZipFile, match=r"'data\.pkl' is compressed"):
        check_archive(path)
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    check_archive(path)  # has no checksums
