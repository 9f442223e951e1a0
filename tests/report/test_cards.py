"""What a report holds runs against: heuristics and chance of their own splits, and their cards."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from mebns_pl.report.build import as_latex, as_markdown, as_page, build_report
from mebns_pl.report.cards import MOST_CARDS, beside, cards_of
from mebns_pl.report.results import results_of
from references.studies import made_up_study, write_study

TWO = {"graph": ["air_routes"], "system": ["Plain", "MeBNS"]}
NASTY = "<b>paths</b>"


def with_cards(frame: pd.DataFrame, folder: Path) -> Path:
    """Writes a study whose runs have cards; heuristics depend on the split alone."""
    write_study(frame, folder)
    for path, seed, value in frame[["folder", "split_seed", "test/mrr"]].itertuples(index=False, name=None):
        file = folder / path / "metrics.json"
        heuristics = {NASTY: {"mrr": 0.2 + 0.1 * seed, "auc": 0.8}, "CommonNeighbors": {"mrr": 0.1, "auc": 0.9}}
        card = {"heuristics": heuristics, "chance": {"mrr": 0.02, "auc": 0.5}, "plain": None}
        card |= {"sentences": ["Know this."], "recommendation": "Do that."}
        test = {"metrics": {"mrr": value, "auc": 0.9}, "intervals": {"mrr": [0.1, 0.4]}}
        file.write_text(json.dumps({**json.loads(file.read_text()), "test": test, "card": card}))
    return folder


def test_heuristics_and_chance_count_once_a_split(tmp_path: Path) -> None:
    frame = made_up_study(TWO, 2)
    found = beside(results_of(frame, "test/mrr", with_cards(frame, tmp_path)))
    assert found[found["name"] == NASTY]["value"].tolist() == [pytest.approx(0.2), pytest.approx(0.3)]
    assert found[found["name"] == "chance"]["value"].tolist() == [0.02, 0.02]
    assert beside(results_of(frame, "val/mrr", tmp_path)).empty  # of validation there is no card


def test_the_table_of_means_ends_with_them(tmp_path: Path) -> None:
    frame = made_up_study(TWO, 4)
    table = build_report(frame, with_cards(frame, tmp_path)).tables[0]
    assert table.rows[-2:] == [["best heuristic", f"0.350 ± 0.129 {NASTY}"], ["chance", "0.020 ± 0.000"]]
    assert "best heuristic" not in str(build_report(frame, tmp_path / "nowhere").tables[0].rows)


def test_the_cards_of_few_runs_are_shown(tmp_path: Path) -> None:
    frame = made_up_study(TWO, 2)
    report = build_report(frame, with_cards(frame, tmp_path))
    card = report.cards[0]
    assert card.title == "Plain, air_routes, seed 0"
    assert [row[0] for row in card.table.rows] == ["this run", NASTY, "CommonNeighbors", "chance"]
    assert card.sentences == ["Know this.", "Do that."]
    page, text = as_page(report), as_markdown(report)
    assert NASTY not in page
    assert page.count("<strong>Do that.</strong>") == text.count("- Do that.") == len(report.cards) == 4
    assert as_latex(report).count("CommonNeighbors") == 4


def test_of_many_runs_no_card_is_shown(tmp_path: Path) -> None:
    frame = made_up_study(TWO, MOST_CARDS)
    assert cards_of(results_of(frame, "test/mrr", with_cards(frame, tmp_path))) == []


def test_runs_without_a_version_are_of_none() -> None:
    frame = made_up_study(TWO, 3)
    frame.loc[1, ["version", "commit", "machine"]] = None
    assert not any("versions" in remark for remark in build_report(frame, Path("study")).remarks)
