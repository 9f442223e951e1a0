"""The MeBNS system beside its control, its schedule, its checkpoints, resume, and two ranks against one."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

from mebns_pl import (
    GCN,
    EncoderDecoder,
    LastCheckpoint,
    MeanTeacher,
    MeBNS,
    MissingEdgeFilter,
    MLPDecoder,
    OwnLearning,
    Plain,
    PredictionWriter,
    Rounds,
    Schedule,
    Updates,
    WeightNet,
)
from mebns_pl.data.train_batch import StepPairs, TrainBatch
from mebns_pl.datasets.split import SplitFractions
from mebns_pl.errors import DataError
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import DirectionalEngine
from mebns_pl.mebns.filters.teacher import TeacherFilter
from mebns_pl.mebns.umd_collector import MetaSet, UMDCollector
from mebns_pl.models.predictor import PairInputs
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.statistics import steadiness, weight_statistics
from references.effort import some
from references.processes import in_processes
from references.runs import (
    ALL_WARM_UP,
    MAKE,
    equal,
    fit,
    make_data,
    make_loaded,
    make_mebns,
    make_plain,
    make_trainer,
    probe_monitor,
    tensors_of,
    weights,
)


class Weights(Callback):
    """Keeps teacher's, student's and weight net's weights after every epoch, and all that was logged."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, dict[str, Tensor]]] = []
        self.logged: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MeBNS)
        learners: dict[str, nn.Module] = {
            name: getattr(pl_module, name) for name in ("student", "teacher", "weight_net")
        }
        self.epochs.append({name: weights(module) for name, module in learners.items()})
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    def of(self, learner: str) -> list[dict[str, Tensor]]:
        return [epoch[learner] for epoch in self.epochs]


class AheadPredictor(EncoderDecoder):
    """One whose inputs loader workers make."""

    prepares_ahead = True
    where: ClassVar[list[bool]] = []

    def prepare(self, graph: Graph, pairs: Tensor, rows: Tensor | None = None, key: Key | None = None) -> PairInputs:
        self.where.append(torch.utils.data.get_worker_info() is not None)
        return super().prepare(graph, pairs, rows, key)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_inputs_that_the_loader_prepares_train_the_same(make: Callable[..., AbstractLinkSystem]) -> None:
    """In workers and in the main process; what the step itself prepares is then the meta batch and evaluation."""
    parts = {
        "encoder": partial(GCN, hidden_channels=16, dropout=0.1),
        "decoder": partial(MLPDecoder, hidden_channels=16, dropout=0.1),
    }
    trained = []
    for kind, workers in ((EncoderDecoder, 0), (AheadPredictor, 0), (AheadPredictor, 1)):
        data = make_data(num_workers=workers)
        system = make(data.spec, predictor=partial(kind, **parts))
        fit(system, data, 2, limit_val_batches=0)
        trained.append(weights(system.student))
    assert equal(trained[0], trained[1])
    assert equal(trained[0], trained[2])


def test_inputs_prepared_ahead_are_those_the_step_uses() -> None:
    data = make_data()
    system = make_plain(data.spec, predictor=AheadPredictor)
    batches = []
    AheadPredictor.where.clear()
    trainer = fit(system, data, 1, [Collect(batches)], limit_val_batches=0)
    assert trainer.num_training_batches == len(batches)
    assert len(AheadPredictor.where) == 2 * len(batches)  # after the fit they are looked at once more
    for batch in batches:
        pairs = StepPairs(batch)
        assert torch.equal(batch.inputs.pairs, pairs.pairs)
        assert torch.equal(batch.inputs.rows, pairs.names)
        assert int((~batch.inputs.graph.keep).sum()) == 2 * batch.union_positives.shape[1]


class Collect(Callback):
    """Keeps the batches."""

    def __init__(self, batches: list[TrainBatch]) -> None:
        self.batches = batches

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: TrainBatch, index: int) -> None:
        self.batches.append(batch)


# --- beside the control ---------------------------------------------------------------------------------------------


