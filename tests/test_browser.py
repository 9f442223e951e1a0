"""What a user sees in a headless Chromium: a short run in TensorBoard, and the page of a report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tensorboard import program

from mebns_pl.callbacks.board import LAYOUT
from mebns_pl.cli import main as cli
from references.browser import LISTEN, MARKS, PICTURES, Browser, find_chromium
from references.studies import made_up_study, write_study

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "experiment"
RUNS = ("air_routes_gcn_dns", "air_routes_gcn_mebns")
GROUPS = ("1_quality", "2_migration", "2_migration_pictures", "3_filter", "4_weights", "5_meta", "6_losses", "7_cost")
FRAMES = 5
"""Of each picture."""

pytestmark = MARKS

LOADED = "found('img').filter(shown).every(i => i.complete && i.naturalWidth > 0)"
# The share of a picture's pixels that are not of its commonest colour, which is its background
INK = """
(async () => {
  const shares = [];
  for (const image of found('img').filter(shown)) {
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const pixels = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    const counts = new Map();
    for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) || 0) + 1);
    shares.push(1 - Math.max(...counts.values()) / pixels.length);
  }
  return shares;
})()
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """TensorBoard on a plain and a MeBNS run of twelve epochs with a landscape, as the demo makes them."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in RUNS:
            options = ["--trainer.max_epochs=12", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
            if name.endswith("mebns"):  # else all of it is warm-up, of which filter and weights have no figures
                options += [
                    "--model.init_args.schedule.warmup=3",
                    "--model.init_args.teaching=OwnLearning",
                    "--model.init_args.teaching.epochs=3",
                ]
            cli.main(["fit", "-c", str(CONFIGS / f"{name}.yaml"), *options])
            checkpoint = f"logs/{name}/version_0/checkpoints/last.ckpt"
        with pytest.raises(SystemExit, match="0"):
            cli.main(["landscape", "--ckpt", checkpoint, "--grid=11", "--num_probes=5"])
    board = program.TensorBoard()
    board.configure(argv=["", "--logdir", str(folder / "logs"), "--port", "0", "--load_fast", "false"])
    return board.launch()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program_path = find_chromium()
    assert program_path is not None
    with Browser(program_path, tmp_path_factory.mktemp("profile")) as page:
        yield page


def open_tab(browser: Browser, url: str, tab: str, height: int) -> None:
    """Opens a tab of TensorBoard anew, in a window that shows all of it."""
    browser.resize(1500, height)
    browser.open("about:blank")
    browser.open(f"{url}#{tab}")


def wait_for_text(browser: Browser, *words: str) -> None:
    for word in words:
        browser.wait_for(f"text().includes({word!r})")


def test_time_series_begin_with_quality_and_end_with_the_test(browser: Browser, url: str) -> None:
    open_tab(browser, url, "timeseries", 3600)
    wait_for_text(browser, *RUNS, *GROUPS, "8_embeddings", "final", "landscape", "/MRR")
    words = browser.ask("text()").split("\n")
    expected = [*GROUPS, "8_embeddings", "final", "held_out", "landscape"]
    # Cards name their group, too, apart from the rest of their tags
    assert list(dict.fromkeys(word for word in words if word in expected)) == expected
    assert next(word for word in words if re.fullmatch(r"/\w+", word)) == "/MRR"
    assert "epoch" not in words
    assert "hp_metric" not in words
    browser.wait_for(f"found('img').filter(shown).length >= {len(RUNS)} && {LOADED}")
    browser.picture(PICTURES / "time_series.png")


@pytest.mark.parametrize(
    ("group", "expected", "frames"),
    [
        ("pictures/(overlap|flow|crossings)", 6, FRAMES),
        ("pictures/(scores|most)", 4, FRAMES),
        ("(with_phases|3_filter/picture)", 3, FRAMES - 1),  # the first frame is before the first validation
        ("([45].*/picture|surface)", 3, 1),
        ("8_embeddings", 2, 2),
    ],
    ids=["movement", "scores", "phases", "method", "embeddings"],
)
def test_pictures_of_both_runs_are_there_over_time_and_none_is_empty(
    browser: Browser, url: str, group: str, expected: int, frames: int
) -> None:
    open_tab(browser, url, f"images&tagFilter={quote(group)}", 1500)
    wait_for_text(browser, "Tags matching")
    pane = "(found('tf-category-paginated-view')[0] || document.head)"
    matching = f"[...everything({pane})].filter(e => e.matches('img') && shown(e))"
    browser.wait_for(f"{matching}.length === {expected} && {LOADED}")
    sliders = f"[...everything({pane})].filter(e => e.matches('paper-slider')).map(slider => slider.max + 1)"
    assert min(browser.ask(sliders), default=1) >= frames
    shares = browser.ask(INK)
    assert min(shares) > 0.02, shares
    name = "".join(letter if letter.isalnum() else "_" for letter in group).strip("_")
    browser.picture(PICTURES / f"images_{name}.png")


def test_custom_scalars_show_runs_side_by_side(browser: Browser, url: str) -> None:
    open_tab(browser, url, "custom_scalars", 2800)
    titles = [title for charts in LAYOUT.values() for title in charts]
    wait_for_text(browser, *LAYOUT, *titles)
    wait_for_text(browser, *(f"2_migration/churn@1 ({name}/version_0)" for name in RUNS))
    # Lines come after their legends: every one of the charts has some
    drawn = "found('.render-area path').filter(path => (path.getAttribute('d') || '').includes('L')).length"
    browser.wait_for(f"{drawn} >= {len(titles)}")
    browser.picture(PICTURES / "custom_scalars.png")


def test_projector_has_the_nodes_of_each_learner(browser: Browser, url: str) -> None:
    open_tab(browser, url, "projector", 900)
    # Of MeBNS: student and teacher after the warm-up, half of the run, and at its end
    wait_for_text(browser, "student, epoch 0002", "teacher, epoch 0011", "352", "share of hard pairs", "degree")
    assert browser.ask("found('canvas').filter(shown).length") >= 1
    browser.picture(PICTURES / "projector.png")


def test_hparams_compare_options_with_what_came_of_them(browser: Browser, url: str) -> None:
    open_tab(browser, url, "hparams", 900)
    wait_for_text(browser, "Selector", "HardestSelector", "MeBNS", "Plain", "final/best_val_mrr", "final/late_churn")
    assert "hp_metric" not in browser.ask("text()")
    browser.picture(PICTURES / "hparams.png")


# --- the page of a report ---

NASTY = "<img src=x onerror=alert(1)> & 'quotes'"
AXES = {
    "graph": ["air_routes", "usair", "celegans", NASTY],
    "model": ["gcn_dot", "gcn_mlp"],
    "sampler": ["uniform", "dns"],
    "system": ["Plain", "MeBNS"],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a made-up study that MeBNS wins with one model and loses with the other, with a failed run."""
    frame = made_up_study(
        AXES, 10, lambda arm: (arm["system"] == "MeBNS") * (0.03 if arm["model"] == "gcn_mlp" else -0.03)
    )
    frame.loc[5, ["status", "error"]] = ["failed", NASTY]
    frame.loc[7, "notes"] = '[{"code": "constant-scores", "text": "all scores are equal"}]'
    folder = write_study(frame, tmp_path_factory.mktemp("study"))
    with pytest.raises(SystemExit, match="0"):
        cli.main(["report", str(folder)])
    return f"file://{folder}/report/report.html"


