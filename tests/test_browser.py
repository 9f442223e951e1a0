"""What a user sees in TensorBoard: a short run opened in a headless Chromium, its tags, charts and pictures found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tensorboard import program

from mebns_pl.cli import main as cli
from references.browser import Browser, find_chromium

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "experiment"
PICTURES = Path(__file__).resolve().parent.parent / "build" / "browser"
PLAIN = {"overlap", "flow", "crossings", "scores", "most_migrated"}
FIGURES = {"air_routes_gcn_dns": PLAIN, "air_routes_gcn_mebns": PLAIN | {"weights", "filter", "meta_set"}}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on the path (apt-get install chromium)"),
]

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
        for name in FIGURES:
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


def test_time_series_have_the_scalars_and_the_figures(browser: Browser, url: str) -> None:
    open_tab(browser, url, "timeseries", 3000)
    wait_for_text(browser, *FIGURES, "figures", "migration", "final", "weights", "landscape")
    browser.wait_for(f"found('img').filter(shown).length >= {len(PLAIN)} && {LOADED}")
    for name in PLAIN:
        assert browser.ask(f"text().includes('/{name}')"), name
    assert "hp_metric" not in browser.ask("text()")
    browser.picture(PICTURES / "time_series.png")


@pytest.mark.parametrize(
    ("group", "expected"),
    [("figures/(overlap|flow|crossings)", 6), ("figures/(scores|most)", 4), ("(weights|filter|meta_set|surface)", 4)],
    ids=["movement", "scores", "method"],
)
def test_figures_of_both_runs_are_there_and_none_is_empty(
    browser: Browser, url: str, group: str, expected: int
) -> None:
    open_tab(browser, url, f"images&tagFilter={quote(group)}", 1500)
    wait_for_text(browser, "Tags matching")
    pane = "(found('tf-category-paginated-view')[0] || document.head)"
    matching = f"[...everything({pane})].filter(e => e.matches('img') && shown(e))"
    browser.wait_for(f"{matching}.length === {expected} && {LOADED}")
    shares = browser.ask(INK)
    assert min(shares) > 0.02, shares
    browser.picture(PICTURES / f"images_{expected}_{group.strip('(').partition('|')[0].replace('/(', '_')}.png")


def test_custom_scalars_show_runs_side_by_side(browser: Browser, url: str) -> None:
    open_tab(browser, url, "custom_scalars", 1700)
    wait_for_text(
        browser, "Migration", "Share of the hard set that is new", "Validation MRR", "Share of candidates kept"
    )
    both = [f"migration/churn@1 ({name}/version_0)" for name in FIGURES]
    wait_for_text(browser, *both)
    # Lines come after their legends: every one of the nine charts has some
    drawn = "found('.render-area path').filter(path => (path.getAttribute('d') || '').includes('L')).length"
    browser.wait_for(f"{drawn} >= 9")
    browser.picture(PICTURES / "custom_scalars.png")


def test_hparams_compare_options_with_what_came_of_them(browser: Browser, url: str) -> None:
    open_tab(browser, url, "hparams", 900)
    wait_for_text(browser, "Selector", "HardestSelector", "MeBNS", "Plain", "final/best_val_mrr", "final/late_churn")
    assert "hp_metric" not in browser.ask("text()")
    browser.picture(PICTURES / "hparams.png")
