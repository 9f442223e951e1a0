"""Checkpoint files are whole or not there; what cannot be read is refused by one clear error."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mebns_pl import LastCheckpoint, Plain
from mebns_pl.systems.checkpoint_io import AtomicCheckpointIO, CheckpointError
from references.runs import fit, make_data, make_plain, make_trainer

OLD, NEW = (
    {"pytorch-lightning_version": "2.5.0", "state_dict": {"a": value}} for value in (torch.zeros(3), torch.ones(3))
)


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(NEW, path)
    found = AtomicCheckpointIO().load_checkpoint(path)
    assert torch.equal(found["state_dict"]["a"], torch.ones(3))
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(OLD, path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be written \(No space left.*there is kept"):
            AtomicCheckpointIO().save_checkpoint(NEW, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["a"], torch.zeros(3))
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_file_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _name=name, _real=real: (done.append(_name), _real(*a))[1])
    AtomicCheckpointIO().save_checkpoint(NEW, tmp_path / "last.ckpt")
    assert done == ["fsync", "replace", "fsync"]  # the file, its new name, the folder


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".last.ckpt.12.tmp", ".best.ckpt.3456789.tmp", "mine.12.tmp", "best.ckpt"):
        (tmp_path / name).write_bytes(b"x")
    AtomicCheckpointIO().save_checkpoint(NEW, tmp_path / "last.ckpt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt", "mine.12.tmp"]


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with pytest.raises(CheckpointError, match="no such file"):
        AtomicCheckpointIO().load_checkpoint(path)
    AtomicCheckpointIO().save_checkpoint(NEW, path)
    whole = path.read_bytes()
    for contents in (b"", b"text", whole[:100], whole[: len(whole) - 40]):
        path.write_bytes(contents)
        with pytest.raises(CheckpointError, match=r"last\.ckpt: not a whole checkpoint"):
            AtomicCheckpointIO().load_checkpoint(path)
    torch.save({"object": Path("x")}, path)
    with pytest.raises(CheckpointError, match="plain values"):
        AtomicCheckpointIO().load_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="not written by a trainer"):
        AtomicCheckpointIO().load_checkpoint(path)
    torch.save({**NEW, "epoch": "3"}, path)
    with pytest.raises(CheckpointError, match="'epoch' is of type str, not int"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_a_flipped_bit_is_found_wherever_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({**NEW, "state_dict": {"a": torch.full((100,), 0.5)}}, path)
    whole = path.read_bytes()
    place = whole.index(torch.full((100,), 0.5).numpy().tobytes()) + 3
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
    assert torch.load(path, weights_only=True)["state_dict"]["a"][0] != 0.5  # torch does not notice it
    for load in (AtomicCheckpointIO().load_checkpoint, Plain.load_from_checkpoint):
        with pytest.raises(CheckpointError, match=r"last\.ckpt: not a whole checkpoint .*Bad CRC-32"):
            load(path)


def test_parts_that_do_not_fit_are_told(tmp_path: Path) -> None:
    """Of a file that somebody has changed, whose checksums fit."""
    data = make_data()
    fit(make_plain(data.spec), data, 1, [LastCheckpoint(tmp_path)], enable_checkpointing=True)
    path = tmp_path / "last.ckpt"
    whole = torch.load(path, weights_only=True)
    for part, told in (
        ("lr_schedulers", "KeyError: .*learning rate scheduler"),
        ("accumulated", "KeyError: 'accumulated'"),
        ("loops", "KeyError: 'fit_loop'"),
    ):
        changed = {**whole, part: {}} if part == "loops" else {k: v for k, v in whole.items() if k != part}
        torch.save(changed, path)
        with pytest.raises(CheckpointError, match=rf"last\.ckpt: cannot be taken up \({told}") as caught:
            fit(make_plain(data.spec), make_data(), 2, ckpt_path=str(path))
        assert "\n" not in str(caught.value)


def test_systems_bring_it_along_and_leave_another_plugin_alone() -> None:
    class Own(TorchCheckpointIO):
        pass

    for plugins, kind in (([], AtomicCheckpointIO), ([Own()], Own)):
        data = make_data()
        trainer = make_trainer(1, plugins=plugins, limit_train_batches=1, limit_val_batches=0)
        trainer.fit(make_plain(data.spec), data)
        assert type(trainer.strategy.checkpoint_io) is kind
