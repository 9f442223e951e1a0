"""The samplers there are, as tables for people to read: made from docstrings and recipes, so that none is left out."""

from __future__ import annotations

import inspect
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from mebns_pl.negatives.proposals.abstract import AbstractProposal
from mebns_pl.negatives.selectors.abstract import AbstractSelector
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting

OPTIONS: dict[str, type] = {
    "--model.sampler.proposal": AbstractProposal,
    "--model.sampler.selector": AbstractSelector,
    "--model.sampler.weighting": AbstractNegativeWeighting,
}
"""Where each kind is named."""


def sampler_table() -> Table:
    """Every proposal, selector and weighting that can be named in a configuration, with its docstring's first line.

    Example:
        >>> sampler_table().row_count > 15
        True
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("part", no_wrap=True)
    table.add_column("class", no_wrap=True)
    table.add_column("rule", overflow="fold")
    for option, base in OPTIONS.items():
        for cls in concrete_classes(base):
            table.add_row(option, cls.__name__, escape(first_line(cls)))
    return table


def recipe_table(folder: Path) -> Table:
    """Every recipe in a folder of YAML files, with the first sentence of the comment it begins with.

    Args:
        folder: where they are; without any, the table is empty.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("rule", overflow="fold")
    for path in sorted(folder.glob("*.yaml")):
        table.add_row(path.stem, escape(recipe_rule(path)))
    return table


def recipe_rule(path: Path) -> str:
    """The first sentence of the comment that a recipe begins with."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).split(". ")[0].rstrip(".")


def concrete_classes(base: type) -> list[type]:
    """The classes below ``base`` that can be built, at any depth, by name."""
    found, waiting = set(), [base]
    while waiting:
        below: list[type] = waiting.pop().__subclasses__()
        waiting += below
        found |= {cls for cls in below if not inspect.isabstract(cls)}
    return sorted(found, key=lambda cls: cls.__name__)


def first_line(cls: type) -> str:
    """The first line of a class's docstring, without markup; "" where it has none."""
    return (inspect.getdoc(cls) or "").partition("\n")[0].replace("``", "")
