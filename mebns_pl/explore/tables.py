"""Migration by pair, by node and by type of nodes, as tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mebns_pl.analysis.probe_history import TEST, VALIDATION, ProbeHistory

HELD_OUT = {0: "", VALIDATION: "validation", TEST: "test"}
"""How a held-out edge is told of, for analysis alone."""


def pair_table(history: ProbeHistory) -> pd.DataFrame:
    """What became of each pair of the probe.

    Returns:
        M rows in the order of the probe: ``source``, ``target``, ``crossings`` of the hard set's border, in how many of
        the kept epochs it was hard (``epochs_hard``), the last logits ``student`` and ``teacher`` (NaN without one), in
        how many steps it was ``drawn``, ``dropped`` and ``picked``, its mean ``weight`` there (NaN where it never was),
        its ``common_neighbors``, and, for analysis alone, ``held_out``.

    Example:
        >>> from mebns_pl.analysis.probe_history import toy_history
        >>> pair_table(toy_history())[["target", "crossings", "picked", "weight", "held_out"]].values.tolist()[1]
        ['c', 1, 2, 0.75, 'test']
    """
    source, target = (np.array(history.names, dtype=object)[end] for end in history.places)
    drawn, dropped, picked = history.counts.sum(axis=0, dtype=np.int64)
    nothing = np.full(history.num_pairs, np.nan)
    return pd.DataFrame(
        {
            "source": source,
            "target": target,
            "crossings": history.crossings,
            "epochs_hard": history.hard.sum(axis=0),
            "student": history.student[-1].astype(float),
            "teacher": history.teacher[-1].astype(float) if len(history.teacher) else nothing,
            "drawn": drawn,
            "dropped": dropped,
            "picked": picked,
            "weight": np.divide(history.weights.sum(axis=0, dtype=float), picked, out=nothing.copy(), where=picked > 0),
            "common_neighbors": history.num_common,
            "held_out": [HELD_OUT[code] for code in history.held_out],
        }
    )


def node_table(history: ProbeHistory) -> pd.DataFrame:
    """Crossings of the pairs at each node that stands in the probe, most first.

    Returns:
        ``node``, ``type`` (where nodes have one), ``degree`` in the training graph, how many ``pairs`` of the probe it
        is an end of, their ``crossings`` together and ``per_pair``.

    Example:
        >>> from mebns_pl.analysis.probe_history import toy_history
        >>> node_table(toy_history())[["node", "pairs", "crossings", "per_pair"]].head(1).values.tolist()
        [['d', 1, 2, 2.0]]
    """
    ends = history.places.ravel()
    pairs = np.bincount(ends, minlength=len(history.nodes))
    crossings = np.bincount(ends, np.tile(history.crossings, 2), len(history.nodes)).astype(int)
    types = {} if history.types is None else {"type": history.types}
    table = pd.DataFrame({"node": history.names, **types, "degree": history.degree, "pairs": pairs})
    return _per_pair(table.assign(crossings=crossings)[pairs > 0])


def type_table(history: ProbeHistory) -> pd.DataFrame | None:
    """Crossings by the types of a pair's two ends, in either order; None where nodes have no types.

    Returns:
        ``types``, ``pairs``, ``crossings``, ``per_pair``, most crossings a pair first.
    """
    if history.types is None:
        return None
    of_nodes = np.array(history.types, dtype=object)[history.places]
    kinds = [" \u2013 ".join(sorted(two)) for two in of_nodes.T]
    table = pd.DataFrame({"types": kinds, "crossings": history.crossings})
    return _per_pair(table.groupby("types")["crossings"].agg(pairs="size", crossings="sum").reset_index())


def _per_pair(table: pd.DataFrame) -> pd.DataFrame:
    table = table.assign(per_pair=table["crossings"] / table["pairs"])
    return table.sort_values(["per_pair", "pairs"], ascending=False, kind="stable").reset_index(drop=True)
