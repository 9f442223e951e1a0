"""Long work in threads, with a bar that shows how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from mebns_pl.graph.measures.proximity import num_threads

T = TypeVar("T")


def with_progress(items: Iterable[T], total: int, description: str) -> Iterable[T]:
    """The items one by one, with a bar on the terminal's error stream; without a terminal nothing is shown.

    Args:
        items: what to go through.
        total: how many they are.
        description: what is being done, for people to read.
    """
    console = Console(stderr=True)
    return track(items, description, total=total, console=console, transient=True, disable=not console.is_terminal)


def in_parallel(work: Callable[[T], None], items: Sequence[T], description: str) -> None:
    """Calls ``work`` on every item, in as many threads as there are cores for this process.

    Args:
        work: must not depend on the order of items.
        items: what to go through.
        description: for the progress bar.

    Raises:
        Exception: the first that ``work`` raised; what has not begun by then is left out.
    """
    with ThreadPoolExecutor(num_threads()) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in with_progress(as_completed(futures), len(futures), description):
                future.result()
        finally:
            for future in futures:
                future.cancel()
