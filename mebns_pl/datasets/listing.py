"""The catalogue as a table, for people to read."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from mebns_pl.datasets.sources import CATALOG


def dataset_table(root: str | Path | None = None) -> Table:
    """What graphs there are, and whether their files are on disk; none of them is opened.

    Args:
        root: folder with data files; None takes the environment variable ``MEBNS_DATA``, or else the cache.

    Example:
        >>> dataset_table().row_count == len(CATALOG)
        True
    """
    table = Table(box=None, pad_edge=False)
    for column in ("name", "nodes", "edges", "features"):
        table.add_column(column, justify="left" if column == "name" else "right", no_wrap=True)
    table.add_column("from", overflow="fold")
    table.add_column("on disk", overflow="fold")
    for source in CATALOG.values():
        sizes = [f"{number:,}" for number in (source.num_nodes, source.num_edges, source.num_features)]
        on_disk = escape("no: " + source.how_to_get()) if source.find(root) is None else "yes"
        table.add_row(source.name, *sizes, source.origin, on_disk)
    return table
