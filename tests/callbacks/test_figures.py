"""The numbers behind the figures by hand, and the figures in TensorBoard's files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from mebns_pl.analysis import figures
from mebns_pl.analysis.figures import Phases
from mebns_pl.analysis.migration import (
    binned_crossings,
    hard_set,
    hard_set_overlap,
    hard_shares,
    newcomers,
)
from mebns_pl.callbacks.board import LAYOUT, BoardLogger
from mebns_pl.callbacks.cost import InspectionCost
from mebns_pl.callbacks.migration_figures import (
    LONGEST,
    TAGS,
    MigrationFigures,
    _shortened,
    frame_due,
    phases_of,
)
from mebns_pl.mebns.teachings.learning import OwnLearning
from mebns_pl.systems.outputs import _band
from references.runs import ALL_WARM_UP, MAKE, fit, make_data, make_mebns, make_plain, probe_monitor

# Five pairs over four epochs; the two highest are hard: {0, 1}, {0, 2}, {2, 3}, {2, 3}
SCORES = torch.tensor(
    [[5.0, 4.0, 3.0, 2.0, 1.0], [5.0, 1.0, 4.0, 2.0, 3.0], [1.0, 2.0, 5.0, 4.0, 3.0], [0.0, 0.0, 7.0, 7.0, 0.0]]
)
HARD = torch.stack([hard_set(scores, 0.4) for scores in SCORES])


def test_overlap_by_hand() -> None:
    third = 1 / 3
    expected = [[1, third, 0, 0], [third, 1, third, third], [0, third, 1, 1], [0, third, 1, 1]]
    torch.testing.assert_close(hard_set_overlap(HARD), torch.tensor(expected, dtype=torch.float64))


def test_newcomers_by_hand() -> None:
    """Hard again, hard for the first time; together the churn."""
    expected = [[0, 1 / 2], [0, 1 / 2], [0, 0]]
    torch.testing.assert_close(newcomers(HARD), torch.tensor(expected, dtype=torch.float64))
    back = torch.tensor([[True, False], [False, True], [True, False]])
    assert newcomers(back).tolist() == [[0, 1], [1, 0]]


def test_crossings_are_binned_by_doubling() -> None:
    flips = torch.tensor([0, 0, 1, 3, 4, 4, 5, 9])
    expected = [(0, 0, 2), (1, 1, 1), (2, 2, 0), (3, 4, 3), (5, 8, 1), (9, 16, 1)]
    assert binned_crossings(flips) == expected
    assert binned_crossings(torch.zeros(3, dtype=torch.int64)) == [(0, 0, 3)]


def test_hard_shares_by_hand() -> None:
    pairs = torch.tensor([[0, 0, 1], [1, 2, 2]])
    count, share = hard_shares(pairs, torch.tensor([True, False, False]), 4)
    assert count.tolist() == [2, 2, 2, 0]
    assert share.tolist()[:3] == [0.5, 0.5, 0]
    assert share[3].isnan()


def test_heat_map_shows_the_overlap() -> None:
    figure = figures.overlap_figure(HARD, [0, 2, 4, 6])
    axes = figure.axes[0]
    (mesh,) = axes.collections
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(4, 4), hard_set_overlap(HARD))
    assert axes.get_xlim() == (-1, 7)
    assert figure.get_suptitle() == "Overlap of hard sets: 1.00 from epoch 4 to 6"


@pytest.mark.parametrize("epochs", [[0, 2, 4, 6], [0, 1, 4, 6]], ids=["even", "uneven"])
def test_flow_figure_stacks_the_newcomers_in_percent(epochs: list[int]) -> None:
    figure = figures.flow_figure(HARD, epochs)
    again, first = figure.axes[0].collections
    for place, epoch in enumerate(epochs[1:]):
        both = [area.get_paths()[0].vertices for area in (again, first)]
        tops = [area[area[:, 0] == epoch, 1].max() for area in both]
        assert tops == pytest.approx(100 * newcomers(HARD)[place].cumsum(0).numpy())
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "hard again",
        "hard for the first time",
    ]
    since = "2 epochs before" if epochs[1] == 2 else "the snapshot before"
    assert figure.get_suptitle() == f"New in the hard set since {since}: 0 %"


def test_flow_of_two_snapshots_is_bars() -> None:
    bars = figures.flow_figure(HARD[:2], [0, 1]).axes[0].patches
    assert [bar.get_height() for bar in bars] == [0, 50]


def test_crossings_are_told_bin_by_bin() -> None:
    figure = figures.flips_figure(torch.tensor([0, 0, 0, 1, 3]), ", epoch 7")
    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == [3, 1, 0, 1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "3\u20134"]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "1"]
    assert figure.get_suptitle() == "2 of 5 pairs crossed the border, epoch 7"


def test_phases_figure_has_the_best_epoch_and_the_churn() -> None:
    figure = figures.phases_figure({0: 0.1, 2: 0.3, 4: 0.2}, [0.5, 0.4, 0.2, 0.1], Phases(warmup=3))
    upper, lower = figure.axes
    assert upper.lines[0].get_xydata().tolist() == [[0, 0.1], [2, 0.3], [4, 0.2]]
    assert upper.lines[1].get_xydata().tolist() == [[2, 0.3]]
    np.testing.assert_allclose(lower.lines[0].get_xydata(), [[1, 50], [2, 40], [3, 20], [4, 10]])
    assert figure.get_suptitle() == "Best MRR 0.300 in epoch 2 (in warm-up), late churn 0.15"


def test_a_flat_mrr_looks_flat() -> None:
    figure = figures.phases_figure({4: 0.10119, 9: 0.10121}, [0.5])
    upper = figure.axes[0]
    assert np.diff(upper.get_ylim()) == pytest.approx(0.01, rel=0.01)
    figure.draw_without_rendering()
    assert upper.yaxis.get_offset_text().get_text() == ""


def test_nearly_equal_logits_have_whole_tick_labels() -> None:
    band = [[5.00001, 5.00002], [5.00001, 5.00003]]
    figure = figures.filter_figure([0, 1], [1.0, 0.5], band, band)
    figure.draw_without_rendering()
    assert [axes.yaxis.get_offset_text().get_text() for axes in figure.axes] == ["", ""]


def test_filter_figure_shows_between_which_logits_the_kept_lie() -> None:
    band, offered = [[-1.0, 1.0], [0.0, 0.5]], [[-1.0, 1.0], [-2.0, 0.75]]
    figure = figures.filter_figure([0, 1], [1.0, 0.6], band, offered)
    upper, lower = figure.axes
    assert upper.lines[0].get_ydata().tolist() == [100, 60]
    found = {area.get_label(): area.get_paths()[0].vertices for area in lower.collections}
    ends = {name: sorted(set(at[at[:, 0] == 1, 1].tolist())) for name, at in found.items()}
    assert ends == {"harder: all dropped": [0.5, 0.75], "range of the kept": [0, 0.5], "easier: all dropped": [-2, 0]}
    assert figure.get_suptitle() == "Filter: keeps 60 % of the candidates"


def test_weights_figure_shows_the_learned_factor() -> None:
    starting = torch.tensor([1.0, 2.0, 0.0, 1.0])
    factors = torch.tensor([0.5, 1.0, 9.0, 1.5])
    figure = figures.weights_figure(starting * factors, starting, torch.arange(4.0), None)
    (mesh,) = figure.axes[0].collections
    assert np.asarray(mesh.get_array()).sum() == 3  # where nothing is to be weighed there is no factor
    spread = np.std([0.5, 1.0, 1.5])
    assert figure.get_suptitle() == f"Weights moved by {100 * spread:.2g} %"
    equal = figures.weights_figure(torch.ones(4), torch.ones(4), torch.arange(4.0), torch.arange(4.0))
    assert equal.get_suptitle() == "Weights moved by 0 %, next to nothing"


def test_strips_are_hard_when_the_pair_is() -> None:
    figure = figures.examples_figure(["a \u2013 b", "c \u2013 d"], HARD[:, :2].t(), [1, 2], [0, 2, 4, 6])
    axes = figure.axes[0]
    for row in (0, 1):
        assert np.asarray(axes.collections[row].get_array()).flatten().tolist() == HARD[:, row].tolist()
    assert [text.get_text() for text in axes.texts] == ["a \u2013 b", " 1", "c \u2013 d", " 2"]


def test_ridges_count_every_score_once() -> None:
    """A curve's heights are a histogram of its group, to its highest."""
    generator = torch.Generator().manual_seed(0)
    probe, edges = torch.randn(3, 200, generator=generator), torch.randn(3, 80, generator=generator) + 1
    hard = torch.stack([hard_set(scores, 0.2) for scores in probe])
    figure = figures.ridge_figure(edges, probe, hard, [0, 1, 2])
    above = float((edges[2][:, None] > probe[2][hard[2]].median()).float().mean())
    assert figure.get_suptitle() == f"Scores: {100 * above:.0f} % of edges above the median hard pair"
    both = torch.cat([edges.flatten(), probe.flatten()])
    ends = np.linspace(float(both.quantile(0.005)), float(both.quantile(0.995)), 61)
    for row, line in enumerate(figure.axes[0].lines[:3]):
        counts = np.histogram(np.clip(edges[row].numpy(), ends[0], ends[-1]), ends)[0]
        np.testing.assert_allclose(line.get_ydata(), row + 0.9 * counts / counts.max(), rtol=1e-5)


