"""Figures of migration, weights and meta set: arrays in, a matplotlib figure out.

All are drawn small, with large letters, for TensorBoard's cards, which show them some 290 pixels wide; in colours that
colour-blind readers can tell apart (Okabe and Ito's palette; viridis and cividis where a scale is continuous).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mebns_pl.analysis.migration import hard_set_overlap, transition_flow
from mebns_pl.escaping import visible

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
SIZE = (4.4, 3.3)
DPI = 130
FONT = 10


def overlap_figure(hard: Tensor, epochs: Sequence[int]) -> Figure:
    """Heat map of the overlap of hard sets, epoch by epoch.

    Args:
        hard: ``(T, M)`` bool, the hard sets.
        epochs: T epochs they belong to.
    """
    figure, axes = _canvas("Overlap of hard sets", "epoch", "epoch")
    overlap = hard_set_overlap(hard).numpy()
    mesh = axes.pcolormesh(epochs, epochs, overlap, vmin=0, vmax=1, cmap="viridis", shading="nearest")
    figure.colorbar(mesh, ax=axes, label="Jaccard index")
    axes.set_aspect("equal")
    return figure


def flow_figure(hard: Tensor, epochs: Sequence[int]) -> Figure:
    """Stacked areas: which share of the probe stayed hard, turned hard, turned easy since the snapshot before.

    Those that stayed easy, the rest, are left out, so that the others can be seen.
    """
    figure, axes = _canvas("Migration since the snapshot before", "epoch", "share of the probe, %")
    shares = 100 * transition_flow(hard).numpy()[:, :3].T
    labels, colors = ("stayed hard", "turned hard", "turned easy"), (BLUE, VERMILION, SKY)
    axes.stackplot(epochs[1:], shares, labels=labels, colors=colors)
    top = max(1.3 * float(shares.sum(axis=0).max()), 1.0)
    axes.set(xlim=(epochs[1], max(epochs[-1], epochs[1] + 1)), ylim=(0, top))
    _legend_above(axes)
    return figure


def flips_figure(flips: Tensor) -> Figure:
    """Histogram of how often each pair has entered or left the hard set; ``flips`` is ``(M,)`` int64."""
    moved = int((flips > 0).sum())
    title = f"Crossings of the hard set's border\n{moved} of {len(flips)} pairs crossed at least once"
    figure, axes = _canvas(title, "crossings of a pair", "pairs (log scale)")
    most = int(flips.max()) + 1
    width = -(-most // 30)  # whole numbers a bar, at most 30 bars
    bins = (np.arange(0, most + width, width) - 0.5).tolist()
    axes.hist(flips.numpy(), bins=bins, color=BLUE, edgecolor="white", linewidth=0.5, log=True)
    axes.set_ylim(bottom=0.5)
    return figure


def ridge_figure(positives: Tensor, probe: Tensor, hard: Tensor, epochs: Sequence[int], max_rows: int = 7) -> Figure:
    """Distributions of scores over time, a row an epoch.

    Args:
        positives: ``(T, P)`` logits of training edges.
        probe: ``(T, M)`` logits of the probe.
        hard: ``(T, M)`` bool, which of the probe are hard at that time.
        epochs: T epochs.
        max_rows: at most so many epochs are shown, evenly spaced, the first and the last among them.
    """
    rows = np.unique(np.linspace(0, len(epochs) - 1, min(max_rows, len(epochs))).round().astype(int))
    figure, axes = _canvas("Scores over time", "logit", "epoch")
    shown = torch.cat([positives[rows].flatten(), probe[rows].flatten()]).float()
    low, high = (float(shown.quantile(q)) for q in (0.005, 0.995))
    bins = np.linspace(low, max(high, low + 1e-3), 61)
    middle = (bins[1:] + bins[:-1]) / 2
    for place, row in enumerate(rows):
        easy_scores, hard_scores = probe[row][~hard[row]], probe[row][hard[row]]
        groups = ((positives[row], GREEN, "edges"), (easy_scores, SKY, "easy"), (hard_scores, VERMILION, "hard"))
        for values, color, label in groups:
            counts = np.histogram(np.clip(values.numpy(), bins[0], bins[-1]), bins)[0]
            top = place + 0.9 * counts / max(counts.max(), 1)
            named = label if place == 0 else None
            axes.fill_between(middle, place, top, color=color, alpha=0.55, linewidth=0.8, label=named)
    axes.set_yticks(range(len(rows)), [str(epochs[row]) for row in rows])
    axes.set_ylim(-0.1, len(rows) + 0.55)
    _legend_above(axes)
    return figure


def examples_figure(names: Sequence[str], logits: Tensor, border: Tensor, epochs: Sequence[int]) -> Figure:
    """Scores of a few named pairs over time, with the hard set's border.

    Args:
        names: n names.
        logits: ``(n, T)``.
        border: ``(T,)`` lowest logit of the hard set.
        epochs: T epochs.
    """
    figure, axes = _canvas("Pairs that migrated most", "epoch", "logit")
    axes.plot(epochs, border.numpy(), color="black", linestyle="--", linewidth=1.6, label="hard above")
    colors = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
    axes.set_prop_cycle(cycler(linestyle=("-", "-.", ":")) * cycler(color=colors))
    for number, values in enumerate(logits):
        axes.plot(epochs, values.numpy(), linewidth=1.1, label=f"{number}")
    legend = figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=FONT - 3, columnspacing=1)
    for label, name in zip(legend.get_texts()[1:], names, strict=True):
        label.set(text=visible(name), parse_math=False)  # a name is no formula, and may begin with an underscore
    return figure


def weights_figure(weights: Tensor, losses: Tensor, hardness: Tensor | None) -> Figure:
    """Hexagonal bins: the weight of a picked negative against its loss, and against the teacher's logit.

    Args:
        weights: ``(m,)``, mean 1.
        losses: ``(m,)`` the student's.
        hardness: ``(m,)`` the teacher's logits, or None.
    """
    panels = [(losses, "student's loss")] + ([] if hardness is None else [(hardness, "teacher's logit")])
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    figure.suptitle(f"Weights of {len(weights)} picked negatives")
    for place, (values, name) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        extent = (*_roomy(values), *_roomy(weights))
        mesh = axes.hexbin(values.numpy(), weights.numpy(), gridsize=28, mincnt=1, cmap="cividis", extent=extent)
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set(xlabel=name, ylabel="weight (mean 1)" if place == 0 else "")
        axes.tick_params(labelsize=FONT - 1)
    figure.colorbar(mesh, ax=figure.axes, label="negatives")
    return figure


def filter_figure(epochs: Sequence[int], kept: Sequence[float], band: Sequence[Sequence[float]]) -> Figure:
    """The share of candidates that the teacher's filter keeps, and between which hardnesses it keeps them.

    Args:
        epochs: T epochs.
        kept: T shares.
        band: T times the least and the highest hardness kept.
    """
    figure, axes = _canvas("Teacher's filter", "epoch", "candidates kept, %")
    marker = "o" if len(epochs) < 30 else None
    (first,) = axes.plot(epochs, 100 * np.asarray(kept), color=BLUE, marker=marker, markersize=3, label="kept")
    axes.set_ylim(0, 105)
    other = axes.twinx()
    least, most = np.asarray(band).T
    second = other.fill_between(epochs, least, most, color=VERMILION, alpha=0.3, label="hardness kept")
    other.set_ylabel("teacher's logit")
    other.tick_params(labelsize=FONT - 1)
    figure.legend(handles=[first, second], loc="outside lower center", ncols=2, frameon=False, fontsize=FONT - 1)
    return figure


def meta_set_figure(mean: Tensor, std: Tensor, labels: Tensor) -> Figure:
    """The meta set: mean of a pair's logit over stochastic passes against its standard deviation.

    Args:
        mean: ``(m,)``.
        std: ``(m,)``.
        labels: ``(m,)``, 1 for edges.
    """
    edges = labels > 0.5
    title = f"Meta set: {int(edges.sum())} edges, {int((~edges).sum())} non-edges"
    figure, axes = _canvas(title, "mean logit", "standard deviation of the logit")
    for chosen, color, marker, name in ((edges, GREEN, "o", "edges"), (~edges, VERMILION, "x", "non-edges")):
        axes.scatter(mean[chosen].numpy(), std[chosen].numpy(), s=14, color=color, marker=marker, alpha=0.6,
                     linewidths=0.9, label=name)  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=FONT - 1)
    return figure


def surface_figure(surface: Tensor, offsets: Tensor, title: str, scale: tuple[float, float] | None = None) -> Figure:
    """Contours of the loss along two directions.

    Args:
        surface: ``(n, n)`` losses, the first direction down.
        offsets: ``(n,)``.
        title: names the checkpoint.
        scale: lowest and highest loss of the colours, for several figures to share; the surface's own by default.
    """
    figure, axes = _canvas(title, "second direction, norms", "first direction, norms")
    values = surface.numpy()
    low, high = (float(values.min()), float(values.max())) if scale is None else scale
    levels = np.linspace(low, max(high, low + 1e-6), 22)
    extend = "max" if float(values.max()) > levels[-1] else "neither"
    filled = axes.contourf(offsets.numpy(), offsets.numpy(), values, levels=levels, cmap="viridis", extend=extend)
    axes.contour(offsets.numpy(), offsets.numpy(), values, levels=levels[::3], colors="white", linewidths=0.5)
    axes.plot(0, 0, marker="*", color=ORANGE, markersize=13, markeredgecolor="black")
    figure.colorbar(filled, ax=axes, label="loss", format="%.2f")
    axes.set_aspect("equal")
    return figure


def _canvas(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title="\n".join(map(visible, title.split("\n"))), xlabel=xlabel, ylabel=ylabel)
    axes.title.set_parse_math(False)  # a run's name is no formula
    axes.tick_params(labelsize=FONT - 1)
    return figure, axes


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="upper center", ncols=3, frameon=False, fontsize=FONT - 1, handlelength=1.4, columnspacing=1.2)


def _roomy(values: Tensor) -> tuple[float, float]:
    """The range of values with some room: equal ones have no spread to bin."""
    low, high = float(values.min()), float(values.max())
    room = max(0.05 * (high - low), 0.02)
    return low - room, high + room
