"""A step asks for no value that a GPU would have to be waited for: found out on the CPU, call by call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mebns_pl.keys import Key
from references import step as reference
from references.step import Setting

KEY = Key(0, "waiting").at(0, 0)
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "equal"}


class Watch(TorchDispatchMode):
    """Notes the operations whose result's size or value Python must know; those that read ``free`` tensors may."""

    def __init__(self, free: list[torch.Tensor]) -> None:
        super().__init__()
        self.free = {tensor.data_ptr() for tensor in free}
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        waits = name in WAITING and args[0].data_ptr() not in self.free
        if name in ("index", "index_put", "index_put_"):
            waits = any(index is not None and index.dtype == torch.bool for index in args[1])
        if waits:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("setting", [Setting(), Setting(meta=False), Setting(learns=False), Setting(features="sparse")])
def test_a_step_waits_for_nothing(setting: Setting) -> None:
    state, batch, meta_batch = reference.make_state(setting), reference.make_batch(0), reference.make_meta(0)
    reference.fast_gradients(state, setting, batch, meta_batch, KEY)  # tables that are made once
    optimizers = (state.student.optimizer, state.teacher.optimizer, state.weight_net.optimizer)
    # torch's Adam counts its steps on the CPU, also where the parameters are on a GPU
    counts = [values["step"] for optimizer in optimizers for values in optimizer.state.values() if "step" in values]
    with Watch(counts) as watch:
        reference.fast_gradients(state, setting, batch, meta_batch, KEY)
    assert not watch.found


def test_what_waits_is_found() -> None:
    values = torch.tensor([1.0, -1.0])
    with Watch([]) as watch:
        values[values > 0]
        float(values[0])
    assert len(watch.found) == 2