def test_meta_set_and_embeddings_show_their_points() -> None:
    mean, std, labels = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.25]), torch.tensor([1.0, 0.0])
    edges, others = figures.meta_set_figure(mean, std, labels).axes[0].collections
    assert [edges.get_offsets().tolist(), others.get_offsets().tolist()] == [[[2, 0.5]], [[-1, 0.25]]]
    at, share = torch.rand(50, 2), torch.full((50,), torch.nan)
    share[:10] = torch.arange(10) / 10
    axes = figures.embeddings_figure({"student": at}, {"student": 0.5}, share).axes[0]
    grey, seen = axes.collections
    assert (len(grey.get_offsets()), len(seen.get_offsets())) == (40, 10)
    assert np.asarray(seen.get_array()) == pytest.approx(share[:10].numpy())
    assert axes.get_xlabel() == "student, 50 %"


def test_phases_are_marked_where_time_is() -> None:
    phases = Phases(warmup=3, frozen=4, refreshes=(3, 5))
    drawn = [
        *figures.phases_figure({0: 0.1, 6: 0.2}, [0.1] * 6, phases).axes,
        figures.flow_figure(HARD, [0, 2, 4, 6], phases).axes[0],
        figures.examples_figure(["a"], HARD[:, :1].t(), [1], [0, 2, 4, 6], phases).axes[0],
        figures.overlap_figure(HARD, [0, 2, 4, 6], phases).axes[0],
        *figures.filter_figure([0, 6], [1, 1], [[0, 1]] * 2, [[0, 1]] * 2, phases).axes,
    ]
    for axes in drawn:
        upright = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
        assert 3.5 in upright  # the teacher's last epoch is 3
        shaded = [patch.get_x() + patch.get_width() for patch in axes.patches]
        assert 2.5 in (*upright, *shaded)  # and that of the warm-up 2
        assert any(list(line.get_xdata()) == [3, 5] for line in axes.lines)
    assert phases.told == "Grey: warm-up. Dashed: the teacher is frozen. Triangles: a new meta set."
    assert Phases().told == ""


