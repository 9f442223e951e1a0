"""Figures of migration: runs in, a Plotly figure out; for the explorer's page and for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mebns_pl.analysis.probe_history import ProbeHistory
from mebns_pl.analysis.verdict import share_interval
from mebns_pl.errors import DataError
from mebns_pl.explore.runs import ExploredRun
from mebns_pl.report.figures import look, styled

HEIGHT = 340
MOST_BARS = 15
"""Crossings from so many on are counted together."""
GROUPS = ((0, 0), (1, 2), (3, 5), (6, 10), (11, None))
"""Crossings that share a point in :func:`held_out_figure`, from and to."""
TURNED_HARD, TURNED_EASY = "#D55E00", "#0072B2"


def hard_set_figure(runs: Sequence[ExploredRun]) -> go.Figure:
    """How much of the hard set is new, from one kept epoch to the next; a dotted line marks the end of a warm-up."""
    figure = go.Figure()
    for number, run in enumerate(runs):
        color, symbol, dash = look(number)
        epochs, new = hard_set_churn(run.history)
        figure.add_scatter(
            x=epochs,
            y=100 * new,
            name=html.escape(run.name),
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 6},
            hovertemplate="epoch %{x}: %{y:.1f} %<extra></extra>",
        )
        _mark_warm_up(figure, run, color)
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="of the hard set new, in %", rangemode="tozero")
    return styled(figure, HEIGHT)


def hard_set_churn(history: ProbeHistory) -> tuple[np.ndarray, np.ndarray]:
    """Epochs ``(T - 1,)``, and which share of the hard set after each was not in it at the kept epoch before."""
    new = history.hard[1:] & ~history.hard[:-1]
    return history.epochs[1:], new.sum(axis=1) / history.hard[0].sum()


def flow_figure(runs: Sequence[ExploredRun]) -> go.Figure:
    """Pairs that crossed the probability threshold since the kept epoch before: upwards turned hard, downwards easy."""
    titles = [html.escape(run.name) for run in runs]
    figure = make_subplots(1, len(runs), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    for number, run in enumerate(runs, 1):
        epochs, hard, easy = threshold_flow(run.history)
        for name, values, sign, color in (
            ("turned hard", hard, 1, TURNED_HARD),
            ("turned easy", easy, -1, TURNED_EASY),
        ):
            figure.add_trace(
                go.Bar(
                    x=epochs,
                    y=sign * values,
                    customdata=values,
                    name=name,
                    legendgroup=name,
                    showlegend=number == 1,
                    marker={"color": color, "line": {"width": 0}},
                    hovertemplate=f"epoch %{{x}}: %{{customdata}} {name}<extra></extra>",
                ),
                row=1,
                col=number,
            )
        _mark_warm_up(figure, run, "#333333", row=1, col=number)
    figure.update_layout(barmode="relative", bargap=0.1)
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="pairs that turned", col=1)
    return styled(figure, HEIGHT)


def threshold_flow(history: ProbeHistory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs ``(T - 1,)``, and how many pairs' probability rose above the threshold and fell below it since before."""
    now, before = history.above[1:], history.above[:-1]
    return history.epochs[1:], (now & ~before).sum(axis=1), (before & ~now).sum(axis=1)


def crossings_figure(runs: Sequence[ExploredRun]) -> go.Figure:
    """How often pairs entered or left the hard set: the share of the probe by whole numbers."""
    figure = go.Figure()
    most = min(max(int(run.history.crossings.max(initial=0)) for run in runs), MOST_BARS)
    labels = [str(number) for number in range(most + 1)]
    if any(run.history.crossings.max(initial=0) > most for run in runs):
        labels[-1] += "+"
    for number, run in enumerate(runs):
        color, _, _ = look(number)
        counts = np.bincount(run.history.crossings.clip(max=most), minlength=most + 1)
        figure.add_bar(
            x=labels,
            y=100 * counts / run.history.num_pairs,
            customdata=counts,
            name=html.escape(run.name),
            marker={"color": color, "pattern": {"shape": ("", "/", ".", "x", "-", "\\", "|")[number % 7]}},
            hovertemplate="crossings %{x}: %{y:.1f} %, %{customdata} pairs<extra></extra>",
        )
    figure.update_layout(barmode="group", bargap=0.2)
    figure.update_xaxes(title="crossings of the hard set's border", type="category")
    figure.update_yaxes(title="pairs of the probe, in %")
    return styled(figure, HEIGHT)


