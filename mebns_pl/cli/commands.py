"""The subcommands without data module and trainer: listings, ``landscape | sweep | report | explore | check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from rich.console import Console

from mebns_pl.analysis.landscape import LandscapeOptions
from mebns_pl.cli.explore import explore
from mebns_pl.cli.landscape import compare_checkpoints
from mebns_pl.cli.listings import LISTINGS
from mebns_pl.cli.messages import OneLineParser
from mebns_pl.cli.report import show_report
from mebns_pl.cli.trust import FLAG
from mebns_pl.terminal import landscape_table, say


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
    parser.add_argument(FLAG, action="store_true", help="let config.yaml name any class: the runs are trusted")
    parser.add_class_arguments(LandscapeOptions)
    given = parser.parse_args(arguments)
    options = LandscapeOptions(**{item.name: given[item.name] for item in fields(LandscapeOptions)})
    rows = compare_checkpoints(given.ckpt, given.out, options, given.device, given.trust)
    Console().print(landscape_table(rows))
    say(f"Pictures: {given.out}/*/surface.png\nTensorBoard: tensorboard --logdir {given.out}")


def sweep(arguments: Sequence[str]) -> None:
    """``mebns sweep``: runs a study."""
    from mebns_pl.cli.sweep import sweep_command  # it brings SQLite and more, which no other command needs

    sweep_command(arguments)


def check(arguments: Sequence[str]) -> None:
    """``mebns check``: looks at an encoder of one's own."""
    from mebns_pl.cli.check import check_class  # it brings every encoder's libraries, which no other command needs

    check_class(arguments)


WITHOUT_A_RUN = {
    **LISTINGS,
    "landscape": show_landscape,
    "sweep": sweep,
    "report": show_report,
    "explore": explore,
    "check": check,
}
