"""Figures of a report: numbers in, a Plotly figure out, in colours that colour-blind readers can tell apart.

Colour never stands alone: what it says is said by a symbol or a dash, too, so that a page printed in grey can be read.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mebns_pl.report.comparisons import LEVEL, LOSES, WINS, Comparison, Ranking
from mebns_pl.report.results import Results
from mebns_pl.report.statistics import not_told_apart
from mebns_pl.report.words import heading, p_text, signed

# Okabe and Ito's palette, without yellow, which is hard to see on white
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
CALLS = {WINS: ("#0072B2", "triangle-up"), LOSES: ("#D55E00", "triangle-down"), LEVEL: ("#767676", "circle")}
COLUMNS = 3
ROW, PANEL, HEAD = 26, 320, 110
"""Heights in pixels: of a line of a forest plot, of a panel, of titles and axes."""


def forest_figure(comparisons: Sequence[Comparison], metric: str) -> go.Figure:
    """Paired differences with their intervals, a line each.

    Args:
        comparisons: of one question, at least one.
        metric: what is compared.
    """
    labels = [label for whole in comparisons for label in _labels(whole)]
    comparisons = [one for whole in comparisons for one in (whole, *whole.parts)]
    figure = go.Figure()
    for call, (color, symbol) in CALLS.items():
        rows = [row for row, one in enumerate(comparisons) if one.call == call and one.difference.pairs]
        found = [comparisons[row].difference for row in rows]
        figure.add_scatter(
            x=[one.mean for one in found],
            y=rows,
            name=call,
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": 10},
            error_x={
                "array": [_finite(one.high - one.mean) for one in found],
                "arrayminus": [_finite(one.mean - one.low) for one in found],
                "symmetric": False,
                "color": color,
            },
            text=[
                f"{labels[row]}<br>{signed(one.mean)} ({signed(one.low)} to {signed(one.high)}), {one.pairs} pairs"
                f"<br>corrected p {p_text(comparisons[row].corrected)}"
                for row, one in zip(rows, found, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
        )
        if not rows:  # the legend shows all three all the same
            figure.data[-1].update(x=[None], y=[None], error_x=None)
    question = comparisons[0].question
    figure.add_vline(0, line={"color": "#333333", "width": 1})
    figure.update_yaxes(tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6])
    reference = html.escape(question.reference)
    figure.update_xaxes(title=f"difference in {html.escape(heading(metric))} to {reference} (right of 0: better)")
    return styled(figure, HEAD + ROW * len(labels))


def _labels(one: Comparison) -> list[str]:
    """Of a comparison and, below it, of its graphs."""
    name = html.escape(f"{one.value} ({one.setting})" if one.setting else one.value)
    if not one.parts:
        return [f"{name}, {html.escape(one.graphs[0])}"]
    return [f"<b>{name}, {len(one.graphs)} graphs</b>", *(html.escape(part.graphs[0]) for part in one.parts)]


def curve_figure(results: Results, points: pd.DataFrame) -> go.Figure:
    """Validation over training, a panel a graph: the mean of an arm's runs, and from worst to best behind it.

    Args:
        results: the runs.
        points: by :func:`~mebns_pl.report.results.curves`, not empty.
    """
    graphs = [graph for graph in results.graphs if graph in set(points["graph"])]
    arms = [arm for arm in results.arms if arm in set(points["arm"])]
    figure, seen = _panels(graphs), set()
    by_arm = dict(iter(points.sort_values("epoch").groupby(["arm", "graph"])))
    for number, arm, graph in [(*item, graph) for item in enumerate(arms) for graph in graphs]:
        if (arm, graph) not in by_arm:
            continue
        curve = by_arm[arm, graph]
        color, symbol, dash = look(number)
        place = _place(graphs.index(graph))
        if len(arms) <= len(COLORS):  # more bands than that hide each other
            there_and_back = [*curve["epoch"], *curve["epoch"][::-1]]
            edge = [*curve["high"], *curve["low"][::-1]]
            band = {"fill": "toself", "fillcolor": color, "opacity": 0.12, "line": {"width": 0}, "hoverinfo": "skip"}
            shown = {"showlegend": False, "legendgroup": str(number), "mode": "lines"}
            figure.add_trace(go.Scatter(x=there_and_back, y=edge, **band, **shown), **place)
        figure.add_trace(
            go.Scatter(
                x=curve["epoch"],
                y=curve["mean"],
                name=html.escape(arm),
                legendgroup=str(number),
                showlegend=arm not in seen,
                mode="lines+markers",
                marker={"symbol": symbol, "size": 6},
                line={"color": color, "dash": dash, "width": 2},
                hovertemplate=f"{html.escape(arm)}<br>epoch %{{x}}: %{{y:.4f}}<extra></extra>",
            ),
            **place,
        )
        seen.add(arm)
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title=f"validation {heading(results.metric).partition(' ')[2]}", col=1)
    return styled(figure, HEAD + PANEL * _rows(graphs), _legend_height(arms))


def cost_figure(results: Results) -> go.Figure | None:
    """What a run costs against what it is worth, a panel a graph: mean seconds and mean metric of an arm's runs.

    Args:
        results: the runs.

    Returns:
        The figure; None where no run tells its seconds.
    """
    done = results.frame.dropna(subset=["value"])
    if "seconds" not in done or pd.to_numeric(done["seconds"], errors="coerce").isna().all():
        return None
    done = done.assign(seconds=pd.to_numeric(done["seconds"], errors="coerce")).dropna(subset=["seconds"])
    figure, seen = _panels(results.graphs), set()
    for (graph, arm), runs in done.groupby(["graph", "arm"], sort=False):
        number = results.arms.index(arm)
        color, symbol, _ = look(number)
        spread = runs["value"].std(ddof=1) if len(runs) > 1 else 0.0
        figure.add_trace(
            go.Scatter(
                x=[runs["seconds"].mean()],
                y=[runs["value"].mean()],
                error_y={"array": [spread], "thickness": 1},
                name=html.escape(arm),
                legendgroup=str(number),
                showlegend=arm not in seen,
                mode="markers",
                marker={"color": color, "symbol": symbol, "size": 11},
                hovertemplate=f"{html.escape(arm)}<br>%{{x:.1f}} s, %{{y:.4f}} ± {spread:.4f}<extra></extra>",
            ),
            **_place(results.graphs.index(graph)),
        )
        seen.add(arm)
    figure.update_xaxes(title="seconds a run", rangemode="tozero")
    figure.update_yaxes(title=heading(results.metric), col=1)
    return styled(figure, HEAD + PANEL * _rows(results.graphs), _legend_height(results.arms))


def rank_figure(ranking: Ranking) -> go.Figure:
    """The critical-difference picture: arms at their average rank; a bar joins those that are not told apart.

    Args:
        ranking: of the arms.
    """
    average, critical = ranking.ranks.average, ranking.ranks.critical
    arms = len(ranking.arms)
    figure = go.Figure()
    bars = not_told_apart(average, critical)
    step = 0.05 * max(arms - 1.0, 1.0)
    for number, (best, worst) in enumerate(bars):
        rows = np.flatnonzero((average >= best) & (average <= worst))
        figure.add_scatter(
            x=[arms + (number + 1) * step] * 2,
            y=[rows[0] - 0.25, rows[-1] + 0.25],
            mode="lines",
            line={"color": "#333333", "width": 6},
            name="not told apart",
            showlegend=number == 0,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[1, 1 + critical],
        y=[-1, -1],
        mode="lines+markers",
        marker={"symbol": "line-ns-open", "size": 10, "color": "#333333"},
        line={"color": "#333333", "width": 2},
        name=f"critical difference {critical:.2f}",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=average,
        y=list(range(arms)),
        mode="markers+text",
        text=[f"{rank:.2f}" for rank in average],
        textposition="middle right",
        marker={"color": COLORS[0], "size": 11},
        showlegend=False,
        hovertemplate="average rank %{x:.2f}<extra></extra>",
    )
    labels = [html.escape(arm) for arm in ranking.arms]
    figure.update_yaxes(tickvals=list(range(arms)), ticktext=labels, range=[arms - 0.4, -1.7])
    right = max(arms + (len(bars) + 1) * step, 1 + critical) + step
    title = f"average rank over {ranking.ranks.graphs} graphs (left: better)"
    figure.update_xaxes(title=title, range=[1 - step, right], tickvals=list(range(1, arms + 1)))
    return styled(figure, HEAD + ROW * (arms + 2))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _rows(graphs: Sequence[str]) -> int:
    return -(-len(graphs) // COLUMNS)


def _place(number: int) -> dict[str, int]:
    return {"row": number // COLUMNS + 1, "col": number % COLUMNS + 1}


def _panels(graphs: Sequence[str]) -> go.Figure:
    columns, rows = min(COLUMNS, len(graphs)), _rows(graphs)
    titles = [html.escape(graph) for graph in graphs]
    space = 95 / (PANEL * rows) if rows > 1 else 0  # for the axis of the upper panel and the title of the lower
    return make_subplots(rows, columns, subplot_titles=titles, vertical_spacing=space, horizontal_spacing=0.07)


def look(number: int) -> tuple[str, str, str]:
    """Colour, symbol and dash of an arm: of two arms of the same colour the others differ."""
    color, again = number % len(COLORS), number // len(COLORS)
    return COLORS[color], SYMBOLS[(color + again) % len(SYMBOLS)], DASHES[again % len(DASHES)]


def _legend_height(arms: Sequence[str]) -> int:
    """Of the lines after the first, in pixels; names go side by side, in some 700 pixels on paper."""
    per_line = max(1, 700 // (50 + 8 * max(map(len, arms))))
    return 20 * ((len(arms) - 1) // per_line)


def styled(figure: go.Figure, height: int, legend: int = 0) -> go.Figure:
    """The figure in the page's style, ``height`` pixels high, with ``legend`` pixels more for lines of the legend."""
    figure.update_layout(
        template="plotly_white",
        height=height + legend,
        margin={"l": 20, "r": 20, "t": 50 + legend, "b": 20},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"},
        legend={"orientation": "h", "yref": "container", "yanchor": "top", "y": 1, "x": 0},
    )
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False)
    return figure
