"""Every number of a figure or table, recomputed from what the run has logged or pair by pair."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.errors import DataError
from mebns_pl.explore import figures
from mebns_pl.explore.runs import ExploredRun
from mebns_pl.explore.tables import node_table, pair_table, type_table
from references.explored import logged, made_up_run, probabilities, trained_runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[ExploredRun], dict[str, MigrationMonitor]]:
    return trained_runs(tmp_path_factory.mktemp("runs"))


RUNS = [made_up_run("plain"), made_up_run("mebns", "MeBNS", seed=3)]


def bars(figure: go.Figure) -> list[np.ndarray]:
    return [np.asarray(trace.y, dtype=float) for trace in figure.data]


def test_the_hard_set_over_time_is_the_logged_churn(
    trained: tuple[list[ExploredRun], dict[str, MigrationMonitor]],
) -> None:
    runs, monitors = trained
    figure = figures.hard_set_figure(runs)
    for run, trace in zip(runs, figure.data, strict=True):
        assert run.folder is not None
        churn = logged(run.folder, "migration/churn@1")
        assert list(trace.x) == list(churn) == [1, 2, 3]
        assert trace.y / 100 == pytest.approx(list(churn.values()), rel=1e-6)
        assert run.history.crossings.tolist() == monitors[run.name].tracker.flips.tolist()
    (line,) = figure.layout.shapes  # the warm-up of MeBNS, between two epochs
    assert line.x0 == runs[1].history.setting.warmup - 0.5


def test_the_flow_is_the_logged_rates_times_what_was_there(
    trained: tuple[list[ExploredRun], dict[str, MigrationMonitor]],
) -> None:
    runs, _ = trained
    drawn = bars(figures.flow_figure(runs))
    for run, up, down in zip(runs, drawn[::2], drawn[1::2], strict=True):
        assert run.folder is not None
        above = (probabilities(run.history) > 0.5)[:-1].sum(axis=1)
        for name, values, before in (
            ("easy_to_hard", up, run.history.num_pairs - above),
            ("hard_to_easy", -down, above),
        ):
            rates = logged(run.folder, f"migration/{name}")
            for epoch, rate in rates.items():
                assert values[int(epoch) - 1] == pytest.approx(rate * before[int(epoch) - 1], abs=1e-3)
        assert len(up) == len(down) == 3


def slow_crossings(run: ExploredRun) -> list[int]:
    """Pair by pair, of the ranks."""
    size = int(np.ceil(0.2 * run.history.num_pairs))
    inside = [set(np.argsort(-row, kind="stable")[:size].tolist()) for row in run.history.student]
    return [
        sum((pair in now) != (pair in before) for before, now in pairwise(inside))
        for pair in range(run.history.num_pairs)
    ]


def test_crossings_are_counted_by_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (figures.MOST_BARS, 3):
        monkeypatch.setattr(figures, "MOST_BARS", most)
        figure = figures.crossings_figure(RUNS)
        for run, trace in zip(RUNS, figure.data, strict=True):
            counts = pd.Series(slow_crossings(run)).clip(upper=len(trace.x) - 1).value_counts()
            expected = [counts.get(number, 0) for number in range(len(trace.x))]
            assert list(trace.customdata) == expected
            assert trace.y == pytest.approx([100 * count / 300 for count in expected])
    assert list(figure.data[0].x) == ["0", "1", "2", "3+"]


def test_held_out_shares_by_crossings() -> None:
    figure = figures.held_out_figure(RUNS)
    assert figure is not None
    for run, trace in zip(RUNS, figure.data, strict=True):
        frame = pd.DataFrame({"crossings": slow_crossings(run), "held": run.history.held_out > 0})
        groups = pd.cut(frame["crossings"], [-1, 0, 2, 5, 10, np.inf], labels=False)
        means = frame.groupby(groups)["held"].mean()
        assert [round(x) for x in trace.x] == list(means.index)
        assert trace.y == pytest.approx(100 * means.to_numpy())
        assert (np.array(trace.error_y.array) > 0).all()
    assert figure.layout.shapes[0].y0 == pytest.approx(100 * (RUNS[0].history.held_out > 0).mean())
    nothing = made_up_run(held_out=np.zeros(300, np.int8))
    assert figures.held_out_figure([nothing]) is None


def test_a_pairs_scores_and_where_it_is_hard() -> None:
    history = RUNS[1].history
    first, second = (history.names[place] for place in history.places[:, 5])
    figure = figures.pair_figure(RUNS, second, first)
    students = [trace for trace in figure.data if trace.name.endswith("student")]
    ends = history.pairs[:, 5]
    (place, *_) = np.flatnonzero((history.pairs == ends[:, None]).all(axis=0))
    for run, trace in zip(RUNS, students, strict=True):
        assert list(trace.y) == run.history.student[:, place].tolist()
        filled = [not symbol.endswith("-open") for symbol in trace.marker.symbol]
        assert filled == [score >= border for score, border in zip(trace.y, run.history.border, strict=True)]
    (teacher,) = (trace for trace in figure.data if trace.name.endswith("teacher"))
    assert list(teacher.y) == history.teacher[:, place].tolist()
    with pytest.raises(DataError, match="pair: got 'node 5' and 'nobody'"):
        figures.pair_figure(RUNS, "node 5", "nobody")


def test_landscapes_have_their_errors() -> None:
    assert figures.landscape_figure(RUNS) is None
    table = pd.DataFrame(
        {"loss": [0.3], "top_eigenvalue": [9.0], "trace": [13.0], "trace_error": [0.6], "checkpoint": ["best"]}
    )
    run = ExploredRun("mebns", RUNS[1].history, landscape=table)
    figure = figures.landscape_figure([RUNS[0], run])
    assert figure is not None
    assert [trace.x[0] for trace in figure.data] == [9.0, 13.0]
    assert list(figure.data[1].error_x.array) == [0.6]
    assert figure.data[0].y == ("mebns, best",)


# --- tables ---


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_tables_of_pairs_nodes_and_types(run: ExploredRun) -> None:
    history, crossings = run.history, slow_crossings(run)
    pairs = pair_table(history)
    assert pairs["crossings"].tolist() == crossings
    for place in range(0, history.num_pairs, 37):
        row = pairs.iloc[place]
        drawn, dropped, picked = (int(history.counts[:, kind, place].sum()) for kind in range(3))
        assert row[["drawn", "dropped", "picked"]].tolist() == [drawn, dropped, picked]
        assert row["weight"] == pytest.approx(float(history.weights[:, place].sum()) / picked)
        assert row["student"] == history.student[-1, place]
        assert row["held_out"] == ("test" if place % 11 == 0 else "")
    ends = [[history.names[list(history.nodes).index(node)] for node in pair] for pair in history.pairs.T]
    assert pairs[["source", "target"]].to_numpy().tolist() == ends
    nodes = node_table(history).set_index("node")
    for name in set(history.names):
        own = [count for count, two in zip(crossings, ends, strict=True) if name in two]
        assert nodes.loc[name, ["pairs", "crossings"]].tolist() == [len(own), sum(own)]
        assert nodes.loc[name, "per_pair"] == pytest.approx(np.mean(own))
    kind = dict(zip(history.names, history.types or (), strict=True))
    types = type_table(history)
    assert types is not None
    for name, size, total in types[["types", "pairs", "crossings"]].itertuples(index=False):
        own = [
            count
            for count, two in zip(crossings, ends, strict=True)
            if " \u2013 ".join(sorted(kind[end] for end in two)) == name
        ]
        assert [size, total] == [len(own), sum(own)]
    assert types["pairs"].sum() == history.num_pairs
    assert type_table(made_up_run(types=None).history) is None