def test_initial_weights_of_the_student_are_those_of_plain() -> None:
    spec = make_data().spec
    for seed in (0, 1):
        plain, mebns = make_plain(spec, seed), make_mebns(spec, seed)
        assert equal(weights(plain.student), weights(mebns.student))
        assert not equal(weights(mebns.student), weights(mebns.teacher))
    assert not equal(weights(make_plain(spec, 0)), weights(make_plain(spec, 1)))


@ALL_WARM_UP
def test_while_warming_up_the_student_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same edges, with the teacher's draws made all the same (they number the dropout rows)."""
    data, control = make_data(), make_data()
    mebns, plain = make_mebns(data.spec, schedule=Schedule(warmup=9)), make_plain(control.spec)
    monkeypatch.setattr(Plain, "needs", mebns.needs)
    before = weights(plain.student)
    fit(plain, control)
    fit(mebns, data)
    assert equal(weights(mebns.student), weights(plain.student))
    assert not equal(weights(plain.student), before)


@ALL_WARM_UP
def test_after_warm_up_it_is_not() -> None:
    found = []
    for warmup in (2, 3):
        data, watch = make_data(), Weights()
        fit(make_mebns(data.spec, schedule=Schedule(warmup=warmup)), data, epochs=3, callbacks=[watch])
        found.append(watch)
    for epoch, same in enumerate([True, True, False]):
        assert equal(found[0].of("student")[epoch], found[1].of("student")[epoch]) is same
    assert equal(found[0].of("teacher")[2], found[1].of("teacher")[2])  # the student does not teach the teacher
    assert "weights/unevenness" not in found[0].logged[1]
    assert "weights/unevenness" in found[0].logged[2]
    assert found[0].logged[1]["filter/kept_share"] == 1
    assert found[0].logged[2]["filter/kept_share"] < 0.8


def test_filter_and_weights_both_matter() -> None:
    def run(**changes: Any) -> dict[str, Tensor]:
        data = make_data()
        system = make_mebns(data.spec, schedule=Schedule(warmup=0), **changes)
        fit(system, data, epochs=2)
        return weights(system.student)

    one = run()
    assert not equal(one, run(filter=TeacherFilter(drop_easy=0.0, drop_top=0.0)))
    assert not equal(one, run(weight_net_optimizer=partial(Adam, lr=0.0)))
    assert not equal(one, run(updates=Updates(gradient_clip_norm=0.01)))


def test_the_engines_agree() -> None:
    found = []
    for engine in (None, DirectionalEngine()):
        data = make_data(make_loaded(features=False))
        system = make_mebns(data.spec, engine=engine).double()
        fit(system, data, epochs=2)
        found.append(weights(system.student))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-8, atol=1e-8)


# --- schedule -------------------------------------------------------------------------------------------------------


def test_a_frozen_teacher_stays_as_it_is() -> None:
    data, watch = make_data(), Weights()
    system = make_mebns(data.spec, schedule=Schedule(warmup=1), teaching=OwnLearning(epochs=2))
    start = weights(system.teacher)
    fit(system, data, epochs=4, callbacks=[watch])
    teacher, student, net = watch.of("teacher"), watch.of("student"), watch.of("weight_net")
    assert not equal(start, teacher[0])
    assert not equal(teacher[0], teacher[1])
    assert equal(teacher[1], teacher[2])
    assert equal(teacher[2], teacher[3])
    assert not any(equal(student[i], student[i + 1]) for i in range(3))
    assert not equal(net[0], net[1])
    assert not equal(net[2], net[3])


