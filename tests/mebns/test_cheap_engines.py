"""The cheap engines against the exact ones and the slow twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, BilevelProblem, DirectionalEngine, HigherEngine
from mebns_pl.mebns.cheap_engines import AlignmentEngine, Every, LastBlock
from mebns_pl.mebns.learner import Gradients
from mebns_pl.systems.mebns import Schedule
from references import step as reference
from references.runs import ALL_WARM_UP, equal, fit, make_data, make_mebns, weights
from references.step import Setting

KEY = Key(5, "tests/cheap")
SETTINGS = {
    "GCN, adam": Setting(),
    "GCN, sgd, sparse": Setting(optimizer="sgd", features="sparse"),
    "GAT, momentum": Setting(encoder="GAT", optimizer="momentum"),
    "SAGE, adamw, no features": Setting(encoder="SAGE", optimizer="adamw", features="none"),
}


def warmed_up(setting: Setting) -> reference.State:
    state = reference.make_state(setting)
    for step in range(2):
        batch, meta_batch = reference.make_batch(step), reference.make_meta(step)
        reference.fast_step(state, setting, batch, meta_batch, KEY.at(0, step), DirectionalEngine())
    return state


def flat(tensors: list[Tensor] | None) -> Tensor:
    assert tensors is not None
    return torch.cat([tensor.flatten() for tensor in tensors])


def gradient(state: reference.State, setting: Setting, engine: AbstractEngine) -> Tensor:
    batch, meta_batch = reference.make_batch(9), reference.make_meta(9)
    return flat(reference.fast_gradients(state, setting, batch, meta_batch, KEY, engine).learned["weight_net"].dense)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    ("names", "moves"),
    [
        (["decoder"], lambda name: name.startswith("decoder.")),
        (["decoder.last"], lambda name: name in ("decoder.last.weight", "decoder.last.bias")),
        (["decoder.last.bias", "encoder"], lambda name: name == "decoder.last.bias" or name.startswith("encoder.")),
    ],
    ids=["decoder", "last layer", "encoder and a bias"],
)
def test_last_block_is_the_derivative_with_the_others_held(
    name: str, names: list[str], moves: Callable[[str], bool]
) -> None:
    setting = SETTINGS[name]
    state = warmed_up(setting)
    batch, meta_batch = reference.make_batch(9), reference.make_meta(9)
    slow = reference.prepare(state, setting, batch, meta_batch, KEY)
    expected = flat(reference.slow_hypergradient(state, setting, slow, moves))
    assert expected.norm() > 1e-8
    found = gradient(state, setting, LastBlock(names))
    assert (found - expected).norm() < 1e-9 * expected.norm()
    whole = gradient(state, setting, HigherEngine())
    assert (found - whole).norm() > 1e-3 * whole.norm()


@pytest.mark.parametrize("name", SETTINGS)
def test_alignment_is_the_products_of_gradients(name: str) -> None:
    """One negative at a time: its gradient by itself, times the meta loss's, centred and scaled."""
    setting = SETTINGS[name]
    state = warmed_up(setting)
    slow = reference.prepare(state, setting, reference.make_batch(9), reference.make_meta(9), KEY)
    student, net = state.student.module, state.weight_net.module
    params = reference.params_of(student)
    down = torch.autograd.grad(slow.meta_loss_at(params), list(params.values()), materialize_grads=True)
    zero = [0.0] * len(slow.base)
    couplings = []
    for place in range(len(slow.base)):
        alone = [float(place == other) for other in range(len(zero))]
        loss = slow.loss_at(params, alone) - slow.loss_at(params, zero)
        grads = torch.autograd.grad(loss, list(params.values()), materialize_grads=True)
        couplings.append(float(sum((one * other).sum() for one, other in zip(grads, down, strict=True))))
    mean = sum(couplings) / len(couplings)
    deviation = (sum((one - mean) ** 2 for one in couplings) / len(couplings)) ** 0.5
    phi = {key: value.detach().requires_grad_() for key, value in net.named_parameters()}
    found = reference.softmax_weights(net, phi, slow.features, slow.base)
    surrogate = sum(-weight * (one - mean) / deviation for weight, one in zip(found, couplings, strict=True))
    expected = flat(list(torch.autograd.grad(surrogate / len(couplings), list(phi.values()), materialize_grads=True)))
    torch.testing.assert_close(gradient(state, setting, AlignmentEngine()), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("clip", [None, 0.03])
def test_last_block_of_everything_is_exact(clip: float | None) -> None:
    setting = Setting(clip=clip)
    state = warmed_up(setting)
    found, exact = (gradient(state, setting, e) for e in (LastBlock(["encoder", "decoder"]), DirectionalEngine()))
    assert torch.equal(found, exact)


def test_last_block_leaves_out_what_only_begins_alike() -> None:
    """``encoder.biases.1`` is no part of ``encoder.biases.10``, nor ``decoder`` of ``decoder2``."""
    engine = LastBlock(["biases.1", "decoder"])
    student = torch.nn.Module()
    for name in ("biases", "decoder", "decoder2"):
        student.add_module(name, torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(())) for _ in range(11)))
    assert set(engine._unrolled(student)) == {"biases.1", *(f"decoder.{i}" for i in range(11))}