def test_a_report_opens_without_network_and_shows_its_figures(browser: Browser, page: str) -> None:
    browser.call("Network.enable")
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.call("Network.emulateNetworkConditions", **offline)
    browser.call("Page.enable")
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)
    browser.resize(1280, 1000)
    browser.open(page)
    names = ["differences-0", "differences-1", "ranks", "curves", "cost"]
    browser.wait_for(
        f"found('figure').length === {len(names)} && found('figure').every(f => found('.main-svg').length)"
    )
    assert browser.ask("found('figure').map(figure => figure.id)") == names
    for name in names:
        drawn = f"document.querySelectorAll('#{name} .trace').length"
        assert browser.ask(drawn) > 1, name
    assert browser.ask("complaints") == []
    assert browser.ask("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0
    assert browser.ask("found('img').length") == 0  # none of the names is taken for a tag
    assert browser.ask("document.documentElement.scrollWidth") == 1280
    height = browser.ask("document.documentElement.scrollHeight")
    browser.resize(1280, min(height, 12_000))
    browser.picture(PICTURES / "report.png")


def test_a_reports_verdict_is_on_top_and_in_words(browser: Browser, page: str) -> None:
    browser.resize(1280, 1000)
    browser.open(page)
    in_sight = "found('.verdict p').filter(p => p.getBoundingClientRect().bottom < 1000).map(p => p.innerText)"
    (first, *_) = browser.ask(in_sight)
    assert first.startswith("In test MRR, of 4 comparisons 2 are won, 2 lost")
    for words in ("MeBNS (gcn_mlp, dns) wins over Plain over 4 graphs together", NASTY, "all scores are equal"):
        assert browser.ask("text()").count(words) >= 1, words


def test_figures_of_a_report_fit_on_paper(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.call("Page.printToPDF", printBackground=True)["data"]
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.resize(720, 1000)
    browser.wait_for("found('.main-svg').every(svg => svg.getBoundingClientRect().right <= 725)")
    browser.call("Emulation.setEmulatedMedia", media="")
