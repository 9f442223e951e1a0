"""Keeps what becomes of the monitor's probe, for the explorer: scores of student and teacher, picks, drops, weights."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mebns_pl.analysis.probe_history import COUNTS, NAME, TEST, VALIDATION, ProbeHistory, Setting, write_history
from mebns_pl.callbacks.cost import Stopwatch
from mebns_pl.callbacks.metrics_file import metrics_path, warmup_of
from mebns_pl.callbacks.migration import MigrationMonitor, monitor_before
from mebns_pl.checks import expect
from mebns_pl.data.datamodule import LinkDataModule, data_of
from mebns_pl.graph.csr import Graph, pair_keys
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.graph.row_sets import common_neighbors
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.mebns import MeBNS

SHOWN = 5
"""Common neighbours that are named."""
_HASHES = 2**18
_AT_ONCE = 8
"""Steps whose pairs are looked up together."""


class ProbeRecord(Callback):
    """Keeps what becomes of the monitor's probe, and writes it as ``migration.npz`` when training ends.

    Of each pair: the logits of student and teacher after an epoch, in how many steps it was drawn as a candidate,
    dropped by the filter and picked, with which weight, its common neighbours; and, looked up when training is over,
    whether it is a held-out edge. ``mebns explore`` reads it. Needs a :class:`MigrationMonitor` before it among the
    callbacks.

    Args:
        max_snapshots: at most so many epochs are kept, evenly spaced: when there are more, every second one goes, and
            its counts are added to the next. 2 or more, or 0 to keep and write nothing.

    Cost: the teacher's logits of the probe after an epoch that is kept, and a search of each step's candidates in it;
    ``6 max_snapshots`` numbers a pair of memory.

    Example:
        >>> ProbeRecord().max_snapshots
        64
    """

    _monitor: MigrationMonitor

    def __init__(self, max_snapshots: int = 64) -> None:
        expect(max_snapshots == 0 or max_snapshots >= 2, "2 or more, or 0 for none", max_snapshots=max_snapshots)
        self.max_snapshots = max_snapshots
        self.stride = 1
        self.epochs: list[int] = []
        self.student: list[Tensor] = []
        self.teacher: list[Tensor] = []
        self.counts: list[Tensor] = []
        self.watch = Stopwatch()
        self._steps: list[dict[str, Tensor]] = []  # that wait to be counted
        self._num_nodes = 0
        self._is_first = True
        self._since: Tensor | None = None  # (4, m) of the probe's distinct pairs, since the last snapshot
        self._keys = self._again = torch.empty(0, dtype=torch.int64)
        self._hashes = torch.empty(0, dtype=torch.bool)  # True at those of the keys

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for the monitor, and sorts its pairs.

        Raises:
            ValueError: no :class:`MigrationMonitor` stands before this callback.
        """
        self._monitor, self._steps = monitor_before(self, trainer), []
        self._is_first = trainer.is_global_zero
        self._num_nodes = data_of(trainer).loaded.num_nodes
        keys, again = self._keys_of(self._monitor.probe).unique(return_inverse=True)
        self._keys, self._again = keys, again.cpu()
        self._hashes = torch.zeros(_HASHES, dtype=torch.bool, device=keys.device)
        self._hashes[_hashed(keys)] = True
        # A checkpoint brings the first rank's to all of them
        if self._since is None or not trainer.is_global_zero:
            self._since = torch.zeros(1 + len(COUNTS), len(keys))
        self._since = self._since.to(keys.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts which pairs of the probe the step has drawn, dropped and picked."""
        if self.max_snapshots:
            with self.watch.running():
                self._steps.append({name: outputs[name] for name in ("picked", "unpicked", "dropped", "weights")})
                if len(self._steps) == _AT_ONCE:
                    self._count()

    def _count(self) -> None:
        """Looks up what the steps that wait have drawn, dropped and picked: all at once, which takes as long as one."""
        if not self._steps:
            return
        steps, self._steps = self._steps, []
        assert self._since is not None
        drawn, dropped, picked, weight = self._since
        # One search for all: the picked ones stand first among those that were drawn
        parts = [torch.cat([step[name] for step in steps], dim=1) for name in ("picked", "unpicked", "dropped")]
        ends = list(itertools.accumulate(part.shape[1] for part in parts))
        keys = self._keys_of(torch.cat(parts, dim=1))
        weights = torch.cat([step["weights"] for step in steps]).float()
        if keys.is_cpu:  # hashes tell most of those that are not in the probe; elsewhere that would wait for the device
            near = self._hashes[_hashed(keys)].nonzero()[:, 0]
            ends = torch.searchsorted(near, torch.tensor(ends)).tolist()
            keys, weights = keys[near], weights[near[: ends[0]]]
        places = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        found = (self._keys[places] == keys).float()
        for total, first, last, values in (
            (drawn, 0, ends[1], 1.0),
            (dropped, ends[1], ends[2], 1.0),
            (picked, 0, ends[0], 1.0),
            (weight, 0, ends[0], weights),
        ):
            total.index_add_(0, places[first:last], found[first:last] * values)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps a snapshot when one is due."""
        if self.max_snapshots:
            assert isinstance(pl_module, AbstractLinkSystem)
            with self.watch.running():
                self._keep(pl_module, trainer.current_epoch)

    def _keep(self, pl_module: AbstractLinkSystem, epoch: int) -> None:
        self._count()
        assert self._since is not None
        # All ranks' together, which only the first goes on with
        whole = self._gather(pl_module)
        if epoch % self.stride:
            return
        self.epochs.append(epoch)
        # Not a part of all that the monitor has scored, which checkpoints would hold with it
        self.student.append(self._monitor.latest["probe"].clone())
        if isinstance(pl_module, MeBNS):
            self.teacher.append(self._teachers(pl_module))
        self.counts.append(whole.cpu())
        self._since = torch.zeros_like(whole)
        if len(self.epochs) > self.max_snapshots:
            self._thin_out()

    def _gather(self, system: AbstractLinkSystem) -> Tensor:
        """What all ranks have counted; the first alone goes on with it."""
        assert self._since is not None
        whole = system.group.sum(self._since)
        self._since = whole if self._is_first else torch.zeros_like(whole)
        return whole

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Within an epoch each rank has counted for itself: a checkpoint holds all of that."""
        if self._since is not None and self.max_snapshots and trainer.world_size > 1:
            assert isinstance(pl_module, AbstractLinkSystem)
            self._count()
            self._gather(pl_module)
            checkpoint["callbacks"][self.state_key] = self.state_dict()

    def _teachers(self, system: MeBNS) -> Tensor:
        """The teacher's logits of the probe; a frozen one is not encoded anew where the step does not."""
        frozen = None if system.teacher_learns(system.current_epoch) else system.frozen_score()
        return (frozen or system.logits_of(system.teacher))(self._monitor.probe).float().cpu()

    def _thin_out(self) -> None:
        """Lets every second snapshot go; what was counted for it goes to the next, or waits for it."""
        self.stride *= 2
        assert self._since is not None
        if len(self.counts) % 2 == 0 and self._is_first:  # all ranks have these together
            self._since += self.counts[-1].to(self._since.device)
        joined = [one + two for one, two in zip(self.counts[1::2], self.counts[2::2], strict=False)]
        self.counts = [self.counts[0], *joined]
        for history in (self.epochs, self.student, self.teacher):
            del history[1::2]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes."""
        self._write(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes what there is of a run that was stopped."""
        if isinstance(exception, KeyboardInterrupt | SystemExit):
            self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = metrics_path(trainer)  # asked on all ranks
        if path is not None and trainer.is_global_zero and self.epochs:
            write_history(self.history(trainer, pl_module), Path(path).with_name(NAME))

    def history(self, trainer: Trainer, pl_module: LightningModule) -> ProbeHistory:
        """What was kept so far, of at least one snapshot."""
        assert isinstance(pl_module, AbstractLinkSystem)
        data, probe, sampler = data_of(trainer), self._monitor.probe.cpu(), pl_module.sampler
        tracker, empty = self._monitor.tracker, np.empty((0, probe.shape[1]), np.float32)
        counts = torch.stack(self.counts)[:, :, self._again].numpy()
        sets = common_neighbors(data.train_graph, probe)
        common = _fewest_links(sets.ptr.numpy(), sets.members.numpy(), data.train_graph.degree.cpu().numpy())
        nodes = np.unique(np.concatenate([probe.flatten().numpy(), common[common >= 0]]))
        types = data.loaded.node_types
        return ProbeHistory(
            Setting(
                data.loaded.name,
                type(pl_module).__name__,
                tracker.share,
                tracker.threshold,
                warmup_of(pl_module),
                (type(sampler.proposal).__name__, type(sampler.selector).__name__),
                data.key.seed,
            ),
            pairs=probe.numpy(),
            epochs=np.array(self.epochs),
            student=torch.stack(self.student).numpy(),
            teacher=torch.stack(self.teacher).numpy() if self.teacher else empty,
            counts=counts[:, : len(COUNTS)].round().astype(np.int32),
            weights=counts[:, -1].astype(np.float32),
            held_out=held_out_of(data, probe),
            num_common=sets.sizes.numpy(),
            common=common,
            nodes=nodes,
            degree=data.train_graph.degree.cpu().numpy()[nodes].astype(np.int64),
            names=[data.loaded.node_names[node] for node in nodes],
            types=None if types is None else [types[node] for node in nodes],
        )

    def _keys_of(self, pairs: Tensor) -> Tensor:
        # A tensor's amin over so short a dimension takes thirty times as long
        return pair_keys(torch.minimum(*pairs), torch.maximum(*pairs), self._num_nodes)

    def state_dict(self) -> dict[str, Any]:
        """The snapshots, and what was counted since the last."""
        self._count()
        return {name: copy.copy(getattr(self, name)) for name in _HISTORY}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        for name in _HISTORY:
            setattr(self, name, copy.copy(state_dict[name]))


_HISTORY = ("stride", "epochs", "student", "teacher", "counts", "_since")


def _hashed(keys: Tensor) -> Tensor:
    """A number in 0 ... ``_HASHES`` - 1 for each key, by the middle bits of a product that wraps round."""
    return (keys * 0x9E3779B97F4A7C1 >> 30) & (_HASHES - 1)


def held_out_of(data: LinkDataModule, pairs: Tensor) -> np.ndarray:
    """``(M,)`` int8, which of ``pairs`` ``(2, M)`` are held-out edges: ``VALIDATION``, ``TEST``, or 0.

    Only for analysis, when training is over.
    """
    found = np.zeros(pairs.shape[1], np.int8)
    for code, edges in ((VALIDATION, data.split.val), (TEST, data.split.test)):
        edges = edges[:, edges[0] != edges[1]]
        if edges.shape[1]:
            among = KnownEdges(Graph.from_edges(edges, data.train_graph.num_nodes)).mask(*pairs)
            found[among.numpy()] = code
    return found


def _fewest_links(ptr: np.ndarray, members: np.ndarray, degree: np.ndarray) -> np.ndarray:
    """``(M, SHOWN)`` of each set the members with the fewest links, -1 where there are fewer."""
    owner = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    members = members[np.lexsort((members, degree[members], owner))]
    place = np.arange(len(members)) - ptr[owner]
    found = np.full((len(ptr) - 1, SHOWN), -1)
    first = place < SHOWN
    found[owner[first], place[first]] = members[first]
    return found