def held_out_figure(runs: Sequence[ExploredRun]) -> go.Figure | None:
    """Share of held-out edges among pairs by how often they crossed, with Wilson's intervals; dashed, all pairs.

    For analysis alone: training knows nothing of them.

    Returns:
        The figure; None where no held-out edge is watched.
    """
    held = runs[0].history.held_out > 0
    if not held.any():
        return None
    figure = go.Figure()
    names = [
        f"{low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}" for low, high in GROUPS
    ]
    for number, run in enumerate(runs):
        color, symbol, _ = look(number)
        rows = held_out_by_crossings(run.history)
        there = [place for place, (_, whole) in enumerate(rows) if whole]
        shares = [100 * rows[place][0] / rows[place][1] for place in there]
        ends = [share_interval(*rows[place]) for place in there]
        figure.add_scatter(
            x=[place + 0.12 * (number - (len(runs) - 1) / 2) for place in there],
            y=shares,
            name=html.escape(run.name),
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": 9},
            error_y={
                "array": [100 * high - share for share, (_, high) in zip(shares, ends, strict=True)],
                "arrayminus": [share - 100 * low for share, (low, _) in zip(shares, ends, strict=True)],
                "color": color,
            },
            text=[f"{rows[place][0]} of {rows[place][1]} pairs" for place in there],
            hovertemplate="%{y:.1f} %, %{text}<extra></extra>",
        )
    figure.add_hline(
        100 * float(held.mean()),
        line={"dash": "dash", "color": "#555555", "width": 1},
        annotation={"text": f"by chance {100 * float(held.mean()):.1f} %", "font": {"size": 12, "color": "#555555"}},
        annotation_position="top left",
    )
    figure.update_xaxes(
        title="crossings of the hard set's border",
        tickvals=list(range(len(names))),
        ticktext=names,
        range=[-0.6, len(GROUPS) - 0.4],
    )
    figure.update_yaxes(title="held-out edges, in %", rangemode="tozero")
    return styled(figure, HEIGHT)


def held_out_by_crossings(history: ProbeHistory) -> list[tuple[int, int]]:
    """Of each of ``GROUPS`` how many pairs are held-out edges, and how many there are."""
    held, crossings = history.held_out > 0, history.crossings
    inside = [
        (crossings >= low) & (crossings <= (crossings.max(initial=0) if high is None else high)) for low, high in GROUPS
    ]
    return [(int((held & group).sum()), int(group.sum())) for group in inside]


def landscape_figure(runs: Sequence[ExploredRun]) -> go.Figure | None:
    """Sharpness of the students that ``mebns landscape`` has looked at: top Hessian eigenvalue and trace, with error.

    Returns:
        The figure; None where no run has any.
    """
    if all(run.landscape is None for run in runs):
        return None
    titles = ["top eigenvalue", "trace"]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.08, shared_yaxes=True)
    for number, run in enumerate(runs):
        if run.landscape is None:
            continue
        color, symbol, _ = look(number)
        labels = [html.escape(f"{run.name}, {checkpoint}") for checkpoint in run.landscape["checkpoint"]]
        for column, (measure, error) in enumerate((("top_eigenvalue", None), ("trace", "trace_error")), 1):
            figure.add_trace(
                go.Scatter(
                    x=run.landscape[measure],
                    y=labels,
                    error_x=None if error is None else {"array": run.landscape[error], "color": color},
                    mode="markers",
                    marker={"color": color, "symbol": symbol, "size": 10},
                    showlegend=False,
                    hovertemplate="%{y}: %{x:.4g}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    rows = sum(len(run.landscape) for run in runs if run.landscape is not None)
    return styled(figure, 130 + 34 * rows)


def pair_figure(runs: Sequence[ExploredRun], source: str, target: str) -> go.Figure:
    """A pair's logits by student (filled where it is hard) and teacher (dashed), over the kept epochs.

    Args:
        runs: with the same probe.
        source: name of an end.
        target: name of the other.

    Raises:
        DataError: the probe has no such pair.
    """
    history = runs[0].history
    ends = [{history.names[place] for place in two} for two in history.places.T]
    if {source, target} not in ends:
        raise DataError(f"pair: got {source!r} and {target!r}; allowed is a pair of the probe")
    place = ends.index({source, target})
    figure = go.Figure()
    for number, run in enumerate(runs):
        color, symbol, _ = look(number)
        name, hard = html.escape(run.name), run.history.hard[:, place]
        figure.add_scatter(
            x=run.history.epochs,
            y=run.history.student[:, place],
            name=f"{name}, student",
            mode="lines+markers",
            line={"color": color, "width": 2},
            marker={"symbol": [symbol if one else f"{symbol}-open" for one in hard], "size": 8},
        )
        if len(run.history.teacher):
            figure.add_scatter(
                x=run.history.epochs,
                y=run.history.teacher[:, place],
                name=f"{name}, teacher",
                mode="lines",
                line={"color": color, "width": 2, "dash": "dash"},
            )
        _mark_warm_up(figure, run, color)
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="logit (filled: in the hard set)")
    return styled(figure, HEIGHT)


def _mark_warm_up(figure: go.Figure, run: ExploredRun, color: str, **place: int) -> None:
    warmup = run.history.setting.warmup
    if run.history.epochs[0] < warmup <= run.history.epochs[-1]:
        figure.add_vline(
            warmup - 0.5,
            line={"dash": "dot", "color": color, "width": 1.5},
            **place,
        )
