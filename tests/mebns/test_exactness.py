"""Many steps on two and four ranks are those of one process on the union batches, to 1e-10 in float64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor

from mebns_pl.distributed.group import SingleProcess
from mebns_pl.types import Share
from references import exactness as reference
from references import step as step_reference
from references.exactness import Name
from references.processes import in_processes

Found = dict[tuple[int, int], dict[Name, dict[str, Tensor]]]
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch was built without gloo",
)


def on_ranks(folder: Path, names: Sequence[Name], steps: int, sizes: Sequence[int]) -> Found:
    """What every rank holds in the end, by (number of ranks, rank)."""
    in_processes(reference.launch, str(folder), list(names), steps, sizes)
    places = [(size, rank) for size in sizes for rank in range(size)]
    return {(size, rank): torch.load(folder / f"{size}-{rank}.pt", weights_only=True) for size, rank in places}


def check_equal(name: Name, found: Found, steps: int) -> None:
    alone = reference.parameters(reference.run(name, SingleProcess(), steps))
    start = reference.parameters(step_reference.make_state(step_reference.Setting(encoder=name[0], optimizer=name[1])))
    for size, rank in found:
        theirs = found[size, rank][name]
        assert theirs.keys() == alone.keys()
        for part, value in alone.items():
            assert (theirs[part] - value).abs().max() <= 1e-10, f"{part} on rank {rank} of {size}"
            assert torch.equal(theirs[part], found[size, 0][name][part]), f"{part} differs between ranks of {size}"
    for learner in ("student", "teacher", "weight_net"):  # the steps did something
        assert max(float((alone[p] - start[p]).abs().max()) for p in alone if p.startswith(learner)) > 1e-3


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A part of the matrix, and the mistake."""
    return on_ranks(tmp_path_factory.mktemp("some"), [*reference.SOME, reference.NAIVE], reference.FEW, sizes=(4,))


@pytest.mark.parametrize("name", reference.SOME, ids="-".join)
def test_ranks_equal_one_process(name: Name, some: Found) -> None:
    check_equal(name, some, reference.FEW)


def test_a_local_inner_step_does_not(some: Found) -> None:
    """The same with an inner gradient of each rank's own negatives: weights and student end up elsewhere."""
    alone = reference.parameters(reference.run(("GCN", "adam", "higher"), SingleProcess(), reference.FEW))
    for rank in range(4):
        theirs = some[4, rank][reference.NAIVE]
        for learner, least in (("weight_net", 1e-5), ("student", 1e-7)):
            apart = max(float((theirs[p] - alone[p]).abs().max()) for p in alone if p.startswith(learner))
            assert apart > least, learner
        assert all(torch.equal(theirs[p], alone[p]) or (theirs[p] - alone[p]).abs().max() < 1e-10
                   for p in alone if p.startswith("teacher"))  # fmt: skip


@pytest.mark.slow
def test_ranks_equal_one_process_everywhere(tmp_path: Path) -> None:
    """Twenty steps of GCN and GAT, SGD and Adam, both engines."""
    found = on_ranks(tmp_path, reference.MATRIX, reference.STEPS, sizes=(2, 4))
    for name in reference.MATRIX:
        check_equal(name, found, reference.STEPS)


def test_the_batches_are_uneven() -> None:
    """Other numbers of surviving negatives on the ranks, a last short batch, and a rank without a row."""
    batches = [reference.batch_of(step) for step in range(4)]
    assert [batch.positives.shape[1] for batch in batches] == [7, 7, 7, 3]
    for batch in batches:
        counts = [int(batch.candidate_mask[Share(rank, 4).of(len(batch.candidates))].sum()) for rank in range(4)]
        assert len(set(counts)) > 1
    assert Share(0, 4).of(3) == slice(0, 0)
