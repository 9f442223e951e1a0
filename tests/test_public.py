"""Every public name is documented with an example that runs."""

from __future__ import annotations

import doctest
import inspect
import sys

import pytest

import mebns_pl

CLASSES = [name for name in mebns_pl.__all__ if inspect.isclass(getattr(mebns_pl, name))]


def examples(name: str) -> list[doctest.DocTest]:
    """The examples of a class or function: those of its own docstring, and not of its methods."""
    item = getattr(mebns_pl, name)
    globs = vars(sys.modules[item.__module__]).copy()
    found = doctest.DocTestFinder(recurse=False).find(item, name, globs=globs)
    return [test for test in found if test.examples]


def test_there_are_public_classes() -> None:
    assert len(CLASSES) > 40
    assert set(CLASSES) <= set(dir(mebns_pl))
    assert sorted(mebns_pl.__all__) == sorted(set(mebns_pl.__all__))


@pytest.mark.parametrize("name", mebns_pl.__all__)
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    item = getattr(mebns_pl, name)
    assert (item.__doc__ or "").strip(), f"{name} has no docstring"
    assert "Example:" in item.__doc__, f"{item.__module__}.{name}: its docstring has no `Example:`"
    tests = examples(name)
    assert tests, f"{item.__module__}.{name}: nothing under `Example:` runs"
    for test in tests:
        told: list[str] = []
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append)
        assert not told, "".join(told)


def test_every_public_name_is_told_by_a_whole_sentence() -> None:
    """The API's front page shows each docstring's first paragraph."""
    for name in mebns_pl.__all__:
        first = (getattr(mebns_pl, name).__doc__ or "").split("\n\n")[0].strip()
        assert first.endswith((".", ":")), f"{name}: {first!r}"
