"""A loss or gradient that is not finite stops the run before it is applied, and what led to it is kept."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mebns_pl import LastCheckpoint
from mebns_pl.systems.finite import NonFiniteError
from mebns_pl.systems.plain import Plain
from references.runs import equal, make_data, make_mebns, make_plain, make_trainer, weights


class Spoil(Callback):
    """Puts a value into a parameter before the step (1, 1)."""

    def __init__(self, part: str, value: float) -> None:
        self.part, self.value = part, value
        self.before: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (1, 1):
            with torch.no_grad():
                next(pl_module.get_submodule(self.part).parameters()).view(-1)[0] = self.value
            self.before = weights(pl_module)


@pytest.mark.parametrize(
    ("part", "value", "found"),
    [
        ("student", math.nan, "weight_net: its loss is nan"),  # the meta loss is the student's, seen first
        ("teacher", math.inf, "teacher: its loss is nan"),
        ("weight_net", math.nan, "weight_net: "),
    ],
)
def test_it_stops_and_keeps_the_batch(tmp_path: Path, part: str, value: float, found: str) -> None:
    data, spoil = make_data(), Spoil(part, value)
    system = make_mebns(data.spec)
    trainer = make_trainer(3, [spoil, LastCheckpoint(tmp_path)], default_root_dir=tmp_path, enable_checkpointing=True)
    message = re.escape("training stopped in epoch 1, step 1: " + found)
    with pytest.raises(NonFiniteError, match=message) as error:
        trainer.fit(system, data)
    path = tmp_path / "not_finite_epoch1_step1.pt"
    assert str(path) in str(error.value)
    kept = torch.load(path, weights_only=True)
    assert kept["fault"].startswith(found)
    assert kept["batch"]["epoch"] == kept["batch"]["step"] == 1
    assert kept["batch"]["positives"].shape[0] == 2
    # Nothing of the step was applied
    now = weights(system)
    assert all(torch.equal(value.nan_to_num(), spoil.before[name].nan_to_num()) for name, value in now.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", path.name]
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["epoch"] == 1
    assert all(bool(torch.isfinite(tensor).all()) for tensor in last["state_dict"].values())


def test_an_infinite_gradient_of_a_finite_loss(tmp_path: Path) -> None:
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return grad * math.inf

    data = make_data()
    system = make_plain(data.spec)
    decoder = system.student.decoder
    decoder.register_forward_hook(lambda module, inputs, output: Steep.apply(output))
    with pytest.raises(NonFiniteError, match=r"epoch 0, step 0: student: the gradient of \S+ is not finite"):
        make_trainer(1, default_root_dir=tmp_path).fit(system, data)


def test_a_folder_that_cannot_be_written_is_no_other_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data, spoil = make_data(), Spoil("student", math.nan)
    with pytest.raises(NonFiniteError, match=r"student: .* could not be written to"):
        make_trainer(2, [spoil], default_root_dir=tmp_path / "file" / "folder").fit(make_plain(data.spec), data)


def test_the_check_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    found = []
    for checked in (True, False):
        with monkeypatch.context() as patch:
            if not checked:
                patch.setattr("mebns_pl.systems.plain.refuse_non_finite", lambda *_: None)
            data = make_data()
            system: Plain = make_plain(data.spec)
            make_trainer(1, limit_val_batches=0).fit(system, data)
            found.append(weights(system))
    assert equal(*found)
