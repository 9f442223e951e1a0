"""What a run keeps of its probe, against what its steps were seen to do; and that keeping it changes nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from mebns_pl import ProbeRecord
from mebns_pl.analysis.probe_history import NAME, ProbeHistory, read_history
from references.runs import MAKE, fit, make_data, make_mebns, probe_monitor, weights


class Watch(Callback):
    """Looks at every step and epoch as the record must have seen them: slow, pair by pair."""

    def __init__(self, record: ProbeRecord) -> None:
        self.record = record
        self.counts: list[dict[str, Counter[frozenset[int]]]] = []
        self.weights: list[Counter[frozenset[int]]] = []
        self.scores: list[Tensor] = []
        self.teacher: list[Tensor] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.counts.append({name: Counter() for name in ("drawn", "dropped", "picked")})
        self.weights.append(Counter())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        anchors = batch.candidate_anchors
        for row, column in batch.candidate_mask.nonzero().tolist():
            self.counts[-1]["drawn"][frozenset((int(anchors[row]), int(batch.candidates[row, column])))] += 1
        for name in ("dropped", "picked"):
            self.counts[-1][name].update(frozenset(pair) for pair in outputs[name].t().tolist())
        for pair, weight in zip(outputs["picked"].t().tolist(), outputs["weights"].tolist(), strict=True):
            self.weights[-1][frozenset(pair)] += weight

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        probe = self.record._monitor.probe
        self.scores.append(pl_module.score(probe).cpu())
        if hasattr(pl_module, "teacher"):
            self.teacher.append(pl_module.logits_of(pl_module.teacher)(probe).cpu())


def run(kind: str, epochs: int, folder: Path, probe_size: int = 300, **options: Any) -> tuple[ProbeHistory, Watch, Any]:
    data, record = make_data(), ProbeRecord(**options)
    watch = Watch(record)
    fit(MAKE[kind](data.spec), data, epochs, [probe_monitor(probe_size=probe_size), record, watch],
        logger=CSVLogger(folder))  # fmt: skip
    (path,) = folder.rglob(NAME)
    return read_history(path), watch, data


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_what_is_kept_is_what_has_happened(kind: str, tmp_path: Path) -> None:
    history, watch, _ = run(kind, 5, tmp_path)
    pairs = [frozenset(pair) for pair in history.pairs.T.tolist()]
    assert history.epochs.tolist() == list(range(5))
    np.testing.assert_array_equal(history.student, torch.stack(watch.scores))
    for epoch in range(5):
        for row, name in enumerate(("drawn", "dropped", "picked")):
            assert history.counts[epoch, row].tolist() == [watch.counts[epoch][name][pair] for pair in pairs]
        assert history.weights[epoch] == pytest.approx([watch.weights[epoch][pair] for pair in pairs], rel=1e-5)
    assert history.counts[:, 0].any()
    if kind == "MeBNS":
        torch.testing.assert_close(torch.from_numpy(history.teacher), torch.stack(watch.teacher))
        assert history.counts[:, 1].any()
        assert history.setting.warmup > 0
    else:
        assert len(history.teacher) == 0
        assert not history.counts[:, 1].any()


def test_names_neighbours_and_held_out_edges(tmp_path: Path) -> None:
    history, _, data = run("Plain", 2, tmp_path)
    edges = {frozenset(pair) for pair in data.split.observed.t().tolist()}
    held = {frozenset(p): code for code, part in ((1, data.split.val), (2, data.split.test)) for p in part.t().tolist()}
    neighbours = [{other for other in range(41) if frozenset((node, other)) in edges} for node in range(41)]
    assert held.keys() & {frozenset(pair) for pair in history.pairs.T.tolist()}
    for place, (u, v) in enumerate(history.pairs.T.tolist()):
        assert history.held_out[place] == held.get(frozenset((u, v)), 0)
        common = neighbours[u] & neighbours[v]
        assert history.num_common[place] == len(common)
        few = sorted(common, key=lambda node: (len(neighbours[node]), node))[:5]
        assert history.common[place].tolist() == few + [-1] * (5 - len(few))
    for node, degree, name in zip(history.nodes, history.degree, history.names, strict=True):
        assert degree == len(neighbours[node])
        assert name == data.loaded.node_names[node]


@pytest.mark.parametrize("most", [2, 5])  # an odd and an even number are thinned out
def test_thinned_out_epochs_keep_every_count(most: int, tmp_path: Path) -> None:
    history, watch, _ = run("MeBNS", 7, tmp_path, max_snapshots=most)
    assert len(history.epochs) <= most
    assert len(set(np.diff(history.epochs))) <= 1
    np.testing.assert_array_equal(history.student, torch.stack(watch.scores)[history.epochs])
    pairs = [frozenset(pair) for pair in history.pairs.T.tolist()]
    before = -1
    for place, epoch in enumerate(history.epochs.tolist()):
        for row, name in enumerate(("drawn", "dropped", "picked")):
            whole = sum((watch.counts[e][name] for e in range(before + 1, epoch + 1)), Counter())
            assert history.counts[place, row].tolist() == [whole[pair] for pair in pairs]
        before = epoch


def test_training_is_the_same_without_it() -> None:
    found = []
    for callbacks in ([], [probe_monitor(), ProbeRecord()]):
        data = make_data()
        system = make_mebns(data.spec)
        fit(system, data, 3, callbacks)
        found.append(weights(system))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_run_that_goes_on_keeps_the_same(tmp_path: Path) -> None:
    kept = []
    for parts in ((4,), (2, 4)):
        state: dict[str, Any] | None = None
        for epochs in parts:
            data, record, monitor = make_data(), ProbeRecord(), probe_monitor()
            folder = tmp_path / f"{len(parts)}-{epochs}"
            options = {} if state is None else {"ckpt_path": state["path"]}
            trainer = fit(make_mebns(data.spec), data, epochs, [monitor, record], logger=CSVLogger(folder), **options)
            trainer.save_checkpoint(folder / "kept.ckpt")
            state = {"path": folder / "kept.ckpt"}
        (path,) = folder.rglob(NAME)
        kept.append(read_history(path))
    for name in ("epochs", "student", "teacher", "counts", "weights"):
        np.testing.assert_array_equal(getattr(kept[0], name), getattr(kept[1], name), err_msg=name)


def test_nothing_is_kept_where_nothing_shall_be(tmp_path: Path) -> None:
    data = make_data()
    fit(MAKE["Plain"](data.spec), data, 2, [probe_monitor(), ProbeRecord(max_snapshots=0)], logger=CSVLogger(tmp_path))
    assert not list(tmp_path.rglob(NAME))
    fit(MAKE["Plain"](data.spec), data, 2, [probe_monitor(), ProbeRecord()])


def test_bad_options_and_a_missing_monitor() -> None:
    with pytest.raises(ValueError, match="max_snapshots: .*1"):
        ProbeRecord(max_snapshots=1)
    data = make_data()
    with pytest.raises(ValueError, match="put one before it"):
        fit(MAKE["Plain"](data.spec), data, 1, [ProbeRecord(), probe_monitor()])


def test_what_all_ranks_have_counted_is_added_once() -> None:
    """A snapshot that is let go holds all ranks' counts; the first alone takes them on."""
    for first in (True, False):
        record = ProbeRecord(max_snapshots=3)
        record._is_first, record._since = first, torch.zeros(4, 3)
        record.epochs, record.student = [0, 1, 2, 3], [torch.zeros(3)] * 4
        record.counts = [torch.full((4, 3), float(epoch)) for epoch in record.epochs]
        record._thin_out()
        assert record.epochs == [0, 2]
        assert [count.unique().tolist() for count in record.counts] == [[0], [3]]
        assert record._since.unique().tolist() == [3.0 if first else 0.0]
