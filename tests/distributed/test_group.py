"""A step on several ranks is the step of one process on the union batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mebns_pl.distributed.group import DistributedGroup, SingleProcess
from references import group as reference
from references import step as step_reference
from references.processes import in_processes

Outcomes = dict[str, dict[str, list[Tensor]]]
RANKS = [(size, rank) for size in (2, 4) for rank in range(size)]

needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch was built without gloo",
)


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Outcomes]:
    """What each rank found, by (number of ranks, rank)."""
    folder = tmp_path_factory.mktemp("ranks")
    in_processes(reference.launch, str(folder))
    return {(size, rank): torch.load(Path(folder) / f"{size}-{rank}.pt") for size, rank in RANKS}


@pytest.fixture(scope="module")
def alone() -> Outcomes:
    """What one process found."""
    return reference.run_cases(SingleProcess())


NAMES = [
    f"{case}/{size}/{engine}"
    for case in reference.CASES
    for size in reference.SIZES
    for engine in reference.engines_of(case)
    if engine != "naive"
]


@needs_gloo
@pytest.mark.parametrize("name", NAMES)
def test_ranks_equal_one_process(name: str, distributed: dict[tuple[int, int], Outcomes], alone: Outcomes) -> None:
    for place in RANKS:
        for part, expected in alone[name].items():
            for found, want in zip(distributed[place][name][part], expected, strict=True):
                # relative to the largest entry: shift-invariant parameters have gradients of rounding noise
                scale = max(float(value.abs().max()) for value in expected)
                assert (found - want).abs().max() <= 1e-10 * scale + 1e-15, f"{part} on rank {place[1]} of {place[0]}"


@needs_gloo
def test_ranks_have_the_very_same_gradients(distributed: dict[tuple[int, int], Outcomes]) -> None:
    """Learners on different ranks must not drift apart."""
    for size, rank in RANKS:
        for name in NAMES:
            for part, values in distributed[size, 0][name].items():
                assert all(
                    torch.equal(a, b) for a, b in zip(values, distributed[size, rank][name][part], strict=True)
                ), part


@needs_gloo
def test_a_local_inner_gradient_would_be_noticed(distributed: dict[tuple[int, int], Outcomes], alone: Outcomes) -> None:
    for size in (2, 4):
        right, wrong = (
            torch.cat([grad.flatten() for grad in outcomes["adam/many/naive"]["weight_net"]])
            for outcomes in (alone, distributed[size, 0])
        )
        assert (right - wrong).norm() > 0.05 * right.norm()


def test_the_cases_are_uneven() -> None:
    """Ranks with other numbers of legal candidates, and one without any row."""
    shares = [
        step_reference.make_batch(7, size=7).candidate_mask[size * 7 // 4 : (size + 1) * 7 // 4].sum()
        for size in range(4)
    ]
    assert len({int(share) for share in shares}) > 1
    assert 3 * 1 // 4 == 0  # rank 0 of four has no row of three


@needs_gloo
def test_group_functions(distributed: dict[tuple[int, int], Outcomes]) -> None:
    for size, rank in RANKS:
        inputs = torch.stack([distributed[size, r]["group"]["input"][0] for r in range(size)])
        found, total, losses = distributed[size, rank]["group"], inputs.sum(0), size * (size + 1) / 2
        torch.testing.assert_close(found["slope"][0], 3 * total**2 * losses)
        torch.testing.assert_close(found["curvature"][0], 6 * total * losses * size)
        torch.testing.assert_close(found["max"][0], inputs.max(0).values)
        torch.testing.assert_close(found["sum_all"][0], total)
        torch.testing.assert_close(found["sum_all"][1], 2 * total.view(2, 1))


class Member(SingleProcess):
    """Any rank, for its share alone."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@given(size=st.integers(1, 9), rows=st.integers(0, 50))
def test_shares_cover_all_rows_once(size: int, rows: int) -> None:
    shares = [range(rows)[Member(rank, size).share(rows)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(rows))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_single_process_changes_nothing() -> None:
    group, value = SingleProcess(), torch.tensor([1.0, 2.0], requires_grad=True)
    assert group.sum(value) is value
    assert group.sum_all([value])[0] is value
    assert torch.equal(group.max(value), value)
    assert not group.max(value).requires_grad


def test_distributed_group_needs_torch_distributed() -> None:
    with pytest.raises(RuntimeError, match="not initialised"):
        DistributedGroup()
