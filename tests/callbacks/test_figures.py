"""The numbers behind the figures by hand, and the figures in TensorBoard's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from mebns_pl.analysis import figures
from mebns_pl.analysis.migration import hard_set, hard_set_overlap, transition_flow
from mebns_pl.callbacks.migration_figures import LAYOUT, MigrationFigures
from mebns_pl.systems.outputs import _band_kept
from references.runs import ALL_WARM_UP, MAKE, fit, make_data, make_mebns, probe_monitor

# Five pairs over four epochs; the two highest are hard: {0, 1}, {0, 2}, {2, 3}, {2, 3}
SCORES = torch.tensor(
    [[5.0, 4.0, 3.0, 2.0, 1.0], [5.0, 1.0, 4.0, 2.0, 3.0], [1.0, 2.0, 5.0, 4.0, 3.0], [0.0, 0.0, 7.0, 7.0, 0.0]]
)
HARD = torch.stack([hard_set(scores, 0.4) for scores in SCORES])


def test_overlap_by_hand() -> None:
    third = 1 / 3
    expected = [[1, third, 0, 0], [third, 1, third, third], [0, third, 1, 1], [0, third, 1, 1]]
    torch.testing.assert_close(hard_set_overlap(HARD), torch.tensor(expected, dtype=torch.float64))


def test_flow_by_hand() -> None:
    """Stayed hard, turned hard, turned easy, stayed easy."""
    expected = [[0.2, 0.2, 0.2, 0.4], [0.2, 0.2, 0.2, 0.4], [0.4, 0.0, 0.0, 0.6]]
    torch.testing.assert_close(transition_flow(HARD), torch.tensor(expected, dtype=torch.float64))


def test_heat_map_shows_the_overlap() -> None:
    axes = figures.overlap_figure(HARD, [0, 2, 4, 6]).axes[0]
    (mesh,) = axes.collections
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(4, 4), hard_set_overlap(HARD))
    assert axes.get_xlim() == (-1, 7)


def test_flow_figure_stacks_the_shares_in_percent() -> None:
    axes = figures.flow_figure(HARD, [0, 2, 4, 6]).axes[0]
    tops = [area.get_paths()[0].vertices[:, 1].max() for area in axes.collections]
    assert tops == pytest.approx([40, 40, 60])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["stayed hard", "turned hard", "turned easy"]


def test_crossings_are_counted_by_whole_numbers() -> None:
    axes = figures.flips_figure(torch.tensor([0, 0, 0, 1, 3])).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [3, 1, 0, 1]
    assert "2 of 5 pairs" in axes.get_title()
    wide = figures.flips_figure(torch.arange(100)).axes[0]
    assert sum(bar.get_height() for bar in wide.patches) == 100
    assert len(wide.patches) <= 30


def test_band_of_the_filter_by_hand() -> None:
    """Means of the least and the highest that is kept, over the anchors that keep any."""
    hardness = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 7.0], [8.0, 9.0, 9.0]])
    kept = torch.tensor([[True, True, False], [False, True, True], [False, False, False]])
    assert _band_kept(hardness, kept).tolist() == [3.0, 4.5]
    assert _band_kept(None, kept).isnan().all()


@pytest.mark.parametrize("epochs", [[0, 1], list(range(0, 90, 3))], ids=["two", "many"])
def test_every_figure_has_title_and_labels(epochs: list[int], tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    count = len(epochs)
    probe = random(count, 50)
    hard = torch.stack([hard_set(scores, 0.2) for scores in probe])
    offsets = torch.linspace(-1, 1, 5)
    drawn = [
        figures.overlap_figure(hard, epochs),
        figures.flow_figure(hard, epochs),
        figures.ridge_figure(random(count, 20), probe, hard, epochs),
        figures.examples_figure(["a", "b"], probe[:, :2].t(), random(count), epochs),
        figures.weights_figure(torch.ones(30), random(30).exp(), random(30)),
        figures.filter_figure(epochs, [0.5] * count, [[-1.0, 0.1]] * count),
        figures.meta_set_figure(random(9), random(9).abs(), torch.tensor([1.0] * 4 + [0.0] * 5)),
        figures.surface_figure(random(5, 5).double(), offsets, "a run"),
        figures.surface_figure(torch.zeros(5, 5, dtype=torch.float64), offsets, "flat"),
    ]
    for number, figure in enumerate(drawn):
        assert figure.get_suptitle() or figure.axes[0].get_title()
        assert figure.axes[0].get_xlabel()
        assert figure.axes[0].get_ylabel()
        figure.savefig(tmp_path / f"{number}.png", dpi=40)


# --- the callback -----------------------------------------------------------------------------------------------------


def events(folder: str | Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    found.Reload()
    return found


EVERYWHERE = {"overlap", "flow", "crossings", "scores", "most_migrated"}
WITH_TEACHER = {"weights", "filter", "meta_set"}


@pytest.mark.parametrize("name", MAKE)
def test_tensorboard_gets_every_figure(name: str, tmp_path: Path) -> None:
    data = make_data()
    logger = TensorBoardLogger(tmp_path, name="run")
    callbacks: list[Callback] = [probe_monitor(), MigrationFigures(budget=0.0)]
    trainer = fit(MAKE[name](data.spec), data, 4, callbacks, logger=logger)
    logger.finalize("success")
    found = events(logger.log_dir)
    expected = EVERYWHERE | (WITH_TEACHER if name == "MeBNS" else set())
    assert set(found.Tags()["images"]) == {f"figures/{tag}" for tag in expected}
    for tag in found.Tags()["images"]:
        (image,) = found.Images(tag)
        assert image.step == trainer.global_step
        assert min(image.width, image.height) > 300
    assert "custom_scalars__config__" in found.Tags()["tensors"]
    (table,) = found.Tensors("figures/most_migrated/text_summary")
    text = table.tensor_proto.string_val[0].decode()
    assert text.count("node ") == 2 * 8


def test_the_layout_names_tags_that_runs_have(tmp_path: Path) -> None:
    import re

    data = make_data()
    logger = TensorBoardLogger(tmp_path, name="run")
    fit(make_mebns(data.spec), data, 4, [probe_monitor(lags=(1, 2)), MigrationFigures()], logger=logger)
    logger.finalize("success")
    tags = events(logger.log_dir).Tags()["scalars"]
    for charts in LAYOUT.values():
        for title, (_, patterns) in charts.items():
            assert any(re.fullmatch(pattern, tag) for pattern in patterns for tag in tags), title


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
    assert len(drawn.probe) == len(drawn.positives) == len(drawn.kept) == len(drawn.band) == 3


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
    data, drawn = make_data(), MigrationFigures(max_snapshots=4)
    fit(make_mebns(data.spec), data, 6, [probe_monitor(), drawn], limit_val_batches=0)
    other = MigrationFigures(max_snapshots=4)
    other.load_state_dict(drawn.state_dict())
    assert (other.stride, other.epochs) == (drawn.stride, drawn.epochs) == (2, [0, 2, 4])
    assert all(torch.equal(a, b) for a, b in zip(other.probe, drawn.probe, strict=True))


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
        ({"num_examples": 13}, "num_examples: expected 1 ... 12, got 13"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MigrationFigures(**options)
