"""Good files changed at random: the short form of ``scripts/campaigns/mutations.py``."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

from references.processes import output_of

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = REPOSITORY / "scripts" / "campaigns" / "mutations.py"
KINDS = ("csv", "parquet", "graphml", "npz", "pt", "yaml")


def run(options: list[str]) -> None:
    """In a process of its own: it forks."""
    os.environ |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    assert runpy.run_path(str(SCRIPT))["main"](options) == 0


def campaign(folder: Path, *options: str) -> str:
    return output_of(run, list(options), into=folder / "said.txt")


def test_changed_files_are_graphs_or_refused(tmp_path: Path) -> None:
    shown = campaign(tmp_path, "--count", "25", "--seed", "1")
    for kind in KINDS:
        assert f"{kind}: 25 tried, 25 right" in shown
    assert shown.endswith("0 wrong\n")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_of_each_kind(kind: str, tmp_path: Path) -> None:
    assert f"{kind}: 1000 tried, 1000 right" in campaign(tmp_path, "--kinds", kind)


def test_what_is_wrong_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that lets a bad graph through, raises what is no DataError, or says too much."""
    script = runpy.run_path(str(SCRIPT))
    path = script["write_good"]("csv", tmp_path)
    judge = script["judge"]
    assert judge("csv", path) == ("read", "")
    path.write_text("source\n")
    assert judge("csv", path)[0] == "refused"
    names = judge.__globals__
    for faulty, told in (
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (lambda _: (_ for _ in ()).throw(names["DataError"]("no name of a file")), "no name of a file"),
        (lambda _: (_ for _ in ()).throw(names["DataError"]("g.csv:\ntwo lines")), "two lines"),
    ):
        monkeypatch.setitem(names, "read_graph", faulty)
        outcome, said = judge("csv", path)
        assert outcome == "wrong"
        assert told in said
