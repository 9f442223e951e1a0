"""The explorer's page of the demo's runs in a headless Chromium: clicked through to a pair, and to a node."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mebns_pl.cli import main as cli
from mebns_pl.explore.build import shown_pairs, write_page
from mebns_pl.explore.runs import ExploredRun, read_runs
from mebns_pl.explore.tables import node_table, pair_table
from references.browser import LISTEN, MARKS, PICTURES, Browser, find_chromium
from references.explored import NASTY, made_up_run

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "experiment"
NAMES = [f"air_routes_gcn_{name}" for name in ("plain", "dns", "mebns")]

pytestmark = MARKS

DRAWN = "['scores', 'fate'].every((id) => document.querySelector(`#${id} .main-svg`))"
CELLS = "found('#rows tr').map((row) => [...row.cells].map((cell) => cell.textContent))"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[ExploredRun]:
    """The demo's three runs, of twelve epochs, with a landscape, and their page."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ["--trainer.max_epochs=12", "--trainer.accelerator=cpu", "--figures.max_snapshots=0"]
        for name in NAMES:
            cli.main(["fit", "-c", str(CONFIGS / f"{name}.yaml"), "--trainer.enable_progress_bar=false", *options])
        checkpoints = [f"--ckpt=logs/{name}/version_0/checkpoints/last.ckpt" for name in (NAMES[0], NAMES[2])]
        for command in (
            ["landscape", *checkpoints, "--grid=3", "--num_probes=3", "--num_pairs=200"],
            ["explore", *(f"logs/{name}/version_0" for name in NAMES), "--out=explorer.html"],
        ):
            with pytest.raises(SystemExit, match="0"):
                cli.main(command)
        return read_runs([folder / "logs" / name for name in NAMES])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    assert program is not None
    with Browser(program, tmp_path_factory.mktemp("profile")) as page:
        page.call("Network.enable")
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        page.call("Network.emulateNetworkConditions", **offline)
        page.call("Page.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)
        yield page


@pytest.fixture
def page(browser: Browser, runs: list[ExploredRun]) -> Browser:
    folder = runs[0].folder
    assert folder is not None
    browser.resize(1400, 1000)
    browser.open(f"file://{folder.parent.parent.parent}/explorer.html")
    return browser


def seconds_of_work(browser: Browser) -> float:
    """Seconds of the processor that the page's main thread has taken, other programs' share left out."""
    found = {item["name"]: item["value"] for item in browser.call("Performance.getMetrics")["metrics"]}
    return float(found["TaskDuration"])


def column(cells: list[list[str]], title: str, browser: Browser) -> list[str]:
    titles = browser.ask("found('#head th').map((cell) => cell.textContent.replace(/ [▾▴]/, ''))")
    return [row[titles.index(title)] for row in cells]


def test_it_opens_at_once_without_network(browser: Browser, runs: list[ExploredRun]) -> None:
    browser.call("Performance.enable", timeDomain="threadTicks")
    before = seconds_of_work(browser)
    assert runs[0].folder is not None
    path = runs[0].folder.parent.parent.parent / "explorer.html"
    browser.resize(1400, 1000)
    browser.open(f"file://{path}")
    browser.wait_for("found('#rows tr').length && found('figure').every((figure) => figure.querySelector('.main-svg'))")
    assert seconds_of_work(browser) - before < 3
    assert path.stat().st_size < 10e6
    names = ["hard-set", "crossings", "flow", "held-out", "landscape"]
    assert browser.ask("found('figure').map((figure) => figure.id)") == names
    assert browser.ask("complaints") == []
    assert browser.ask("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0
    for width in (1400, 420):
        browser.resize(width, 1000)
        browser.wait_for(f"document.documentElement.scrollWidth === {width}")


def test_the_verdict_is_on_top_and_the_same_as_in_the_terminal(page: Browser, runs: list[ExploredRun]) -> None:
    in_sight = "found('.verdict li').filter(p => p.getBoundingClientRect().bottom < 1000).map(p => p.innerText)"
    told = page.ask(in_sight)
    for topic in ("Movement.", "What crosses.", "Weights.", "Filter.", "Best epoch."):
        assert any(line.startswith(topic) for line in told), topic


def test_a_click_goes_through_to_a_pair(page: Browser, runs: list[ExploredRun]) -> None:
    page.ask("found('#runs button')[2].click()")  # MeBNS
    cells = page.ask(CELLS)
    table = pair_table(runs[2].history).iloc[shown_pairs(runs[2].history, 10_000)]
    assert len(cells) == 100
    crossings = [int(cell) for cell in column(cells, f"crossings{NAMES[2]}", page)]
    assert crossings == sorted(table["crossings"], reverse=True)[:100]
    page.ask("found('#rows .open')[0].click()")
    page.wait_for(DRAWN)
    name = page.ask("document.querySelector('#detail h3').textContent")
    (place,) = table.index[(table["source"] + " \u2013 " + table["target"] == name)][:1]
    assert table.loc[place, "crossings"] == crossings[0]
    history = runs[2].history
    traces: dict[str, Any] = {
        trace["name"]: trace
        for trace in page.ask("scores.data.map(({ name, x, y }) => ({ name, x: [...x], y: [...y] }))")
    }
    for run in runs:
        assert traces[f"{run.name}, student"]["y"] == run.history.student[:, place].tolist()
    assert traces[f"{NAMES[2]}, teacher"]["y"] == history.teacher[:, place].tolist()
    filled = page.ask(
        f"scores.data.find((t) => t.name === '{NAMES[2]}, student').marker.symbol.map((s) => !s.endsWith('open'))"
    )
    assert filled == history.hard[:, place].tolist()
    for row, kind in enumerate(("drawn", "dropped", "picked")):
        drawn = page.ask(f"[...fate.data.find((trace) => trace.name === '{kind}').y]")
        assert drawn == history.counts[:, row, place].tolist()
    weights = page.ask("[...fate.data.find((trace) => trace.name === 'weight').y]")
    picked = history.counts[:, 2, place]
    expected = [w / p if p else None for w, p in zip(history.weights[:, place].tolist(), picked.tolist(), strict=True)]
    assert weights == expected
    facts = page.ask("found('#detail dd').map((cell) => cell.textContent)")
    assert facts[-1] == (table.loc[place, "held_out"] or "no")
    common = [history.names[list(history.nodes).index(node)] for node in history.common[place] if node >= 0]
    assert facts[0].startswith(f"{history.num_common[place]}: {', '.join(common)}" if common else "none")
    assert page.ask("complaints") == []
    page.resize(1400, page.ask("document.documentElement.scrollHeight"))
    page.picture(PICTURES / "explorer.png")
    page.resize(420, 1000)
    page.resize(420, min(page.ask("document.documentElement.scrollHeight"), 9000))
    page.picture(PICTURES / "explorer_narrow.png")


def test_nodes_search_sort_and_export(page: Browser, runs: list[ExploredRun]) -> None:
    page.ask("found('#lists button')[1].click()")
    table = node_table(runs[0].history)
    cells = page.ask(CELLS)
    assert [row[0] for row in cells[:3]] == table["node"][:3].tolist()
    page.ask("search.value = 'denver'; search.dispatchEvent(new Event('input'))")
    (row,) = page.ask(CELLS)
    denver = table.set_index("node").loc[row[0]]
    assert [float(cell) for cell in row[1:]] == pytest.approx(denver.tolist(), abs=0.005)
    page.ask("found('#rows .open')[0].click()")
    page.wait_for("document.querySelector('#scores .main-svg')")
    listed = pair_table(runs[0].history).iloc[shown_pairs(runs[0].history, 10_000)]
    of_node = listed.index[(listed[["source", "target"]] == row[0]).any(axis=1)]
    mean = page.ask("[...scores.data[0].y]")
    assert mean == pytest.approx(runs[0].history.student[:, of_node].mean(axis=1), rel=1e-4)
    page.picture(PICTURES / "explorer_node.png")
    page.ask("found('#detail .pairs .open')[0].click()")
    page.wait_for(DRAWN)
    page.ask("found('#lists button')[0].click()")
    page.ask("found('#head button')[0].click()")  # by name
    names = column(page.ask(CELLS), "pair", page)
    assert all("denver" in name.lower() for name in names)
    page.ask("found('#head button')[0].click()")
    assert column(page.ask(CELLS), "pair", page) == names[::-1] != names
    lines = list(csv.reader(io.StringIO(page.ask("explorer.csv()"))))
    assert len(lines) == 1 + len(of_node)
    assert lines[0][:2] == ["pair", f"crossings, {NAMES[0]}"]
    assert page.ask("complaints") == []


def test_names_are_text_and_types_are_listed(browser: Browser, tmp_path: Path) -> None:
    runs = [made_up_run("plain"), made_up_run(NASTY, "MeBNS", seed=3)]
    browser.resize(1400, 1000)
    browser.open(f"file://{write_page(runs, tmp_path / 'nasty.html')}")
    browser.ask("search.value = 'onerror'; search.dispatchEvent(new Event('input'))")
    browser.ask("found('#rows .open')[0].click()")
    browser.wait_for(DRAWN)
    assert "<img src=x onerror=alert(1)>" in browser.ask("document.querySelector('#detail h3').textContent")
    browser.ask("found('#lists button')[2].click(); search.value = ''; search.dispatchEvent(new Event('input'))")
    assert sorted(row[0] for row in browser.ask(CELLS)) == ["hub \u2013 hub", "hub \u2013 other", "other \u2013 other"]
    browser.ask("found('#rows .open')[0].click()")
    browser.wait_for("document.querySelector('#scores .main-svg')")
    browser.ask("found('#lists button')[1].click()")
    assert "\n'=1+1," in browser.ask("explorer.csv()")
    assert browser.ask("found('img').length") == 0
    assert browser.ask("complaints") == []


def test_ten_thousand_pairs_and_three_runs_stay_fluid(browser: Browser, tmp_path: Path) -> None:
    runs = [made_up_run(str(seed), "MeBNS", pairs=10_000, epochs=64, seed=seed) for seed in range(3)]
    browser.call("Performance.enable", timeDomain="threadTicks")
    browser.resize(1400, 1000)
    browser.open(f"file://{write_page(runs, tmp_path / 'many.html')}")
    browser.wait_for("found('#rows tr').length")
    browser.ask("found('#rows .open')[0].click()")
    browser.wait_for(DRAWN)
    took = []
    for act in (
        "found('#rows .open')[7].click()",
        "found('#head button')[1].click()",
        "search.value = 'node 3'; search.dispatchEvent(new Event('input'))",
        "found('#runs button')[1].click()",
    ):
        before = seconds_of_work(browser)
        browser.ask(act)
        browser.ask("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
        took.append(seconds_of_work(browser) - before)
    assert max(took) < 0.7, took
    assert browser.ask("complaints") == []
