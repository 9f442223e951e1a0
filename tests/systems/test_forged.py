"""Checkpoints that somebody has changed by hand are refused when they are loaded, not in mid-training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mebns_pl import CheckpointError, LastCheckpoint
from mebns_pl.systems.mebns import Schedule
from references.runs import fit, make_data, make_mebns


def callbacks(folder: Path) -> list[Any]:
    return [
        ModelCheckpoint(folder, monitor="val/mrr", mode="max", filename="best", enable_version_counter=False),
        LastCheckpoint(folder),
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trained")
    data = make_data()
    fit(make_mebns(data.spec, schedule=Schedule(warmup=1)), data, 3, callbacks(folder), enable_checkpointing=True)
    found: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    return found


FORGED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no tensor": (lambda c: c["meta_set"].update(pairs=3), r"meta set is damaged: pairs: got int; expected a tensor"),
    "a list": (lambda c: c["meta_set"].update(labels=[1.0]), r"meta set is damaged: labels: got list"),
    "another shape": (lambda c: c["meta_set"].update(std=torch.zeros(1)), r"std: got shape \(1,\)"),
    "no numbers of nodes": (
        lambda c: c["meta_set"].update(pairs=c["meta_set"]["pairs"].float()), "pairs: got torch.float32",
    ),
    "other nodes": (lambda c: c["meta_set"]["pairs"].fill_(10**6), "pairs: got nodes that are not in the graph"),
    "counts": (lambda c: c["meta_set"].update(counts=None), "counts: got NoneType"),
    "another part": (lambda c: c["meta_set"].update(more=1), "meta set is damaged"),
    "no path": (lambda c: change_best(c, kth_best_model_path=None), "best checkpoints is damaged: kth_best_model_path"),
    "an unknown path": (lambda c: change_best(c, kth_best_model_path="x"), "is damaged: kth_best_model_path"),
    "no scores": (lambda c: change_best(c, best_k_models={"a": None}), "is damaged: best_k_models"),
}  # fmt: skip


def change_best(checkpoint: dict[str, Any], **changes: Any) -> None:
    for name, state in checkpoint["callbacks"].items():
        if name.startswith("ModelCheckpoint"):
            state.update(changes)


@pytest.mark.parametrize("kind", FORGED)
def test_forged_parts_are_refused(kind: str, trained: dict[str, Any], tmp_path: Path) -> None:
    forge, told = FORGED[kind]
    torch.save(trained, tmp_path / "forged.ckpt")
    checkpoint = torch.load(tmp_path / "forged.ckpt", weights_only=True)
    forge(checkpoint)
    torch.save(checkpoint, tmp_path / "forged.ckpt")
    data = make_data()
    system = make_mebns(data.spec, schedule=Schedule(warmup=1))
    with pytest.raises(CheckpointError, match=told):
        fit(system, data, 4, callbacks(tmp_path), enable_checkpointing=True, ckpt_path=str(tmp_path / "forged.ckpt"))


def test_what_was_not_changed_is_taken(trained: dict[str, Any], tmp_path: Path) -> None:
    torch.save(trained, tmp_path / "whole.ckpt")
    data = make_data()
    system = make_mebns(data.spec, schedule=Schedule(warmup=1))
    fit(system, data, 4, callbacks(tmp_path), enable_checkpointing=True, ckpt_path=str(tmp_path / "whole.ckpt"))
    assert system.meta_set is not None
