"""Figures of a run for TensorBoard: arrays in, a matplotlib figure out.

All are drawn wide and low, with large letters, for TensorBoard's cards, which show them some 210 pixels high: a title
that says what came out, few marks, and below a caption that says what good looks like. Colours are those that
colour-blind readers can tell apart (Okabe and Ito's palette; viridis and cividis where a scale is continuous). Figures
over time mark the run's :class:`Phases`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from mebns_pl.analysis.migration import binned_crossings, hard_set_overlap, newcomers
from mebns_pl.escaping import visible

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY = "#D9D9D9"
SIZE = (5.2, 3.05)
DPI = 120
FONT = 10
LITTLE_LEARNED = 0.01
"""Spread of the learned factors below which the weights are called as good as those they started from."""


@dataclass(frozen=True)
class Phases:
    """When a run changes, for figures over time.

    Args:
        warmup: epochs of warm-up, 0 for none.
        frozen: the first epoch in which the teacher no longer learns, or None.
        refreshes: epochs in which the meta set was collected.

    Example:
        >>> Phases(warmup=12, frozen=12, refreshes=(12, 22)).told
        'Grey: warm-up. Dashed: the teacher is frozen. Triangles: a new meta set.'
    """

    warmup: int = 0
    frozen: int | None = None
    refreshes: tuple[int, ...] = ()

    @property
    def told(self) -> str:
        """What the marks mean, of those that there are."""
        found = [
            (self.warmup > 0, "Grey: warm-up."),
            (self.frozen is not None, "Dashed: the teacher is frozen."),
            (bool(self.refreshes), "Triangles: a new meta set."),
        ]
        return " ".join(words for there, words in found if there)


def phases_figure(mrr: Mapping[int, float], churns: Sequence[float], phases: Phases = Phases()) -> Figure:
    """Validation MRR over churn, with the best epoch.

    Args:
        mrr: by epoch, of those that were validated; one or more.
        churns: churn@1 of the epochs 1, 2, ...
        phases: of the run.
    """
    best = max(mrr, key=lambda epoch: mrr[epoch])
    where = " (in warm-up)" if best < phases.warmup else ""
    late = churns[len(churns) // 2 :]
    told = f", late churn {np.mean(late):.2f}" if late else ""
    figure, (upper, lower) = _page(
        f"Best MRR {mrr[best]:.3f} in epoch {best}{where}{told}",
        f"Good: MRR still rises behind the warm-up, and the hard set is less and less new each epoch. {phases.told}",
        "val. MRR",
        "new hard, %",
    )
    upper.plot(list(mrr), list(mrr.values()), color=BLUE, linewidth=1.6, marker="o", markersize=3)
    upper.plot(best, mrr[best], marker="*", color=ORANGE, markersize=13, markeredgecolor="black", linestyle="none",
               clip_on=False)  # fmt: skip
    # A hundredth of MRR at least: less is noise, and would look like a rise
    upper.set_ylim(*_roomy(torch.tensor(list(mrr.values())), 0.005))
    lower.plot(range(1, len(churns) + 1), 100 * np.asarray(churns), color=VERMILION, linewidth=1.4)
    lower.set_ylim(bottom=0)
    last = max(*mrr, len(churns), 1)
    for axes in (upper, lower):
        axes.set_xlim(-0.5, last + 0.5)
        _mark(axes, phases)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("epoch")
    return figure


def overlap_figure(hard: Tensor, epochs: Sequence[int], phases: Phases = Phases()) -> Figure:
    """Heat map of the overlap of hard sets, epoch by epoch.

    Args:
        hard: ``(T, M)`` bool, the hard sets.
        epochs: T epochs they belong to.
        phases: of the run.
    """
    overlap = hard_set_overlap(hard).numpy()
    half = len(epochs) // 2
    figure, (axes,) = _page(
        f"Overlap of hard sets: {overlap[half, -1]:.2f} from epoch {epochs[half]} to {epochs[-1]}",
        "1: the same pairs are hard. Good: bright, from early on. Dark stripes: the hard set moved. "
        f"{phases.told.replace('Grey: warm-up.', 'Dotted: the end of warm-up.')}",
        "epoch",
    )
    mesh = axes.pcolormesh(epochs, epochs, overlap, vmin=0, vmax=1, cmap="viridis", shading="nearest")
    figure.colorbar(mesh, ax=axes, label="Jaccard index")
    axes.set_xlabel("epoch")
    _mark(axes, phases, shade=False)
    if phases.warmup:
        for line in (axes.axvline, axes.axhline):
            line(phases.warmup - 0.5, color="white", linewidth=1.4, linestyle=":")
    return figure


def flow_figure(hard: Tensor, epochs: Sequence[int], phases: Phases = Phases()) -> Figure:
    """Which share of the hard set was easy at the snapshot before: for the first time hard, and hard again.

    As many pairs turn easy as turn hard, so one direction says all.
    """
    shares = 100 * newcomers(hard).numpy().T
    steps = sorted(set(np.diff(epochs).tolist()))
    since = f"{steps[0]} epoch{'s' * (steps[0] > 1)} before" if len(steps) == 1 else "the snapshot before"
    figure, (axes,) = _page(
        f"New in the hard set since {since}: {shares[:, -1].sum():.0f} %",
        "Hard now, easy then; as many turned easy. Good: near 0. Much that is hard again: "
        f"the same pairs go to and fro. {phases.told}",
        "share of the hard set, %",
    )
    labels, colors = ("hard again", "hard for the first time"), (BLUE, ORANGE)
    if len(epochs) > 2:
        axes.stackplot(epochs[1:], shares, labels=labels, colors=colors)
    else:  # an area needs two points
        axes.bar(epochs[1:], shares[0], 0.5, color=colors[0], label=labels[0])
        axes.bar(epochs[1:], shares[1], 0.5, bottom=shares[0], color=colors[1], label=labels[1])
    axes.set(xlabel="epoch", xlim=(-0.5, epochs[-1] + 0.5), ylim=(0, max(1.3 * float(shares.sum(axis=0).max()), 5.0)))
    _mark(axes, phases)
    _legend_above(axes)
    return figure


def flips_figure(flips: Tensor, when: str = "") -> Figure:
    """How many pairs have entered or left the hard set how often.

    Args:
        flips: ``(M,)`` int64, crossings of each pair.
        when: said in the title.
    """
    bins = binned_crossings(flips)
    moved = int((flips > 0).sum())
    figure, (axes,) = _page(
        f"{moved:,} of {len(flips):,} pairs crossed the border{when}",
        "Of the hard set: into it or out of it, from one epoch to the next. Good: nearly all at 0, 1 or 2. Much "
        "on the right: pairs that go to and fro.",
        "pairs",
    )
    counts = [count for _, _, count in bins]
    bars = axes.bar(range(len(bins)), counts, color=[GREY] + [BLUE] * (len(bins) - 1), edgecolor="black", linewidth=0.5)
    axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=FONT - 1)
    axes.set_xticks(range(len(bins)), [f"{low}" if low == high else f"{low}\u2013{high}" for low, high, _ in bins])
    axes.set(xlabel="crossings of a pair", ylim=(0, 1.12 * max(counts)))
    return figure


def ridge_figure(
    positives: Tensor,
    probe: Tensor,
    hard: Tensor,
    epochs: Sequence[int],
    phases: Phases = Phases(),
    max_rows: int = 6,
) -> Figure:
    """Distributions of scores over time, a row an epoch.

    Args:
        positives: ``(T, P)`` logits of training edges.
        probe: ``(T, M)`` logits of the probe.
        hard: ``(T, M)`` bool, which of the probe are hard at that time.
        epochs: T epochs.
        phases: of the run.
        max_rows: at most so many epochs are shown, evenly spaced, the first and the last among them.
    """
    rows = np.unique(np.linspace(0, len(epochs) - 1, min(max_rows, len(epochs))).round().astype(int))
    above = float((positives[-1][:, None] > probe[-1][hard[-1]].median()).float().mean())
    figure, (axes,) = _page(
        f"Scores: {100 * above:.0f} % of edges above the median hard pair",
        "Good: edges move right, away from the hard pairs. Hard pairs that stand among edges: hard to tell, or edges "
        f"that are missing. {'Grey rows: warm-up.' if phases.warmup else ''}",
        "epoch",
    )
    shown = torch.cat([positives[rows].flatten(), probe[rows].flatten()]).float()
    low, high = (float(shown.quantile(q)) for q in (0.005, 0.995))
    bins = np.linspace(low, max(high, low + 1e-3), 61)
    middle = (bins[1:] + bins[:-1]) / 2
    for place, row in enumerate(rows):
        if epochs[row] < phases.warmup:
            axes.axhspan(place, place + 0.95, color="0.93", zorder=0)
        groups = (
            (probe[row][~hard[row]], SKY, "easy pairs", "-"),
            (probe[row][hard[row]], VERMILION, "hard pairs", "-"),
            (positives[row], "black", "edges", "--"),
        )
        for values, color, label, style in groups:
            counts = np.histogram(np.clip(values.numpy(), bins[0], bins[-1]), bins)[0]
            top = place + 0.9 * counts / max(counts.max(), 1)
            named = label if place == 0 else None
            if color == "black":
                axes.plot(middle, top, color=color, linestyle=style, linewidth=1.1, label=named)
            else:
                axes.fill_between(middle, place, top, color=color, alpha=0.7, linewidth=0, label=named)
    axes.set_yticks(range(len(rows)), [str(epochs[row]) for row in rows])
    axes.set(xlabel="logit", ylim=(-0.1, len(rows) + 0.7))
    _legend_above(axes)
    return figure


def examples_figure(
    names: Sequence[str], hard: Tensor, flips: Sequence[int], epochs: Sequence[int], phases: Phases = Phases()
) -> Figure:
    """When a few named pairs were hard: a strip for each, with its name above it.

    Args:
        names: n names.
        hard: ``(n, T)`` bool.
        flips: n counts of crossings.
        epochs: T epochs.
        phases: of the run.
    """
    figure, (axes,) = _page(
        "Pairs that crossed most, and when they were hard",
        "Orange: hard. On the right: crossings. Full names in TEXT. Good: few changes, and those early on. "
        f"{phases.told}",
        "",
    )
    colors = ListedColormap([GREY, VERMILION])
    ends = [*epochs[:1], *epochs]  # of the first strip's cell; the others end at their epoch
    edges = np.concatenate([[epochs[0] - 0.5], (np.asarray(ends[1:-1]) + np.asarray(ends[2:])) / 2, [epochs[-1] + 0.5]])
    for row, (name, count) in enumerate(zip(names, flips, strict=True)):
        axes.pcolormesh(edges, [row + 0.45, row + 0.95], hard[row].numpy()[None].astype(float), cmap=colors, vmin=0,
                        vmax=1)  # fmt: skip
        said = axes.text(epochs[0] - 0.5, row + 0.42, visible(name), fontsize=FONT - 2, va="bottom")
        said.set_parse_math(False)  # a name is no formula
        axes.text(epochs[-1] + 0.5, row + 0.7, f" {count}", fontsize=FONT - 2, va="center", clip_on=False)
    axes.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5), ylim=(len(names) + 0.35, -0.3), yticks=[])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    _mark(axes, phases, shade=False)
    if phases.warmup and phases.warmup != phases.frozen:
        axes.axvline(phases.warmup - 0.5, color="black", linewidth=1, linestyle=":")
    return figure


def weights_figure(
    weights: Tensor, starting: Tensor, losses: Tensor, hardness: Tensor | None, when: str = ""
) -> Figure:
    """Hexagonal bins: the factor that the weight net gives a negative against its loss, and the teacher's logit.

    Args:
        weights: ``(m,)``, mean 1.
        starting: ``(m,)``, those before the weight net; where they are 0 there is no factor.
        losses: ``(m,)`` the student's.
        hardness: ``(m,)`` the teacher's logits, or None.
        when: said in the title.
    """
    there = starting > 0
    factor = weights[there] / starting[there]
    factor = factor / factor.mean()
    spread = float(factor.std(unbiased=False))
    little = spread < LITTLE_LEARNED
    figure, panels = _page(
        f"Weights moved by {100 * spread:.2g} %{', next to nothing' if little else ''}{when}",
        "The learned factor of each picked negative; 1 everywhere: the weight net does nothing. Good: a spread well "
        "above 1 %, with less for pairs that the teacher scores like edges.",
        "learned factor, mean 1",
        across=1 if hardness is None else 2,
    )
    high = max(2.0, 1.05 * float(factor.max()))
    named = [(losses, "student's loss")] + ([] if hardness is None else [(hardness, "teacher's logit")])
    for axes, (values, name) in zip(panels, named, strict=True):
        extent = (*_roomy(values[there]), 0.0, high)
        mesh = axes.hexbin(values[there].numpy(), factor.numpy(), gridsize=(24, 20), mincnt=1, cmap="cividis_r",
                           extent=extent)  # fmt: skip
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set(xlabel=name, ylim=(0, high))
    figure.colorbar(mesh, ax=panels, label="negatives")
    return figure


def filter_figure(
    epochs: Sequence[int],
    kept: Sequence[float],
    band: Sequence[Sequence[float]],
    offered: Sequence[Sequence[float]],
    phases: Phases = Phases(),
) -> Figure:
    """The share of candidates that the filter keeps, and below it between which of the teacher's logits they lie.

    Args:
        epochs: T epochs.
        kept: T shares.
        band: T times the least and the highest logit of the teacher that was kept, means over anchors.
        offered: T times the least and the highest of all candidates, likewise.
        phases: of the run.
    """
    figure, (upper, lower) = _page(
        f"Filter: keeps {100 * kept[-1]:.0f} % of the candidates",
        "Good: drops many that are easy, which teach nothing, and few of the hardest, which may be missing edges. "
        f"{phases.told}",
        "kept, %",
        "teacher's logit",
    )
    marker = "o" if len(epochs) < 30 else None
    upper.plot(epochs, 100 * np.asarray(kept), color=BLUE, linewidth=1.6, marker=marker, markersize=3)
    upper.set_ylim(0, 108)
    (least, most), (lowest, highest) = np.asarray(band).T, np.asarray(offered).T
    lower.fill_between(epochs, most, highest, color=VERMILION, linewidth=0, label="harder: all dropped")
    lower.fill_between(epochs, least, most, color=SKY, linewidth=0, label="range of the kept")
    lower.fill_between(epochs, lowest, least, color="0.55", linewidth=0, label="easier: all dropped")
    for axes in (upper, lower):
        axes.set_xlim(-0.5, epochs[-1] + 0.5)
        _mark(axes, phases)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("epoch")
    lower.legend(loc="upper center", bbox_to_anchor=(0.5, 1.38), ncols=3, frameon=False, fontsize=FONT - 2,
                 handlelength=1.2, columnspacing=1.0, borderpad=0)  # fmt: skip
    return figure


def meta_set_figure(mean: Tensor, std: Tensor, labels: Tensor, when: str = "") -> Figure:
    """The meta set: mean of a pair's logit over stochastic passes against its standard deviation.

    Args:
        mean: ``(m,)``.
        std: ``(m,)``.
        labels: ``(m,)``, 1 for edges.
        when: said in the title.
    """
    edges = labels > 0.5
    figure, (axes,) = _page(
        f"Meta set: {int(edges.sum()):,} edges, {int((~edges).sum()):,} non-edges{when}",
        "What the weight net learns from: pairs that the teacher is sure of. Good: edges on the right, non-edges on "
        "the left, all of them low, and more than a few.",
        "deviation of the logit",
    )
    for chosen, color, marker, name in ((edges, BLUE, "o", "edges"), (~edges, VERMILION, "x", "non-edges")):
        axes.scatter(mean[chosen].numpy(), std[chosen].numpy(), s=20, color=color, marker=marker, alpha=0.8,
                     linewidths=1.1, label=name)  # fmt: skip
    top = 1.2 * float(std.max()) if len(std) else 1.0
    axes.set(xlabel="mean logit", ylim=(0, max(top, 1e-3)))
    _legend_above(axes)
    return figure


def embeddings_figure(places: Mapping[str, Tensor], kept: Mapping[str, float], share: Tensor, when: str = "") -> Figure:
    """Nodes by two principal components of their embeddings, coloured by their share of hard pairs.

    Args:
        places: ``(n, 2)`` by learner, one or more.
        kept: the share of the variance that the two components hold, by learner.
        share: ``(n,)`` share of a node's probe pairs that are hard; NaN of a node without any.
        when: said in the title.
    """
    figure, panels = _page(
        f"Embeddings of {len(share):,} nodes{when}",
        "Two principal components, their share of the variance; far nodes at the edge, grey ones in no pair. Good: "
        "a spread cloud. A point or a line: collapse. More in PROJECTOR.",
        "",
        across=len(places),
    )
    seen = ~share.isnan()
    for axes, (name, at) in zip(panels, places.items(), strict=True):
        # A few far nodes would leave one dot of all others
        low, high = at.quantile(0.01, dim=0), at.quantile(0.99, dim=0)
        room = 0.1 * (high - low) + 1e-6
        at = at.clamp(low - room, high + room)
        x, y = at.t().numpy()
        axes.scatter(x[~seen], y[~seen], s=3, color=GREY, linewidths=0)
        points = axes.scatter(
            x[seen], y[seen], s=9, c=share[seen].numpy(), cmap="cividis_r", vmin=0, vmax=1, linewidths=0
        )
        axes.set_xlabel(f"{name}, {100 * kept[name]:.0f} %")
        axes.set(xticks=[], yticks=[])
    panels[0].set_ylabel("second component")
    figure.colorbar(points, ax=panels, label="hard pairs, share")
    return figure


def surface_figure(surface: Tensor, offsets: Tensor, title: str, scale: tuple[float, float] | None = None) -> Figure:
    """Contours of the loss along two directions.

    Args:
        surface: ``(n, n)`` losses, the first direction down.
        offsets: ``(n,)``.
        title: names the checkpoint.
        scale: lowest and highest loss of the colours, for several figures to share; the surface's own by default.
    """
    figure = Figure(figsize=(4.4, 3.3), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title="\n".join(map(visible, title.split("\n"))))
    axes.set(xlabel="second direction, norms", ylabel="first direction, norms")
    axes.title.set_parse_math(False)  # a run's name is no formula
    axes.tick_params(labelsize=FONT - 1)
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


def _page(title: str, caption: str, *ylabels: str, across: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with room for a title and a caption, and axes: one below another by ``ylabels``, or ``across`` a row."""
    figure = Figure(figsize=SIZE, dpi=DPI)
    lines, height = textwrap.wrap(caption, 86), SIZE[1]
    top, bottom = 1 - 0.3 / height, (0.49 + 0.14 * len(lines)) / height  # both in inches
    figure.subplots_adjust(left=0.14, right=0.945, top=top, bottom=bottom, hspace=0.4, wspace=0.12)
    figure.suptitle(visible(title), x=0.015, y=0.985, ha="left", va="top", fontsize=FONT + 1, fontweight="bold")
    figure.text(0.015, 0.015, "\n".join(lines), ha="left", va="bottom", fontsize=FONT - 2, color="0.2")
    panels = [figure.add_subplot(len(ylabels), across, place + 1) for place in range(len(ylabels) * across)]
    for place, axes in enumerate(panels):
        axes.tick_params(labelsize=FONT - 1)
        axes.ticklabel_format(useOffset=False)  # it would stand in the title
        if place % across:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(ylabels[place // across])
    return figure, panels


def _mark(axes: Axes, phases: Phases, shade: bool = True) -> None:
    """Marks the phases on a figure whose x axis counts epochs: what holds from an epoch on begins half before it."""
    if phases.warmup and shade:
        axes.axvspan(-0.5, phases.warmup - 0.5, color="0.88", zorder=0)
    if phases.frozen is not None:
        axes.axvline(phases.frozen - 0.5, color="black", linewidth=1, linestyle="--")
    foot = axes.get_xaxis_transform()
    axes.plot(phases.refreshes, [0.03] * len(phases.refreshes), "^", color="black", markersize=4, transform=foot,
              linestyle="none")  # fmt: skip


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="upper center", ncols=3, frameon=False, fontsize=FONT - 1, handlelength=1.4, columnspacing=1.2)


def _roomy(values: Tensor, least: float = 0.02) -> tuple[float, float]:
    """The range of values with some room, ``least`` or more at either end: equal ones have no spread to show."""
    low, high = float(values.min()), float(values.max())
    room = max(0.05 * (high - low), least)
    return low - room, high + room