def test_band_of_the_filter_by_hand() -> None:
    """Means of the least and the highest that is kept, and of all, over the anchors that keep any."""
    hardness = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 7.0], [8.0, 9.0, 9.0]])
    kept = torch.tensor([[True, True, False], [False, True, True], [False, False, False]])
    assert _band(hardness, kept, kept).tolist() == [3.0, 4.5]
    assert _band(hardness, torch.ones_like(kept), kept).tolist() == [2.5, 5.0]
    assert _band(None, kept, kept).isnan().all()


@pytest.mark.parametrize(
    ("epochs", "phases"),
    [([0, 1], Phases()), (list(range(0, 90, 3)), Phases(1, 1, (1,)))],
    ids=["two epochs, plain", "many, MeBNS"],
)
def test_every_figure_has_title_caption_and_labels(epochs: list[int], phases: Phases) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    count = len(epochs)
    probe = random(count, 50)
    hard = torch.stack([hard_set(scores, 0.2) for scores in probe])
    band = [[-1.0, 0.1]] * count
    drawn = [
        figures.phases_figure(dict.fromkeys(epochs, 0.1), [0.1] * count, phases),
        figures.overlap_figure(hard, epochs, phases),
        figures.flow_figure(hard, epochs, phases),
        figures.ridge_figure(random(count, 20), probe, hard, epochs, phases),
        figures.examples_figure(["a", "b"], hard[:, :2].t(), [1, 2], epochs, phases),
        figures.flips_figure(torch.arange(50)),
        figures.weights_figure(torch.ones(30), torch.ones(30), random(30).exp(), random(30)),
        figures.filter_figure(epochs, [0.5] * count, band, band, phases),
        figures.meta_set_figure(random(9), random(9).abs(), torch.tensor([1.0] * 4 + [0.0] * 5)),
        figures.embeddings_figure({"a": random(9, 2), "b": random(9, 2)}, {"a": 0.1, "b": 1.0}, random(9).sigmoid()),
    ]
    for figure in drawn:
        assert figure.get_suptitle()
        assert len(figure.texts) == 2  # the title and the caption
        assert "Good" in figure.texts[1].get_text()
        assert all(axes.get_xlabel() or axes.get_ylabel() for axes in figure.axes)


