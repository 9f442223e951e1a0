"""Every public name is documented with an example, which runs where all examples run: by pytest's --doctest-modules."""

from __future__ import annotations

import doctest
import functools
import inspect
import sys

import pytest

import mebns_pl

CLASSES = [name for name in mebns_pl.__all__ if inspect.isclass(getattr(mebns_pl, name))]


@functools.cache
def examples(module: str) -> set[str]:
    """What of a module --doctest-modules finds examples of."""
    return {test.name for test in doctest.DocTestFinder().find(sys.modules[module]) if test.examples}


def test_there_are_public_classes() -> None:
    assert len(CLASSES) > 40
    assert set(CLASSES) <= set(dir(mebns_pl))
    assert sorted(mebns_pl.__all__) == sorted(set(mebns_pl.__all__))


@pytest.mark.parametrize("name", mebns_pl.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    item = getattr(mebns_pl, name)
    assert (item.__doc__ or "").strip(), f"{name} has no docstring"
    assert "Example:" in item.__doc__, f"{item.__module__}.{name}: its docstring has no `Example:`"
    full = f"{item.__module__}.{item.__name__}"
    assert full in examples(item.__module__), f"{full}: nothing under `Example:` runs"


def test_examples_are_collected_by_pytest(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getoption("doctestmodules")
    assert "mebns_pl" in pytestconfig.getini("testpaths")


def test_every_public_name_is_told_by_a_whole_sentence() -> None:
    """The API's front page shows each docstring's first paragraph."""
    for name in mebns_pl.__all__:
        first = (getattr(mebns_pl, name).__doc__ or "").split("\n\n")[0].strip()
        assert first.endswith((".", ":")), f"{name}: {first!r}"