def test_a_frozen_teacher_looks_at_the_graph_once() -> None:
    """Its hardness is that of the whole training graph, from weights that are no longer moved; it gets no negatives."""
    data, batches = make_data(), []
    system = make_mebns(data.spec, schedule=Schedule(warmup=1), teaching=OwnLearning(epochs=2))
    outputs_of: dict[tuple[int, int], Any] = {}

    class Watch(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TrainBatch, index: int
        ) -> None:
            outputs_of[batch.epoch, batch.step] = outputs

    fit(system, data, epochs=4, callbacks=[Collect(batches), Watch()])
    assert {batch.epoch for batch in batches} == {0, 1, 2, 3}
    for batch in batches:
        frozen = batch.epoch >= 2
        assert (batch.teacher_negatives.shape[1] == 0) == frozen
        if frozen:
            outputs = outputs_of[batch.epoch, batch.step]
            expected = system.teacher(system.teacher.prepare(data.train_graph, outputs["picked"]))
            torch.testing.assert_close(outputs["hardness"], expected.detach())


@pytest.mark.parametrize(("warmup", "places"), [(2, [(2, 0)]), (0, [])])
def test_the_student_may_start_from_the_teacher(warmup: int, places: list[tuple[int, int]]) -> None:
    """Once, after the warm-up; without one there is nothing to take over."""
    data, seen = make_data(), {}

    class Watch(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: TrainBatch, index: int
        ) -> None:
            same = equal(weights(pl_module.student), weights(pl_module.teacher))
            seen[batch.epoch, batch.step] = same

    system = make_mebns(data.spec, schedule=Schedule(warmup=warmup, student_from_teacher=True))
    fit(system, data, epochs=4, callbacks=[Watch()])
    assert [place for place, same in seen.items() if same] == places


def test_the_weight_net_rests_while_warming_up() -> None:
    data, watch = make_data(), Weights()
    system = make_mebns(data.spec, schedule=Schedule(warmup=2))
    start = weights(system.weight_net)
    fit(system, data, epochs=3, callbacks=[watch])
    net = watch.of("weight_net")
    assert equal(start, net[0])
    assert equal(start, net[1])
    assert not equal(start, net[2])


def test_the_meta_set_is_collected_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = make_data(), []
    system = make_mebns(data.spec, schedule=Schedule(warmup=1))
    right = system.collected

    def spy() -> MetaSet:
        seen.append(system.current_epoch)
        return right()

    monkeypatch.setattr(system, "collected", spy)
    fit(system, data, epochs=6)
    assert seen == [1, 3, 5]  # every second epoch after warm-up


def test_meta_edges_are_left_out_of_message_passing_when_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = make_data(), []
    system = make_mebns(data.spec, schedule=Schedule(warmup=0))
    right = system.teacher_score

    def spy(graph: Graph, pairs: Tensor, key: Key) -> Tensor:
        seen.append(graph)
        return right(graph, pairs, key)

    monkeypatch.setattr(system, "teacher_score", spy)
    fit(system, data, epochs=1, limit_val_batches=0)
    assert len(seen) == system.collector.num_passes
    train = {tuple(sorted(pair)) for pair in data.split.train.t().tolist()}
    for graph in seen:
        assert {tuple(sorted(pair)) for pair in graph.edge_index.t().tolist()} < train
    assert system.meta_set is not None
    positive = system.meta_set.labels > 0.5
    assert int(positive.sum()) == int((~positive).sum()) > 0
    meta = {tuple(sorted(pair)) for pair in data.split.meta.t().tolist()}
    assert {tuple(sorted(pair)) for pair in system.meta_set.pairs[:, positive].t().tolist()} <= meta


def test_meta_pairs_come_from_any_proposal() -> None:
    """Where one is named the share of structural non-edges is its own, and the data's structure is not asked."""

    class Named(AbstractStaticProposal):
        def prepare(self, graph: Graph) -> None: ...

        def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
            return torch.full((len(anchors), num_candidates), 7)

    found = {}
    for proposal in (None, Named()):
        data = make_data()
        collector = UMDCollector(num_passes=3, batch_size=8, structure_ratio=1.0, proposal=proposal)
        system = make_mebns(data.spec, schedule=Schedule(warmup=0), collector=collector)
        fit(system, data, epochs=1, limit_val_batches=0)
        assert system.meta_set is not None
        found[proposal is None] = {7 in pair for pair in system.meta_set.others.t().tolist()}
    assert found[False] == {True}
    assert found[True] != {True}