def test_nothing_of_a_figure_is_cut_off() -> None:
    """Titles and captions end within the picture, at the longest that they come to."""
    hard = HARD.repeat(1, 400)
    phases = Phases(12, 12, tuple(range(12, 60, 5)))
    count = torch.full((2000,), 300)
    drawn = [
        figures.phases_figure({9: 0.1234}, [0.1] * 1100, phases),
        figures.phases_figure({1099: 0.1234}, [0.1] * 1100, phases),
        figures.overlap_figure(hard, [0, 200, 1000, 1099], phases),
        figures.flow_figure(hard, [0, 200, 1000, 1099], phases),
        figures.ridge_figure(SCORES, SCORES, HARD, [0, 200, 1000, 1099], phases),
        figures.examples_figure(
            ["n" * (LONGEST + 3)] * 8, HARD[:, :1].t().repeat(8, 1), [300] * 8, [0, 200, 1000, 1099], phases
        ),
        figures.flips_figure(count, ", epoch 1099"),
        figures.weights_figure(
            torch.ones(9), torch.ones(9), SCORES.flatten()[:9], SCORES.flatten()[:9], ", epoch 1099"
        ),
        figures.filter_figure([0, 1], [0.5] * 2, [[0, 1]] * 2, [[0, 1]] * 2, phases),
        figures.meta_set_figure(torch.rand(9), torch.rand(9), torch.ones(9), ", of epoch 1099"),
        figures.embeddings_figure({"a": torch.rand(9, 2)}, {"a": 0.1}, torch.rand(9), ", epoch 1099"),
    ]
    for figure in drawn:
        figure.canvas.draw()
        whole = figure.bbox
        for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]:
            box = text.get_window_extent()
            assert box.x0 >= 0, text.get_text()
            assert box.x1 <= whole.x1, text.get_text()
            assert box.y0 >= 0, text.get_text()
            assert box.y1 <= whole.y1, text.get_text()
        lowest = min(axes.get_tightbbox().y0 for axes in figure.axes)
        assert figure.texts[1].get_window_extent().y1 <= lowest


