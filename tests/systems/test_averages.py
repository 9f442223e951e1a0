"""Lightning's averages of weights, under manual optimisation: what they are, what they are used for, and resumed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.tuner import Tuner
from torch import Tensor

from mebns_pl import GCN, AutoEncoder, DotDecoder, EncoderDecoder, LastCheckpoint
from mebns_pl.negatives.proposals.cache import CacheProposal
from mebns_pl.systems.checkpoint_io import CheckpointError
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.types import GraphSpec
from references.runs import adam, equal, fit, make_data, make_mebns, make_plain, make_trainer, weights

DECAY = 0.6


def make_auto_encoder(spec: GraphSpec) -> AutoEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoEncoder(
            spec, partial(EncoderDecoder, encoder=partial(GCN, hidden_channels=8), decoder=DotDecoder), adam
        )


def with_cache(make: Callable[..., AbstractLinkSystem]) -> Callable[[GraphSpec], AbstractLinkSystem]:
    """With a proposal whose state is buffers of nodes."""
    return lambda spec: make(spec, proposal=CacheProposal(size=3, num_new=3))


SYSTEMS: dict[str, Callable[[GraphSpec], AbstractLinkSystem]] = {
    "Plain": with_cache(make_plain),
    "MeBNS": with_cache(make_mebns),
    "AutoEncoder": make_auto_encoder,
}


class Twin(Callback):
    """The moving average of the student's weights, in plain words; and its MRR in validation."""

    def __init__(self) -> None:
        self.average: dict[str, Tensor] = {}
        self.steps = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        now = weights(pl_module.student)
        self.steps += 1
        if self.steps == 1:
            self.average = now
        else:
            self.average = {name: DECAY * old + (1 - DECAY) * now[name] for name, old in self.average.items()}


class StopAfter(Callback):
    """Ends a run after so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback, but loading a checkpoint outside")
@pytest.mark.parametrize("make", SYSTEMS.values(), ids=SYSTEMS)
def test_the_average_is_validated_saved_and_used(
    make: Callable[[GraphSpec], AbstractLinkSystem], tmp_path: Path
) -> None:
    data, twin, best = make_data(), Twin(), ModelCheckpoint(tmp_path, "best", monitor="val/mrr", mode="max")
    system = make(data.spec)
    callbacks = [EMAWeightAveraging(decay=DECAY), twin, best, LastCheckpoint(tmp_path)]
    trainer = fit(system, data, 2, callbacks, enable_checkpointing=True)
    for name, value in weights(system.student).items():
        torch.testing.assert_close(value, twin.average[name], msg=name)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    now = {name: last["current_model_state"][f"student.{name}"] for name in twin.average}
    assert not equal(now, twin.average)
    for name, value in twin.average.items():
        torch.testing.assert_close(last["state_dict"][f"student.{name}"], value)
    # The best checkpoint holds what was validated, and what is loaded is what is looked at, in the same trainer too
    told = trainer.validate(system, data, ckpt_path=str(tmp_path / "best.ckpt"), verbose=False)[0]["val/mrr"]
    assert told == pytest.approx(float(best.best_model_score or 0))


@pytest.mark.parametrize("make", [SYSTEMS["Plain"], SYSTEMS["MeBNS"]], ids=["Plain", "MeBNS"])
@pytest.mark.parametrize("average", [partial(EMAWeightAveraging, decay=DECAY), WeightAveraging], ids=["EMA", "mean"])
def test_a_run_made_longer_equals_one_in_one_go(
    make: Callable[[GraphSpec], AbstractLinkSystem], average: Callable[[], WeightAveraging], tmp_path: Path
) -> None:
    found = {}
    for name, parts in {"whole": [4], "parts": [2, 4]}.items():
        path = None
        for epochs in parts:
            data = make_data()
            system = make(data.spec)
            callbacks: list[Callback] = [average(), LastCheckpoint(tmp_path / name)]
            callbacks.append(StopAfter(epochs))  # shares of the run are those of the whole
            fit(system, data, 4, callbacks, ckpt_path=path, enable_checkpointing=True)
            path = str(tmp_path / name / "last.ckpt")
        found[name] = weights(system), torch.load(str(path), weights_only=True)
    assert equal(found["whole"][0], found["parts"][0])
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert equal(found["whole"][1][part], found["parts"][1][part])


def test_training_does_not_go_on_from_averages_without_their_callback(tmp_path: Path) -> None:
    data, last = make_data(), LastCheckpoint(tmp_path)
    fit(make_plain(data.spec), data, 1, [EMAWeightAveraging(decay=DECAY), last], enable_checkpointing=True)
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt: its weights are averages, from which training does not go on"
    ):
        fit(make_plain(data.spec), data, 2, ckpt_path=str(tmp_path / "last.ckpt"))


def test_buffers_of_proposals_are_not_averaged() -> None:
    data, twin = make_data(), {}

    class Keep(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            twin.update({name: value.clone() for name, value in pl_module.named_buffers()})

    system = SYSTEMS["Plain"](data.spec)
    fit(system, data, 2, [EMAWeightAveraging(decay=DECAY), Keep()])
    nodes = {name: value for name, value in system.named_buffers() if not value.is_floating_point()}
    assert nodes
    assert equal(nodes, {name: twin[name] for name in nodes})


def test_stochastic_weight_averaging_goes_with_one_optimizer() -> None:
    data, ends = make_data(), []

    class Keep(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch >= 1:
                ends.append(weights(pl_module.student))

    system = make_plain(data.spec)
    fit(system, data, 4, [StochasticWeightAveraging(0.01, swa_epoch_start=2), Keep()])
    for name, value in system.student.state_dict().items():
        torch.testing.assert_close(value, torch.stack([end[name] for end in ends]).mean(0))
    with pytest.raises(ValueError, match="StochasticWeightAveraging works with one optimizer.* has 3; WeightAveraging"):
        fit(make_mebns(data.spec), data, 1, [StochasticWeightAveraging(0.01)])


def test_what_needs_automatic_optimisation_is_refused() -> None:
    data = make_data()
    with pytest.raises(ValueError, match="LearningRateFinder works with automatic optimisation only; `mebns sweep`"):
        fit(make_plain(data.spec), data, 1, [LearningRateFinder()])
    with pytest.raises(ValueError, match="LearningRateFinder works with automatic optimisation only; `mebns sweep`"):
        Tuner(make_trainer(1)).lr_find(make_plain(data.spec), data)
