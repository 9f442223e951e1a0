"""The explorer: runs side by side on one HTML page that needs neither server nor network."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mebns_pl.analysis.probe_history import ProbeHistory
from mebns_pl.escaping import visible
from mebns_pl.explore import figures
from mebns_pl.explore.runs import ExploredRun, check_together, control_of, verdict_of
from mebns_pl.explore.tables import HELD_OUT, node_table, pair_table, type_table
from mebns_pl.files import write_atomically
from mebns_pl.report.figures import COLORS, SYMBOLS

PAGE = Path(__file__).with_name("page.html.j2")
SCRIPT = Path(__file__).with_name("explorer.js")
MOST_PAIRS = 10_000
"""Pairs that a page holds one by one; of more a sample is."""
_OPTIONS = {"displayModeBar": False, "responsive": True}
_KINDS = {"f4": "Float32Array", "u2": "Uint16Array", "u1": "Uint8Array"}


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Args:
        name: short.
        heading: over it.
        caption: what it shows, and what good looks like.
        figure: Plotly's.
    """

    name: str
    heading: str
    caption: str
    figure: go.Figure


def pictures(runs: Sequence[ExploredRun]) -> list[Picture]:
    """The figures that there are of some runs."""
    setting = runs[0].history.setting
    border = f"The hard set is the {100 * setting.share:g} % of the probe with the highest scores"
    found = [
        Picture(
            "hard-set",
            "The hard set over time",
            f"{border}. Low and falling: negatives that are hard stay so. Dotted: the end of a warm-up.",
            figures.hard_set_figure(runs),
        ),
        Picture(
            "crossings",
            "Crossings of a pair",
            "How often pairs entered or left the hard set, from one kept epoch to the next. High at 0: little moved.",
            figures.crossings_figure(runs),
        ),
        Picture(
            "flow",
            "Flow between easy and hard",
            f"Hard is here a probability above {setting.threshold:g}. Short bars: few pairs change sides. Dotted: the "
            "end of a warm-up.",
            figures.flow_figure(runs),
        ),
    ]
    held_out = figures.held_out_figure(runs)
    if held_out is not None:
        caption = (
            "For analysis alone: training never sees held-out edges. On the dashed line, what crosses is no more often "
            "a false negative than any pair; far above it, what looks like migration is edges that are missing. "
            "Bars: 95 % intervals."
        )
        found.append(Picture("held-out", "Are they false negatives?", caption, held_out))
    landscape = figures.landscape_figure(runs)
    if landscape is not None:
        caption = (
            "Sharpness of the loss round the trained students, of its Hessian, by mebns landscape; the eigenvalue to "
            "within 0.01 %, the trace \u00b1 its standard error. Left: flatter."
        )
        found.append(Picture("landscape", "Loss landscape", caption, landscape))
    return found


def as_page(runs: Sequence[ExploredRun], most_pairs: int = MOST_PAIRS) -> str:
    """The explorer's page.

    Args:
        runs: with the same probe, 1 or more.
        most_pairs: pairs that it holds one by one.

    Raises:
        DataError: runs that do not go together.
    """
    check_together(runs)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawn = [
        (
            item,
            item.figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"figure-{item.name}", config=_OPTIONS),
        )
        for item in pictures(runs)
    ]
    return environment.from_string(PAGE.read_text("utf-8")).render(
        graph=visible(runs[0].history.setting.graph),
        heads=[_head(number, run, runs) for number, run in enumerate(runs)],
        remarks=remarks(runs, most_pairs),
        drawn=drawn,
        typed=runs[0].history.types is not None,
        plotly=get_plotlyjs(),
        script=SCRIPT.read_text("utf-8"),
        data=in_script(page_data(runs, most_pairs)),
    )


def _head(number: int, run: ExploredRun, runs: Sequence[ExploredRun]) -> dict[str, Any]:
    control, mrr = control_of(run, runs), run.test.get("mrr")
    setting = run.history.setting
    told = [f"{setting.system} with {' + '.join(setting.sampler)}, seed {setting.seed}"]
    told += [f"{len(run.history.epochs)} epochs kept"]
    told += [] if mrr is None else [f"test MRR {100 * mrr:.1f} %"]
    told += [] if control is None else [f"control: {control.name}"]
    return {
        "name": run.name,
        "color": COLORS[number],
        "told": ", ".join(told),
        "findings": verdict_of(run, runs),
    }


