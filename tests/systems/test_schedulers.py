"""Schedulers of all three optimizers: stepped by the system, each only while its learner learns."""

from __future__ import annotations

from functools import partial

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import ReduceLROnPlateau as MonitoredPlateau
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from mebns_pl import OwnLearning, Schedule
from references.runs import ALL_WARM_UP, equal, make_data, make_mebns, make_plain, make_trainer, weights

halve = partial(StepLR, step_size=1, gamma=0.5)


class Rates(Callback):
    """The learning rates in each epoch."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if batch_idx == 1:
            self.seen.append([optimizer.param_groups[0]["lr"] / 0.03 for optimizer in trainer.optimizers])


def test_each_stands_still_while_its_learner_does() -> None:
    data, rates = make_data(), Rates()
    schedule = Schedule(warmup=2, lr_scheduler=halve, teacher_lr_scheduler=halve, weight_net_lr_scheduler=halve)
    system = make_mebns(data.spec, schedule=schedule, teaching=OwnLearning(epochs=1))
    make_trainer(4, [rates], limit_val_batches=0).fit(system, data)
    assert rates.seen == [[1, 1, 1], [1 / 2, 1 / 2, 1], [1 / 4, 1 / 2, 1], [1 / 8, 1 / 2, 1 / 2]]


def test_plain_has_one_and_it_matters() -> None:
    found = []
    for scheduler in (None, halve):
        data, rates = make_data(), Rates()
        system = make_plain(data.spec, lr_scheduler=scheduler)
        make_trainer(2, [rates], limit_val_batches=0).fit(system, data)
        found.append((rates.seen, weights(system)))
    assert [seen for seen, _ in found] == [[[1], [1]], [[1], [0.5]]]
    assert not equal(found[0][1], found[1][1])


def test_a_plateau_is_looked_for_after_validations_alone() -> None:
    data, rates = make_data(), Rates()
    plateau = partial(
        MonitoredPlateau, monitor="val/mrr", mode="min", patience=0, threshold=10.0, threshold_mode="abs", factor=0.5
    )
    # No value is ever lower by so much, so each validation but the first halves the rate
    make_trainer(6, [rates], check_val_every_n_epoch=2, num_sanity_val_steps=1).fit(
        make_plain(data.spec, lr_scheduler=plateau), data
    )
    assert [rate for (rate,) in rates.seen] == [1, 1, 1, 1, 0.5, 0.5]


@ALL_WARM_UP
def test_schedulers_that_cannot_work_are_refused() -> None:
    data = make_data()
    system = make_mebns(data.spec, schedule=Schedule(teacher_lr_scheduler=ReduceLROnPlateau))
    with pytest.raises(ValueError, match=r"schedule.teacher_lr_scheduler: torch's ReduceLROnPlateau .* with monitor"):
        make_trainer(1).fit(system, data)
    plain = make_plain(data.spec, lr_scheduler=partial(MonitoredPlateau, monitor="train/student_loss"))
    with pytest.raises(ValueError, match=r"watches 'train/student_loss'; allowed are val/ap.*val/mrr"):
        make_trainer(1).fit(plain, make_data())
