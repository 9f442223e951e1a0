"""docs/own_graph.md runs as it stands there: its Python blocks and its commands, in order, with fewer epochs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from mebns_pl.cli import main as cli
from mebns_pl.cli import start
from references.runs import command_line_parser

PAGE = Path(__file__).parent.parent / "docs" / "own_graph.md"
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


def blocks() -> list[tuple[str, str]]:
    return re.findall(r"```(python|bash)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """The arguments of each command behind ``mebns``."""
    lines = [shlex.split(line) for line in block.replace("\\\n", " ").strip().splitlines()]
    assert all(line[0] == "mebns" for line in lines)
    return [line[1:] for line in lines]


def test_the_commands_parse() -> None:
    """All options that the page names, in commands and in its table."""
    parser = command_line_parser()
    for kind, block in blocks():
        for arguments in commands(block) if kind == "bash" else []:
            if arguments[0] == "run":  # its own parser: see tests/cli/test_own_graph.py
                continue
            given = cli.completed(arguments)
            if "-c" in given:  # the configuration of a run that is not here
                place = given.index("-c")
                given = given[:place] + given[place + 2 :]
            if arguments[0] != "test":  # parsing takes its time, and that command is everybody's
                parser.parse_args(given)
    (table,) = re.findall(r"\| wanted \|.*?\n\n", PAGE.read_text(), flags=re.DOTALL)
    found = [match for match in re.findall(r"`(--[^`]+)`", table) if " " in match]
    assert len(found) == 8
    parser.parse_args(["predict", *(part for options in found for part in shlex.split(options))])


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    names: dict = {}
    ran = []
    for kind, block in blocks():
        if kind == "python":
            exec(block.replace("max_epochs=50", "max_epochs=1").replace('max_epochs": 20', 'max_epochs": 3'), names)
        for arguments in commands(block.replace("max_epochs 50", "max_epochs 5")) if kind == "bash" else []:
            ran.append(arguments[0])
            if arguments[0] == "run":
                start.run([*arguments, *QUIET, "--trainer.max_epochs=3"])
            else:
                cli.main([*arguments, *QUIET])
    assert ran == ["run", "fit", "test", "predict", "predict", "score", "score"]
    shown = capsys.readouterr().out
    assert "logs/mebns/version_0/checkpoints/best.ckpt" in shown
    assert "coverage of 451 held-out edges" in shown

    links = pd.read_parquet("missing_links.parquet")
    assert links["rank"].tolist() == list(range(1, 101))
    routes, airports = names["routes"], names["airports"]
    known = {frozenset(pair) for pair in routes[["source", "target"]].itertuples(index=False)}
    assert not known & {frozenset(pair) for pair in zip(links["source"], links["target"], strict=True)}

    connections = pd.read_csv("connections.csv")
    types = dict(zip(airports["node"], airports["type"], strict=True))
    assert connections["source"].map(types).eq("medium_airport").all()
    assert connections["target"].map(types).eq("large_airport").all()
    assert connections.groupby("source").size().eq(3).all()
    assert connections["source"].nunique() == (airports["type"] == "medium_airport").sum()

    scores = pd.read_csv("scores.csv")
    assert scores["source"].tolist() == links["target"].tolist()[:3]
    assert scores["logit"].tolist() == pytest.approx(links["logit"].tolist()[:3], abs=1e-4)
    new = pd.read_csv("new_scores.csv")
    assert new["new_node"].tolist() == [True, True]
    assert new["score"].between(0, 1).all()
    assert len(names["of_one"]) == 10
    assert names["scores"]["new_node"].tolist() == [True, True]
    assert len(names["links"]) == 100
