"""``mebns explore`` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mebns_pl.cli import start
from mebns_pl.cli.main import run
from references.explored import trained_runs


def explore(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        run(["explore", *map(str, arguments)])
    return int(stop.value.code or 0)


def test_it_tells_the_verdict_and_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, _ = trained_runs(tmp_path)
    capsys.readouterr()
    assert explore(*(str(run.folder) for run in runs)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "in the control" in told
    assert "The best epoch is" in told
    page = tmp_path / "Plain" / "version_0" / "explorer.html"
    assert str(page) in told
    assert page.stat().st_size < 10e6
    assert explore(tmp_path, "--out", tmp_path / "here" / "page.html") == 0
    assert (tmp_path / "here" / "page.html").is_file()


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    for arguments, told in (
        ([tmp_path / "none"], "none: no such folder"),
        ([tmp_path / "empty"], "empty: no run in it"),
        ([tmp_path / "run"], "run: the run has kept no probe (migration.npz)"),
    ):
        assert explore(*arguments) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert told in error
    assert explore() == 2
    assert explore(tmp_path, "--page=x") == 2


def test_what_is_no_run_is_told_before_all_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    ran: list[list[str]] = []
    monkeypatch.setattr(start, "_run", ran.append)
    for folder, told in (("none", "no such folder"), ("empty", "no run in it; allowed is the folder of a run")):
        with pytest.raises(SystemExit, match="1"):
            start.run(["explore", str(tmp_path / "run"), str(tmp_path / folder)])
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert told in error
    start.run(["explore", str(tmp_path / "run"), "--out", "page.html"])
    assert ran == [["explore", str(tmp_path / "run"), "--out", "page.html"]]
