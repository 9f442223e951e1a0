"""The subcommands that run neither data module nor trainer: ``datasets | samplers | landscape | sweep | report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rich.console import Console

from mebns_pl.analysis.landscape import LandscapeOptions
from mebns_pl.cli.landscape import compare_checkpoints
from mebns_pl.cli.messages import OneLineParser
from mebns_pl.cli.report import show_report
from mebns_pl.config_files import FOLDER
from mebns_pl.datasets.listing import dataset_table
from mebns_pl.negatives.listing import recipe_table, sampler_table
from mebns_pl.terminal import landscape_table, say


def list_datasets(arguments: Sequence[str]) -> None:
    """``mebns datasets``: shows the catalogue."""
    parser = OneLineParser(prog="mebns datasets", description="The graphs that --data.graph knows by name.")
    parser.add_argument("--root", help="folder with data files (default: the environment variable MEBNS_DATA)")
    _wide_console().print(dataset_table(parser.parse_args(arguments).root))


def list_samplers(arguments: Sequence[str]) -> None:
    """``mebns samplers``: shows the recipes and what they are made of."""
    parser = OneLineParser(prog="mebns samplers", description="Recipes, and the classes they are made of.")
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


def show_landscape(arguments: Sequence[str]) -> None:
    """``mebns landscape``: measures and draws the loss round the students of checkpoints."""
    parser = OneLineParser(
        prog="mebns landscape",
        description="The loss round trained students: top Hessian eigenvalue, trace, a surface along two directions.",
        allow_abbrev=False,
    )
    parser.add_argument("--ckpt", action="append", required=True, help="checkpoint of a run; again for more of them")
    parser.add_argument("--out", default="logs/landscape", help="folder for pictures, tables and TensorBoard's events")
    parser.add_argument("--device", default="cpu", help="where it is computed, in float64")
    parser.add_class_arguments(LandscapeOptions)
    given = parser.parse_args(arguments)
    options = LandscapeOptions(**{item.name: given[item.name] for item in fields(LandscapeOptions)})
    rows = compare_checkpoints(given.ckpt, given.out, options, given.device)
    Console().print(landscape_table(rows))
    say(f"Pictures: {given.out}/*/surface.png\nTensorBoard: tensorboard --logdir {given.out}")


def sweep(arguments: Sequence[str]) -> None:
    """``mebns sweep``: runs a study."""
    from mebns_pl.cli.sweep import sweep_command  # it brings SQLite and more, which no other command needs

    sweep_command(arguments)


WITHOUT_A_RUN = {
    "datasets": list_datasets,
    "samplers": list_samplers,
    "landscape": show_landscape,
    "sweep": sweep,
    "report": show_report,
}
