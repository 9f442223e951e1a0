"""The report as it is written: what it says, in three formats."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from mebns_pl.analysis.collapse import oracle
from mebns_pl.errors import DataError
from mebns_pl.report.build import Report, as_latex, as_markdown, as_page, build_report, write_report
from references.studies import Effect, made_up_study, write_study

TWO = {"graph": ["air_routes"], "system": ["Plain", "MeBNS"]}
NASTY = "<script>alert(1)</script> a_b|c & 5 % $x$ \\y {z} \"q\" 'r'"


def report_of(frame: pd.DataFrame, folder: Path = Path("study"), metric: str = "test/mrr") -> Report:
    return build_report(frame, folder, metric)


def better(amount: float) -> Effect:
    return lambda arm: amount * (arm["system"] == "MeBNS")


def test_a_win_is_told_with_its_numbers() -> None:
    (verdict,) = report_of(made_up_study(TWO, 10, better(0.05))).verdicts
    assert verdict.title == "system: MeBNS against Plain"
    assert verdict.summary == "In test MRR MeBNS wins over Plain on air_routes."
    assert re.fullmatch(
        r"Mean difference \+0\.05\d\d \(95 % interval \+0\.0\d{3} to \+0\.0\d{3}\) over 10 pairs, relative gain "
        r"\+1\d\.\d %; Wilcoxon's p = 0\.002\.",
        verdict.lines[0].detail,
    )


def test_a_loss_is_told_as_plainly() -> None:
    (verdict,) = report_of(made_up_study(TWO, 10, better(-0.05))).verdicts
    assert verdict.summary == "In test MRR MeBNS loses to Plain on air_routes."


def test_with_five_pairs_it_says_that_no_test_can_tell_and_how_many_seeds_would() -> None:
    report = report_of(made_up_study(TWO, 5, better(0.01)))
    (line,) = report.verdicts[0].lines
    assert line.lead == "MeBNS cannot be told apart from Plain on air_routes"
    assert "With fewer than six pairs no Wilcoxon test can reach 0.05" in line.detail
    assert re.search(r"To tell a difference of this size four times in five takes \d+ seeds", line.detail)
    assert any("No comparison here has six pairs" in remark for remark in report.remarks)


def test_level_arms_are_told_what_they_could_tell() -> None:
    (line,) = report_of(made_up_study(TWO, 10)).verdicts[0].lines
    assert re.search(r"The 10 pairs here would tell one of 0\.0\d+ as often\.", line.detail)


def test_a_p_value_is_told_corrected_also_where_the_other_test_is_that_of_the_graphs() -> None:
    axes = {**TWO, "graph": ["a", "b"]}
    (line,) = report_of(made_up_study(axes, 6, better(0.006), generator_seed=19)).verdicts[0].lines
    assert "Wilcoxon's p = 0.042, after Holm's correction 0.085. The interval by itself is clear of 0" in line.detail


def test_many_comparisons_are_summed_up_graph_by_graph() -> None:
    axes = {"graph": ["up", "down"], "system": ["Plain", "MeBNS"], "model": ["gcn", "ncn"]}
    sides = {("up", "gcn"): 0.1, ("down", "gcn"): -0.1}
    frame = made_up_study(axes, 10, lambda arm: (arm["system"] == "MeBNS") * sides.get((arm["graph"], arm["model"]), 0))
    (verdict,) = report_of(frame).verdicts
    assert verdict.summary == (
        "In test MRR, of 2 comparisons 0 are won, 0 lost, and in 2 the two cannot be told apart. "
        "On single graphs, 1 of 4 are won and 1 lost."
    )
    assert verdict.lines[0].by_graph == "Graph by graph: wins on up; loses on down."
    assert verdict.lines[1].by_graph == "No graph by itself can be called."


def test_runs_of_an_oracle_are_told_apart() -> None:
    frame = made_up_study(TWO, 3)
    assert "data.oracle" not in " ".join(report_of(frame).remarks)
    frame.loc[:1, "notes"] = json.dumps([{"code": "oracle", "text": oracle().text}])
    report = report_of(frame)
    assert any(told.startswith("2 runs had held-out edges left out") for told in report.remarks)
    assert "no honest result" in as_markdown(report)


def test_remarks_say_what_numbers_do_not() -> None:
    frame = made_up_study({**TWO, "model": ["gcn"]}, 6)
    frame.loc[0, ["status", "error"]] = ["failed", "boom"]
    frame["split_seed"] = 0
    frame.loc[3, "commit"] = "fedcba9"
    remarks = " ".join(report_of(frame, metric="val/mrr").remarks)
    for told in ("11 runs with val MRR: 2 arms on 1 graph", "1 run missing or without result", "share one split"):
        assert told in remarks
    for told in ("metric of validation", "2 commits: 0123abc, fedcba9", "The same in all runs: model gcn"):
        assert told in remarks
    frame["split_seed"] = [seed // 2 for seed in frame["seed"]]
    assert "Several seeds share a split" in " ".join(report_of(frame).remarks)


def test_a_single_arm_has_tables_and_nothing_to_compare() -> None:
    report = report_of(made_up_study({"graph": ["a"]}, 3))
    assert report.verdicts == []
    assert "nothing is compared" in report.remarks[-1]
    assert [table.name for table in report.tables] == ["means", "cost"]


def test_no_common_seeds_is_told() -> None:
    frame = made_up_study(TWO, 4)
    frame = frame[(frame["axis/system"] == "Plain") == (frame["seed"] < 2)]
    (line,) = report_of(frame).verdicts[0].lines
    assert line.detail == "No pairs of 4 (the others have gaps): there are no seeds with which both have finished."


def test_tables_show_means_deviations_and_gaps() -> None:
    frame = made_up_study(TWO, 4)
    frame.loc[(frame["axis/system"] == "MeBNS") & (frame["seed"] == 3), ["status", "error"]] = ["failed", "boom"]
    tables = {table.name: table for table in report_of(frame).tables}
    plain = frame.loc[frame["axis/system"] == "Plain", "test/mrr"]
    assert tables["means"].rows[0] == ["Plain", f"{plain.mean():.3f} ± {plain.std():.3f}"]
    assert tables["means"].rows[1][1].endswith(" (3 of 4)")
    assert tables["differences"].rows[0][4] == "3 of 4"
    assert tables["gaps"].rows == [["MeBNS", "air_routes", "failed: boom", "3/3", "1"]]
    text = as_markdown(report_of(frame))
    assert "failed: boom" in text


class Texts(HTMLParser):
    """Collects what a page shows, its tags, and the addresses that it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def nasty_study() -> pd.DataFrame:
    frame = made_up_study({"graph": [NASTY], "system": ["Plain", NASTY]}, 6)
    frame.loc[7, ["status", "error"]] = ["failed", NASTY]
    frame.loc[1, "notes"] = json.dumps([{"code": NASTY, "text": NASTY}])
    return frame


