"""A parser for commands that make no run, and need not wait for what runs are made of."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import NoReturn

from mebns_pl.escaping import visible


class ShortParser(ArgumentParser):
    """Python's parser, which refuses wrong arguments by one line and takes no abbreviations.

    Args:
        options: those of ``ArgumentParser``.
    """

    def __init__(self, **options: str) -> None:
        super().__init__(**options, allow_abbrev=False)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Says what is wrong, and exits with 2."""
        self.exit(2, f"mebns: error: {visible(message)}\n")
