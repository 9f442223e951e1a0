"""Epoch means are Lightning's to the last bit, and go through a checkpoint."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader

from mebns_pl.systems.epoch_means import EpochMeans
from references.runs import make_trainer

VALUES = [torch.tensor(0.1), torch.tensor(1e-7), torch.tensor(3.3), torch.tensor(0.7)]


class Logs(LightningModule):
    """Lightning's own means."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("mean", VALUES[batch_idx], on_step=False, on_epoch=True, batch_size=1)

    def configure_optimizers(self) -> None:
        return None


@pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`")
def test_they_are_lightnings() -> None:
    trainer = make_trainer(1)
    trainer.fit(Logs(), DataLoader(range(len(VALUES))))  # type: ignore[arg-type]
    means = EpochMeans()
    for value in VALUES:
        means.add("mean", value)
    assert torch.equal(means.compute()["mean"], trainer.callback_metrics["mean"])


def test_they_go_on_after_a_checkpoint() -> None:
    whole, first, second = EpochMeans(), EpochMeans(), EpochMeans()
    for place, value in enumerate(VALUES):
        whole.add("a", value)
        if place < 2:
            first.add("a", value)
    second.load_state_dict(first.state_dict())
    for value in VALUES[2:]:
        second.add("a", value)
        second.add("count", 3)
    assert torch.equal(whole.compute()["a"], second.compute()["a"])
    assert second.compute()["count"].dtype == torch.float32
