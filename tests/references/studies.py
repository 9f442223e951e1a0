"""Made-up studies, in the shape of a study's results."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from mebns_pl.study.store import Store

Effect = Callable[[Mapping[str, str]], float]


def made_up_study(
    axes: Mapping[str, Sequence[str]],
    seeds: int = 10,
    effect: Effect = lambda arm: 0.0,
    noise: float = 0.01,
    shared: float = 0.02,
    generator_seed: int = 0,
    base: float = 0.3,
) -> pd.DataFrame:
    """Runs of every combination of the axes' values, each with a split of its own per seed.

    Args:
        axes: values by name.
        seeds: how many.
        effect: what an arm adds to the metric.
        noise: standard deviation of a run by itself; a paired difference has sqrt(2) times as much.
        shared: standard deviation of what runs of one graph and seed have in common.
        generator_seed: of the numbers.
        base: metric of an arm without effect.
    """
    generator = np.random.default_rng(generator_seed)
    common: dict[tuple[str, int], float] = {}
    rows = []
    for number, (values, seed) in enumerate(itertools.product(itertools.product(*axes.values()), range(seeds))):
        arm = dict(zip(axes, values, strict=True))
        key = (arm.get("graph", ""), seed)
        if key not in common:
            common[key] = generator.normal(0, shared)
        value = base + common[key] + effect(arm) + generator.normal(0, noise)
        rows.append(
            {
                "run": f"{number:08x}",
                "status": "done",
                "error": None,
                **{f"axis/{name}": value for name, value in arm.items()},
                "split_seed": seed,
                "seed": seed,
                "config": json.dumps({"data.graph": arm.get("graph", "air_routes")}),
                "commit": "0123abc",
                "version": "0.1.0",
                "machine": "x86_64",
                "folder": f"runs/{number:08x}",
                "val/mrr": value + 0.01,
                "test/mrr": value,
                "test/auc": min(value + 0.5, 1.0),
                "best_epoch": 40,
                "epochs": 60,
                "seconds": 5.0 + generator.random() + 10 * ("MeBNS" in values),
                "peak_memory_mib": 512.0,
                "churn": 0.07,
                "unevenness": 0.1 if "MeBNS" in values else None,
                "notes": "[]",
                "finished": "2026-01-01T00:00:00",
            }
        )
    return pd.DataFrame(rows)


def write_study(frame: pd.DataFrame, folder: Path, curves: bool = True) -> Path:
    """A study's folder: its results as the store keeps them and, with curves, the metrics of its finished runs."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder)
    store.counts()  # makes the table
    rows = []
    for place, row in enumerate(frame.astype(object).where(frame.notna(), None).to_dict("records")):
        axes = {name.removeprefix("axis/"): row.pop(name) for name in list(row) if name.startswith("axis/")}
        metrics = {name: row.pop(name) for name in list(row) if name.startswith(("val/", "test/"))}
        found = {name: value for name, value in metrics.items() if value is not None}
        rows.append({**row, "place": place, "wanted": 1, "axes": json.dumps(axes), "metrics": json.dumps(found)})
    with closing(sqlite3.connect(store.path)) as connection:
        pd.DataFrame(rows).to_sql("runs", connection, index=False, if_exists="append")
        connection.commit()
    for row in frame[frame["status"] == "done"].to_dict("records") if curves else ():
        epochs = np.arange(5, 61, 5)
        rising = row["val/mrr"] * (1 - np.exp(-epochs / 12))
        metrics = {
            "format": 1,
            "fit": {"curves": {"epoch": epochs.tolist(), "val/mrr": rising.tolist()}},
        }
        (folder / row["folder"]).mkdir(parents=True)
        (folder / row["folder"] / "metrics.json").write_text(json.dumps(metrics))
    return folder
