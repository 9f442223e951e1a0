"""The lookahead is torch.optim's own step, and the hypergradient is the derivative of what the real optimizer does."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LinearLR

import mebns_pl.mebns.step as step_module
from mebns_pl.distributed.group import AbstractGroup, SingleProcess
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import (
    AbstractEngine,
    BilevelProblem,
    DirectionalEngine,
    HigherEngine,
    check_optimizer,
    clipped,
    updated,
)
from mebns_pl.mebns.learner import Gradients, Learner
from references import step as reference
from references.effort import some
from references.step import Setting

ENGINES = [HigherEngine(), DirectionalEngine()]
KEY = Key(3, "tests/bilevel")

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "sgd, weight decay": lambda p: SGD(p, lr=0.1, weight_decay=0.3),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "dampening": lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.4),
    "nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "sgd, maximize": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, maximize=True),
    "adam": lambda p: Adam(p, lr=0.01),
    "adam, betas": lambda p: Adam(p, lr=0.01, betas=(0.5, 0.7), eps=1e-3),
    "adam, weight decay": lambda p: Adam(p, lr=0.01, weight_decay=0.3),
    "adam, decoupled": lambda p: Adam(p, lr=0.01, weight_decay=0.3, decoupled_weight_decay=True),
    "adam, maximize": lambda p: Adam(p, lr=0.01, weight_decay=0.3, maximize=True),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=0.3),
    "adamw, maximize": lambda p: AdamW(p, lr=0.01, weight_decay=0.3, maximize=True),
}


def make_params(generator: torch.Generator) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in ((3, 4), (4,), ())]


def random_grads(params: list[nn.Parameter], generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in params]


def take_steps(optimizer: Optimizer, params: list[nn.Parameter], count: int, generator: torch.Generator) -> None:
    for _ in range(count):
        for param, grad in zip(params, random_grads(params, generator), strict=True):
            param.grad = grad
        optimizer.step()
        optimizer.zero_grad()


# --- the update -----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [0, 1, 100])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updated_is_the_real_step(name: str, num_steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    params = make_params(generator)
    optimizer = OPTIMIZERS[name](params)
    take_steps(optimizer, params, num_steps, generator)
    grads = random_grads(params, generator)
    found = updated(optimizer, params, params, grads)
    before = [param.detach().clone() for param in params]
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    optimizer.step()
    for old, new, value in zip(before, params, found, strict=True):
        assert (new - old).abs().max() > 1e-4
        torch.testing.assert_close(value, new.detach(), rtol=1e-12, atol=1e-12, check_dtype=True)


def test_updated_goes_with_a_schedule() -> None:
    """A rate that falls from step to step is that of the real step in the lookahead, too."""
    generator = torch.Generator().manual_seed(0)
    (param,) = params = make_params(generator)[:1]
    optimizer = Adam(params, lr=0.1)
    schedule = LinearLR(optimizer, start_factor=1.0, end_factor=0.1, total_iters=3)
    sizes = []
    for _ in range(4):
        grads = random_grads(params, generator)
        (found,) = updated(optimizer, params, params, grads)
        before, (param.grad,) = param.detach().clone(), grads
        optimizer.step()
        schedule.step()
        torch.testing.assert_close(found.detach(), param.detach(), rtol=1e-12, atol=1e-12)
        sizes.append(float((found.detach() - before).abs().max()))
    assert sizes[0] == pytest.approx(0.1, rel=1e-3)
    assert sizes[-1] < 0.03


def test_updated_reads_each_group_of_an_optimizer() -> None:
    generator = torch.Generator().manual_seed(0)
    params = make_params(generator)
    # Not the order of the parameters
    optimizer = AdamW(
        [{"params": [params[2], params[0]], "lr": 0.1}, {"params": [params[1]], "weight_decay": 0.7}], lr=0.01
    )
    take_steps(optimizer, params, 3, generator)
    grads = random_grads(params, generator)
    found = updated(optimizer, params, params, grads)
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    optimizer.step()
    for param, value in zip(params, found, strict=True):
        torch.testing.assert_close(value, param.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_steps", [0, 5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_derivative_of_updated(name: str, num_steps: int) -> None:
    """Against central differences through the real optimizer, one entry at a time (updates are elementwise)."""
    generator = torch.Generator().manual_seed(1)
    params = make_params(generator)
    optimizer = OPTIMIZERS[name](params)
    take_steps(optimizer, params, num_steps, generator)
    grads = [grad.sign() * (0.5 + grad.abs()) for grad in random_grads(params, generator)]

    def real(shift: float) -> list[Tensor]:
        own_params, own_optimizer = copy.deepcopy((params, optimizer))
        for param, grad in zip(own_params, grads, strict=True):
            param.grad = grad + shift
        own_optimizer.step()
        return [param.detach() for param in own_params]

    leaves = [grad.clone().requires_grad_() for grad in grads]
    found = torch.autograd.grad(sum(value.sum() for value in updated(optimizer, params, params, leaves)), leaves)
    for value, above, below in zip(found, real(1e-5), real(-1e-5), strict=True):
        torch.testing.assert_close(value, (above - below) / 2e-5, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_zero_gradient_at_the_first_step_has_a_derivative(kind: type[Adam]) -> None:
    """The update there is ``-lr g / (|g| + eps)``: its slope at 0 is ``-lr / eps``."""
    param = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = kind([param], lr=0.01, eps=1e-3, weight_decay=0.0)
    grad = torch.tensor([0.0, 0.5], dtype=torch.float64, requires_grad=True)
    (ahead,) = updated(optimizer, [param], [param.detach()], [grad])
    torch.testing.assert_close(ahead[0].detach(), param[0].detach())
    (slope,) = torch.autograd.grad(ahead.sum(), grad)
    eps = 1e-3
    expected = torch.tensor([-0.01 / eps, -0.01 * eps / (0.5 + eps) ** 2], dtype=torch.float64)
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=0)


def test_clipped_is_torchs_clipping_and_has_a_derivative_at_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    params = make_params(generator)
    grads = random_grads(params, generator)
    for max_norm in (0.1, 100.0):
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        nn.utils.clip_grad_norm_(params, max_norm)
        for found, param in zip(clipped(grads, max_norm), params, strict=True):
            torch.testing.assert_close(found, param.grad, rtol=1e-14, atol=0)
    assert all(a is b for a, b in zip(clipped(grads, None), grads, strict=True))
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(clipped([zero], 0.1)[0].sum(), zero)
    assert bool(slope.isfinite().all())


class MySGD(SGD):
    pass


REFUSED: dict[str, tuple[Callable[..., Optimizer], str]] = {
    "another kind": (lambda p: RMSprop(p), "RMSprop"),
    "a subclass": (lambda p: MySGD(p, lr=0.1), "MySGD"),
    "amsgrad": (lambda p: Adam(p, amsgrad=True), "amsgrad"),
    "amsgrad of AdamW": (lambda p: AdamW(p, amsgrad=True), "amsgrad"),
    "differentiable": (lambda p: SGD(p, lr=0.1, differentiable=True), "differentiable"),
    "amsgrad in one group": (lambda p: Adam([{"params": p[:1]}, {"params": p[1:], "amsgrad": True}]), "amsgrad"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_optimizers_are_refused(name: str) -> None:
    make, word = REFUSED[name]
    with pytest.raises(ValueError, match=f"student_optimizer.*{word}"):
        check_optimizer(make(make_params(torch.Generator())), "student_optimizer")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_known_optimizers_are_accepted(name: str) -> None:
    check_optimizer(OPTIMIZERS[name](make_params(torch.Generator())), "student_optimizer")


# --- hypergradients -------------------------------------------------------------------------------


class Scalar(nn.Module):
    """A student of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))


