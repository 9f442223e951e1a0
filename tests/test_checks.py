"""Checks of arguments."""

from __future__ import annotations

import math

import pytest

from mebns_pl.checks import above, at_least, expect, within


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: at_least(1, top=0), "top: expected 1 or more, got 0"),
        (lambda: at_least(0, "hops", **{"model.hops": -1}), "model.hops: expected 0 or more hops, got -1"),
        (lambda: at_least(1, "epochs", or_null=True, teacher=0), "teacher: expected 1 or more epochs or null, got 0"),
        (lambda: at_least(1, top=None), "top: expected 1 or more, got None"),
        (lambda: at_least(0, grace=math.nan), "grace: expected 0 or more, got nan"),
        (lambda: above(0, span=0.0), "span: expected a number above 0, got 0.0"),
        (lambda: above(0, span=math.nan), "span: expected a number above 0, got nan"),
        (lambda: above(0, or_null=True, minutes=-1), "minutes: expected a number above 0 or null, got -1"),
        (lambda: within("[0, 1)", drop_easy=1.0), "drop_easy: expected a share in [0, 1), got 1.0"),
        (lambda: within("(0, 1]", keep=0), "keep: expected a share in (0, 1], got 0"),
        (lambda: within("[0.5, 1]", "probability", p=0.4), "p: expected a probability in [0.5, 1], got 0.4"),
        (lambda: within("[0, 1)", or_null=True, share=2), "share: expected a share in [0, 1) or null, got 2"),
        (lambda: within("[0, 1)", share=math.nan), "share: expected a share in [0, 1), got nan"),
        (lambda: expect(False, "an odd number", grid=4), "grid: expected an odd number, got 4"),
        (lambda: expect(False, "low < high", low=2, high=1), "low, high: expected low < high, got 2 and 1"),
    ],
)
def test_what_is_not_allowed_is_told(check, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the whole message is compared)
        check()
    assert str(error.value) == message


def test_what_is_allowed_passes():
    at_least(1, top=1, other=2.5)
    at_least(1, or_null=True, teacher=None)
    above(0, span=1e-9, minutes=math.inf)
    within("[0, 1)", first=0.0, last=0.999)
    within("(0, 1]", "probability", or_null=True, keep=1, other=None)
    expect(True, "anything", value=None)


def test_values_are_checked_in_their_order():
    with pytest.raises(ValueError, match="second: expected 1 or more, got 0"):
        at_least(1, first=1, second=0, third=-1)
