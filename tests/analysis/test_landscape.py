"""Landscapes of trained students: the loss is the plain one on fixed pairs, what is written is what was measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mebns_pl import NCN, SEAL, Heuristic
from mebns_pl.analysis.landscape import LandscapeOptions, fixed_loss, measure_landscape, write_landscapes
from mebns_pl.errors import DataError
from mebns_pl.keys import Key
from mebns_pl.mebns.losses.abstract import negative_losses, positive_losses
from mebns_pl.terminal import landscape_table
from references.runs import make_data, make_mebns, make_plain, weights

KEY = Key(3, "tests/landscape")
SMALL = LandscapeOptions(num_pairs=20, num_probes=3, grid=3, span=0.5)


def test_the_loss_is_the_balanced_one_with_the_edges_left_out_of_message_passing() -> None:
    data = make_data()
    system = make_plain(data.spec)
    loss, params = fixed_loss(system, data, 12, KEY)
    assert all(value.dtype == torch.float64 for value in params.values())

    # The pairs are told by which edges the graph lacks: all others pass messages
    train = {frozenset(edge) for edge in data.split.train.t().tolist()}
    student = system.student.double()
    seen: list[torch.Tensor] = []
    prepare = type(student).prepare

    def watched(self, graph, pairs, rows=None, key=None):  # type: ignore[no-untyped-def]
        seen.extend([graph, pairs])
        return prepare(self, graph, pairs, rows, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(student), "prepare", watched)
        again, same = fixed_loss(system, data, 12, KEY)
    graph, pairs = seen
    positives, negatives = pairs[:, :12], pairs[:, 12:]
    assert {frozenset(edge) for edge in positives.t().tolist()} <= train
    assert negatives.shape[1] == 12
    assert not bool(data.known.mask(*negatives).any())
    left = {frozenset(edge) for edge in graph.edge_index.t().tolist()}
    assert left == {frozenset(e) for e in data.split.observed.t().tolist()} - {
        frozenset(e) for e in positives.t().tolist()
    }
    with torch.no_grad():
        logits = student(student.prepare(graph, pairs))
    expected = (positive_losses(logits[:12]).mean() + negative_losses(logits[12:]).mean()) / 2
    torch.testing.assert_close(loss(params), expected.double())
    assert torch.equal(again(same), loss(params))
    other, _ = fixed_loss(system, data, 12, KEY.child("other"))
    assert not torch.allclose(other(params), loss(params))


@pytest.mark.parametrize("predictor", [NCN, partial(SEAL, hidden_channels=4)], ids=["NCN", "SEAL"])
def test_other_predictors_have_landscapes_too(predictor) -> None:  # type: ignore[no-untyped-def]
    data = make_data()
    found = measure_landscape(make_plain(data.spec, predictor=predictor), data, SMALL)
    assert found.surface[1, 1] == found.loss > 0
    assert torch.isfinite(found.surface).all()
    assert found.trace.error > 0


def test_a_system_is_left_as_it_is_and_half_of_the_edges_stay_in_the_graph() -> None:
    data = make_data()
    system = make_mebns(data.spec)
    before = weights(system)
    state = torch.get_rng_state()
    found = measure_landscape(system, data, LandscapeOptions(num_pairs=10**6, num_probes=2, grid=3))
    assert all(torch.equal(before[name], value) for name, value in system.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert found.top_eigenvalue > 0
    again = measure_landscape(system, data, LandscapeOptions(num_pairs=10**6, num_probes=2, grid=3))
    assert torch.equal(again.surface, found.surface)
    assert again.trace == found.trace


def test_what_is_written_is_what_was_measured(tmp_path: Path) -> None:
    data = make_data()
    found = {f"run {seed}": measure_landscape(make_plain(data.spec, seed), data, SMALL) for seed in (0, 1)}
    rows = write_landscapes(found, tmp_path)
    assert rows["top_eigenvalue"].tolist() == [one.top_eigenvalue for one in found.values()]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "landscape.csv"), rows)
    for name, landscape in found.items():
        assert (tmp_path / name / "surface.png").stat().st_size > 5000
        table = pd.read_csv(tmp_path / name / "surface.csv", index_col="first")
        assert table.loc[0.0, "0"] == pytest.approx(landscape.loss)
        events = EventAccumulator(str(tmp_path / name)).Reload()
        assert events.Tags()["images"] == ["landscape/surface"]
        assert events.Scalars("landscape/trace")[0].value == pytest.approx(landscape.trace.value, rel=1e-5)
        assert events.Scalars("landscape/top_eigenvalue")[0].value == pytest.approx(landscape.top_eigenvalue, rel=1e-5)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(landscape_table(rows))
    assert "run 1" in capture.get()
    assert f"{found['run 1'].top_eigenvalue:.4g}" in capture.get()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_pairs": 0}, "num_pairs: expected 1 or more, got 0"),
        ({"num_probes": 1}, "num_probes: expected 2 or more, got 1"),
        ({"grid": 4}, "grid: expected an odd number of 3 or more, got 4"),
        ({"grid": 1}, "grid: expected an odd number of 3 or more, got 1"),
        ({"span": 0.0}, "span: expected a number above 0, got 0.0"),
        ({"span": float("nan")}, "span: expected a number above 0, got nan"),
    ],
)
def test_bad_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LandscapeOptions(**options)  # type: ignore[arg-type]


def test_a_heuristic_has_no_landscape() -> None:
    data = make_data()
    with pytest.raises(DataError, match="learns nothing"):
        measure_landscape(Heuristic(data.spec), data, SMALL)
