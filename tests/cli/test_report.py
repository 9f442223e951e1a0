"""``mebns report`` from the command line."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mebns_pl.cli.main import run
from references.studies import made_up_study, write_study

TWO = {"graph": ["air_routes"], "sampler": ["dns", "uniform"], "system": ["Plain", "MeBNS"]}


def report(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        run(["report", *map(str, arguments)])
    return int(stop.value.code or 0)


def test_it_tells_the_verdict_and_where_the_files_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_study(made_up_study(TWO, 10, lambda arm: 0.05 * (arm["system"] == "MeBNS")), tmp_path / "study")
    assert report(folder, "--reference=system=Plain", "--out", tmp_path / "out", "--format=md,html") == 0
    told = capsys.readouterr().out
    assert "In test MRR, of 2 comparisons 2 are won, 0 lost" in " ".join(told.split())
    assert "uniform" in told
    for name in ("report.md", "report.html"):
        assert (tmp_path / "out" / name).is_file()
        assert name in told
    assert not (tmp_path / "out" / "report.tex").exists()
    assert "MeBNS wins over" not in told  # the arms are named with their setting
    assert "MeBNS (dns) wins over Plain on air_routes" in told


def test_by_default_all_formats_go_into_the_study(tmp_path: Path) -> None:
    folder = write_study(made_up_study(TWO, 2), tmp_path / "study", curves=False)
    assert report(folder) == 0
    assert {path.name for path in (folder / "report").iterdir()} == {"report.md", "report.tex", "report.html"}


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(made_up_study(TWO, 2), tmp_path / "study", curves=False)
    waiting = write_study(made_up_study(TWO, 2).assign(status="waiting"), tmp_path / "waiting", curves=False)
    other = tmp_path / "other"
    other.mkdir()
    with sqlite3.connect(other / "results.sqlite") as connection:
        connection.execute("CREATE TABLE trials (number INTEGER)")
    connection.close()
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.sqlite").write_text("no database at all, but some text that is long enough")
    for arguments, told in (
        ([tmp_path / "none"], "none: no such folder"),
        ([tmp_path / "empty"], "empty: no study (results.sqlite) and no runs"),
        ([waiting], "waiting: no finished runs to report on (8 waiting)"),
        ([other], "results.sqlite: not the results of a study"),
        ([tmp_path / "broken"], "results.sqlite: file is not a database"),
        ([study, "--metric=test/map"], "metric: got 'test/map'; the finished runs of"),
        ([study, "--reference=size=3"], "reference: got 'size=3'; the axes that vary are axis/sampler, axis/system"),
        ([study, "--format=pdf"], "format: got 'pdf'; allowed are md, tex, html"),
        ([study, waiting], "a report is of one study, or of runs"),
    ):
        assert report(*arguments) == 1, arguments
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert told in error
    assert report(study, "--metrics=x") == 2
    assert capsys.readouterr().err.count("\n") == 1
