"""A run stopped at any hook of Lightning goes on from last.ckpt to the same weights, states and logs."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import ReduceLROnPlateau
from lightning.pytorch.loggers import Logger
from torch.optim.lr_scheduler import StepLR

from mebns_pl import GCN, DotDecoder, EncoderDecoder, LastCheckpoint, MigrationFigures, Preemption, Schedule, Updates
from mebns_pl.models.batching import NeighborSampling
from mebns_pl.negatives.proposals.cache import CacheProposal
from mebns_pl.negatives.proposals.generator import GeneratorProposal
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.types import GraphSpec
from references.runs import (
    ALL_WARM_UP,
    equal,
    make_data,
    make_loaded,
    make_mebns,
    make_plain,
    make_trainer,
    probe_monitor,
    tensors_of,
    weights,
)

EPOCHS, STEPS = 3, 3
SCHEDULE = Schedule(
    warmup=1,
    lr_scheduler=partial(StepLR, step_size=1, gamma=0.5),
    teacher_lr_scheduler=partial(ReduceLROnPlateau, monitor="val/mrr", patience=0),
    weight_net_lr_scheduler=partial(StepLR, step_size=1, gamma=0.5),
)
# Names of folders, what Lightning does not bring back, and a default that torch adds to SparseAdam's as it is loaded
SKIPPED = re.compile("best_k_models|current_score|init_args.differentiable")
Rows = dict[tuple[str, int], str]
Run = tuple[AbstractLinkSystem, Trainer]


def scheduled(spec: GraphSpec, seed: int) -> AbstractLinkSystem:
    """MeBNS with three schedulers."""
    return make_mebns(spec, seed, schedule=SCHEDULE)


def plain_in_groups(spec: GraphSpec, seed: int) -> AbstractLinkSystem:
    """Two of an epoch's three steps make an update; candidates come from a generator that learns."""
    proposal = GeneratorProposal(pool=4, channels=3)
    return make_plain(spec, seed, updates=Updates(accumulate=2), proposal=proposal)


def mebns_in_groups(spec: GraphSpec, seed: int) -> AbstractLinkSystem:
    """The same of MeBNS, with caches of negatives."""
    proposal = CacheProposal(size=3, num_new=3)
    return make_mebns(spec, seed, schedule=SCHEDULE, updates=Updates(accumulate=2), proposal=proposal)


def tables_in_groups(spec: GraphSpec, seed: int) -> AbstractLinkSystem:
    """Of embedding tables, whose gradients are sparse."""
    batching = NeighborSampling(fan_out=2, num_hops=2)
    return make_mebns(
        spec, seed, predictor=two_hops, schedule=SCHEDULE, updates=Updates(accumulate=2), batching=batching
    )


def two_hops(spec: GraphSpec) -> EncoderDecoder:
    """As many layers as hops are sampled."""
    return EncoderDecoder(spec, partial(GCN, hidden_channels=8, num_layers=2, dropout=0.1), DotDecoder)


IN_GROUPS: dict[str, dict[str, Any]] = {
    "Plain": {"make": plain_in_groups},
    "MeBNS": {"make": mebns_in_groups},
    "neighbors": {
        "make": tables_in_groups,
        "loaded": make_loaded(features=False),
    },
}


class Memory(Logger):
    """Holds what is logged; what comes twice must be the same."""

    name, version = "memory", 0

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.rows: Rows = {}

    @property
    def root_dir(self) -> str:
        return str(self.folder)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            assert step is not None
            assert self.rows.setdefault((name, step), repr(value)) == repr(value), (name, step)


class KillError(Exception):
    """Stands for a kill: nothing of the process is used after it."""


class StopAt(Callback):
    """Stops at the ``count``-th visit of a hook."""

    def __init__(self, hook: str, count: int) -> None:
        self.left = count

        def visit(*_: Any, **__: Any) -> None:
            self.left -= 1
            if not self.left:
                raise KillError

        setattr(self, hook, visit)


class Visits(Callback):
    """Counts the visits of every hook that a run passes."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        for hook in HOOKS:
            setattr(self, hook, partial(self.visit, hook))

    def visit(self, hook: str, *_: Any, **__: Any) -> None:
        self.counts[hook] = self.counts.get(hook, 0) + 1


HOOKS = sorted(
    name for name in vars(Callback) if name.startswith("on_") and name not in ("on_exception", "on_load_checkpoint")
)


class TellToStop(Callback):
    """What a limit on time does: it lets Lightning end the run within an epoch."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        trainer.should_stop = trainer.should_stop or (trainer.current_epoch, args[-1]) == (1, 0)


