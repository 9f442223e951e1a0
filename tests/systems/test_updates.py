"""Accumulation and clipping, and trainer options that are refused or work: precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import SGD

from mebns_pl import GAT, GCN, EncoderDecoder, LinkPredictor, MeBNS, MLPDecoder, Plain, Schedule, Updates
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.mebns.bilevel import AbstractEngine, DirectionalEngine, HigherEngine
from mebns_pl.mebns.learner import Gradients, Learner
from mebns_pl.mebns.losses.abstract import negative_losses, positive_losses
from mebns_pl.mebns.step import plain_step
from mebns_pl.systems.updates import GradientAccumulator
from mebns_pl.types import GraphSpec
from references.runs import MAKE, equal, fit, make_data, make_loaded, make_mebns, make_plain, predictor, weights

# --- accumulation ---------------------------------------------------------------------------------------------------


def found(*dense: Tensor) -> Gradients:
    return Gradients(torch.zeros(()), list(dense))


def ones(value: float) -> Gradients:
    return found(torch.full((2,), value), torch.full((1, 3), 2 * value))


def test_groups_of_steps() -> None:
    accumulator = GradientAccumulator(Updates(accumulate=3))
    assert accumulator.add({"student": ones(1.0)}, last=False) == {}
    assert accumulator.add({"student": ones(2.0)}, last=False) == {}
    full = accumulator.add({"student": ones(6.0)}, last=False)
    assert full.keys() == {"student"}
    assert [value.flatten().tolist() for value in full["student"].dense] == [[3.0] * 2, [6.0] * 3]
    # Begins anew; the last group of an epoch has its own count
    assert accumulator.add({"student": ones(5.0), "teacher": ones(1.0)}, last=False) == {}
    short = accumulator.add({"student": ones(7.0), "teacher": ones(2.0)}, last=True)
    assert short["student"].dense[0].tolist() == [6.0] * 2
    assert short["teacher"].dense[0].tolist() == [1.5] * 2
    # A learner that sits a step out has the mean of the others
    accumulator.add({"student": ones(1.0)}, last=False)
    assert (
        accumulator.add({"student": ones(2.0), "teacher": ones(4.0)}, last=True)["teacher"].dense[0].tolist()
        == [4.0] * 2
    )
    assert accumulator.state_dict() == {}


def test_the_weight_net_has_longer_groups() -> None:
    accumulator = GradientAccumulator(Updates(accumulate=2, accumulate_weight_net=2))
    moved, means = [], []
    for step in range(1, 8):
        found = accumulator.add({"student": ones(float(step)), "weight_net": ones(float(step))}, last=step == 7)
        moved.append(sorted(found))
        means.append({name: float(value.dense[0][0]) for name, value in found.items()})
        again = GradientAccumulator(accumulator.updates)  # a checkpoint between groups of the one within the other's
        again.load_state_dict(accumulator.state_dict())
        accumulator = again
    both = ["student", "weight_net"]
    assert moved == [[], ["student"], [], both, [], ["student"], both]
    assert means[1] == {"student": 1.5}
    assert means[3] == {"student": 3.5, "weight_net": 2.5}
    assert means[6] == {"student": 7.0, "weight_net": 6.0}
    assert accumulator.state_dict() == {}


def test_clipping_comes_after_the_mean_and_is_the_students() -> None:
    accumulator = GradientAccumulator(Updates(accumulate=2, gradient_clip_norm=1.0))
    accumulator.add({"student": found(torch.tensor([30.0, 0.0])), "teacher": found(torch.tensor([3.0]))}, last=False)
    full = accumulator.add(
        {"student": found(torch.tensor([0.0, 40.0])), "teacher": found(torch.tensor([5.0]))}, last=False
    )
    # The mean (15, 20) has norm 25; clipped one by one the two would give (0.5, 0.5)
    torch.testing.assert_close(full["student"].dense[0], torch.tensor([0.6, 0.8]))
    assert full["teacher"].dense[0].tolist() == [4.0]


def test_one_step_is_its_own_mean_bit_for_bit() -> None:
    grad = torch.randn(5)
    assert GradientAccumulator(Updates()).add({"student": found(grad)}, last=False)["student"].dense[0] is grad


def test_a_checkpoint_holds_a_group_that_is_not_full() -> None:
    first, second = (GradientAccumulator(Updates(accumulate=2)) for _ in range(2))
    first.add({"student": ones(1.0)}, last=False)
    second.load_state_dict(first.state_dict())
    assert second.add({"student": ones(3.0)}, last=False)["student"].dense[0].tolist() == [2.0] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, r"updates\.accumulate: expected 1 or more batches, got 0"),
        ({"gradient_clip_norm": 0.0}, r"updates\.gradient_clip_norm: expected a number above 0 or null, got 0"),
    ],
)
def test_bad_updates_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Updates(**options)


def test_accumulated_training_is_the_mean_of_steps() -> None:
    """Three batches an epoch, two of them an update: SGD on the mean of the first two, then on the third."""
    data = make_data()
    make = partial(SGD, lr=0.1)
    system = make_plain(data.spec, optimizer=make, updates=Updates(accumulate=2, gradient_clip_norm=0.3))
    twin = make_plain(data.spec).student
    trainer = fit(system, data, epochs=2)
    assert trainer.global_step == 2 * 2
    optimizer, steps = make(twin.parameters()), data.train_steps(system.needs)
    for epoch in range(2):
        for group in [range(start, min(start + 2, len(steps))) for start in range(0, len(steps), 2)]:
            total: list[Tensor] = []
            for step in group:
                key, learner = data.key.child("step").at(epoch, step), Learner(twin, optimizer)
                result = plain_step(
                    learner, system.sampler, system.loss, steps[epoch, step], data.train_graph, key, SingleProcess()
                )
                grads = result.learned["student"].dense
                total = [a + b for a, b in zip(total, grads, strict=True)] if total else grads
            for param, value in zip(twin.parameters(), total, strict=True):
                param.grad = value / len(group)
            nn.utils.clip_grad_norm_(twin.parameters(), 0.3)
            optimizer.step()
    for name, value in weights(twin).items():
        torch.testing.assert_close(system.student.state_dict()[name], value, rtol=1e-5, atol=1e-7)


def test_all_three_learners_wait_for_their_group() -> None:
    class Moves(Callback):
        def __init__(self) -> None:
            self.seen: list[list[bool]] = []
            self.before: list[dict[str, Tensor]] = []

        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            assert isinstance(pl_module, MeBNS)
            now = [weights(module) for module in (pl_module.student, pl_module.teacher, pl_module.weight_net)]
            if self.before:
                self.seen.append([not equal(a, b) for a, b in zip(self.before, now, strict=True)])
            self.before = now

    data, moves = make_data(), Moves()
    system = make_mebns(data.spec, schedule=Schedule(warmup=0), updates=Updates(accumulate=2))
    trainer = fit(system, data, epochs=2, callbacks=[moves])
    # After the first batch of each epoch nothing moves, after its second and its last all do
    assert moves.seen == [[True] * 3, [True] * 3, [False] * 3, [True] * 3, [True] * 3]
    assert trainer.global_step == 4


# --- options of the trainer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_clip_val": 1.0}, r"trainer\.gradient_clip_val: .*set model\.updates\.gradient_clip_norm"),
        ({"accumulate_grad_batches": 2}, r"trainer\.accumulate_grad_batches: .*set model\.updates\.accumulate"),
        (
            {"precision": "bf16-true"},
            r"trainer\.precision: expected one of 32-true, 64-true, bf16-mixed, got bf16-true",
        ),
        ({"plugins": [MixedPrecision("16-mixed", "cpu")]}, r"trainer\.precision: .*got 16-mixed \(float16 needs"),
    ],
)
def test_what_the_systems_cannot_do_is_refused_before_training(
    kind: str, options: dict[str, Any], message: str
) -> None:
    data = make_data()
    system = MAKE[kind](data.spec)
    before = weights(system)
    with pytest.raises(ValueError, match=message):
        fit(system, data, **options)
    assert equal(before, weights(system))


def gat(spec: GraphSpec) -> LinkPredictor:
    return EncoderDecoder(
        spec, partial(GAT, hidden_channels=8, heads=2, dropout=0.1), partial(MLPDecoder, hidden_channels=8)
    )


SYSTEMS: dict[str, Callable[..., Plain | MeBNS]] = {
    "plain": make_plain,
    "higher": partial(make_mebns, engine=HigherEngine(), schedule=Schedule(warmup=0)),
    "directional": partial(make_mebns, engine=DirectionalEngine(), schedule=Schedule(warmup=0)),
}


@pytest.mark.parametrize("encoder", [predictor, gat])
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_precisions_work(precision: str, name: str, encoder: Callable[[GraphSpec], LinkPredictor]) -> None:
    """With dense features. Half precision does the products and differs a little, float64 in the last digits."""
    found: dict[str, dict[str, float]] = {}
    for kind in ("32-true", precision):
        data = make_data()
        system = SYSTEMS[name](data.spec, predictor=encoder)
        trainer = fit(system, data, epochs=1, precision=kind)
        found[kind] = {key: float(value) for key, value in trainer.callback_metrics.items()}
        dtype = torch.float64 if kind == "64-true" else torch.float32
        assert {param.dtype for param in system.parameters()} == {dtype}
    within = {"bf16-mixed": 0.05, "64-true": 1e-4}[precision]
    losses = [key for key in found["32-true"] if key.endswith("_loss")]
    assert len(losses) == (1 if name == "plain" else 3)
    for key in losses:
        assert found[precision][key] == pytest.approx(found["32-true"][key], abs=within), key
        assert found[precision][key] != found["32-true"][key], key


@pytest.mark.parametrize("engine", [HigherEngine(), DirectionalEngine()], ids=["higher", "directional"])
def test_lookahead_in_half_precision_runs_in_it(engine: AbstractEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weight net is moved by gradients of passes under autocast, with sparse features, too."""
    dtypes: set[torch.dtype] = set()
    right = EncoderDecoder.scorer

    def spy(self: EncoderDecoder, *args: Any) -> Any:
        score = right(self, *args)

        def noted(inputs: Any) -> Tensor:
            logits = score(inputs)
            dtypes.add(logits.dtype)
            return logits

        return noted

    monkeypatch.setattr(EncoderDecoder, "scorer", spy)
    loaded = make_loaded()
    data = make_data(loaded)
    system = make_mebns(data.spec, engine=engine, schedule=Schedule(warmup=0))
    before = weights(system.weight_net)
    fit(system, data, epochs=1, precision="bf16-mixed", limit_val_batches=0)
    assert torch.bfloat16 in dtypes
    assert not equal(before, weights(system.weight_net))
    assert all(bool(value.isfinite().all()) for value in weights(system).values())


