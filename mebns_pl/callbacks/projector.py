"""Node embeddings over a run, for TensorBoard's PROJECTOR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mebns_pl.analysis.figures import embeddings_figure
from mebns_pl.analysis.migration import hard_set, hard_shares
from mebns_pl.callbacks.board import writer_of
from mebns_pl.callbacks.cost import Stopwatch
from mebns_pl.callbacks.metrics_file import warmup_of
from mebns_pl.callbacks.migration import monitor_before
from mebns_pl.callbacks.migration_figures import MigrationFigures, frame_due
from mebns_pl.checks import at_least
from mebns_pl.data.datamodule import data_of
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.escaping import visible
from mebns_pl.files import write_atomically
from mebns_pl.keys import permutation
from mebns_pl.models.layers import parted_of
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.systems.mebns import MeBNS
from mebns_pl.systems.trainer_options import callbacks_of

FOLDER = "projector"
CONFIG = "projector_config.pbtxt"
TAG = "8_embeddings/picture"


class Projector(Callback):
    """Writes the nodes' embeddings by student and teacher at a few epochs, for TensorBoard's PROJECTOR.

    After ``frames`` equal parts of the run, after the warm-up and when training ends, into ``projector/`` in the
    run's folder: the first ``components`` principal components of each learner's embeddings, and of each node its
    name, type (where the graph has any), degree among training edges, how many pairs of the migration monitor's probe
    it is in, and the share of those that are hard then. Pictures of the first two components go beside the figures
    when training ends. Needs a :class:`MigrationMonitor` before it among the callbacks. Nothing is written without
    TensorBoard's logger, of a predictor without embeddings, or where :class:`MigrationFigures` are switched off.

    Args:
        frames: parts of the run, 1 or more, or 0 to write nothing.
        max_nodes: of a larger graph so many nodes are drawn, the same in all runs of a split.
        components: of each embedding so many are written, 2 or more.

    Cost: one encoding for each learner and frame, and its principal components, ``O(N C^2)``.

    Example:
        >>> Projector().frames
        2
    """

    def __init__(self, frames: int = 2, max_nodes: int = 2000, components: int = 32) -> None:
        at_least(0, frames=frames)
        at_least(1, max_nodes=max_nodes)
        at_least(2, components=components)
        self.frames = frames
        self.max_nodes = max_nodes
        self.components = components
        self.watch = Stopwatch()
        self.written: list[tuple[int, str]] = []  # epochs and learners
        self._pictures: list[dict[str, Any]] = []  # that are drawn when training ends

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for the monitor.

        Raises:
            ValueError: no :class:`MigrationMonitor` stands before this callback.
        """
        monitor_before(self, trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes where an epoch is due."""
        epoch, last_of_warmup = trainer.current_epoch, warmup_of(pl_module) - 1
        if self._writes(trainer) and (frame_due(epoch, trainer.max_epochs, self.frames) or epoch == last_of_warmup):
            self._write(trainer, pl_module, epoch)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes once more."""
        if self._writes(trainer) and trainer.global_step:
            self._write(trainer, pl_module, max(trainer.current_epoch - 1, 0))
            with self.watch.running():
                self._draw(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What has been written, and what is to be drawn."""
        return {"written": list(self.written), "pictures": list(self._pictures)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self.written = [(int(epoch), str(learner)) for epoch, learner in state_dict["written"]]
        self._pictures = list(state_dict.get("pictures", []))

    def _writes(self, trainer: Trainer) -> bool:
        return self.frames > 0 and all(figures.max_snapshots for figures in callbacks_of(trainer, MigrationFigures))

    def _write(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        writer = writer_of(trainer)
        # Rows of parted tables are looked up by all ranks together
        if writer is None and not parted_of(pl_module):
            return
        assert isinstance(pl_module, AbstractLinkSystem)
        with self.watch.running():
            embeddings = embeddings_of(pl_module)
            if not embeddings or writer is None:
                return
            data, monitor, folder = data_of(trainer), monitor_before(self, trainer), Path(writer.log_dir)
            nodes = (
                permutation(data.loaded.num_nodes, data.split_key.child("projector"))[: self.max_nodes].sort().values
            )
            hard = hard_set(monitor.latest["probe"], monitor.tracker.share)
            count, share = hard_shares(monitor.probe.cpu(), hard, data.loaded.num_nodes)
            about = nodes_table(data.loaded, data.train_graph.degree.cpu(), count, share, nodes)
            write_atomically(folder / FOLDER / _nodes(epoch), about.to_csv(sep="\t", index=False, float_format="%.3f"))
            places, kept = {}, {}
            for learner, found in embeddings.items():
                parts, variances = principal_components(found.cpu()[nodes], self.components)
                write_atomically(folder / FOLDER / _vectors(epoch, learner), as_tsv(parts))
                places[learner], kept[learner] = parts[:, :2].clone(), float(variances[:2].sum())
                self.written = [entry for entry in self.written if entry != (epoch, learner)] + [(epoch, learner)]
            write_atomically(folder / CONFIG, projector_config(self.written))
            picture = {"places": places, "kept": kept, "share": share[nodes], "when": f", epoch {epoch}"}
            step = trainer.global_step
            waiting = [one for one in self._pictures if one["step"] != step]
            self._pictures = [*waiting, {"step": step, "picture": picture}]

    def _draw(self, trainer: Trainer) -> None:
        writer = writer_of(trainer)
        while writer is not None and self._pictures:
            waiting = self._pictures.pop(0)
            writer.add_figure(TAG, embeddings_figure(**waiting["picture"]), waiting["step"])


def embeddings_of(system: AbstractLinkSystem) -> dict[str, Tensor]:
    """Embeddings ``(N, C)`` by learner, of those that have any, on the training graph."""
    learners = {"student": system.student} | ({"teacher": system.teacher} if isinstance(system, MeBNS) else {})
    with torch.no_grad():
        found = {name: system.batching.embeddings(p, system.graph, system.device) for name, p in learners.items()}
    return {name: embeddings for name, embeddings in found.items() if embeddings is not None}


def principal_components(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values along their principal components, the one of the greatest variance first.

    Args:
        values: ``(n, C)``.
        count: how many components, if there are so many; 2 at least, filled up by zeros.

    Returns:
        ``(n, k)`` float32 and the components' shares of the variance ``(k,)``, 0 where there is none.
    """
    centered = values.double() - values.double().mean(dim=0)
    variances, directions = torch.linalg.eigh(centered.t() @ centered)
    parts = centered @ directions.flip(1)[:, :count]
    # Up to its sign a component is the same: its largest entry shall be positive
    parts = parts * parts.gather(0, parts.abs().argmax(dim=0, keepdim=True)).sign()
    shares = variances.flip(0).clamp(min=0)[:count] / variances.clamp(min=0).sum().clamp(min=1e-30)
    missing = max(0, 2 - parts.shape[1])
    return torch.nn.functional.pad(parts, (0, missing)).float(), torch.nn.functional.pad(shares, (0, missing))


def as_tsv(values: Tensor) -> str:
    r"""Rows of numbers to five digits.

    Example:
        >>> as_tsv(torch.tensor([[0.5, 1e-9], [123456.0, -1.0]]))
        '0.5\t1e-09\n1.2346e+05\t-1\n'
    """
    row = "\t".join(["%.5g"] * values.shape[1]) + "\n"  # a row at once: a tenth of the time that pandas takes
    return "".join([row % tuple(numbers) for numbers in values.tolist()])


def nodes_table(loaded: LoadedGraph, degree: Tensor, count: Tensor, share: Tensor, nodes: Tensor) -> pd.DataFrame:
    """What the PROJECTOR tells of nodes, a row each; a node without probe pairs has a share of 0."""
    chosen = nodes.tolist()
    columns: dict[str, Any] = {"name": [visible(loaded.node_names[node]) for node in chosen]}
    if loaded.node_types is not None:
        columns["type"] = [visible(loaded.node_types[node]) for node in chosen]
    columns |= {"degree": degree[nodes].numpy(), "probe pairs": count[nodes].numpy()}
    return pd.DataFrame({**columns, "share of hard pairs": share[nodes].nan_to_num().numpy()})


def projector_config(written: list[tuple[int, str]]) -> str:
    """TensorBoard's list of embeddings, which it sorts by their names."""
    lines = []
    for epoch, learner in sorted(written):
        lines += [
            "embeddings {",
            f'  tensor_name: "{learner}, epoch {epoch:04d}"',
            f'  tensor_path: "{FOLDER}/{_vectors(epoch, learner)}"',
            f'  metadata_path: "{FOLDER}/{_nodes(epoch)}"',
            "}",
        ]
    return "\n".join([*lines, ""])


def _vectors(epoch: int, learner: str) -> str:
    return f"epoch_{epoch}_{learner}.tsv"


def _nodes(epoch: int) -> str:
    return f"epoch_{epoch}_nodes.tsv"