def test_passes_over_a_kept_graph_are_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a run that was ended after some of them; those of former meta sets are deleted."""
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path))

    def collected(origin: str, most: int, epochs: int = 1) -> MetaSet | None:
        data, system = make_data(), make_mebns(make_data().spec, schedule=Schedule(warmup=0))
        assert data.train_graph.num_edges
        data._split_origin = origin
        right, passes = system.teacher_score, iter(range(most))

        def spy(*arguments: Any) -> Tensor:
            if next(passes, None) is None:
                raise InterruptedError
            return right(*arguments)

        monkeypatch.setattr(system, "teacher_score", spy)
        fit(system, data, epochs=epochs, limit_val_batches=0)
        return system.meta_set

    num = make_mebns(make_data().spec).collector.num_passes
    expected = collected("", num)
    with pytest.raises(InterruptedError):
        collected("kept", num - 1)
    assert len(list((tmp_path / "prepared").glob("*/logits.npy"))) == num - 1
    found = collected("kept", 1)
    assert found is not None
    assert expected is not None
    assert torch.equal(found.pairs, expected.pairs)
    assert torch.equal(found.std, expected.std)
    with pytest.raises(InterruptedError):
        collected("another", 0)
    collected("kept", num, epochs=3)  # the second meta set of two
    assert len(list((tmp_path / "prepared").glob("*/logits.npy"))) == num


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": -1}, r"schedule\.warmup: expected a whole number of epochs, 0 or more, or a share .*, got -1"),
        ({"warmup": 1.0}, r"schedule\.warmup: expected .* a share of the run's epochs in \[0, 1\) as 0\.2, got 1\.0"),
    ],
)
def test_bad_schedules_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**options)


@pytest.mark.parametrize("teaching", [partial(OwnLearning, 0.0), partial(Rounds, 0.0), partial(OwnLearning, 0)])
def test_a_teacher_that_never_learns_is_refused(teaching: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"1 or more, or a share of the run's epochs in \(0, 1\) as 0\.2, got 0"):
        teaching()


@pytest.mark.parametrize(("epochs", "warmup", "learns"), [(1, 0, 1), (2, 0, 1), (10, 2, 2), (60, 12, 12)])
def test_lengths_are_shares_of_the_run(epochs: int, warmup: int, learns: int) -> None:
    """A teacher learns for an epoch at least, however short the run."""
    data = make_data()
    system = make_mebns(data.spec, schedule=Schedule(), teaching=OwnLearning())
    system.trainer = make_trainer(epochs)
    assert (system.warmup, system.teacher_epochs) == (warmup, learns)
    assert [system.teacher_learns(epoch) for epoch in range(epochs)] == [epoch < learns for epoch in range(epochs)]


def test_lengths_are_those_of_the_fit_and_a_resumed_one_keeps_to_what_it_began_with(tmp_path: Path) -> None:
    class Watch(Callback):
        def __init__(self) -> None:
            self.warmups: set[int] = set()

        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert isinstance(pl_module, MeBNS)
            self.warmups.add(pl_module.warmup)

    data, watch = make_data(), Watch()
    system = make_mebns(data.spec, schedule=Schedule(warmup=0.5))
    make_trainer(100).validate(system, data, verbose=False)
    trainer = fit(system, data, 2, [watch, LastCheckpoint(tmp_path)], enable_checkpointing=True)
    trainer.validate(system, data, verbose=False)
    assert watch.warmups == {1}
    again = make_mebns(data.spec, schedule=Schedule(warmup=0.5))
    path, watch = str(tmp_path / "last.ckpt"), Watch()
    fit(again, data, 6, [watch], ckpt_path=path)
    assert watch.warmups == {1}
    fit(again, data, 4, [watch])
    assert watch.warmups == {1, 2}


def test_a_trainer_that_goes_on_where_it_has_ended_keeps_its_lengths() -> None:
    data = make_data()
    system = make_mebns(data.spec, schedule=Schedule(warmup=0.5), teaching=OwnLearning(epochs=0.5))
    trainer = fit(system, data, 2)
    trainer.fit_loop.max_epochs = 10
    trainer.fit(system, data)
    assert trainer.current_epoch == 10
    assert (system.warmup, system.teacher_epochs) == (1, 1)


@ALL_WARM_UP
@pytest.mark.parametrize("stop", ["between epochs", "within one"])
def test_a_run_that_goes_on_with_a_shorter_warm_up(tmp_path: Path, stop: str) -> None:
    """No refresh is due at its first epoch, and there is no meta set in the checkpoint."""

    class Stop(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.current_epoch == 3 and stop == "within one"

    data, last = make_data(), LastCheckpoint(tmp_path)
    system = make_mebns(data.spec, schedule=Schedule(warmup=8))
    fit(system, data, 10 if stop == "within one" else 3, [last, Stop()], enable_checkpointing=True, min_epochs=0)
    assert system.meta_set is None
    again = make_mebns(data.spec, schedule=Schedule(warmup=2))
    with pytest.warns(UserWarning, match="schedule"):
        fit(again, data, 5, [LastCheckpoint(tmp_path)], str(tmp_path / "last.ckpt"), enable_checkpointing=True)
    assert again.meta_set is not None


def stopper(patience: int, monitor: str = "val/mrr") -> dict[str, Any]:
    return {"callbacks": [EarlyStopping(monitor, mode="max", patience=patience)]}


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({"warmup": 2}, {"epochs": 2}, "warmup: 2, but the run has 2 epochs: all of it is warm-up"),
        ({"warmup": 2}, {"epochs": 3}, None),
        ({"warmup": 0}, {"epochs": 1}, None),
        (
            {},
            {"epochs": 40, "max_steps": 6},
            "warmup: 8 of 40 epochs, but the run has 6 steps, which are 2 epochs: all",
        ),
        (
            {},
            {"epochs": -1, "max_steps": 3},
            "warmup: 20 of 100 epochs, but the run has 3 steps, which are 1 epochs: all",
        ),
        (
            {"warmup": 1, "accumulate": 2},
            {"epochs": 2, "max_steps": 2},
            "but the run has 2 steps, which are 1 epochs: all",
        ),
        ({"warmup": 1, "accumulate": 2}, {"epochs": 2, "max_steps": 3}, None),
        (
            {"warmup": 3},
            {"epochs": 4, **stopper(2)},
            "warmup: 3, but EarlyStopping may end the run after 3 epochs: all of",
        ),
        ({"warmup": 3}, {"epochs": 4, **stopper(3)}, None),
        ({"warmup": 3}, {"epochs": 4, "min_epochs": 4, **stopper(2)}, None),
        ({"warmup": 3}, {"epochs": 4, "check_val_every_n_epoch": 2, **stopper(1, "train/student_loss")}, None),
        ({"warmup": 3}, {"epochs": 4, "val_check_interval": 0.34, **stopper(7)}, "may end the run after 3 epochs"),
    ],
)
def test_a_run_that_is_all_warm_up_is_told_so(
    changes: dict[str, Any], options: dict[str, Any], told: str | None, recwarn: pytest.WarningsRecorder
) -> None:
    """An epoch has three batches; shares are of the run."""
    data = make_data()
    schedule, updates = Schedule(warmup=changes.get("warmup", 0.2)), Updates(accumulate=changes.get("accumulate", 1))
    make_trainer(**options).fit(make_mebns(data.spec, schedule=schedule, updates=updates), data)
    found = [str(one.message) for one in recwarn if "warm-up" in str(one.message)]
    assert len(found) == (told is not None)
    assert told is None or told in found[0]


def test_a_run_that_goes_on_behind_its_warm_up_is_not_warned(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    data = make_data()
    for epochs, path in ((3, None), (4, str(tmp_path / "last.ckpt"))):
        system = make_mebns(data.spec, schedule=Schedule(warmup=2))
        fit(system, data, epochs, [LastCheckpoint(tmp_path), *stopper(1)["callbacks"]], path, enable_checkpointing=True)
        found = [one for one in recwarn.list if "warm-up" in str(one.message)]
        assert len(found) == (path is None)
        recwarn.clear()


def test_global_step_counts_the_students_steps() -> None:
    data = make_data()
    trainer = fit(make_mebns(data.spec, schedule=Schedule(warmup=1)), data, epochs=3)
    assert trainer.global_step == 3 * len(data.train_dataloader())
    assert len(trainer.optimizers) == 3


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["optimizer", "weight_net_optimizer"])
@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (partial(RMSprop, lr=0.1), "the bilevel step can look ahead through SGD, Adam, AdamW, got RMSprop"),
        (partial(Adam, amsgrad=True), "amsgrad=True is not supported"),
    ],
)
def test_other_optimizers_are_refused_before_training(name: str, optimizer: Any, message: str) -> None:
    data = make_data()
    system = make_mebns(data.spec, **{name: optimizer})
    before = weights(system)
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        fit(system, data)
    assert equal(before, weights(system))


@pytest.mark.parametrize("optimizer", [partial(SGD, lr=0.1, momentum=0.9), partial(AdamW, lr=0.01)])
def test_its_optimizers(optimizer: Any) -> None:
    data = make_data()
    system = make_mebns(data.spec, optimizer=optimizer, weight_net_optimizer=optimizer, teacher_optimizer=Adagrad)
    before = {name: weights(getattr(system, name)) for name in ("student", "teacher", "weight_net")}
    fit(system, data, epochs=2)
    assert not [name for name, old in before.items() if equal(old, weights(getattr(system, name)))]


def test_a_split_without_meta_edges_is_refused() -> None:
    data = make_data(split=SplitFractions(0.1, 0.1, 0.0))
    with pytest.raises(DataError, match=r"split\.meta: MeBNS needs meta edges"):
        fit(make_mebns(data.spec, schedule=Schedule(warmup=0)), data, epochs=1)


# --- logs -----------------------------------------------------------------------------------------------------------


def test_weight_statistics() -> None:
    def told(weights: Tensor) -> dict[str, float]:
        return {name: float(value) for name, value in weight_statistics(weights, torch.ones_like(weights)).items()}

    assert told(torch.full((20,), 3.0)) == pytest.approx({"unevenness": 0.0, "top_tenth": 0.1, "learned": 0.0})
    one_only = told(torch.tensor([0.0] * 9 + [5.0]))
    assert (one_only["unevenness"], one_only["top_tenth"]) == pytest.approx((1.0, 1.0))
    share = [0.5, 0.25, 0.25]
    found = told(2 * torch.tensor(share))
    assert found["unevenness"] == pytest.approx(1 + sum(p * math.log(p) for p in share) / math.log(3))
    assert found["top_tenth"] == pytest.approx(0.5)  # the tenth is rounded up to one
    assert told(torch.ones(1))["unevenness"] == 0


def test_the_learned_factor_is_told_from_the_starting_weights() -> None:
    starting = torch.tensor([2.0, 1.0, 1.0, 0.0])
    assert float(weight_statistics(1.5 * starting, starting)["learned"]) == 0
    # Factors 1, 2, 3: their standard deviation over their mean
    moved = weight_statistics(torch.tensor([2.0, 2.0, 3.0, 0.0]), starting)
    assert float(moved["learned"]) == pytest.approx((2 / 3) ** 0.5 / 2)


@pytest.mark.parametrize("growth", [0.98, 1.0, 1.02])
def test_the_steadiness_of_gradients_that_point_one_way_and_of_noise(growth: float) -> None:
    """However they shrink or grow."""
    param, draw = torch.nn.Parameter(torch.zeros(50)), torch.Generator().manual_seed(0)
    assert steadiness(Adam([param]), [param]) is None
    assert steadiness(SGD([param], lr=0.1), [param]) is None
    for expected, gradient in ((1.0, lambda: torch.arange(50.0)), (0.0, lambda: torch.randn(50, generator=draw))):
        for optimizer in (Adam([param]), SGD([param], lr=0.1, momentum=0.9)):
            found = []
            for step in range(400):
                param.grad = growth**step * gradient()
                steady = steadiness(optimizer, [param.grad])
                found += [] if steady is None else [float(steady)]
                optimizer.step()
            assert len(found) == 399
            assert sum(found) / 399 == pytest.approx(expected, abs=0.03)  # four standard deviations of noise


class AnyNode(AbstractStaticProposal):
    """Any node at all: many candidates are no legal negatives."""

    def prepare(self, graph: Graph) -> None:
        self.num_nodes = graph.num_nodes

    def propose(self, anchors: Tensor, num_candidates: int, key: Key) -> Tensor:
        return torch.randint(self.num_nodes, (len(anchors), num_candidates), generator=key.generator())


def test_what_is_logged() -> None:
    data, watch = make_data(), Weights()
    still = {"schedule": Schedule(warmup=0), "weight_net_optimizer": partial(Adam, lr=0.0)}
    fit(make_mebns(data.spec, proposal=AnyNode(), num_candidates=3, **still), data, 1, [watch])
    (logged,) = watch.logged
    names = {"train/student_loss", "train/teacher_loss", "train/meta_loss", "filter/kept_share", "filter/hardness"}
    names |= {
        "weights/unevenness",
        "weights/top_tenth",
        "weights/learned",
        "weights/signal",
        "meta/scored",
        "meta/contradicted",
        "meta/kept",
        "meta/uncertainty",
    }
    assert names <= logged.keys()
    assert all(math.isfinite(value) for value in logged.values())
    assert logged["meta/kept"] <= logged["meta/scored"]
    # A weight net that never moves gives equal weights, also where a row has fewer legal candidates than picks
    assert logged["weights/unevenness"] == pytest.approx(0.0, abs=1e-6)


# --- checkpoints and resume -----------------------------------------------------------------------------------------


def checkpoints(folder: Path) -> list[Callback]:
    """As the command line makes them."""
    best = ModelCheckpoint(folder, filename="best", monitor="val/mrr", mode="max", enable_version_counter=False)
    return [best, ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)]


def run(folder: Path, epochs: int, ckpt_path: Path | None = None, **changes: Any) -> tuple[MeBNS, Trainer, Any]:
    data, monitor = make_data(), probe_monitor()
    # A resumed run starts from other weights: all of them must come from the checkpoint
    system = make_mebns(data.spec, seed=0 if ckpt_path is None else 7, **changes)
    trainer = fit(
        system,
        data,
        epochs,
        [*checkpoints(folder), monitor],
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
        enable_checkpointing=True,
    )
    return system, trainer, monitor


def test_checkpoints_load_with_weights_only(tmp_path: Path) -> None:
    system, trainer, _ = run(tmp_path, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    for name in ("best", "last"):
        found = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)
        assert found["state_dict"].keys() == system.state_dict().keys()
    assert equal(found["state_dict"], weights(system))
    assert found["global_step"] == trainer.global_step
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    other = make_mebns(system.data.spec, seed=3)
    value = make_trainer().validate(other, make_data(), ckpt_path=str(tmp_path / "best.ckpt"), verbose=False)[0][
        "val/mrr"
    ]
    (score,) = (state["best_model_score"] for name, state in best["callbacks"].items() if "'val/mrr'" in name)
    assert value == pytest.approx(float(score), abs=1e-6)
    assert best["epoch"] < 5  # else the two would be one


PLANS: dict[str, Callable[[], dict[str, Any]]] = {
    "moving": lambda: {"schedule": Schedule(warmup=1)},
    "student from a frozen teacher": lambda: {
        "schedule": Schedule(warmup=1, student_from_teacher=True),
        "teaching": OwnLearning(epochs=1),
    },
    "mean teacher": lambda: {"teaching": MeanTeacher(decay=0.9)},
    "rounds": lambda: {"teaching": Rounds(length=2)},
    "what changes": lambda: {"weight_net": partial(WeightNet, ["change", "rank"])},
    "missing edges": lambda: {"filter": MissingEdgeFilter(missing=5.0, drop_easy=0.2)},
}


MOVING, FROZEN, MEAN, ROUNDS, CHANGES, MISSING = PLANS
RESUMED = [(stop, name, plan) for stop, name in ((1, "last"), (2, "last"), (3, "last"), (3, "best"))
           for plan in PLANS]  # fmt: skip


@ALL_WARM_UP
@pytest.mark.parametrize(
    ("stop", "name", "plan"),
    some(
        RESUMED,
        [
            *((1, "last", FROZEN), (2, "last", MOVING), (3, "last", FROZEN), (3, "best", MOVING)),
            *((3, "last", CHANGES), (3, "last", MEAN), (3, "last", ROUNDS), (2, "last", MISSING)),
        ],
    ),
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, stop: int, name: str, plan: str) -> None:
    """Stopped while warming up, just when a meta set is fresh, and between two refreshes of it."""
    options = PLANS[plan]
    whole, whole_trainer, whole_monitor = run(tmp_path / "whole", 4, **options())
    run(tmp_path / "part", stop, **options())
    resumed, trainer, monitor = run(tmp_path / "part", 4, tmp_path / "part" / f"{name}.ckpt", **options())
    assert equal(weights(whole), weights(resumed))
    states = [tensors_of([o.state_dict() for o in t.optimizers], "o") for t in (whole_trainer, trainer)]
    assert equal(*states)
    assert len(states[0]) > 20
    assert trainer.global_step == whole_trainer.global_step
    assert trainer.current_epoch == whole_trainer.current_epoch
    assert equal(tensors_of(whole.meta_set, "m"), tensors_of(resumed.meta_set, "m"))
    # Migration goes on where it was
    assert monitor.tracker.churns == whole_monitor.tracker.churns
    assert equal(tensors_of(monitor.state_dict(), "m"), tensors_of(whole_monitor.state_dict(), "m"))
    names = {name for name in whole_trainer.callback_metrics if name.startswith("migration/")}
    assert {name: trainer.callback_metrics[name] for name in names} == {
        name: whole_trainer.callback_metrics[name] for name in names
    }


# --- two ranks ------------------------------------------------------------------------------------------------------


def _two_epochs(devices: int, path: str) -> None:
    """Three epochs of union batches of 23 positives, then test and prediction; ranks hold unequal parts."""
    torch.set_num_threads(1)
    data = make_data(make_loaded(features=False), batch_size=23)
    system = make_mebns(data.spec, schedule=Schedule(warmup=1), updates=Updates(gradient_clip_norm=1.0)).double()
    callbacks = [probe_monitor(), PredictionWriter(path.replace(".pt", ".csv"), top_k=30)]
    strategy = "auto" if devices == 1 else "ddp"
    trainer = fit(system, data, epochs=3, callbacks=callbacks, devices=devices, strategy=strategy)
    state = weights(system)
    metrics = {name: value for name, value in trainer.callback_metrics.items() if name.startswith(("train/", "val/"))}
    trainer.test(system, data, verbose=False)
    metrics |= trainer.callback_metrics
    trainer.predict(system, data, return_predictions=False)
    if trainer.is_global_zero:
        torch.save({"weights": state, "metrics": {name: float(value) for name, value in metrics.items()}}, path)


def _rank(rank: int, port: int, path: str) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
    }
    _two_epochs(2, path)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    in_processes(_rank, port, str(tmp_path / "two.pt"), ranks=2)
    _two_epochs(1, str(tmp_path / "one.pt"))
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert one["weights"].keys() == two["weights"].keys()
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, rtol=1e-9, atol=1e-9, msg=name)
    assert {"train/student_loss", "train/meta_loss", "val/mrr", "val/auc", "test/mrr", "test/ap"} <= one[
        "metrics"
    ].keys()
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-6)
    links = [pd.read_csv(tmp_path / f"{name}.csv") for name in ("one", "two")]
    assert len(links[0]) == 30
    pd.testing.assert_frame_equal(*links)