def test_evaluation_is_never_in_half_precision() -> None:
    data = make_data()
    system = make_plain(data.spec)
    half, full = (
        fit(make_plain(data.spec), make_data(), epochs=0, precision=precision)
        for precision in ("bf16-mixed", "32-true")
    )
    found = [trainer.test(system, data, verbose=False)[0] for trainer in (half, full)]
    assert found[0] == found[1]


def test_losses_of_half_precision_are_single() -> None:
    logits = torch.tensor([1.0, -2.0], dtype=torch.bfloat16)
    assert positive_losses(logits).dtype == negative_losses(logits).dtype == torch.float32
    assert positive_losses(logits.double()).dtype == torch.float64


def test_sparse_features_in_half_precision() -> None:
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), 3, Features.of(x.to_sparse_coo()))
    dense = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), 3, x)
    torch.manual_seed(0)
    encoder = GCN(graph.spec, hidden_channels=4)
    other = GCN(dense.spec, hidden_channels=4)
    other.load_state_dict(encoder.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder(graph)
        found.float().sum().backward()
        torch.testing.assert_close(found.float(), other(dense).float(), rtol=0.02, atol=0.02)


def test_single_process_gathers_and_spreads() -> None:
    group = SingleProcess()
    columns = torch.arange(6).view(2, 3)
    assert torch.equal(group.columns_of_all(columns), columns)
    assert [int(value) for value in group.spread(lambda number: torch.tensor(number * 2), 3)] == [0, 2, 4]


def test_checkpoints_hold_accumulated_gradients(tmp_path: Path) -> None:
    data = make_data()
    system = make_plain(data.spec, updates=Updates(accumulate=9))
    trainer = fit(system, data, epochs=1)
    system.accumulator.add({"student": ones(1.0)}, last=False)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    other = make_plain(data.spec, updates=Updates(accumulate=9))
    other.accumulator.load_state_dict(saved["accumulated"])
    assert other.accumulator.add({"student": ones(3.0)}, last=True)["student"].dense[0].tolist() == [2.0] * 2
