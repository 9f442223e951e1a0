"""The samplers there are, as tables for people to read: made from docstrings and recipes, so that none is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from mebns_pl.families import rules_in_source

PARTS = {
    "proposal": ("mebns_pl.negatives.proposals", "AbstractProposal"),
    "selector": ("mebns_pl.negatives.selectors", "AbstractSelector"),
    "weighting": ("mebns_pl.negatives.weightings", "AbstractNegativeWeighting"),
}
"""What a sampler is made of: the folder and the base class of each option."""


def sampler_table() -> Table:
    """Every proposal, selector and weighting that can be named in a configuration, with its docstring's first line.

    Example:
        >>> sampler_table().row_count > 15
        True
    """
    rows = (
        (f"--model.sampler.{part}", name, rule)
        for part, (package, base) in PARTS.items()
        for name, rule in rules_in_source(package, base).items()
    )
    return _table(("part", "class"), rows)


def recipe_table(folder: Path) -> Table:
    """Every recipe in a folder of YAML files, with the first sentence of the comment it begins with.

    Args:
        folder: where they are; without any, the table is empty.
    """
    return _table(("recipe",), ((path.stem, recipe_rule(path)) for path in sorted(folder.glob("*.yaml"))))


def recipe_rule(path: Path) -> str:
    """The first sentence of the comment that a recipe begins with."""
    comment = takewhile(lambda line: line.startswith("#"), path.read_text("utf-8").splitlines())
    return " ".join(line.removeprefix("#").strip() for line in comment).split(". ")[0].rstrip(".")


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Columns of names, and one of rules that may be folded."""
    columns = (*(Column(name, no_wrap=True) for name in names), Column("rule", overflow="fold"))
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