def run(
    folder: Path,
    log: Memory,
    extra: Callback | None = None,
    make: Callable[[GraphSpec, int], AbstractLinkSystem] = scheduled,
    **changes: Any,
) -> Run:
    """Trains, from ``last.ckpt`` where there is one."""
    options = {"check_val_every_n_epoch": 2, "num_workers": 0, "minutes": 1e-9} | changes
    data_options = {name: options.pop(name, None) for name in ("loaded", "num_workers")}
    data, path = make_data(**data_options), folder / "last.ckpt"
    # A resumed run starts from other weights: all of them must come from the checkpoint
    system = make(data.spec, 7 if path.exists() else 0)
    best = ModelCheckpoint(folder, filename="best", monitor="val/mrr", mode="max", enable_version_counter=False)
    last = LastCheckpoint(folder, minutes=options.pop("minutes"))
    callbacks = [best, last, probe_monitor(), MigrationFigures(), *([extra] if extra else [])]
    trainer = make_trainer(EPOCHS, callbacks, enable_checkpointing=True, logger=log, log_every_n_steps=1, **options)
    trainer.fit(system, data, ckpt_path=str(path) if path.exists() else None)
    return system, trainer


def states(folder: Path) -> dict[str, bytes]:
    """The bits of all numbers of the last checkpoint."""
    found = torch.load(folder / "last.ckpt", weights_only=True)
    numbers = tensors_of(found, "c")
    return {name: value.numpy().tobytes() for name, value in numbers.items() if not SKIPPED.search(name)}


def agree(whole: Run, resumed: Run, folders: tuple[Path, Path]) -> None:
    (one, one_trainer), (two, two_trainer) = whole, resumed
    assert equal(weights(one), weights(two))
    assert (one_trainer.global_step, one_trainer.current_epoch) == (two_trainer.global_step, two_trainer.current_epoch)
    found = [states(folder) for folder in folders]
    assert len(found[0]) > 60
    assert [name for name in found[0] if found[0][name] != found[1].get(name)] == []
    assert found[0].keys() == found[1].keys()
    assert one_trainer.logger.rows == two_trainer.logger.rows  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, Memory(folder))


