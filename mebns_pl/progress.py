"""Long work in threads, with a bar that shows how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def with_progress(items: Iterable[Item], total: int, description: str) -> Iterable[Item]:
    """The items one by one, with a bar on the terminal's error stream; without a terminal nothing is shown.

    Args:
        items: what to go through.
        total: how many they are.
        description: what is being done, for people to read.
    """
    console = Console(stderr=True)
    return track(
        items, escape(description), total=total, console=console, transient=True, disable=not console.is_terminal
    )


@contextmanager
def doing(description: str) -> Iterator[None]:
    """Says on the terminal's error stream what is being done within, where nobody knows how far it is.

    Without a terminal nothing is shown; no bar may be within.

    Args:
        description: for people to read; "" shows nothing.
    """
    console = Console(stderr=True)
    with console.status(escape(description)) if description and console.is_terminal else nullcontext():
        yield


def num_threads() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], description: str = "", threads: int | None = None
) -> list[Result]:
    """Calls ``work`` on every item in threads; a single item needs none.

    Args:
        work: must not depend on the order of items.
        items: what to go through.
        description: for a progress bar; without one there is no bar.
        threads: how many; None takes as many as there are cores for this process.

    Returns:
        What ``work`` returned, in the order of ``items``.

    Raises:
        Exception: what ``work`` raised for the first of the items that it fails on; items not begun by then are left
            out.
    """
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(threads or num_threads()) as pool:
        results = pool.map(work, items)
        return list(with_progress(results, len(items), description) if description else results)


def slices(size: int, least: int = 1, threads: int | None = None) -> list[slice]:
    """Cuts ``range(size)`` for :func:`in_threads`: several parts for each thread, as rows differ in cost.

    Args:
        size: 0 or more; of none there is one empty part.
        least: a part has so many rows at least, where that is not all of them.
        threads: how many; None takes as many as there are cores for this process.
    """
    threads = threads or num_threads()
    step = max(least, -(-size // (4 * threads))) if threads > 1 else max(1, size)
    return [slice(start, min(start + step, size)) for start in range(0, max(1, size), step)]
