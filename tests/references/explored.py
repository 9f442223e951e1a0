"""Made-up and short real runs for the explorer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger

from mebns_pl import MigrationMonitor, ProbeRecord
from mebns_pl.analysis.probe_history import ProbeHistory, Setting
from mebns_pl.callbacks.metrics_file import MetricsFile
from mebns_pl.explore.runs import ExploredRun, read_runs
from references.runs import MAKE, fit, make_data, probe_monitor

NASTY = "</script><img src=x onerror=alert(1)>&\u2028'\"\u202e"


def made_up_run(
    name: str = "plain", system: str = "Plain", pairs: int = 300, epochs: int = 12, seed: int = 0, **changes: Any
) -> ExploredRun:
    """A run of scores that walk at random, on 40 nodes of two types, one with a name that tries to be a tag."""
    same, own = np.random.default_rng(1), np.random.default_rng(seed + 2)
    ends = np.sort(np.array([same.choice(40, 2, replace=False) for _ in range(pairs)]).T, axis=0)
    nodes = np.unique(ends)
    names = [f"node {node}" for node in nodes]
    names[0], names[1] = NASTY, "=1+1"
    counts = own.integers(0, 3, (epochs, 3, pairs)).astype(np.int32)
    common = np.full((pairs, 5), -1)
    common[:, 0] = nodes[0]
    student = (same.standard_normal(pairs) + 0.5 * own.standard_normal((epochs, pairs))).astype(np.float32)
    history = ProbeHistory(
        Setting("toy", system, warmup=3 if system == "MeBNS" else 0),
        pairs=ends,
        epochs=np.arange(epochs),
        student=student,
        teacher=student + 1 if system == "MeBNS" else student[:0],
        counts=counts,
        weights=(counts[:, 2] * own.uniform(0.5, 1.5, (epochs, pairs))).astype(np.float32),
        held_out=np.where(np.arange(pairs) % 11 == 0, 2, 0).astype(np.int8),
        num_common=np.full(pairs, 7),
        common=common,
        nodes=nodes,
        degree=np.full(len(nodes), 4),
        names=names,
        types=["hub" if node < 9 else "other" for node in nodes],
    )
    return ExploredRun(name, replace(history, **changes), {"epochs": epochs, "best_epoch": epochs // 2})


def trained_runs(folder: Path, epochs: int = 4) -> tuple[list[ExploredRun], dict[str, MigrationMonitor]]:
    """Runs of a few epochs with both systems, and their monitors by name."""
    monitors = {}
    for kind in ("Plain", "MeBNS"):
        data = make_data()
        monitors[kind] = probe_monitor(probe_size=200)
        callbacks = [MetricsFile(), monitors[kind], ProbeRecord()]
        fit(MAKE[kind](data.spec), data, epochs, callbacks, logger=CSVLogger(folder, kind))
        (path,) = (folder / kind).glob("version_*")
        (path / "config.yaml").touch()
    return read_runs([folder / kind for kind in monitors]), monitors


def logged(folder: Path, name: str) -> dict[int, float]:
    """What a run has logged under a name, by epoch."""
    import pandas as pd

    table = pd.read_csv(next(folder.rglob("metrics.csv"))).dropna(subset=[name])
    return dict(zip(table["epoch"], table[name], strict=True))


def probabilities(history: ProbeHistory) -> np.ndarray:
    """``(T, M)`` of the student's logits."""
    found: np.ndarray = torch.from_numpy(history.student).sigmoid().numpy()
    return found
