"""The plain system: it learns what its step says, its picks are its batch's, and a seed decides all."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam

from mebns_pl import Updates
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.bilevel import clipped
from mebns_pl.mebns.learner import Learner
from mebns_pl.mebns.step import plain_step
from mebns_pl.metrics.functional import auc
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.types import GraphSpec
from references.runs import MAKE, adam, equal, fit, make_data, make_mebns, make_plain, weights


class Recorder(Callback):
    """Keeps every batch and what the step said of it."""

    def __init__(self) -> None:
        self.steps: list[tuple[TrainBatch, dict[str, Tensor]]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append((batch, dict(outputs)))


def rows_of(pairs: Tensor) -> list[tuple[int, ...]]:
    return sorted(tuple(pair) for pair in pairs.t().tolist())


def test_training_is_the_step_repeated() -> None:
    data = make_data()
    system = make_plain(data.spec, updates=Updates(gradient_clip_norm=0.5))
    twin = copy.deepcopy(system.student)
    fit(system, data, epochs=2)
    optimizer = adam(twin.parameters())
    steps = data.train_steps(system.needs)
    for epoch in range(2):
        for step in range(len(steps)):
            key = data.key.child("step").at(epoch, step)
            learner, batch = Learner(twin, optimizer), steps[epoch, step]
            result = plain_step(learner, system.sampler, system.loss, batch, data.train_graph, key, SingleProcess())
            for param, grad in zip(twin.parameters(), clipped(result.learned["student"].dense, 0.5), strict=True):
                param.grad = grad
            optimizer.step()
    assert equal(weights(twin), weights(system.student))


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_it_learns(kind: str) -> None:
    """Four communities against uniform non-edges: the edges within one must be found."""
    data = make_data()
    system = MAKE[kind](data.spec, proposal=UniformProposal(), selector=FirstSelector(3))
    trainer = fit(system, data, epochs=25)
    assert trainer.callback_metrics["train/student_loss"] < math.log(2)  # what a constant has
    nodes = torch.arange(40)
    pairs = torch.combinations(nodes).t()
    within = pairs[0] // 10 == pairs[1] // 10
    scores = system.score(pairs)
    assert auc(scores[within], scores[~within]) > 0.9


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_picks_and_the_others_are_the_legal_candidates(kind: str) -> None:
    data, recorder = make_data(), Recorder()
    fit(MAKE[kind](data.spec, selector=FirstSelector(2)), data, epochs=3, callbacks=[recorder])
    assert len(recorder.steps) == 3 * len(data.train_dataloader())
    for batch, output in recorder.steps:
        anchors = batch.positives[0][:, None].expand_as(batch.candidates)
        legal = torch.stack([anchors[batch.candidate_mask], batch.candidates[batch.candidate_mask]])
        assert rows_of(torch.cat([output["picked"], output["unpicked"]], dim=1)) == rows_of(legal)
        count = output["picked"].shape[1]
        assert output["weights"].shape == output["logits"].shape == (count,)
        legal = batch.candidate_mask.sum(1)
        # Behind the filter, which drops half, MeBNS learns from all that stay
        stay = legal.clamp(max=2) if kind == "Plain" or not batch.epoch else (legal - legal // 2)
        assert count == int(stay.sum())
        torch.testing.assert_close(output["weights"].mean(), torch.tensor(1.0))
        assert not any(tensor.requires_grad for tensor in output.values())
    assert {batch.candidate_mask.all().item() for batch, _ in recorder.steps} <= {True, False}


def test_global_step_counts_batches() -> None:
    data = make_data()
    assert fit(make_plain(data.spec), data, epochs=3).global_step == 3 * len(data.train_dataloader())


def test_any_optimizer_serves() -> None:
    data = make_data()
    for optimizer in (partial(SGD, lr=0.1, momentum=0.9), partial(Adagrad, lr=0.1), partial(Adam, amsgrad=True)):
        system = make_plain(data.spec, optimizer=optimizer)
        before = weights(system)
        fit(system, data, epochs=1)
        assert not equal(before, weights(system))


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_the_seed_decides_the_weights(kind: str) -> None:
    def run(weight_seed: int, data_seed: int) -> dict[str, Tensor]:
        torch.manual_seed(torch.seed() % 2**31)  # whatever the global generator says
        data = make_data(seed=data_seed)
        system = MAKE[kind](data.spec, seed=weight_seed)
        fit(system, data, epochs=3)
        return weights(system)

    one = run(0, 0)
    assert equal(one, run(0, 0))
    assert not equal(one, run(1, 0))
    assert not equal(one, run(0, 1))


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_training_leaves_the_global_generator_alone(kind: str) -> None:
    data = make_data()
    system = MAKE[kind](data.spec)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fit(system, data, epochs=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_workers_change_nothing() -> None:
    found = []
    for num_workers in (0, 2):
        data = make_data(num_workers=num_workers)
        system = make_plain(data.spec)
        fit(system, data, epochs=2)
        found.append(weights(system))
    assert equal(*found)


def test_a_data_module_used_by_mebns_before_gives_plain_all_observed_edges() -> None:
    found = []
    for used in (False, True):
        data = make_data()
        if used:
            fit(make_mebns(data.spec), data, epochs=2)
        system = make_plain(data.spec)
        fit(system, data, epochs=2)
        found.append(weights(system))
    assert equal(*found)


def test_equal_data_keeps_meta_edges_from_the_losses_as_mebns_does() -> None:
    learned = {}
    for name in ("Plain", "equal data", "MeBNS"):
        data, recorder = make_data(), Recorder()
        system = make_mebns(data.spec) if name == "MeBNS" else make_plain(data.spec, equal_data=name == "equal data")
        fit(system, data, epochs=2, callbacks=[recorder])
        learned[name] = {frozenset(pair) for batch, _ in recorder.steps for pair in rows_of(batch.positives)}
        meta = {frozenset(pair) for pair in rows_of(data.split.meta)}
    assert learned["equal data"] == learned["MeBNS"] == learned["Plain"] - meta
    assert meta <= learned["Plain"]


def test_first_selector_is_the_default() -> None:
    with torch.random.fork_rng(devices=[]):
        assert isinstance(MAKE["Plain"](GraphSpec(5), selector=None).sampler.selector, FirstSelector)