def remarks(runs: Sequence[ExploredRun], most_pairs: int = MOST_PAIRS) -> list[str]:
    """What to keep in mind, sentences."""
    first = runs[0].history
    told = [
        f"{first.num_pairs:,} pairs of nodes without a training edge were watched, half uniform, half near in the "
        "graph, the same in all runs."
    ]
    distinct = len(shown_pairs(first, first.num_pairs))
    if distinct > most_pairs:
        told.append(
            f"The list of pairs is a random sample of {most_pairs:,} of them; figures, nodes and types are of all."
        )
    elif distinct < first.num_pairs:
        told.append(f"Some were drawn more than once, which counts: the list has {distinct:,}, each once.")
    for run in runs:
        gaps = np.diff(run.history.epochs)
        if len(gaps) and gaps.max() > 1:
            told.append(
                f"{run.name}: every {_ordinal(int(gaps.max()))} epoch is kept, and a crossing there and back between "
                "two of them is not seen."
            )
    told.append("One run is one seed: what differs between runs here may differ the other way with another.")
    return told


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def page_data(runs: Sequence[ExploredRun], most_pairs: int = MOST_PAIRS) -> dict[str, Any]:
    """What the page's script works with: names, tables and, packed, the scores of each pair over the epochs."""
    first = runs[0].history
    shown = shown_pairs(first, most_pairs)
    typed = {} if first.types is None else {"types": [visible(kind) for kind in first.types]}
    common = first.common[shown]
    positions = np.where(common >= 0, np.searchsorted(first.nodes, common.clip(min=0)), -1)
    return {
        "graph": visible(first.setting.graph),
        "names": [visible(name) for name in first.names],
        **typed,
        "ends": first.places[:, shown].T.tolist(),
        "common": [[place for place in row if place >= 0] for row in positions.tolist()],
        "numCommon": first.num_common[shown].tolist(),
        "heldOut": [HELD_OUT[code] for code in first.held_out[shown]],
        "runs": [_run_data(number, run, shown) for number, run in enumerate(runs)],
    }


def _run_data(number: int, run: ExploredRun, shown: np.ndarray) -> dict[str, Any]:
    history = run.history
    pairs = pair_table(history).iloc[shown]
    columns = ("crossings", "epochs_hard", "student", "teacher", "drawn", "dropped", "picked", "weight")
    types = type_table(history)
    return {
        "name": run.name,
        "system": history.setting.system,
        "color": COLORS[number],
        "symbol": SYMBOLS[number],
        "warmup": history.setting.warmup,
        "epochs": history.epochs.tolist(),
        "border": _rounded(history.border.tolist()),
        "pairs": {name: _rounded(pairs[name].tolist()) for name in columns},
        "nodes": _rows(node_table(history)),
        "types": [] if types is None else _rows(types),
        "student": packed(history.student[:, shown]),
        "teacher": packed(history.teacher[:, shown]) if len(history.teacher) else None,
        "hard": packed(history.hard[:, shown].astype(np.uint8)),
        "counts": packed(history.counts[:, :, shown].clip(max=2**16 - 1).astype(np.uint16)),
        "weights": packed(history.weights[:, shown]),
    }


def shown_pairs(history: ProbeHistory, most: int) -> np.ndarray:
    """Places in the probe of the pairs that a page lists, each once: all, or a random sample, always the same.

    Args:
        history: of the probe, in which a pair may stand twice.
        most: how many are listed.
    """
    places = np.sort(np.unique(np.sort(history.pairs, axis=0), axis=1, return_index=True)[1])
    if len(places) > most:
        places = np.sort(np.random.default_rng(0).choice(places, most, replace=False))
    return places


def packed(values: np.ndarray) -> dict[str, Any]:
    """An array for the page: gzip, in base64; little endian.

    Example:
        >>> packed(np.zeros((2, 3), np.float32))["kind"]
        'Float32Array'
    """
    kind = values.dtype.str[1:]
    data = gzip.compress(np.ascontiguousarray(values).astype(f"<{kind}").tobytes(), 6, mtime=0)
    return {"kind": _KINDS[kind], "shape": list(values.shape), "data": base64.b64encode(data).decode()}


def in_script(value: Any) -> str:
    r"""JSON that a script's tag can hold: whatever a name says, it neither ends the tag nor the text.

    Example:
        >>> in_script("</script>")
        '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _rows(table: pd.DataFrame) -> list[list[Any]]:
    columns = (table[name].tolist() for name in table.columns)
    return [
        [visible(cell) if isinstance(cell, str) else cell for cell in row]
        for row in zip(*map(_rounded, columns), strict=True)
    ]


def _rounded(values: list[Any]) -> list[Any]:
    """The same in JSON's numbers, fractions to six digits; NaN and infinity are null."""
    return [
        (float(f"{value:.6g}") if math.isfinite(value) else None) if isinstance(value, float) else value
        for value in values
    ]


def write_page(runs: Sequence[ExploredRun], path: Path, most_pairs: int = MOST_PAIRS) -> Path:
    """Writes the explorer's page.

    Args:
        runs: with the same probe.
        path: the file; its folder is made.
        most_pairs: see :func:`as_page`.

    Returns:
        The file.

    Raises:
        DataError: runs that do not go together.
        OSError: it cannot be written.
    """
    write_atomically(path, as_page(runs, most_pairs))
    return path
