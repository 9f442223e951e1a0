"""A parser for commands that make no run, and need not wait for what runs are made of."""

from __future__ import annotations

from argparse import ArgumentParser
from difflib import get_close_matches
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
        """Says what is wrong, and which option may have been meant; exits with 2."""
        names = [option for action in self._actions for option in action.option_strings]
        unknown = [part.partition("=")[0] for part in message.split() if part.startswith("--")]
        near = get_close_matches(unknown[0], names, 1) if "unrecognized" in message and unknown else []
        message += f"; did you mean {near[0]}?" if near else ""
        self.exit(2, f"mebns: error: {visible(message)}\n")