@pytest.mark.parametrize(
    ("hook", "count"),
    [
        ("on_train_batch_end", STEPS),
        ("on_train_epoch_start", 2),
        ("on_train_batch_end", STEPS + 2),
        ("on_validation_end", 1),
        ("on_train_epoch_end", 2),
        ("on_train_end", 1),
    ],
)
def test_a_run_stopped_anywhere_goes_on_exactly(tmp_path: Path, whole: tuple[Path, Run], hook: str, count: int) -> None:
    log = Memory(tmp_path)
    with pytest.raises(KillError):
        run(tmp_path, log, StopAt(hook, count))
    agree(whole[1], run(tmp_path, log), (whole[0], tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize("kind", IN_GROUPS)
def test_a_run_stopped_within_a_group_of_steps_goes_on_exactly(tmp_path: Path, kind: str) -> None:
    """The gradients added up so far, the adaptive proposal's state and the figures' come back."""
    folder, part, options = tmp_path / "whole", tmp_path / "part", IN_GROUPS[kind]
    one, log = run(folder, Memory(folder), **options), Memory(part)
    with pytest.raises(KillError):
        run(part, log, StopAt("on_train_batch_end", STEPS + 2), **options)
    assert torch.load(part / "last.ckpt", weights_only=True)["accumulated"]["steps"] == 1
    agree(one, run(part, log, **options), (folder, part))


@pytest.mark.slow
@pytest.mark.parametrize("kind", IN_GROUPS)
def test_a_run_stopped_at_every_visit_of_every_hook_goes_on_exactly(tmp_path: Path, kind: str) -> None:
    folder, options, visits = tmp_path / "whole", IN_GROUPS[kind], Visits()
    one = run(folder, Memory(folder), visits, **options)
    assert visits.counts["on_train_batch_end"] == EPOCHS * STEPS
    passed = {"on_validation_end", "on_train_end", "on_save_checkpoint", "on_before_optimizer_step"}
    assert passed <= visits.counts.keys()
    for hook, count in visits.counts.items():
        for visit in range(1, count + 1):
            part = tmp_path / f"{hook}-{visit}"
            log = Memory(part)
            with pytest.raises(KillError):
                run(part, log, StopAt(hook, visit), **options)
            agree(one, run(part, log, **options), (folder, part))


def test_with_epoch_checkpoints_alone(tmp_path: Path, whole: tuple[Path, Run]) -> None:
    log = Memory(tmp_path)
    with pytest.raises(KillError):
        run(tmp_path, log, StopAt("on_train_batch_end", STEPS + 2), minutes=None)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == STEPS
    agree(whole[1], run(tmp_path, log, minutes=None), (whole[0], tmp_path))


def test_a_run_told_to_stop_within_an_epoch_goes_on_there(tmp_path: Path) -> None:
    """Its truncated epoch is logged, so logs differ; weights and states do not."""
    folder = tmp_path / "whole"
    one, _ = run(folder, Memory(folder))
    part = tmp_path / "part"
    _, trainer = run(part, Memory(part), TellToStop(), minutes=None)
    assert trainer.global_step == STEPS + 1
    found = torch.load(part / "last.ckpt", weights_only=True)
    assert found["global_step"] == STEPS + 1
    assert not found["mebns_pl"]["stopped_early"]
    two, _ = run(part, Memory(part), minutes=None)
    assert equal(weights(one), weights(two))
    assert states(folder) == states(part)


@pytest.mark.parametrize("ends", ["steps", "told", "early"])
def test_a_run_that_ends_behind_a_validation_within_an_epoch_goes_on_there(tmp_path: Path, ends: str) -> None:
    folder, part = tmp_path / "whole", tmp_path / "part"
    options: dict[str, Any] = {"minutes": None, "check_val_every_n_epoch": 1, "val_check_interval": 1}
    one, _ = run(folder, Memory(folder), **options)
    ended = {**options, "max_steps": STEPS + 1} if ends == "steps" else options
    stopper = {
        "steps": None,
        "told": TellToStop(),
        "early": EarlyStopping("val/mrr", mode="max", patience=STEPS, min_delta=2.0, check_on_train_epoch_end=False),
    }[ends]
    _, trainer = run(part, Memory(part), stopper, **ended)
    assert trainer.global_step == STEPS + 1
    assert torch.load(part / "last.ckpt", weights_only=True)["global_step"] == STEPS + 1
    two, _ = run(part, Memory(part), **options)
    assert equal(weights(one), weights(two))
    assert states(folder) == states(part)


@pytest.mark.parametrize(("min_epochs", "epochs"), [(None, 2), (3, 3)])
def test_a_checkpoint_tells_whether_early_stopping_has_ended_the_run(
    tmp_path: Path, min_epochs: int | None, epochs: int
) -> None:
    """It has not where the run has still to have its least number of epochs."""
    told: list[bool] = []

    class Watch(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch:
                found = torch.load(tmp_path / "last.ckpt", weights_only=True)
                told.append(found["mebns_pl"]["stopped_early"])

    stopper = EarlyStopping("val/mrr", mode="max", patience=1, min_delta=2.0)  # no MRR is so much better
    callbacks = [stopper, Watch(), LastCheckpoint(tmp_path)]
    data = make_data()
    trainer = make_trainer(5, callbacks, enable_checkpointing=True, min_epochs=min_epochs)
    trainer.fit(make_plain(data.spec), data)
    assert trainer.current_epoch == epochs
    assert told == [False] * (epochs - 1)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["mebns_pl"]["stopped_early"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "step"),
    [({"num_workers": 2}, STEPS + 2), ({"check_val_every_n_epoch": 1, "val_check_interval": 2}, STEPS + 2)],
)
def test_with_loader_workers_and_with_validation_within_epochs(
    tmp_path: Path, changes: dict[str, Any], step: int
) -> None:
    folder, part = tmp_path / "whole", tmp_path / "part"
    one = run(folder, Memory(folder), **changes)
    log = Memory(part)
    with pytest.raises(KillError):
        run(part, log, StopAt("on_train_batch_end", step), **changes)
    agree(one, run(part, log, **changes), (folder, part))


@ALL_WARM_UP
def test_logs_are_written_before_the_checkpoint(tmp_path: Path) -> None:
    order: list[str] = []

    class Log(Memory):
        def save(self) -> None:
            order.append("log")

    class Watch(Callback):
        def on_save_checkpoint(self, *_: Any) -> None:
            order.append("checkpoint")

    trainer = make_trainer(1, [LastCheckpoint(tmp_path), Watch()], enable_checkpointing=True, logger=Log(tmp_path))
    data = make_data()
    trainer.fit(make_mebns(data.spec), data)
    assert order.count("checkpoint") == 2
    assert all(order[place - 1] == "log" for place, what in enumerate(order) if what == "checkpoint")


def test_a_preemption_ends_a_run_before_its_least_number_of_epochs(tmp_path: Path) -> None:
    class Signal(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, index: int) -> None:
            if (trainer.current_epoch, index) == (1, 1):
                signal.raise_signal(signal.SIGUSR1)

    last, preemption = LastCheckpoint(tmp_path), Preemption()
    limits = {"min_epochs": EPOCHS, "min_steps": EPOCHS * STEPS}
    trainer = make_trainer(EPOCHS, [preemption, Signal(), last], enable_checkpointing=True, **limits)
    data = make_data()
    trainer.fit(make_plain(data.spec), data)
    assert preemption.preempted
    assert trainer.global_step == STEPS + 2
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == STEPS + 2


def test_minutes_are_checked() -> None:
    with pytest.raises(ValueError, match="minutes: expected a number above 0 or null, got 0"):
        LastCheckpoint(minutes=0)
