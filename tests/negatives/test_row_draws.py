"""Draws by row: uniform, fine enough, and the same however the rows are cut."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare, kstest

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.keys import Key
from mebns_pl.negatives.row_draws import fractions, gumbel, legal_nodes, whole_numbers
from references import negatives as reference

KEY = Key(0, "tests/row_draws")
ROWS = torch.arange(4000)


def test_fractions_are_uniform_and_fine() -> None:
    drawn = fractions(KEY, ROWS, 5)
    assert drawn.dtype == torch.float64
    assert kstest(drawn.flatten().numpy(), "uniform").pvalue > 1e-3
    assert float((drawn * 2**24 % 1).std()) > 0.25  # there is something below the 24 bits of one word
    assert torch.equal(drawn * 2**48 % 1, torch.zeros_like(drawn))


def test_gumbel_is_gumbel_and_finite() -> None:
    assert kstest(gumbel(KEY, ROWS, 5).flatten().numpy(), "gumbel_r").pvalue > 1e-3


def test_whole_numbers_are_uniform_below_a_bound_for_each_row() -> None:
    bound = torch.tensor([[2], [3], [7]]).repeat(2000, 1)
    drawn = whole_numbers(KEY, torch.arange(6000), bound, 2).view(2000, 3, 2)
    for place, top in enumerate((2, 3, 7)):
        counts = torch.bincount(drawn[:, place].flatten(), minlength=top)
        assert len(counts) == top
        assert chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("anchor", [0, 4, 9])
def test_legal_nodes_are_uniform(anchor: int) -> None:
    known = KnownEdges(Graph.from_edges(torch.tensor(reference.MIXED).t(), 11))
    drawn = legal_nodes(known, torch.full((4000,), anchor), ROWS, 3, KEY).flatten()
    expected = torch.tensor(reference.uniform(reference.MIXED, 11, anchor)) * len(drawn)
    counts = torch.bincount(drawn, minlength=11)
    assert counts[expected == 0].sum() == 0
    assert chisquare(counts[expected > 0].numpy(), expected[expected > 0].numpy(), sum_check=False).pvalue > 1e-3


def test_draws_do_not_depend_on_how_rows_are_cut() -> None:
    known = KnownEdges(Graph.from_edges(torch.tensor(reference.MIXED).t(), 11))
    anchors = ROWS % 11
    for draw in (
        lambda part: fractions(KEY, ROWS[part], 3),
        lambda part: gumbel(KEY, ROWS[part], 3),
        lambda part: whole_numbers(KEY, ROWS[part], 9, 3),
        lambda part: legal_nodes(known, anchors[part], ROWS[part], 3, KEY),
    ):
        assert torch.equal(draw(slice(None))[17:40], draw(slice(17, 40)))
