"""Stops a run at the first loss or gradient that is not finite, and keeps what led to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor, nn

from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.mebns.learner import Gradients
from mebns_pl.mebns.step import StepResult
from mebns_pl.models.layers import tables_of
from mebns_pl.systems.checkpoint_io import save_atomically
from mebns_pl.systems.link_system import AbstractLinkSystem


class NonFiniteError(RuntimeError):
    """A loss or a gradient that is NaN or infinite."""


def all_finite(learned: Mapping[str, Gradients]) -> bool:
    """Whether all losses and gradients of a step are finite: one number is read from the device."""
    largest = torch.nn.utils.get_total_norm([value for part in learned.values() for value in part.values()], torch.inf)
    return bool(torch.isfinite(largest))


def first_fault(learned: Mapping[str, Gradients], modules: Mapping[str, nn.Module]) -> str:
    """Which loss or gradient is not finite, in words; the first on data's way: teacher, weight net, student.

    Args:
        learned: a step's gradients.
        modules: ``teacher``, ``weight_net`` and ``student``, as far as there are such.
    """
    for part in ("teacher", "weight_net", "student"):
        if part not in learned:
            continue
        found = learned[part]
        if not bool(torch.isfinite(found.loss)):
            return f"{part}: its loss is {float(found.loss)}"
        tables = tables_of(modules[part]) if found.tables else []
        apart = {id(table) for table in tables}
        names = [name for name, param in modules[part].named_parameters() if id(param) not in apart]
        embeddings = [("its node embeddings", table.coalesce().values()) for table in found.tables]
        for name, grad in (*zip(names, found.dense, strict=True), *embeddings):
            if not bool(torch.isfinite(grad).all()):
                return f"{part}: the gradient of {name} is not finite"
    return "none"


def refuse_non_finite(system: AbstractLinkSystem, batch: TrainBatch, result: StepResult) -> None:
    """Stops before a step whose losses or gradients are not finite is applied.

    All ranks stop: they share these, but for gradients of parted tables, whose rank ends the others by its heartbeat.
    The batch, the losses and the weights before the step are written beside the run's logs.

    Raises:
        NonFiniteError: with epoch, step, part of the model, and the file.
    """
    if all_finite(result.learned):
        return
    trainer = system.trainer
    fault = first_fault(result.learned, dict(system.named_children()))
    rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    path = system.log_folder / f"not_finite_epoch{batch.epoch}_step{batch.step}{rank}.pt"
    values = ((field.name, getattr(batch, field.name)) for field in fields(batch))
    parts = {name: value for name, value in values if isinstance(value, Tensor | int)}
    losses = {name: found.loss for name, found in result.learned.items()}
    kept = {"fault": fault, "losses": losses, "batch": parts, "state_dict": system.state_dict()}
    try:
        save_atomically(kept, path)
        where = f"batch and weights before the step are in {path}"
    except OSError as error:
        where = f"batch and weights could not be written to {path} ({error.strerror})"
    raise NonFiniteError(
        f"training stopped in epoch {batch.epoch}, step {batch.step}: {fault}; {where}. The last checkpoint is "
        "from before it. Lower the learning rate, or set model.updates.gradient_clip_norm"
    )
