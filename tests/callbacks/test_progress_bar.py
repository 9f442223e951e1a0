"""The progress bar stays on one line at 80 columns, whatever is logged."""

from __future__ import annotations

import io
import re

import pytest
from rich import get_console, reconfigure

from mebns_pl.callbacks.progress_bar import OneLineBar
from references.runs import fit, make_data, make_mebns


@pytest.mark.parametrize("width", [80, 60])
def test_one_line(width: int) -> None:
    written = io.StringIO()
    before = dict(vars(get_console()))
    terminal = {"file": written, "force_terminal": True, "width": width, "height": 24}
    bar = OneLineBar()
    bar._console_kwargs = terminal
    data = make_data()
    try:
        fit(make_mebns(data.spec), data, 2, [bar], enable_progress_bar=True)
    finally:
        reconfigure()
        vars(get_console()).update(before)
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", written.getvalue())
    lines = [line for line in re.split(r"[\r\n]+", text) if "Epoch" in line]
    assert lines
    assert all(len(line) <= width for line in lines)
    if width == 80:
        assert re.search(r" 3/3 .*(loss|mrr): \d\.\d{3} (loss|mrr): \d\.\d{3}$", lines[-1].rstrip())
    assert not [line for line in text.splitlines() if line.strip().startswith(("loss", "mrr"))]
