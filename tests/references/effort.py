"""How much of a test runs always, and how much among the slow tests only (``make test-slow``)."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

import pytest

THOROUGH = os.environ.get("MEBNS_THOROUGH") == "1"


def examples(count: int) -> int:
    """How many examples hypothesis tries: all of ``count`` among the slow tests, a fifth of them and 20 otherwise."""
    return count if THOROUGH else min(count, max(20, count // 5))


def some(cases: Iterable[Any], always: Collection[Any]) -> list[Any]:
    """Parameters of a test; those that are not run ``always`` are marked as slow."""
    marked = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        marked.append(pytest.param(*values, marks=() if case in always else pytest.mark.slow))
    assert sum(not param.marks for param in marked) == len(always), "a case that is to run always is not there"
    return marked
