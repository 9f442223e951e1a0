"""Notebooks in git: readable, without outputs; `make notebooks` executes them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells_of(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_the_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_quickstart", "02_migration", "03_your_own_graph"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_kept(path: Path) -> None:
    for cell in cells_of(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_parses_and_text_explains_it(path: Path) -> None:
    for cell in cells_of(path, "code"):
        ast.parse(source(cell))
        assert max(map(len, source(cell).splitlines())) <= 120
    assert source(cells_of(path, "markdown")[0]).startswith("# ")
    assert 2 * len(cells_of(path, "markdown")) >= len(cells_of(path, "code"))
