"""Node embeddings for TensorBoard's PROJECTOR: the right numbers of the right nodes, in files that it reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from google.protobuf import text_format
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import ProjectorConfig

from mebns_pl.analysis.migration import hard_set
from mebns_pl.callbacks.board import BoardLogger
from mebns_pl.callbacks.migration_figures import MigrationFigures
from mebns_pl.callbacks.projector import Projector, principal_components
from references.runs import ALL_WARM_UP, MAKE, equal, fit, make_data, make_loaded, make_mebns, probe_monitor, weights

TYPES = ["odd" if node % 2 else "even" for node in range(41)]


def config_of(folder: str) -> dict[str, Any]:
    config = ProjectorConfig()
    text_format.Parse(Path(folder, "projector_config.pbtxt").read_text(), config)
    return {entry.tensor_name: entry for entry in config.embeddings}


@pytest.mark.parametrize("name", MAKE)
def test_nodes_are_told_with_their_embeddings(name: str, tmp_path: Path) -> None:
    loaded = replace(make_loaded(), node_types=TYPES)
    data, monitor, logger = make_data(loaded), probe_monitor(), BoardLogger(tmp_path, name="run")
    system = MAKE[name](data.spec)
    fit(system, data, 3, [monitor, Projector(frames=1, components=64)], logger=logger)
    found = config_of(logger.log_dir)
    learners = ["student", "teacher"] if name == "MeBNS" else ["student"]
    # The warm-up of MeBNS ends with epoch 0
    epochs = [0, 2] if name == "MeBNS" else [2]
    assert list(found) == [f"{learner}, epoch 000{epoch}" for epoch in epochs for learner in learners]

    nodes = pd.read_csv(Path(logger.log_dir, found["student, epoch 0002"].metadata_path), sep="\t")
    assert list(nodes) == ["name", "type", "degree", "probe pairs", "share of hard pairs"]
    assert nodes["name"].tolist() == loaded.node_names
    assert nodes["type"].tolist() == TYPES
    edges = data.split.observed  # meta edges, too: messages go along them
    probe = monitor.probe.t().tolist()
    hard = hard_set(monitor.latest["probe"], 0.2).tolist()
    for node, row in nodes.iterrows():
        assert row["degree"] == int((edges == node).sum())
        mine = [is_hard for pair, is_hard in zip(probe, hard, strict=True) if node in pair]
        assert row["probe pairs"] == sum(pair.count(node) for pair in probe)
        assert row["share of hard pairs"] == pytest.approx(np.mean(mine) if mine else 0, abs=6e-4)

    # All components: distances are those of the embeddings
    system._graph = data.train_graph
    values = system.embed(data.train_graph)
    assert values is not None
    written = np.loadtxt(Path(logger.log_dir, found["student, epoch 0002"].tensor_path), delimiter="\t")
    assert written.shape == tuple(values.shape)
    np.testing.assert_allclose(
        torch.pdist(torch.from_numpy(written)), torch.pdist(values.double()), rtol=1e-3, atol=1e-3
    )


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    values = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    parts, shares = principal_components(values, 3)
    left, size, _ = torch.linalg.svd(values.double() - values.double().mean(dim=0), full_matrices=False)
    torch.testing.assert_close(parts.double().abs(), (left * size)[:, :3].abs(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shares, (size**2 / (size**2).sum())[:3])
    parts, shares = principal_components(torch.ones(4, 1), 2)
    assert parts.tolist() == [[0, 0]] * 4
    assert shares.tolist() == [0, 0]


def test_large_graphs_are_sampled_alike(tmp_path: Path) -> None:
    found = []
    for name in MAKE:
        data, logger = make_data(), BoardLogger(tmp_path, name=name)
        fit(MAKE[name](data.spec), data, 2, [probe_monitor(), Projector(frames=1, max_nodes=7)], logger=logger)
        found.append(pd.read_csv(Path(logger.log_dir, "projector", "epoch_1_nodes.tsv"), sep="\t")["name"].tolist())
    assert len(found[0]) == 7
    assert found[0] == found[1]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    found = []
    for callbacks in ([], [probe_monitor(), Projector(frames=3)]):
        data = make_data()
        system = make_mebns(data.spec)
        fit(system, data, 3, callbacks, logger=BoardLogger(tmp_path, name="run"))
        found.append(weights(system))
    assert equal(*found)


def test_nothing_is_written_without_tensorboard_or_figures(tmp_path: Path) -> None:
    data = make_data()
    fit(make_mebns(data.spec), data, 2, [probe_monitor(), Projector()], logger=CSVLogger(tmp_path))
    off = [probe_monitor(), MigrationFigures(max_snapshots=0), Projector()]
    fit(make_mebns(data.spec), data, 2, off, logger=BoardLogger(tmp_path))
    assert not list(tmp_path.rglob("projector*"))


def test_what_was_written_comes_back() -> None:
    projector = Projector()
    state = {"written": [(3, "student"), (3, "teacher")], "pictures": [{"step": 4, "picture": {"when": ", epoch 3"}}]}
    projector.load_state_dict(state)
    assert projector.state_dict() == state


class SaveAfter(Callback):
    """Saves the run after its second epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            trainer.save_checkpoint(self.path)


def test_a_run_that_goes_on_draws_the_same_pictures(tmp_path: Path) -> None:
    path, drawn = tmp_path / "second.ckpt", []
    for name in ("whole", "goes_on"):
        data, logger = make_data(), BoardLogger(tmp_path, name=name)
        callbacks = [probe_monitor(), Projector(frames=4), *([SaveAfter(path)] if name == "whole" else [])]
        start = None if name == "whole" else str(path)
        fit(make_mebns(data.spec), data, 4, callbacks, ckpt_path=start, logger=logger)
        events = EventAccumulator(logger.log_dir, {"images": 0}).Reload()
        drawn.append([(image.step, image.encoded_image_string) for image in events.Images("8_embeddings/picture")])
    assert len({step for step, _ in drawn[0]}) == 4
    assert drawn[0] == drawn[1]


@ALL_WARM_UP
def test_it_needs_a_monitor() -> None:
    data = make_data()
    with pytest.raises(ValueError, match="Projector reads a MigrationMonitor's scores"):
        fit(make_mebns(data.spec), data, 1, [Projector()])


@pytest.mark.parametrize("options", [{"frames": -1}, {"max_nodes": 0}, {"components": 1}])
def test_bad_arguments_are_refused(options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}: "):
        Projector(**options)
