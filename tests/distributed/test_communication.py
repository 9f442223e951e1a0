"""What a step sends over the wire, as docs/scaling.md tells it: counted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mebns_pl.distributed.group import AbstractGroup
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, DirectionalEngine, HigherEngine
from references import step as reference
from references.step import Setting


class _Counted(torch.autograd.Function):
    """The sum of a group of one, which notes its size and that of its derivative."""

    @staticmethod
    def forward(ctx, value, sizes):  # type: ignore[no-untyped-def]
        ctx.sizes = sizes
        sizes.append(value.numel())
        return value.clone()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return _Counted.apply(grad, ctx.sizes), None


class CountingGroup(AbstractGroup):
    rank, size = 0, 1

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def sum(self, value: Tensor) -> Tensor:
        return _Counted.apply(value, self.sizes)  # type: ignore[no-any-return]

    def max(self, value: Tensor) -> Tensor:
        self.sizes.append(value.numel())
        return value.detach()

    def sum_rows(self, value: Tensor) -> Tensor:
        raise AssertionError("a step on the whole graph has no sparse gradients")


@pytest.mark.parametrize("engine", [HigherEngine(), DirectionalEngine()], ids=["higher", "directional"])
def test_a_steps_messages(engine: AbstractEngine) -> None:
    """Three of the student's size, one of the teacher's, one of the weight net's, and some of a few numbers."""
    setting, group = Setting(), CountingGroup()
    state = reference.make_state(setting)
    batch, meta_batch = reference.make_batch(1), reference.make_meta(1)
    reference.fast_gradients(state, setting, batch, meta_batch, Key(0, "count"), engine, group)
    student, teacher, weight_net = (
        sum(param.numel() for param in learner.params()) for learner in (state.student, state.teacher, state.weight_net)
    )
    counts, inputs = 3, len(setting.inputs)  # of the student's loss and of the teacher's; count, sums and variances
    few = [counts, counts, 1 + inputs, inputs]
    assert sorted(size for size in group.sizes if size > 1) == sorted([*[student] * 3, teacher, weight_net, *few])
    assert sum(size == 1 for size in group.sizes) == 11


def test_a_plain_steps_messages() -> None:
    setting, group = Setting(meta=False, drop_easy=None, learns=False), CountingGroup()
    state = reference.make_state(setting)
    reference.fast_gradients(
        state, setting, reference.make_batch(1), reference.make_meta(1), Key(0, "count"), None, group
    )
    student = sum(param.numel() for param in state.student.params())
    assert [size for size in group.sizes if size > 1] == [3, student]
    assert sum(size == 1 for size in group.sizes) == 1
