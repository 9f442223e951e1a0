"""The filter against a loop, and its promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl.mebns.teacher_filter import TeacherFilter, keep_hardest
from references.step import filtered


@st.composite
def rows(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    size, width = draw(st.integers(0, 4)), draw(st.integers(1, 8))
    # few values: ties are common
    hardness = draw(
        st.lists(st.lists(st.integers(-2, 2), min_size=width, max_size=width), min_size=size, max_size=size)
    )
    mask = draw(st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=size, max_size=size))
    return torch.tensor(hardness).float().view(size, width), torch.tensor(mask).bool().view(size, width)


shares = st.integers(0, 19).map(lambda twentieth: twentieth / 20)


@given(table=rows(), drop_easy=shares, drop_top=shares)
def test_keeps_what_the_loop_keeps(table: tuple[torch.Tensor, torch.Tensor], drop_easy: float, drop_top: float) -> None:
    hardness, mask = table
    found = keep_hardest(hardness, mask, drop_easy, drop_top)
    expected = [filtered(h, m, drop_easy, drop_top) for h, m in zip(hardness.tolist(), mask.tolist(), strict=True)]
    assert found.tolist() == expected


@given(table=rows(), drop_easy=shares, drop_top=shares)
def test_keeps_a_part_and_never_nothing(
    table: tuple[torch.Tensor, torch.Tensor], drop_easy: float, drop_top: float
) -> None:
    hardness, mask = table
    kept = keep_hardest(hardness, mask, drop_easy, drop_top)
    assert not bool((kept & ~mask).any())
    assert torch.equal(kept.any(dim=1), mask.any(dim=1))


@pytest.mark.parametrize("drop_top", [False, True])
def test_counts_are_exact(drop_top: bool) -> None:
    """``floor(share * L)`` of the decimal share as written, whatever the rounding of its product: 0.29 of 100 is 29."""
    legal = torch.arange(1, 201)
    hardness, mask = torch.arange(200.0).expand(200, 200), torch.arange(200) < legal[:, None]
    for percent in range(0, 100, 3):
        kept = keep_hardest(hardness, mask, *((0.0, percent / 100) if drop_top else (percent / 100, 0.0)))
        assert torch.equal(kept.sum(dim=1), (legal - percent * legal // 100).clamp(min=1)), percent


def test_a_row_does_not_depend_on_others() -> None:
    generator = torch.Generator().manual_seed(0)
    hardness, mask = torch.randn(9, 6, generator=generator), torch.rand(9, 6, generator=generator) < 0.7
    band = TeacherFilter(0.4, 0.2)
    assert torch.equal(band.keep(hardness, mask)[4:7], band.keep(hardness[4:7], mask[4:7]))


def test_the_class_drops_its_own_shares() -> None:
    hardness, mask = torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.ones(1, 4, dtype=torch.bool)
    assert TeacherFilter(drop_easy=0.25, drop_top=0.25).keep(hardness, mask).tolist() == [[False, True, True, False]]
    assert TeacherFilter(drop_easy=0.0, drop_top=0.0).keep(hardness, mask).all()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"drop_easy": 1.0}, "drop_easy"), ({"drop_easy": -0.1}, "drop_easy"), ({"drop_top": 1.0}, "drop_top"),
     ({"drop_easy": 0.5, "drop_top": 0.5}, "below 1"), ({"drop_easy": float("nan")}, "drop_easy")],
)  # fmt: skip
def test_refuses(arguments: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        TeacherFilter(**arguments)
