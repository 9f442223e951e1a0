"""The filter against a loop, and its promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl import MissingEdgeFilter, RandomVeto, StudentFilter, TeacherFilter
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.mebns.filters.abstract import AbstractFilter, keep_hardest, missing_share
from mebns_pl.mebns.filters.missing_edges import log_ratio
from mebns_pl.negatives.selectors.abstract import CandidateScores
from references.negatives import joined
from references.step import filtered

KEY = Key(0, "tests/filters")


def keep(
    band: AbstractFilter,
    hardness: torch.Tensor,
    mask: torch.Tensor,
    rows: torch.Tensor | None = None,
    common: torch.Tensor | None = None,
    key: Key = KEY,
    logits: torch.Tensor | None = None,
) -> torch.Tensor:
    score = scores(hardness if logits is None else logits, common)
    return band.keep(hardness, mask, score, torch.arange(len(mask)) if rows is None else rows, key)


def scores(hardness: torch.Tensor, common: torch.Tensor | None = None) -> CandidateScores:
    return CandidateScores.given(hardness, None, *(() if common is None else joined(common)))


def filters() -> list[AbstractFilter]:
    learned = MissingEdgeFilter(missing=1.0)
    learned.learn(torch.tensor([[2.0, 3.0], [1.0, 2.0]]), torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))
    bands = [
        TeacherFilter(0.4, 0.2, missing=None),
        TeacherFilter(0.4, alone=True),
        TeacherFilter(0.4, 0.4, missing=2.0),
        StudentFilter(0.4, 0.2),
    ]
    return [*bands, RandomVeto(0.3), learned]


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


@given(table=rows(), drop_easy=shares, drop_top=shares, seed=st.integers(0, 99))
def test_what_either_finds_hard_stays_as_in_the_loop(
    table: tuple[torch.Tensor, torch.Tensor], drop_easy: float, drop_top: float, seed: int
) -> None:
    hardness, mask = table
    others = torch.randint(-2, 3, mask.shape, generator=torch.Generator().manual_seed(seed)).float()
    found = keep_hardest(hardness, mask, drop_easy, drop_top, others=lambda: others)
    lists = zip(hardness.tolist(), mask.tolist(), others.tolist(), strict=True)
    assert found.tolist() == [filtered(h, m, drop_easy, drop_top, others=o) for h, m, o in lists]
    assert torch.equal(found.sum(dim=1), keep_hardest(hardness, mask, drop_easy, drop_top).sum(dim=1))
    assert torch.equal(
        keep_hardest(hardness, mask, drop_easy, drop_top, others=lambda: hardness),
        keep_hardest(*table, drop_easy, drop_top),
    )


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
    hardness, logits = (torch.randn(9, 6, generator=generator) for _ in range(2))
    mask = torch.rand(9, 6, generator=generator) < 0.7
    common = torch.randint(4, (9, 6), generator=generator)
    for band in filters():
        whole = keep(band, hardness, mask, common=common, logits=logits)
        part, rows = slice(4, 7), torch.arange(4, 7)
        pairs, graph = joined(common)
        alone = CandidateScores.given(logits[part], None, pairs[:, part], graph)
        assert torch.equal(whole[part], band.keep(hardness[part], mask[part], alone, rows, KEY))
        assert torch.equal(whole.any(dim=1), mask.any(dim=1))
        assert not bool((whole & ~mask).any())
        assert int(whole.sum(dim=1).max()) <= band.most(6)


def test_the_class_drops_its_own_shares() -> None:
    hardness, mask = torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.ones(1, 4, dtype=torch.bool)
    band = TeacherFilter(drop_easy=0.25, drop_top=0.25, missing=None)
    assert keep(band, hardness, mask).tolist() == [[False, True, True, False]]
    # The student's hardest stays, though the teacher finds it easy
    contrary = CandidateScores.given(hardness.flip(1)), torch.arange(1), KEY
    assert band.keep(hardness, mask, *contrary).tolist() == [[False, True, False, True]]
    assert replace(band, alone=True).keep(hardness, mask, *contrary).tolist() == [[False, True, True, False]]
    assert keep(TeacherFilter(drop_easy=0.0, drop_top=0.0), hardness, mask).all()
    logits = CandidateScores.given(hardness.flip(1))
    student = StudentFilter(drop_easy=0.5, drop_top=0.0)
    assert student.keep(hardness, mask, logits, torch.arange(1), KEY).tolist() == [[False, False, True, True]]


@given(drop_easy=shares, drop_top=shares, width=st.integers(1, 12))
def test_no_more_stay_than_is_said(drop_easy: float, drop_top: float, width: int) -> None:
    if drop_easy + drop_top >= 1:
        return
    band = TeacherFilter(drop_easy, drop_top, missing=None)
    legal = torch.ones(width, width, dtype=torch.bool).tril()  # 1 ... width of them
    assert int(keep(band, torch.zeros(width, width), legal).sum(dim=1).max()) == band.most(width)


def star(leaves: int, num_nodes: int) -> Graph:
    """Node 0 with so many neighbours, the last ones; the others are alone."""
    ends = torch.arange(num_nodes - leaves, num_nodes)
    return Graph.from_edges(torch.stack([torch.zeros_like(ends), ends]), num_nodes)


@pytest.mark.parametrize(
    ("leaves", "missing", "dropped"),
    [(0, 0.5, 0), (3, 0.5, 0), (5, 0.5, 1), (20, 0.5, 3), (20, 0.1, 1), (20, 0.0, 0), (20, None, 3), (20, 1e300, 3)],
)
def test_no_more_go_at_the_top_than_missing_edges_are_likely(leaves: int, missing: float | None, dropped: int) -> None:
    """An anchor of d neighbours among 41 nodes: of 12 candidates ``12 missing d / (40 - d)`` are missing edges."""
    hardness, mask = torch.arange(12.0)[None], torch.ones(1, 12, dtype=torch.bool)
    pairs = torch.stack([torch.zeros(1, 12, dtype=torch.int64), torch.arange(1, 13)[None]])
    band = TeacherFilter(drop_easy=0.0, drop_top=0.25, missing=missing)
    score = CandidateScores.given(hardness, None, pairs, star(leaves, 41))
    kept = band.keep(hardness, mask, score, torch.arange(1), KEY)
    assert kept.tolist() == [[True] * (12 - dropped) + [False] * dropped]
    assert int(kept.sum()) <= band.most(12)


def test_the_share_of_missing_edges_is_that_of_a_graph_with_edges_taken_away() -> None:
    """Of 200 nodes, 15 in 115 edges taken away at random: what is expected among the non-edges of each node."""
    draw = torch.Generator().manual_seed(0)
    pairs = torch.triu_indices(200, 200, 1)
    edges = pairs[:, torch.rand(pairs.shape[1], generator=draw) < 0.3]
    away = torch.rand(edges.shape[1], generator=draw) < 15 / 115
    graph, missing = (Graph.from_edges(edges[:, part], 200) for part in (~away, away))
    anchors = torch.arange(200)[:, None]
    score = CandidateScores.given(torch.zeros(200, 1), None, torch.stack([anchors, anchors]), graph)
    share = missing_share(0.15, score).flatten()
    truth = missing.degree / (199 - graph.degree)
    assert float(share.mean()) == pytest.approx(float(truth.mean()), rel=0.1)  # three standard deviations
    assert share.dtype == torch.float64
    assert missing_share(1e300, score).max() == 1


def test_a_random_veto_drops_its_share_of_any() -> None:
    hardness, mask = torch.arange(8.0).expand(4000, 8), torch.ones(4000, 8, dtype=torch.bool)
    kept = keep(RandomVeto(0.25), hardness, mask)
    assert bool((kept.sum(dim=1) == 6).all())
    assert bool(((kept.double().mean(dim=0) - 0.75).abs() < 0.035).all())  # five standard deviations
    assert torch.equal(kept, keep(RandomVeto(0.25), -hardness, mask))
    assert not torch.equal(kept, keep(RandomVeto(0.25), hardness, mask, key=KEY.child("other")))


def test_the_log_ratio_is_that_of_two_normal_densities() -> None:
    """Normal densities of means 1 and 0 in the first number have the log-ratio x - 1/2."""
    draw = torch.Generator().manual_seed(0)
    ones, others = (torch.randn(40_000, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    ones[:, 0] += 1
    torch.testing.assert_close(log_ratio(ones, others), torch.tensor([-0.5, 1.0, 0.0]).double(), atol=0.03, rtol=0)
    # Samples that a line parts keep a finite slope
    assert bool(log_ratio(ones + 50, others).isfinite().all())


def test_missing_edges_are_told_from_candidates() -> None:
    draw = torch.Generator().manual_seed(1)
    hidden = torch.stack([torch.randn(500, generator=draw) + 3, torch.randint(3, 9, (500,), generator=draw)], dim=1)
    drawn = torch.stack([torch.randn(5000, generator=draw), torch.randint(2, (5000,), generator=draw)], dim=1)
    hardness, common = torch.tensor([[4.0, 4.0, 0.0, -1.0]]), torch.tensor([[6, 0, 0, 1]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    band = MissingEdgeFilter(missing=1.0, threshold=0.5, drop_easy=0.0)
    assert keep(band, hardness, mask, common=common).all()  # before it has learned
    band.learn(hidden, drawn)
    probability = band.probability(hardness, scores(hardness, common))
    assert float(probability[0, 0]) > 0.9 > 0.1 > float(probability[0, 2])
    assert keep(band, hardness, mask, common=common).tolist()[0][0] is False
    # Fewer where fewer are missing; and one stays where all look missing
    rare = MissingEdgeFilter(missing=1e-9, drop_easy=0.0)
    rare.learn(hidden, drawn)
    assert keep(rare, hardness, mask, common=common).all()
    alike = hardness[:, :1].expand(1, 4)
    assert keep(band, alike, mask, common=common[:, :1].expand(1, 4)).sum() == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"drop_easy": 1.0}, "drop_easy"), ({"drop_easy": -0.1}, "drop_easy"), ({"drop_top": 1.0}, "drop_top"),
     ({"drop_easy": 0.5, "drop_top": 0.5}, "below 1"), ({"drop_easy": float("nan")}, "drop_easy"),
     ({"missing": -1.0}, "missing"), ({"missing": float("nan")}, "missing")],
)  # fmt: skip
def test_refuses(arguments: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        TeacherFilter(**arguments)
