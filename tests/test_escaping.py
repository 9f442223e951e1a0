"""Names of nodes, runs and files are text at each way out: terminal, figures, TensorBoard, CSV."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from markdown import markdown
from rich.console import Console

from mebns_pl.analysis.figures import examples_figure, surface_figure
from mebns_pl.cli.messages import user_message
from mebns_pl.cli.notes import _StderrHandler
from mebns_pl.errors import DataError
from mebns_pl.escaping import in_markdown, visible
from mebns_pl.prediction.files import in_cells, write_table
from mebns_pl.terminal import link_table, say

NAMES = [
    *("[/b1]", "[bold]x[/bold]", "[link=http://x]y[/link]", "[", "\\", "a\\", ":smile:", "_hidden"),
    *("a\x1b[31mred", "\x1b]0;title\x07", "bell\x07", "a\rb", "a\nb", "\u202egnp.exe", "\x9b31m", "\u2028"),
    *("$x", "$\\frac{", "x_$y$"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;"),
    *("a|b", "`code`", "**b**", "[a](javascript:b)", "# head"),
    *("=1+1", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1"),
]
PLAIN = ["ann", "", "Zo\u00eb", "\u6771\u4eac", "e\u0301", "\U0001f600", "\u0645\u200c\u0646", "a b", "O'Neil, Jr."]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_commands_a_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    links = pd.DataFrame({"rank": [1], "source": [name], "target": ["b"], "score": [0.5]})
    console.print(link_table(links))
    shown = console.file.getvalue()
    assert visible(name) in shown
    say(f"\n12 links: {name}.csv")
    _StderrHandler().emit(logging.makeLogRecord({"msg": "%s: told", "args": (name,), "levelno": logging.INFO}))
    told = user_message(DataError(f"{name}: no such file"))
    out = capsys.readouterr()
    assert told is not None
    for text in (out.out, out.err, told):
        assert not set(text) & set("\x1b\x07\x9b\r\u202e\u2028\x00")
    assert visible(name.replace("\n", "")) in out.out.replace("\n", "")


@pytest.mark.parametrize("name", PLAIN)
def test_other_names_stay_as_they_are(name: str) -> None:
    assert visible(name) == name
    assert in_cells(pd.DataFrame({"node": [name]}))["node"].tolist() == [name]


def test_names_are_no_formulas_of_figures() -> None:
    figure = examples_figure(NAMES, torch.zeros(len(NAMES), 3) > 0, [0] * len(NAMES), [0, 1, 2])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].texts[::2]] == list(map(visible, NAMES))
    for name in ("run$x", "a_$\\frac{"):
        surface = surface_figure(torch.rand(5, 5), torch.linspace(-1, 1, 5), f"Loss round\n{name}", (0.0, 1.0))
        surface.canvas.draw()


@pytest.mark.parametrize("name", NAMES)
def test_names_are_no_markup_of_tensorboard(name: str) -> None:
    """Rendered as TensorBoard does, a table's cell holds the name and nothing else."""
    page = markdown(f"| pair | crossings |\n|---|---:|\n| {in_markdown(name)} | 3 |", extensions=["tables"])
    assert page.count("<td") == 2
    for tag in ("<script", "<img", "<a", "<code", "<strong", "<em", "<h1"):
        assert tag not in page


def test_cells_that_a_spreadsheet_would_run_are_written_harmless(tmp_path: Path) -> None:
    table = pd.DataFrame({"source": NAMES, "target": "b", "score": 0.5, "rank": range(len(NAMES))})
    write_table(table, tmp_path / "links.csv")
    read = pd.read_csv(tmp_path / "links.csv", keep_default_na=False)
    assert not read["source"].str.match(r"[=+\-@\t\r]").any()
    assert read["source"].str.removeprefix("'").tolist() == NAMES
    assert read["score"].tolist() == table["score"].tolist()
    write_table(table, tmp_path / "links.parquet")
    assert pd.read_parquet(tmp_path / "links.parquet")["source"].tolist() == NAMES


def test_negative_numbers_are_no_formulas() -> None:
    names = ["-3", "+4", "-1.5e3", "-1-1", "-a"]
    assert in_cells(pd.DataFrame({"node": names}))["node"].tolist() == ["-3", "+4", "-1.5e3", "'-1-1", "'-a"]