@ALL_WARM_UP
@pytest.mark.parametrize("wrap", [lambda engine: engine, lambda engine: Every(2, engine)], ids=["alone", "in Every"])
def test_names_that_are_not_there_are_refused_before_training(wrap: Callable[[AbstractEngine], AbstractEngine]) -> None:
    data = make_data()
    system = make_mebns(data.spec, engine=wrap(LastBlock(["decoder", "head"])))
    with pytest.raises(ValueError, match=r"engine.names: .*no parameter 'head'; it has .*decoder.last.weight"):
        fit(system, data, 1)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="names: at least one"):
        LastBlock([])
    with pytest.raises(ValueError, match="n: expected 1 or more steps, got 0"):
        Every(0)


def test_between_its_turns_the_weight_net_weighs_and_stays() -> None:
    setting = Setting()
    state = warmed_up(setting)
    batch, meta_batch = reference.make_batch(9), reference.make_meta(9)
    results = {
        number: reference.fast_gradients(
            state, setting, replace(batch, number=number), meta_batch, KEY, Every(3, DirectionalEngine())
        )
        for number in (3, 4)
    }
    exact = gradient(state, setting, DirectionalEngine())
    assert torch.equal(flat(results[3].learned["weight_net"].dense), exact)
    assert "weight_net" not in results[4].learned
    # The weights are those of the net as it is, which are not equal, and the student's gradient follows them
    slow = reference.prepare(state, setting, batch, meta_batch, KEY)
    net = state.weight_net.module
    expected = reference.softmax_weights(net, reference.params_of(net), slow.features, slow.base)
    expected = torch.stack(expected).detach()
    negatives = results[4].negatives
    torch.testing.assert_close(negatives.weights[negatives.mask], expected, rtol=1e-10, atol=0)
    assert expected.std() > 1e-3
    student = state.student.module
    loss = slow.loss_at(reference.params_of(student), list(expected))
    grads = torch.autograd.grad(loss, list(student.parameters()), materialize_grads=True)
    torch.testing.assert_close(flat(results[4].learned["student"].dense), flat(list(grads)), rtol=1e-9, atol=1e-12)


class Counting(AbstractEngine):
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        self.calls += 1
        return DirectionalEngine().hypergradient(problem)


def test_between_its_turns_no_meta_inputs_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    setting, prepared, calls = Setting(), reference.prepared, []
    state = warmed_up(setting)

    def counted(*args):  # type: ignore[no-untyped-def]
        prepare = prepared(*args)
        return lambda *pairs: (calls.append(1), prepare(*pairs))[1]

    monkeypatch.setattr(reference, "prepared", counted)
    for number, made in ((3, 1), (4, 1), (6, 2)):
        batch = replace(reference.make_batch(9), number=number)
        engine = Every(3, DirectionalEngine())
        reference.fast_gradients(state, setting, batch, reference.make_meta(9), KEY, engine)
        assert len(calls) == made


def test_every_counts_steps_over_epochs() -> None:
    """Three steps an epoch: of the steps 0 ... 11 every fourth is 0, 4 and 8."""
    data, counting = make_data(), Counting()
    system = make_mebns(data.spec, engine=Every(4, counting), schedule=Schedule(warmup=0))
    trainer = fit(system, data, 4, limit_val_batches=0)
    assert trainer.num_training_batches == 3
    assert counting.calls == 3


def test_every_of_every_takes_the_product_of_turns() -> None:
    assert [number for number in range(13) if Every(2, Every(3)).due(number)] == [0, 6, 12]


def test_every_step_is_the_engine_itself() -> None:
    trained = []
    for engine in (DirectionalEngine(), Every(1, DirectionalEngine()), Every(2, DirectionalEngine())):
        data = make_data()
        system = make_mebns(data.spec, engine=engine)
        fit(system, data, 3, limit_val_batches=0)
        trained.append(weights(system))
    assert equal(trained[0], trained[1])
    assert not equal(trained[0], trained[2])