def test_surfaces_are_drawn(tmp_path: Path) -> None:
    offsets = torch.linspace(-1, 1, 5)
    for surface in (torch.rand(5, 5).double(), torch.zeros(5, 5, dtype=torch.float64)):
        figure = figures.surface_figure(surface, offsets, "a run")
        assert figure.axes[0].get_title() == "a run"
        figure.savefig(tmp_path / "surface.png", dpi=40)


# --- the callback -----------------------------------------------------------------------------------------------------


def events(folder: str | Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    found.Reload()
    return found


EVERYWHERE = {"phases", "overlap", "flow", "crossings", "scores", "most_migrated"}
WITH_TEACHER = {"weights", "filter", "meta_set"}


@pytest.mark.parametrize("name", MAKE)
def test_tensorboard_gets_every_figure_at_several_epochs(name: str, tmp_path: Path) -> None:
    data = make_data()
    logger = BoardLogger(tmp_path, name="run")
    callbacks: list[Callback] = [probe_monitor(), MigrationFigures(budget=0.0, frames=2)]
    trainer = fit(MAKE[name](data.spec), data, 6, callbacks, logger=logger)
    logger.finalize("success")
    found = events(logger.log_dir)
    expected = EVERYWHERE | (WITH_TEACHER if name == "MeBNS" else set())
    assert set(found.Tags()["images"]) == {TAGS[tag] for tag in expected}
    an_epoch = trainer.global_step // 6
    for tag in found.Tags()["images"]:
        images = found.Images(tag)
        assert [image.step for image in images] == [3 * an_epoch, 6 * an_epoch]
        assert min(min(image.width, image.height) for image in images) > 300
        assert len({image.encoded_image_string for image in images}) == 2  # the slider shows something
    table = found.Tensors(f"{TAGS['most_migrated']}/text_summary")[-1]
    assert table.tensor_proto.string_val[0].decode().count("node ") == 2 * 6
    told = found.Tensors("phases/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert told == (
        "Warm-up: 1 epochs, in which the student learns from the sampler alone.\n\n"
        "A new meta set with the epochs 1, 3, 5."
        if name == "MeBNS"
        else "No phases: every epoch is like the others."
    )


def test_figures_show_what_was_logged(tmp_path: Path) -> None:
    """Each number of the figures of a run, from its logged values and the steps' outputs."""
    data, logger, drawn, seen = make_data(), BoardLogger(tmp_path, name="run"), MigrationFigures(frames=1), Outputs()
    system = make_mebns(data.spec)
    monitor = probe_monitor()
    trainer = fit(system, data, 6, [monitor, drawn, seen], logger=logger)
    logger.finalize("success")
    read = events(logger.log_dir)
    logged = {tag: [event.value for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    found = drawn.draw(trainer, system)
    assert set(found) == EVERYWHERE | WITH_TEACHER

    upper, lower = found["phases"].axes
    np.testing.assert_allclose(upper.lines[0].get_ydata(), logged["1_quality/MRR"], rtol=1e-6)
    np.testing.assert_allclose(lower.lines[0].get_ydata(), 100 * np.array(logged["2_migration/churn@1"]), rtol=1e-6)
    best = max(logged["1_quality/MRR"])
    late = np.mean(logged["2_migration/churn@1"][2:])
    epoch = logged["1_quality/MRR"].index(best)
    told = f"Best MRR {best:.3f} in epoch {epoch}{' (in warm-up)' * (epoch < 1)}, late churn {late:.2f}"
    assert found["phases"].get_suptitle() == told

    churn = 100 * np.array(logged["2_migration/churn@1"])
    tops = found["flow"].axes[0].collections[1].get_paths()[0].vertices
    assert [tops[tops[:, 0] == at, 1].max() for at in range(1, 6)] == pytest.approx(churn, rel=1e-6)
    # Hard sets of equal size: of churn c two of them share (1 - c) / (1 + c)
    overlap = np.asarray(found["overlap"].axes[0].collections[0].get_array()).reshape(6, 6)
    np.testing.assert_allclose(np.diagonal(overlap, 1), (100 - churn) / (100 + churn), rtol=1e-6)

    bars = [bar.get_height() for bar in found["crossings"].axes[0].patches]
    flips = monitor.tracker.flips
    assert flips is not None
    assert sum(bars) == len(flips) == 40
    assert float(flips.float().mean()) == pytest.approx(logged["2_migration/flips_mean"][-1])
    assert bars[0] == int((flips == 0).sum())
    strips = found["most_migrated"].axes[0]
    assert [int(text.get_text()) for text in strips.texts[1::2]] == sorted(flips.tolist(), reverse=True)[:6]
    for mesh, text in zip(strips.collections, strips.texts[1::2], strict=False):
        hard = np.asarray(mesh.get_array()).flatten()
        assert (np.diff(hard) != 0).sum() == int(
            text.get_text()
        )  # every epoch is kept, so it is seen to cross so often

    kept, dropped = found["filter"].axes
    np.testing.assert_allclose(kept.lines[0].get_ydata(), 100 * np.array(logged["3_filter/kept_share"]), rtol=1e-6)
    areas = {area.get_label(): area.get_paths()[0].vertices for area in dropped.collections}
    for at, first in enumerate(seen.first):
        band = areas["range of the kept"][areas["range of the kept"][:, 0] == at, 1]
        assert [band.min(), band.max()] == pytest.approx(first["band"].tolist(), rel=1e-5)
        easiest = areas["easier: all dropped"]
        assert easiest[easiest[:, 0] == at, 1].min() == pytest.approx(float(first["offered"][0]), rel=1e-5)

    step = seen.first[-1]
    factor = step["weights"] / step["starting"]
    spread = float(factor.std(unbiased=False) / factor.mean())
    assert found["weights"].get_suptitle() == f"Weights moved by {100 * spread:.2g} %, epoch 5"
    assert sum(np.asarray(found["weights"].axes[0].collections[0].get_array())) == len(factor)
    assert system.meta_set is not None
    points = [len(group.get_offsets()) for group in found["meta_set"].axes[0].collections]
    assert points == [system.meta_set.edges.shape[1], system.meta_set.others.shape[1]]
    assert sum(points) == logged["5_meta/kept"][-1]


class Outputs(Callback):
    """Keeps the output of each epoch's first step."""

    def __init__(self) -> None:
        self.first: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, *args: Any) -> None:
        if args[-1] == 0:
            self.first.append(dict(args[2]))


def events_of(logger: TensorBoardLogger, kind: str) -> list[str]:
    return list(events(logger.log_dir).Tags()[kind])


def test_groups_tell_the_story_in_order(tmp_path: Path) -> None:
    """Quality first, no ``epoch``, and each group's figures behind its values; monitors go by the plain names."""
    data, logger = make_data(), BoardLogger(tmp_path, name="run")
    callbacks = [probe_monitor(), MigrationFigures(frames=1), InspectionCost()]
    trainer = fit(make_mebns(data.spec), data, 3, callbacks, logger=logger)
    logger.finalize("success")
    tags = sorted(events_of(logger, "scalars") + events_of(logger, "images"))
    groups = [
        "1_quality",
        "2_migration",
        "2_migration_pictures",
        "3_filter",
        "4_weights",
        "5_meta",
        "6_losses",
        "7_cost",
    ]
    assert list(dict.fromkeys(tag.partition("/")[0] for tag in tags)) == [*groups, "held_out"]
    quality = [tag for tag in tags if tag.startswith("1_")]
    assert (quality[0], quality[-1]) == ("1_quality/MRR", TAGS["phases"])
    assert {"val/mrr", "migration/churn@1", "filter/kept_share"} <= set(trainer.callback_metrics)
    assert "cost/epoch_seconds" not in trainer.callback_metrics


def test_another_logger_keeps_the_plain_names(tmp_path: Path) -> None:
    data, logger = make_data(), TensorBoardLogger(tmp_path, name="run")
    fit(make_plain(data.spec), data, 2, [probe_monitor(), MigrationFigures(frames=1)], logger=logger)
    logger.finalize("success")
    assert {"val/mrr", "migration/churn@1"} <= set(events_of(logger, "scalars"))
    assert set(events_of(logger, "images")) == {TAGS[name] for name in EVERYWHERE}


def test_cost_is_the_share_of_the_watched_callbacks(tmp_path: Path) -> None:
    data, logger, monitor = make_data(), BoardLogger(tmp_path, name="run"), probe_monitor()
    fit(make_plain(data.spec), data, 3, [monitor, InspectionCost()], logger=logger)
    logger.finalize("success")
    found = events(logger.log_dir)
    seconds, shares = ([e.value for e in found.Scalars(f"7_cost/{n}")] for n in ("epoch_seconds", "inspection_share"))
    inspected = [whole * share / (1 + share) for whole, share in zip(seconds, shares, strict=True)]
    assert sum(inspected) == pytest.approx(monitor.watch.seconds, rel=1e-3)


def test_the_layout_names_tags_that_runs_have(tmp_path: Path) -> None:
    data = make_data()
    logger = BoardLogger(tmp_path, name="run")
    callbacks = [probe_monitor(), InspectionCost()]
    fit(make_mebns(data.spec), data, 4, callbacks, logger=logger, limit_train_batches=1)
    logger.finalize("success")
    assert "custom_scalars__config__" in events_of(logger, "tensors")
    tags = events_of(logger, "scalars")
    for charts in LAYOUT.values():
        for title, (_, patterns) in charts.items():
            # churn@10 is there after ten epochs, as churn@2 is after two
            matching = [tag for tag in tags if any(re.search(p.replace("@10", "@2"), tag) for p in patterns)]
            assert len(matching) == 1, title  # one curve a run


@pytest.mark.parametrize(("epochs", "frames"), [(100, 5), (3, 5), (7, 3), (1, 1)])
def test_frames_part_a_run_evenly(epochs: int, frames: int) -> None:
    due = [epoch for epoch in range(epochs) if frame_due(epoch, epochs, frames)]
    ends = {-(-part * epochs // frames) - 1 for part in range(1, frames)} - {epochs - 1}
    assert due == sorted(ends)


def test_phases_of_a_run() -> None:
    data = make_data()
    system = make_mebns(data.spec, teaching=OwnLearning(epochs=2))
    fit(system, data, 5)
    assert [phases_of(system, epoch) for epoch in (0, 1, 4)] == [
        Phases(1),
        Phases(1, None, (1,)),
        Phases(1, 2, (1, 3)),
    ]
    assert phases_of(make_plain(data.spec), 4) == Phases()


def test_names_are_shortened_together() -> None:
    assert _shortened(["abc", "defghij"], 10) == ["abc", "defghij"]
    assert _shortened(["abc", "defghijklm"], 10) == ["abc", "defgh\u2026m"]
    assert _shortened(["abcdefghij", "klmnopqrst"], 10) == ["abc\u2026j", "klm\u2026t"]
    assert _shortened(["abcdefghij", "klmnopqrst"], None) == ["abcdefghij", "klmnopqrst"]


class Spread(Callback):
    """Notes which epochs are kept."""

    def __init__(self, watched: MigrationFigures) -> None:
        self.watched = watched
        self.seen: list[list[int]] = []

    def on_train_epoch_end(self, *args: Any) -> None:
        self.seen.append(list(self.watched.epochs))


def test_snapshots_thin_out_evenly() -> None:
    data, drawn = make_data(), MigrationFigures(max_snapshots=4)
    spread = Spread(drawn)
    fit(make_mebns(data.spec), data, 10, [probe_monitor(), drawn, spread], limit_val_batches=0)
    assert spread.seen[:5] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 2, 4]]
    assert spread.seen[-1] == [0, 4, 8]
    assert {len(h) for h in (drawn.probe, drawn.positives, drawn.kept, drawn.band, drawn.offered)} == {3}


def test_snapshots_hold_what_the_monitor_saw() -> None:
    data, monitor, drawn = make_data(), probe_monitor(), MigrationFigures()
    system = make_mebns(data.spec)
    trainer = fit(system, data, 3, [monitor, drawn], limit_val_batches=0)
    system._graph = data.train_graph
    torch.testing.assert_close(drawn.probe[-1], system.score(monitor.probe))
    assert torch.equal(torch.stack(drawn.probe[-2:]), torch.stack([drawn.probe[-2], monitor.latest["probe"]]))
    # After the warm-up of one epoch the filter drops half of the candidates
    assert drawn.kept[0] == 1
    assert 0.4 < drawn.kept[1] < 0.75
    figures_by_name = drawn.draw(trainer, system)
    assert all(isinstance(figure, matplotlib.figure.Figure) for figure in figures_by_name.values())


def test_state_comes_back() -> None:
    data, drawn = make_data(), MigrationFigures(max_snapshots=4, budget=0.0)
    with pytest.raises(RuntimeError, match="stop here"):
        fit(make_mebns(data.spec), data, 10, [probe_monitor(), drawn, StopAt(6)], limit_val_batches=0)
    state = drawn.state_dict()
    other = MigrationFigures(max_snapshots=4)
    other.load_state_dict(state)
    assert (other.stride, other.epochs) == (drawn.stride, drawn.epochs) == (2, [0, 2, 4, 6])
    assert all(torch.equal(a, b) for a, b in zip(other.probe, drawn.probe, strict=True))
    # The frames of the epochs 1, 3 and 5 wait
    assert [frame["epoch"] for frame in state["waiting"]] == [1, 3, 5]
    assert [frame.phases for frame in other._waiting] == [frame.phases for frame in drawn._waiting]
    assert torch.equal(other._waiting[-1].flips, drawn._waiting[-1].flips)


class StopAt(Callback):
    """Ends a fit by an error behind an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("stop here")


def test_nothing_is_written_without_tensorboard(tmp_path: Path) -> None:
    data = make_data()
    fit(make_mebns(data.spec), data, 2, [probe_monitor(), MigrationFigures()], logger=CSVLogger(tmp_path))
    assert not list(tmp_path.rglob("events*"))


def test_zero_snapshots_switch_it_off(tmp_path: Path) -> None:
    data, logger = make_data(), TensorBoardLogger(tmp_path, name="run")
    fit(make_mebns(data.spec), data, 2, [probe_monitor(), MigrationFigures(max_snapshots=0)], logger=logger)
    logger.finalize("success")
    assert not events(logger.log_dir).Tags()["images"]


@ALL_WARM_UP
def test_it_needs_a_monitor_before_it() -> None:
    data = make_data()
    for callbacks in ([MigrationFigures()], [MigrationFigures(), probe_monitor()]):
        with pytest.raises(ValueError, match="put one before it"):
            fit(make_mebns(data.spec), data, 1, callbacks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_snapshots": 1}, "max_snapshots: expected 2 or more, or 0 for none, got 1"),
        ({"budget": 1.0}, r"budget: expected a share in \[0, 1\), got 1.0"),
        ({"num_examples": 9}, "num_examples: expected 1 ... 8, got 9"),
        ({"frames": 11}, "frames: expected 1 ... 10, got 11"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MigrationFigures(**options)
