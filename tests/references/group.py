"""What one process of a distributed step does: run by ``tests/distributed/test_group.py`` in processes of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor

from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.distributed.group import AbstractGroup, DistributedGroup, SingleProcess
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import AbstractEngine, BilevelProblem, DirectionalEngine, HigherEngine
from mebns_pl.mebns.cheap_engines import AlignmentEngine
from mebns_pl.mebns.learner import Gradients
from mebns_pl.mebns.step import StepResult
from references import step as reference
from references.step import Setting, State

KEY = Key(4, "tests/group")


class NaiveEngine(AbstractEngine):
    """The mistake: an inner gradient of this rank's negatives alone."""

    def hypergradient(self, problem: BilevelProblem) -> Gradients:
        """See :class:`AbstractEngine`."""
        return HigherEngine().hypergradient(replace(problem, group=SingleProcess()))


ENGINES: dict[str, AbstractEngine] = {
    "higher": HigherEngine(),
    "directional": DirectionalEngine(),
    "alignment": AlignmentEngine(),
    "naive": NaiveEngine(),
}
# Sizes of the union batch: for two ranks and for four, with rows to spare, and one that leaves ranks without any
SIZES = {"many": 7, "few": 3}
CASES: dict[str, Setting] = {
    "adam": Setting(optimizer="adam"),
    "momentum, clipping": Setting(optimizer="momentum", clip=0.05),
    "no legal candidate": Setting(optimizer="adam", empty=True),
    # With a weight net the count of negatives cancels out; without one it matters
    "no weight net": Setting(meta=False),
    "frozen teacher, first selector": Setting(learns=False, selector="first"),
    "self-adversarial": Setting(selector="first", temperature=0.5),
    "softmax loss, pairwise meta loss": Setting(loss="softmax", meta_loss="pairwise"),
    "no more than two negatives": Setting(most=2, drop_easy=0.0, loss="margin"),
}


def cut(batch: TrainBatch, group: AbstractGroup) -> TrainBatch:
    """This rank's slice of a union batch."""
    part = group.share(batch.positives.shape[1])
    return replace(
        batch,
        positives=batch.positives[:, part],
        candidates=batch.candidates[part],
        candidate_mask=batch.candidate_mask[part],
        teacher_negatives=batch.teacher_negatives[part],
        teacher_mask=batch.teacher_mask[part],
        first_row=part.start,
    )


def trained_state(setting: Setting) -> State:
    """After two steps, so that optimizers have a state."""
    state = reference.make_state(setting)
    for step in range(2):
        batch, meta_batch = reference.make_batch(step), reference.make_meta(step)
        reference.fast_step(
            state, replace(setting, empty=False), batch, meta_batch, KEY.at(1, step), DirectionalEngine()
        )
    return state


def outcome(result: StepResult) -> dict[str, list[Tensor]]:
    """All that must be the union's, whatever the number of ranks."""
    losses = [result.learned[name].loss for name in sorted(result.learned)]
    return {"losses": losses, **{name: found.dense for name, found in result.learned.items()}}


def engines_of(case: str) -> list[str]:
    """The exact ones with every case; the surrogate and the wrong one with the first."""
    return [name for name in ENGINES if case == "adam" or name in ("higher", "directional")]


def run_cases(group: AbstractGroup) -> dict[str, dict[str, list[Tensor]]]:
    """Every case with every engine on this rank's slice."""
    outcomes = {}
    for case, setting in CASES.items():
        state = trained_state(setting)
        for size_name, size in SIZES.items():
            batch = cut(reference.make_batch(7, size=size, empty=setting.empty), group)
            for name in engines_of(case):
                meta_batch = reference.make_meta(7)
                result = reference.fast_gradients(state, setting, batch, meta_batch, KEY, ENGINES[name], group)
                outcomes[f"{case}/{size_name}/{name}"] = outcome(result)
    return outcomes


def group_sums(group: AbstractGroup) -> dict[str, dict[str, list[Tensor]]]:
    """What the group's own functions give: ``sum`` with its two derivatives, ``max``, ``sum_all``."""
    x = torch.tensor([1.0, group.rank + 2.0], dtype=torch.float64, requires_grad=True)
    # The ranks' losses together: sum_r (r + 1) * S^3, with S the sum of all x
    loss = (group.rank + 1) * (group.sum(x) ** 3).sum()
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    detached = x.detach()
    first, second = group.sum_all([detached, detached.view(2, 1) * 2])
    found = {"slope": [slope.detach()], "curvature": [curvature], "max": [group.max(x)], "sum_all": [first, second]}
    return {"group": {**found, "input": [detached]}}


def worker(rank: int, folder: str) -> None:
    """Runs the cases as one of four ranks, then as one of two, and saves what came out."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    for size in (4, 2):
        if rank >= size:
            continue
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meet{size}", rank=rank, world_size=size
        )
        group = DistributedGroup()
        torch.save({**run_cases(group), **group_sums(group)}, Path(folder) / f"{size}-{rank}.pt")
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def launch(_: int, folder: str) -> None:
    """Forks the ranks off a fresh process: imports are paid once, and the tests' own process is not safe to fork."""
    torch.multiprocessing.start_processes(worker, args=(folder,), nprocs=4, start_method="fork")
