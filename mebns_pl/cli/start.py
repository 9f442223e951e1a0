"""The console script: what can be answered at once is, and the rest waits for what runs are made of to be loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(args: Sequence[str] | None = None) -> None:
    """``mebns``.

    Args:
        args: the command line, or None for ``sys.argv``.

    Raises:
        SystemExit: something was wrong, or there is nothing more to do.
    """
    given = list(sys.argv[1:] if args is None else args)
    from mebns_pl.cli import main
    from mebns_pl.cli.own_graph import run_command

    if given[:1] == ["run"]:
        main.run(given[1:], run_command)
    else:
        main.run(given)
