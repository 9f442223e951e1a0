"""Work in threads: everything once, errors come out, and a bar on terminals only."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mebns_pl import progress
from mebns_pl.progress import doing, in_threads, slices, with_progress


def test_everything_is_done_once() -> None:
    done: list[int] = []
    in_threads(done.append, list(range(100)), "testing")
    assert sorted(done) == list(range(100))
    in_threads(done.append, [], "testing")
    assert len(done) == 100


@pytest.mark.parametrize("items", [[], [3], [3, 1, 2]])
def test_results_are_in_the_order_of_the_items(items: list[int]) -> None:
    assert in_threads(lambda item: 10 * item, items, threads=2) == [10 * item for item in items]


@pytest.mark.parametrize("size", [0, 1, 7, 100])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_slices_make_up_the_whole(size: int, threads: int) -> None:
    parts = slices(size, 3, threads)
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(size))
    assert len(parts) >= 1
    assert all(part.stop - part.start >= 3 for part in parts[:-1])
    assert threads > 1 or len(parts) == 1


def test_an_error_comes_out() -> None:
    def work(item: int) -> None:
        if item == 3:
            raise KeyError("three")

    with pytest.raises(KeyError, match="three"):
        in_threads(work, list(range(10)), "testing")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_terminals_only(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, force_terminal=terminal))
    assert list(with_progress(iter("abc"), 3, "testing [b]bars[/z]")) == ["a", "b", "c"]
    assert ("testing [b]bars[/z]" in screen.getvalue()) is terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_done_is_said_on_terminals_only(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, force_terminal=terminal))
    with doing("testing [b]words[/z]"):
        pass
    assert ("testing [b]words[/z]" in screen.getvalue()) is terminal