def parsed(page: str) -> Texts:
    """A page without Plotly's own code, which is long."""
    found = Texts()
    found.feed(page.replace(get_plotlyjs(), ""))
    return found


def test_names_are_escaped_in_the_page(tmp_path: Path) -> None:
    page = as_page(report_of(nasty_study(), write_study(nasty_study(), tmp_path / "a<b>")))
    plain = parsed(as_page(report_of(made_up_study(TWO, 6), write_study(made_up_study(TWO, 6), tmp_path / "plain"))))
    found = parsed(page)
    assert "<script>alert(1)" not in page
    assert found.text.count(NASTY) > 5
    assert found.tags.count("script") == plain.tags.count("script")
    assert "b" not in found.tags


def test_the_page_needs_no_network() -> None:
    assert parsed(as_page(report_of(made_up_study(TWO, 6)))).links == ["data:,"]


def test_names_are_escaped_in_latex_and_markdown() -> None:
    report = report_of(nasty_study())
    tex, text = as_latex(report), as_markdown(report)
    bare = re.sub(r"\\[\\{}_&%$#]|\$\\pm\$|\$-\$", "", tex)
    assert bare.count("{") == bare.count("}")
    assert "$" not in bare
    assert all(not line.strip().startswith("%") for line in tex.splitlines()[1:])
    for row in re.findall(r"^.*\\\\$", tex, flags=re.M):
        assert "_" not in re.sub(r"\\_", "", row)
    assert "<script>" not in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert all(width > 1 for width in widths)
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_latex_tables_are_booktabs() -> None:
    tex = as_latex(report_of(made_up_study(TWO, 6)))
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert tex.count(rule) == tex.count("\\begin{tabular}") == 3
    assert "$\\pm$" in tex
    assert tex.isascii()


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    frame = made_up_study({**TWO, "graph": ["a", "b"]}, 6)
    folder = write_study(frame, tmp_path / "study")
    first = [path.read_bytes() for path in write_report(report_of(frame, folder), tmp_path / "one")]
    second = [path.read_bytes() for path in write_report(report_of(frame, folder), tmp_path / "two")]
    assert first == second


def test_formats_are_those_asked_for(tmp_path: Path) -> None:
    report = report_of(made_up_study(TWO, 2))
    files = write_report(report, tmp_path / "out", ["tex", "md"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.md", "report.tex"]
    assert [path.suffix for path in files] == [".tex", ".md"]
    with pytest.raises(DataError, match="format: got 'pdf'; allowed are md, tex, html"):
        write_report(report, tmp_path / "out", ["pdf"])
