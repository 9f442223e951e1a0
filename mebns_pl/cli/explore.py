"""``mebns explore``: what has migrated in runs, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mebns_pl.cli.messages import OneLineParser

PAGE = "explorer.html"


def explore(arguments: Sequence[str]) -> None:
    """``mebns explore``: writes the page, and tells the verdict."""
    # Plotly takes a second to load, which other commands need not wait for
    from mebns_pl.explore.build import write_page
    from mebns_pl.explore.runs import read_runs, verdict_of

    parser = OneLineParser(
        prog="mebns explore",
        description="Which negatives migrate, why, and whether it matters: runs side by side on one page.",
        allow_abbrev=False,
    )
    parser.add_argument("run", nargs="+", type=Path, help="folders of runs; the plain control among them")
    parser.add_argument("--out", type=Path, help=f"the page (default: {PAGE} in the first folder)")
    parser.add_argument("--landscape", type=Path, help="what mebns landscape has written (default: beside the runs)")
    given = parser.parse_args(arguments)
    runs = read_runs(given.run, given.landscape)
    path = write_page(runs, given.out or Path(given.run[0]) / PAGE)
    console = Console(highlight=False, markup=False)
    for run in runs:
        console.print(run.name, style="bold")
        for finding in verdict_of(run, runs):
            console.print(f"- {finding.text}")
    console.print(f"\nExplorer: {path}", soft_wrap=True)
