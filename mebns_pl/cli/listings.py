"""``mebns datasets`` and ``mebns samplers``: listings, for which nothing that runs are made of need be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mebns_pl.cli.one_line import ShortParser
from mebns_pl.config_files import FOLDER
from mebns_pl.datasets.listing import dataset_table
from mebns_pl.negatives.listing import recipe_table, sampler_table


def list_datasets(arguments: Sequence[str]) -> None:
    """``mebns datasets``: shows the catalogue."""
    parser = ShortParser(prog="mebns datasets", description="The graphs that --data.graph knows by name.")
    parser.add_argument("--root", help="folder with data files (default: the environment variable MEBNS_DATA)")
    _wide_console().print(dataset_table(parser.parse_args(arguments).root))


def list_samplers(arguments: Sequence[str]) -> None:
    """``mebns samplers``: shows the recipes and what they are made of."""
    parser = ShortParser(prog="mebns samplers", description="Recipes, and the classes they are made of.")
    parser.add_argument("--recipes", type=Path, default=FOLDER / "sampler", help="folder of recipes")
    recipes = recipe_table(parser.parse_args(arguments).recipes)
    console = _wide_console()
    if recipes.row_count:
        console.print(recipes, "")
    console.print(sampler_table())


def _wide_console() -> Console:
    """In a narrow terminal wrapped lines are better than columns that are cut."""
    console = Console()
    console.width = max(console.width, 120)
    return console


LISTINGS = {"datasets": list_datasets, "samplers": list_samplers}
