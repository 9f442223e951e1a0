"""Signs of a run that has come to nothing: each is told, and none of a run that is well."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mebns_pl.analysis.collapse import FitTraces, ReluWatch, are_constant, at_chance, dead_units, fit_notes

WELL = {
    "losses": [0.7, 0.693, 0.69, 0.5, 0.4],
    "warmup": 2,
    "epochs": 20,
    "best_epoch": 9,
    "unevenness": 1e-4,
    "dead": (10, 256),
}


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({}, []),
        ({"constant": True}, ["constant-scores"]),
        ({"dead": (250, 256)}, ["dead-units"]),
        ({"losses": [0.8, math.log(2), 0.6932]}, ["loss-at-ln2"]),
        ({"losses": [math.log(2), math.log(2), 0.5]}, []),
        ({"losses": [math.log(2)]}, []),
        ({"losses": [None, None]}, []),
        ({"unevenness": 1e-9}, ["equal-weights"]),
        ({"unevenness": None}, []),
        ({"unevenness": 0.3, "learned": 0.009}, ["equal-weights"]),  # as uneven as the sampler's own choice
        ({"unevenness": 0.3, "learned": 0.011}, []),
        ({"unevenness": 1e-9, "learned": 0.3}, []),  # the weight net has levelled them
        ({"best_epoch": 1}, ["best-epoch-in-warmup"]),
        ({"best_epoch": 1, "epochs": 2}, ["never-left-warm-up"]),
        ({"best_epoch": 0, "epochs": 1, "unevenness": None}, ["never-left-warm-up"]),
        ({"best_epoch": None, "epochs": 0}, []),
        ({"best_epoch": 0, "warmup": 0, "unevenness": None}, []),
        ({"best_epoch": None}, []),
    ],
)
def test_what_a_fit_is_told(changes: dict, codes: list[str]) -> None:
    notes = fit_notes(FitTraces(**{**WELL, **changes}))
    assert [note.code for note in notes] == codes
    assert all("Usual remedy: " in note.text for note in notes)


def test_a_weight_net_that_never_moved_is_told_apart_from_one_that_adds_nothing() -> None:
    (adds_nothing,) = fit_notes(FitTraces(**WELL, learned=0.0))
    (never_moved,) = fit_notes(FitTraces(**WELL, learned=0.0, moved=False))
    assert adds_nothing.code == never_moved.code == "equal-weights"
    assert "the learned factor varies by 0.0e+00 of its mean): it adds nothing" in adds_nothing.text
    assert "the weight net has never moved" in never_moved.text
    assert "Usual remedy: a lower n of Every" in never_moved.text


def test_constant_scores_are_equal_but_for_rounding() -> None:
    base = torch.full((50,), 0.0173)
    assert are_constant(base)
    assert are_constant(base + 1e-8 * torch.randn(50, generator=torch.Generator().manual_seed(0)))
    assert are_constant(torch.zeros(2))
    assert not are_constant(base + 1e-4 * torch.arange(50))
    assert not are_constant(1e-9 * torch.arange(3.0))  # small, and different all the same
    assert not are_constant(torch.tensor([1.0, torch.inf]))
    assert not are_constant(torch.tensor([1.0]))


def test_dead_units_are_seen_however_relu_is_called() -> None:
    h = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    h[:, 1:] = -h[:, 1:].abs()
    for relu in (torch.relu, nn.ReLU(), nn.functional.relu, lambda x: x.relu(), lambda x: x.clone().relu_()):
        with ReluWatch() as watch:
            relu(h)
        assert watch.dead == [(3, 4)]
    with ReluWatch() as watch:
        h.abs().relu()
        h.relu()
        h[:5].relu()  # too few rows to tell
        h[None].relu()
    assert watch.dead == [(0, 4), (3, 4)]
    assert watch.worst == (3, 4)
    assert ReluWatch().worst == (0, 0)
    assert dead_units((0, 0)) == dead_units((3, 4)) == []
    assert [note.code for note in dead_units((4, 4))] == ["dead-units"]


def test_chance_is_told() -> None:
    assert at_chance((0.03, 0.05), 0.02, 0.8) == []
    assert at_chance((0.01, 0.05), 0.02, 0.8)[0].code == "at-chance"
    assert at_chance((0.03, 0.05), 0.02, 0.5)[0].code == "at-chance"