def quadratic(optimizer: Callable[[Scalar], Optimizer]) -> tuple[BilevelProblem, Tensor, Tensor]:
    """``l_i = (theta - a_i)^2``, meta loss ``(theta' - 2)^2``; the weights are the parameters themselves."""
    student = Scalar()
    a = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
    w = torch.tensor([1.5, 1.0, 0.5], dtype=torch.float64)
    problem = BilevelProblem(
        student=Learner(student, optimizer(student)),
        gradient_clip_norm=None,
        inner_loss=lambda weights: 0.5 * (weights * (student.theta - a) ** 2).sum() / 3 + 0.25 * student.theta**2,
        outer_loss_at=lambda params: (params["theta"] - 2) ** 2,
        weights_at=lambda params: params["w"],
        weight_params={"w": w},
        group=SingleProcess(),
    )
    return problem, a, w


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
@pytest.mark.parametrize("maximize", [False, True])
def test_quadratic_in_closed_form(engine: AbstractEngine, maximize: bool) -> None:
    problem, a, w = quadratic(lambda student: SGD(student.parameters(), lr=0.1, maximize=maximize))
    theta, sign = 0.7, -1 if maximize else 1
    gradient = float((w * (theta - a)).sum() / 3 + 0.5 * theta)
    ahead = theta - sign * 0.1 * gradient
    expected = 2 * (ahead - 2) * -sign * 0.1 * (theta - a) / 3
    found = engine.hypergradient(problem)
    torch.testing.assert_close(found.dense[0], expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(found.loss, torch.tensor((ahead - 2) ** 2, dtype=torch.float64))
    assert not found.loss.requires_grad


CASES = {
    "GCN, sgd": (Setting(optimizer="sgd"), {}, 0),
    "GCN, adam, first step": (Setting(optimizer="adam"), {"eps": 1e-2}, 0),
    "GCN, adam": (Setting(optimizer="adam"), {"eps": 1e-3}, 4),
    "GCN, adamw": (Setting(optimizer="adamw"), {"eps": 1e-3}, 4),
    "GCN, momentum, clipping": (Setting(optimizer="momentum", clip=0.03), {}, 2),
    "GCN, adam, clipping": (Setting(optimizer="adam", clip=0.03), {"eps": 1e-3}, 2),
    "GCN, sparse": (Setting(optimizer="adam", features="sparse"), {"eps": 1e-3}, 1),
    "GCN, no features": (Setting(optimizer="adam", features="none"), {"eps": 1e-3}, 1),
    "GAT, adam": (Setting(encoder="GAT", optimizer="adam"), {"eps": 1e-3}, 2),
    "GAT, sgd, clipping": (Setting(encoder="GAT", optimizer="sgd", clip=0.03), {}, 0),
    "SAGE, adam": (Setting(encoder="SAGE", optimizer="adam"), {"eps": 1e-3}, 2),
    "SAGE, sgd": (Setting(encoder="SAGE", optimizer="sgd"), {}, 0),
    "LPFormer, adam": (Setting(encoder="LPFormer", optimizer="adam"), {"eps": 1e-3}, 2),
    "LPFormer, sgd, clipping": (Setting(encoder="LPFormer", optimizer="sgd", clip=0.03), {}, 0),
    "NCN, adam": (Setting(encoder="NCN", optimizer="adam"), {"eps": 1e-3}, 2),
    "NCN, sgd, sparse": (Setting(encoder="NCN", optimizer="sgd", features="sparse"), {}, 0),
    "Refined-GAE, adam, clipping": (Setting(encoder="Refined-GAE", optimizer="adam", clip=0.03), {"eps": 1e-3}, 2),
    "Refined-GAE, sgd, no features": (Setting(encoder="Refined-GAE", optimizer="sgd", features="none"), {}, 0),
    "SEAL, adam": (Setting(encoder="SEAL", optimizer="adam", features="none"), {"eps": 1e-3}, 2),
    "SEAL, sgd, clipping": (Setting(encoder="SEAL", optimizer="sgd", clip=0.03), {}, 0),
    "SEAL, adam, sparse": (Setting(encoder="SEAL", optimizer="adam", features="sparse"), {"eps": 1e-3}, 1),
}


def warmed_up(setting: Setting, options: dict[str, float], num_steps: int) -> reference.State:
    state = reference.make_state(setting, **options)
    for step in range(num_steps):
        reference.fast_step(
            state, setting, reference.make_batch(step), reference.make_meta(step), KEY.at(1, step), ENGINES[1]
        )
    return state


def central_differences(state: reference.State, setting: Setting, slow: reference.Slow) -> Tensor:
    live = {name: param.detach() for name, param in state.weight_net.module.named_parameters()}
    slopes = []
    for name, value in live.items():
        for place in range(value.numel()):
            shift = torch.zeros(value.numel(), dtype=value.dtype)
            shift[place] = 1e-4
            above, below = (
                reference.meta_loss_after(state, setting, slow, {**live, name: value + sign * shift.view_as(value)})
                for sign in (1, -1)
            )
            slopes.append((above - below) / 2e-4)
    return torch.tensor(slopes, dtype=torch.float64)


def flat(tensors: list[Tensor] | None) -> Tensor:
    assert tensors is not None
    return torch.cat([tensor.flatten() for tensor in tensors])


ALWAYS = {
    "GCN, sgd", "GCN, adam", "GCN, adamw", "GCN, momentum, clipping", "GCN, adam, clipping", "GAT, adam", "SAGE, sgd",
    "LPFormer, adam", "NCN, sgd, sparse", "Refined-GAE, adam, clipping", "SEAL, adam",
}  # fmt: skip


@pytest.mark.parametrize("name", some(CASES, ALWAYS))
def test_hypergradient_is_the_slope_through_the_real_optimizer(name: str) -> None:
    setting, options, num_steps = CASES[name]
    state = warmed_up(setting, options, num_steps)
    batch, meta_batch = reference.make_batch(50), reference.make_meta(50)
    expected = central_differences(state, setting, reference.prepare(state, setting, batch, meta_batch, KEY))
    assert expected.norm() > 1e-7
    found = [
        flat(reference.fast_gradients(state, setting, batch, meta_batch, KEY, engine).learned["weight_net"].dense)
        for engine in ENGINES
    ]
    for engine, value in zip(ENGINES, found, strict=True):
        error = float((value - expected).norm() / expected.norm())
        assert error < 1e-5, f"{type(engine).__name__}: {error}"
    assert (found[0] - found[1]).norm() < 1e-10 * found[0].norm()


def test_clipping_acts_in_the_cases_that_say_so() -> None:
    for name in ("GCN, momentum, clipping", "GCN, adam, clipping", "GAT, sgd, clipping"):
        setting, options, num_steps = CASES[name]
        state = warmed_up(setting, options, num_steps)
        batch, meta_batch = reference.make_batch(50), reference.make_meta(50)
        result = reference.fast_gradients(state, setting, batch, meta_batch, KEY)
        grads = clipped(result.learned["student"].dense, setting.clip)
        torch.testing.assert_close(
            flat(grads).norm(), torch.tensor(setting.clip, dtype=torch.float64), rtol=1e-4, atol=0
        )


def test_a_detached_normaliser_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def detached(scores: Tensor, mask: Tensor, num_negatives: Tensor, group: AbstractGroup) -> Tensor:
        powers = torch.where(mask, scores.exp(), 0.0)
        return num_negatives * powers / powers.sum().detach()

    setting, options, num_steps = CASES["GCN, adam"]
    state = warmed_up(setting, options, num_steps)
    batch, meta_batch = reference.make_batch(50), reference.make_meta(50)
    right = flat(reference.fast_gradients(state, setting, batch, meta_batch, KEY).learned["weight_net"].dense)
    monkeypatch.setattr(step_module, "negative_weights", detached)
    wrong = flat(reference.fast_gradients(state, setting, batch, meta_batch, KEY).learned["weight_net"].dense)
    assert (right - wrong).norm() > 0.1 * right.norm()


@pytest.mark.parametrize("clip", [None, 0.03])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_engines_agree(name: str, clip: float | None) -> None:
    setting = Setting(clip=clip)
    state = reference.make_state(setting)
    student = replace(state.student, optimizer=OPTIMIZERS[name](list(state.student.module.parameters())))
    state = replace(state, student=student)
    for step in range(2):
        batch, meta_batch = reference.make_batch(step), reference.make_meta(step)
        results = [reference.fast_gradients(state, setting, batch, meta_batch, KEY, engine) for engine in ENGINES]
        first, second = (flat(result.learned["weight_net"].dense) for result in results)
        assert first.norm() > 0
        assert (first - second).norm() < 1e-10 * first.norm()
        one, other = (result.learned["weight_net"].loss for result in results)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
        reference.apply(state.student, results[0].learned["student"])


def test_engines_agree_on_parameter_groups_in_any_order() -> None:
    setting = Setting()
    state = reference.make_state(setting)
    params = list(state.student.module.parameters())
    optimizer = Adam([{"params": params[3:][::-1], "lr": 0.02}, {"params": params[:3], "weight_decay": 0.1}], lr=0.01)
    state = replace(state, student=replace(state.student, optimizer=optimizer))
    for step in range(2):
        batch, meta_batch = reference.make_batch(step), reference.make_meta(step)
        results = [reference.fast_gradients(state, setting, batch, meta_batch, KEY, engine) for engine in ENGINES]
        first, second = (flat(result.learned["weight_net"].dense) for result in results)
        assert (first - second).norm() < 1e-10 * first.norm()
        reference.apply(state.student, results[0].learned["student"])


# --- leaving no trace -----------------------------------------------------------------------------


@dataclass
class Watching(AbstractEngine):
    """Looks at the student before and after another engine's work."""

    engine: AbstractEngine
    looked: bool = False

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        params = list(problem.student.module.parameters())
        for param in params:
            param.grad = torch.full_like(param, 3.0)
        before = copy.deepcopy((problem.student.module.state_dict(), problem.student.optimizer.state_dict()))
        result = self.engine.hypergradient(problem)
        after = (problem.student.module.state_dict(), problem.student.optimizer.state_dict())
        torch.testing.assert_close(after, before, rtol=0, atol=0)
        assert all(new is old for new, old in zip(problem.student.module.parameters(), params, strict=True))
        assert all(bool((param.grad == 3).all()) and param.requires_grad for param in params)
        assert not any(value.requires_grad for value in result.dense)
        self.looked = True
        return result


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_lookahead_leaves_the_student_alone(engine: AbstractEngine, optimizer: str) -> None:
    setting = Setting(optimizer=optimizer, clip=0.05)
    state = warmed_up(setting, {}, 2)
    state.student.module.register_buffer("counter", torch.tensor(5))
    watching = Watching(engine)
    reference.fast_gradients(state, setting, reference.make_batch(5), reference.make_meta(5), KEY, watching)
    assert watching.looked


def resident_bytes() -> int:
    """Memory of this process, from Linux's /proc."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory use from Linux's /proc")
@pytest.mark.parametrize("steps", some([20, 200], [20]))
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
def test_nothing_is_kept_over_many_steps(engine: AbstractEngine, steps: int) -> None:
    setting = Setting()
    state = reference.make_state(setting)
    batch, meta_batch = reference.make_batch(0), reference.make_meta(0)

    def run(count: int) -> tuple[int, int]:
        for step in range(count):
            reference.fast_step(state, setting, batch, meta_batch, KEY.at(0, step), engine)
        gc.collect()
        return sum(issubclass(type(item), Tensor) for item in gc.get_objects()), resident_bytes()

    tensors, memory = run(10)
    tensors_later, memory_later = run(steps)
    assert tensors_later <= tensors
    assert memory_later - memory < 8 * 2**20 * steps / 200 + 2**20
